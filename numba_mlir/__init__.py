"""Numba with MLIR in the middle: passes that optimise whole functions and return.

    from numba_mlir import njit

    @njit(parallel=True)
    def f(a, b): ...

Importing this package imports neither Numba nor MLIR: what is below comes at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numba import prange

    from numba_mlir import errors
    from numba_mlir.roundtrip.dispatcher import jit, njit
    from numba_mlir.roundtrip.pipeline import pipeline

    __version__: str

__all__ = ["__version__", "errors", "jit", "njit", "pipeline", "prange"]

#: name -> the module that has it
_HOMES = {
    "jit": "numba_mlir.roundtrip.dispatcher",
    "njit": "numba_mlir.roundtrip.dispatcher",
    "pipeline": "numba_mlir.roundtrip.pipeline",
    "prange": "numba",
}
_MODULES = ("errors", "roundtrip", "testing")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("numba-mlir-roundtrip")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


# finds the OpenCL driver, which a library of arrays asks for once, before it may need ours
importlib.import_module("numba_mlir.gpu")
