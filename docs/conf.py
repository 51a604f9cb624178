"""Sphinx settings: ``make docs`` writes HTML to build/docs."""

from __future__ import annotations

import importlib.metadata

project = "Numba-MLIR roundtrip"
author = "the Numba-MLIR roundtrip contributors"
release = importlib.metadata.version("numba-mlir-roundtrip")
extensions = ["myst_parser"]
html_theme = "alabaster"
