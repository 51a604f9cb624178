"""Environment variables, read when they are needed and not when this is imported.

==============================  ====================================================
``NUMBA_MLIR_PRINT_AFTER``      names of passes, or ``all``: print the module after them
``NUMBA_MLIR_DUMP_DIR``         folder that gets one file for each stage of each function
``NUMBA_MLIR_ROUNDTRIP_EACH``   1: import and export around every single pass
``NUMBA_MLIR_MEMORY_KEPT``      MiB of large arrays' memory that are kept for the next ones
``NUMBA_MLIR_VECTOR_LIBRARY``   ``libmvec``, ``svml`` or ``none``: vector functions
==============================  ====================================================
"""

from __future__ import annotations

import os
from pathlib import Path

from numba_mlir.errors import InvalidFlagError

PRINT_AFTER = "NUMBA_MLIR_PRINT_AFTER"
DUMP_DIR = "NUMBA_MLIR_DUMP_DIR"
ROUNDTRIP_EACH = "NUMBA_MLIR_ROUNDTRIP_EACH"
MEMORY_KEPT = "NUMBA_MLIR_MEMORY_KEPT"
VECTOR_LIBRARY = "NUMBA_MLIR_VECTOR_LIBRARY"
VARIABLES = (PRINT_AFTER, DUMP_DIR, ROUNDTRIP_EACH, MEMORY_KEPT, VECTOR_LIBRARY)

_SWITCH = {"": False, "0": False, "1": True}


def print_after() -> frozenset[str]:
    """Names of the passes after which to print; may contain ``"all"``."""
    names = os.environ.get(PRINT_AFTER, "").split(",")
    return frozenset(name.strip() for name in names) - {""}


def dump_dir() -> Path | None:
    """Where to write the modules of all stages, or None."""
    value = os.environ.get(DUMP_DIR, "")
    return Path(value) if value else None


def roundtrip_each() -> bool:
    """Whether every pass gets a round trip of its own.

    Raises InvalidFlagError for anything but 0 and 1.
    """
    value = os.environ.get(ROUNDTRIP_EACH, "")
    try:
        return _SWITCH[value]
    except KeyError:
        raise InvalidFlagError(f"{ROUNDTRIP_EACH} must be 0 or 1, not {value!r}") from None


def vector_library() -> str:
    """Where vector versions of functions are taken from; empty: where there are some.

    Raises InvalidFlagError for another name than those of the libraries.
    """
    value = os.environ.get(VECTOR_LIBRARY, "")
    if value not in ("", "libmvec", "svml", "none"):
        raise InvalidFlagError(f"{VECTOR_LIBRARY} must be libmvec, svml or none, not {value!r}")
    return value


def memory_kept() -> int:
    """Most bytes of memory that are kept: a sixteenth of the machine's, at most 1 GiB.

    Raises InvalidFlagError for anything but a number of MiB.
    """
    value = os.environ.get(MEMORY_KEPT, "")
    if not value:
        return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 16, 1 << 30)
    if not value.isdecimal():
        raise InvalidFlagError(f"{MEMORY_KEPT} must be a number of MiB, not {value!r}")
    return int(value) << 20
