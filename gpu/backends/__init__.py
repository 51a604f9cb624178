"""One module a back end, imported when it is chosen."""
