"""Errors of vector functions in units in the last place, as Markdown for docs/codegen.md.

    python benchmarks/vector_accuracy.py [--samples N]

Arguments are drawn from all finite numbers of the type (random bits, so that every exponent
is as likely) and from the range where most programs work.  The reference is the C library's
function for the next wider type: float64 for float32, the x87 format for float64.  One ulp is
the distance between the two numbers of the type around the exact result.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # read when Numba is imported

import numpy as np
from numba import prange

from numba_mlir import njit
from numba_mlir.roundtrip import vectormath

Array = np.ndarray[Any, Any]
#: function -> the range where most programs work
UNARY = {
    "exp": (-20, 20), "exp2": (-20, 20), "expm1": (-5, 5), "log": (1e-3, 1e3),
    "log10": (1e-3, 1e3), "log1p": (-0.9, 100), "log2": (1e-3, 1e3), "sin": (-10, 10),
    "cos": (-10, 10), "tan": (-10, 10), "asin": (-1, 1), "acos": (-1, 1), "atan": (-10, 10),
    "sinh": (-10, 10), "cosh": (-10, 10), "tanh": (-10, 10), "asinh": (-10, 10),
    "acosh": (1, 100), "atanh": (-1, 1), "erf": (-5, 5), "erfc": (-5, 20),
}  # fmt: skip
#: functions of two numbers; "hypot" is the absolute value of a complex number
BINARY = ("pow", "atan2", "hypot")
_LIBM = ctypes.CDLL("libm.so.6")


def _length(x: float, y: float) -> float:
    return abs(complex(x, y))


def compiled(name: str, **options: Any) -> Callable[..., Array]:
    """``name`` over arrays, as this project compiles a loop."""
    function = njit(_length) if name == "hypot" else getattr(math, name)
    if name in BINARY:

        def loop(x, y, out):
            for i in prange(x.shape[0]):
                out[i] = function(x[i], y[i])

    else:

        def loop(x, out):
            for i in prange(x.shape[0]):
                out[i] = function(x[i])

    code = njit(parallel=True, mlir_codegen=True, mlir_strict=True, **options)(loop)

    def run(*args: Array) -> Array:
        out = np.empty_like(args[0])
        code(*args, out)
        return out

    return run


def reference(name: str, *args: Array) -> Array:
    """In the next wider type."""
    if args[0].dtype == np.float32:
        suffix, kind, dtype = "", ctypes.c_double, np.float64
    else:
        suffix, kind, dtype = "l", ctypes.c_longdouble, np.longdouble
    wide = [arg.astype(dtype) for arg in args]
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh"}
    names |= {"acosh": "arccosh", "atanh": "arctanh", "atan2": "arctan2", "pow": "power"}
    if name not in ("erf", "erfc"):
        return getattr(np, names.get(name, name))(*wide)
    function = getattr(_LIBM, name + suffix)
    function.restype, function.argtypes = kind, [kind]
    return np.array([function(value) for value in wide[0]], dtype)


def errors(found: Array, exact: Array) -> Array:
    """In ulp; 0 where both are NaN or the same infinity, infinite where one is not finite."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(found.dtype)
        ulp = np.spacing(np.abs(rounded)).astype(exact.dtype)
        error = np.abs(found.astype(exact.dtype) - exact) / ulp
    both = np.isnan(found) & np.isnan(exact)
    same = np.isinf(rounded) & (found == rounded)
    error[both | same] = 0
    return np.nan_to_num(error.astype(float), nan=np.inf, posinf=np.inf)


def whole_range(rng: Any, count: int, dtype: Any) -> Array:
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize), count, np.uint64, endpoint=False)
    numbers = bits.astype(f"u{dtype.itemsize}").view(dtype)
    return numbers[np.isfinite(numbers)]


def row(name: str, dtype: Any, count: int) -> str:
    rng = np.random.default_rng(1)
    binary = name in BINARY
    low, high = (0.01, 20) if binary else UNARY[name]
    usual = [rng.uniform(low, high, count).astype(dtype) for _ in range(1 + binary)]
    whole = [whole_range(rng, count, dtype) for _ in range(1 + binary)]
    whole = [one[: min(map(len, whole))] for one in whole]
    fast, precise = compiled(name), compiled(name, mlir_precise=True)
    cells = []
    for run in (fast, precise):
        for args in (usual, whole):
            cells.append(f"{errors(run(*args), reference(name, *args)).max():.2f}")
    symbol = name + ("f" if dtype.itemsize == 4 else "")
    vector = "yes" if vectormath.variants(symbol) else "no"
    return f"| {name} | {dtype} | {vector} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200_000)
    count = parser.parse_args().samples
    print(f"{vectormath.identity()}, {count} arguments\n")
    print("| function | type | vector | usual range | all numbers | precise: usual | all |")
    print("|---|---|---|---|---|---|---|")
    for dtype in (np.dtype("f8"), np.dtype("f4")):
        for name in (*UNARY, *BINARY):
            print(row(name, dtype, count), flush=True)


if __name__ == "__main__":
    main()
