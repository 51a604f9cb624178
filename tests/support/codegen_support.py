"""Functions whose parallel loops are all compiled by MLIR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
from numba.np.ufunc.parallel import NUM_THREADS

from numba_mlir import njit


def codegen(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """``function`` with every parallel loop compiled by MLIR; an error where one is not."""
    return njit(parallel=True, mlir_codegen=True, mlir_strict=True, **options)(function)


def thread_counts() -> Iterator[int]:
    """Sets each number of threads that there can be, and all of them in the end."""
    for count in range(1, NUM_THREADS + 1):
        numba.set_num_threads(count)
        yield count
