"""Functions whose parallel loops are all compiled by MLIR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir import njit


def codegen(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """``function`` with every parallel loop compiled by MLIR; an error where one is not."""
    return njit(parallel=True, mlir_codegen=True, mlir_strict=True, **options)(function)
