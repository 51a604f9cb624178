"""Settings that must be made before Numba is imported, and the report's header."""

from __future__ import annotations

import os
import tempfile

# Races need more threads than a small machine has; a user's own choice wins.
os.environ.setdefault("NUMBA_NUM_THREADS", "4")
# No test may read what another run of other code has left on disk.
os.environ.setdefault("NUMBA_CACHE_DIR", tempfile.mkdtemp(prefix="numba-mlir-tests-"))

import numba
import numpy as np
import pytest

from numba_mlir import mlir


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--numba-tests", choices=("sample", "all"), default="sample",
                     help="how many tests of Numba's own to run with our passes")  # fmt: skip


def pytest_report_header() -> str:
    return f"numba {numba.__version__}, numpy {np.__version__}, MLIR from {mlir.version()}"
