"""The workloads in C, fused by hand (``c/kernels.c``), compiled here and called by ctypes.

Results are allocated by NumPy, whose allocator asks for large pages.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import Function, Unavailable
from workloads.jacobi import SWEEPS
from workloads.mandelbrot import STEPS

SOURCE = Path(__file__).parent / "c" / "kernels.c"
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp")


@functools.cache
def compiler() -> str:
    """The C compiler: $CC, or cc.  Raises Unavailable where there is none."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        raise Unavailable("no C compiler")
    return found


@functools.cache
def version() -> str:
    """The compiler's name and version, and the flags."""
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True)
    return f"{done.stdout.splitlines()[0]}, {' '.join(FLAGS)}"


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels.  Raises Unavailable where they do not compile."""
    with tempfile.TemporaryDirectory() as folder:
        made, target = (str(Path(folder) / name) for name in ("kernels.o", "kernels.so"))
        _compile(*FLAGS, "-fPIC", "-c", "-o", made, str(SOURCE))
        # Linked without -ffast-math: with it, GCC's start-up code sets the processor to flush
        # denormal numbers to zero, in all of the process.
        _compile("-fopenmp", "-shared", "-o", target, made, "-lm")
        return ctypes.CDLL(target)


def _compile(*arguments: str) -> None:
    done = subprocess.run([compiler(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"the C compiler failed: {done.stderr.strip().splitlines()[-1]}")


def _call(name: str, *arguments: Any, result: Any = None) -> Any:
    function = getattr(library(), name)
    function.restype = result
    return function(*[
        ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray)
        else ctypes.c_double(a) if isinstance(a, float)
        else ctypes.c_long(a)
        for a in arguments
    ])  # fmt: skip


def _fresh(name: str, *, results: int = 1) -> Function:
    """Results of the first argument's shape, then all arguments, then its sizes."""

    def run(*args: Any) -> Any:
        out = tuple(np.empty_like(args[0]) for _ in range(results))
        _call(name, *out, *args, *args[0].shape)
        return out if results > 1 else out[0]

    return run


def _reduction(name: str) -> Function:
    return lambda *args: _call(name, *args, args[0].size, result=ctypes.c_double)


def _mean_var(x: Any) -> Any:
    mean = _call("sum", x, x.size, result=ctypes.c_double) / x.size
    return mean, _call("squares_around", x, mean, x.size, result=ctypes.c_double) / x.size


def _jacobi(grid: Any) -> Any:
    a, b = grid.copy(), grid.copy()
    _call("jacobi", a, b, *grid.shape, SWEEPS)
    return a if SWEEPS % 2 == 0 else b


def _blur(image: Any) -> Any:
    out = np.empty((image.shape[0] - 2, image.shape[1] - 2))
    _call("blur", out, image, *image.shape)
    return out


def _atax(a: Any, x: Any, y: Any) -> Any:
    out = np.zeros(a.shape[1])
    _call("atax", out, a, x, *a.shape)
    return out


def _bicg(a: Any, x: Any, y: Any) -> Any:
    q, s = np.empty(a.shape[0]), np.zeros(a.shape[1])
    _call("bicg", q, s, a, x, y, *a.shape)
    return q, s


def _gemver(a: Any, u: Any, v: Any, y: Any) -> Any:
    b, x, out = np.empty_like(a), np.zeros(a.shape[1]), np.empty(a.shape[0])
    _call("gemver", b, x, out, a, u, v, y, *a.shape)
    return b, out


def _matmul(a: Any, b: Any) -> Any:
    out = np.zeros((a.shape[0], b.shape[1]))
    _call("matmul", out, a, b, a.shape[0], b.shape[1], a.shape[1])
    return out


def _pairwise(x: Any, y: Any) -> Any:
    out = np.empty((x.shape[0], y.shape[0]))
    _call("pairwise", out, x, y, x.shape[0], y.shape[0], x.shape[1])
    return out


def _mandelbrot(real: Any, imaginary: Any) -> Any:
    out = np.empty((imaginary.size, real.size), np.int64)
    _call("mandelbrot", out, real, imaginary, imaginary.size, real.size, STEPS)
    return out


def _outer_sum(column: Any, row: Any) -> Any:
    out = np.empty((column.size, row.size))
    _call("outer_sum", out, column, row, *out.shape)
    return out


#: workload -> the function in C
KERNELS: dict[str, Callable[..., Any]] = {
    "add": _fresh("add"),
    "three-statements": _fresh("three_statements"),
    "options-f64": _fresh("options_f64", results=2),
    "options-f32": _fresh("options_f32", results=2),
    "softmax-rows": _fresh("softmax"),
    "layernorm": _fresh("layernorm"),
    "row-normalise": _fresh("row_normalise"),
    "mean-var": _mean_var,
    "jacobi": _jacobi,
    "blur": _blur,
    "atax": _atax,
    "bicg": _bicg,
    "mvt": _bicg,
    "gemver": _gemver,
    "matmul-ikj": _matmul,
    "pairwise": _pairwise,
    "mandelbrot": _mandelbrot,
    "sum": _reduction("sum"),
    "dot": _reduction("dot"),
    "outer-sum": _outer_sum,
    "add-row": _fresh("add_row"),
    "scale-rows": _fresh("scale_rows"),
    "nbody": _fresh("nbody", results=3),
}


def kernel(workload: str) -> Function:
    """The C function of a workload.  Raises Unavailable."""
    if workload not in KERNELS:
        raise Unavailable("no C form of this workload")
    library()
    return KERNELS[workload]
