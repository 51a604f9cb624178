"""The same functions on NumPy arrays and on arrays of a device, beside NumPy itself.

All of this runs on Intel's OpenCL device for CPUs (``pip install dpctl dpnp
intel-opencl-rt``), and on a CUDA device where cupy or torch has one.
"""

from __future__ import annotations

import functools
import math
import pickle
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from device_arrays import LIBRARIES, PACKAGES, Library, requested
from numba import prange

import numba_mlir
from numba_mlir.errors import MixedDevicesError, UnsupportedConstruct
from numba_mlir.gpu.places import DeviceArray


@pytest.fixture(scope="module", params=PACKAGES)
def lib(request: pytest.FixtureRequest) -> Library:
    return requested(request)


@pytest.fixture(scope="module", params=LIBRARIES)
def any_lib(request: pytest.FixtureRequest) -> Library:
    return requested(request)


def _check(lib: Library, function: Callable[..., Any], *args: Any, rtol: float = 1e-6) -> Any:
    """The compiled function on the device against NumPy: results and changed arguments."""
    expected_args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    device_args = [lib.to_device(a) for a in args]
    with np.errstate(all="ignore"):
        expected = function(*expected_args)
    result = _compiled(function)(*device_args)
    _assert_same(lib.to_host(result), expected, rtol)
    for given, wanted in zip(device_args, expected_args, strict=True):
        _assert_same(lib.to_host(given), wanted, rtol)
    return result


@functools.cache
def _compiled(function: Any) -> Any:
    return numba_mlir.njit(parallel=True)(function)


def _assert_same(result: Any, expected: Any, rtol: float) -> None:
    if isinstance(expected, tuple):
        assert isinstance(result, tuple)
        for one, other in zip(result, expected, strict=True):
            _assert_same(one, other, rtol)
    elif expected is None:
        assert result is None
    else:
        assert np.shape(result) == np.shape(expected)
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol * 1e-3)


# -- the functions of the documentation --------------------------------------------------
def foo(a: Any, b: Any) -> Any:
    return np.sum(a + b)


def bar(a: Any, b: Any) -> Any:
    c = 0.0
    for i in prange(a.shape[0]):
        c += a[i] + b[i]
    return c


@pytest.mark.parametrize("function", [foo, bar])
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 300_001])
def test_a_sum_over_two_arrays(any_lib: Library, function: Any, size: int) -> None:
    rng = np.random.default_rng(size)
    args = rng.random(size), rng.random(size)
    result = _check(any_lib, function, *args)
    assert type(result) is float
    host = _compiled(function)(*args)
    assert math.isclose(host, result, rel_tol=1e-12)


# -- elementwise -------------------------------------------------------------------------
def chain(a: Any, b: Any) -> Any:
    c = a + b
    d = np.sqrt(np.abs(c)) * 2
    return np.where(d > a, d - a, -d)


_DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
           "float32", "float64", "complex64", "complex128")  # fmt: skip


def arithmetic(a: Any, b: Any) -> Any:
    return a * b + a


@pytest.mark.parametrize("dtype", _DTYPES)
def test_arithmetic_of_every_dtype(lib: Library, dtype: str) -> None:
    if lib.name == "torch" and dtype in ("uint16", "uint32", "uint64"):
        pytest.skip("torch has little for unsigned integers")
    values = np.random.default_rng(3).integers(0, 100, 1000)
    a = (values % 2).astype(dtype) if dtype == "bool" else values.astype(dtype)
    if np.dtype(dtype).kind == "c":
        a = (a * (1 - 2j)).astype(dtype)
    result = _check(lib, arithmetic, a, a[::-1].copy(), rtol=1e-5)
    assert str(result.dtype).rpartition(".")[2] == dtype


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7, 1), (5, 0, 3), (6, 5, 4), (2, 3, 4, 5)])
def test_shapes(lib: Library, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    if shape:
        _check(lib, chain, rng.random(shape), rng.random(shape))


@pytest.mark.parametrize("layout", ["strided", "reversed", "Fortran", "transposed", "offset"])
def test_layouts(lib: Library, layout: str) -> None:
    if lib.name == "torch" and layout == "reversed":
        pytest.skip("torch has no negative strides")
    base = lib.asarray(np.arange(240.0).reshape(12, 20))
    view = {
        "strided": lambda a: a[::2, 1::3],
        "reversed": lambda a: a[::-1, ::-2],
        "Fortran": lambda a: a.T[3:9],
        "transposed": lambda a: a.T,
        "offset": lambda a: a[3:, 4:],
    }[layout](base)
    compiled = numba_mlir.njit(parallel=True)(lambda a: a * 2 + 1)
    np.testing.assert_array_equal(lib.to_host(compiled(view)), lib.to_host(view) * 2 + 1)


@pytest.mark.parametrize(
    "shapes", [((20, 30), (30,)), ((20, 30), (20, 1)), ((20, 1), (1, 30)), ((4, 1, 6), (5, 1)),
               ((1,), (9,)), ((0, 3), (1, 3))]
)  # fmt: skip
def test_broadcasting(lib: Library, shapes: Any) -> None:
    rng = np.random.default_rng(2)
    _check(lib, chain, *[rng.random(shape) for shape in shapes])


def test_shapes_that_do_not_fit_are_numpys_error(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True)(chain)
    args = [lib.asarray(np.ones(n)) for n in (3, 4)]
    with pytest.raises(ValueError, match=r"shapes \(3,\) \(4,\)"):
        compiled(*args)


def functions(a: Any) -> Any:
    b = np.exp(a) + np.log1p(a) + np.sin(a) * np.cos(a) + np.tan(a) + np.sinh(a) * np.tanh(a)
    c = np.arcsin(a) + np.arccos(a) + np.arctan2(a, a + 1) + np.arcsinh(a) + np.arctanh(a * 0.9)
    d = np.expm1(a) + np.log(a + 1) + np.log2(a + 1) + np.log10(a + 1) + np.power(a, 0.3) + a**3
    e = np.floor(a * 10) % 3 + np.ceil(a) + np.trunc(a * 5) + np.rint(a * 7) + np.fmod(a, 0.3)
    return b + c + d + e + np.sign(a - 0.5) + np.copysign(a, a - 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions(lib: Library, dtype: str) -> None:
    a = np.random.default_rng(5).random(4001).astype(dtype)
    _check(lib, functions, a, rtol=1e-4 if dtype == "float32" else 1e-10)


def special(a: Any, b: Any) -> Any:
    return np.maximum(a, b), np.minimum(a, b), a < b, a == b, np.isnan(a), np.sqrt(a), a / b


def test_special_numbers(lib: Library) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0])
    a, b = (grid.ravel().copy() for grid in np.meshgrid(values, values))
    _check(lib, special, a, b)


def numbers(a: Any, s: Any, flag: Any, z: Any) -> Any:
    return a * s + flag, a * z


def test_numbers_as_arguments(lib: Library) -> None:
    _check(lib, numbers, np.arange(10.0), 3, True, 1 - 2j)


def stencil(u: Any) -> Any:
    return (u[1:-1, 1:-1] * 4 - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2] - u[1:-1, 2:]) * 0.25


def test_a_stencil_of_slices(lib: Library) -> None:
    _check(lib, stencil, np.random.default_rng(0).random((40, 50)))


def in_place(a: Any, b: Any) -> None:
    a[1:-1] = a[2:] + a[:-2]
    a *= 2
    b[:] = a[::-1] + b[0]
    b[3] = 7.0


def shifted(a: Any) -> None:
    a[1:] = a[:-1] + a[1:]


def test_assignments_with_overlap(lib: Library) -> None:
    _check(lib, shifted, np.arange(1000.0))
    _check(lib, shifted, np.random.default_rng(0).random((600, 3)))
    if lib.name != "torch":  # which has no negative strides
        _check(lib, in_place, np.arange(1000.0), np.arange(1000.0))


# -- loops -------------------------------------------------------------------------------
def rows(u: Any) -> Any:
    out = np.empty(u.shape[0], u.dtype)
    for i in prange(u.shape[0]):
        total = 0.0
        for j in range(u.shape[1]):
            if u[i, j] < 0.1:
                continue
            total += u[i, j] * u[i, j]
        out[i] = math.sqrt(total)
    return out


def mandelbrot(c: Any) -> Any:
    out = np.zeros(c.shape, np.int64)
    for i in prange(c.shape[0]):
        z = 0j
        while abs(z) < 2 and out[i] < 50:
            z = z * z + c[i]
            out[i] += 1
    return out


def wrapped(a: Any, shift: int) -> Any:
    out = np.empty_like(a)
    for i in prange(a.size):
        out[i] = a[i - shift]
    return out


def test_loops_of_the_user(lib: Library) -> None:
    rng = np.random.default_rng(7)
    _check(lib, rows, rng.random((33, 70)))
    grid = rng.normal(size=500) + 1j * rng.normal(size=500)
    _check(lib, mandelbrot, grid)
    _check(lib, wrapped, rng.random(100), 7)


def two_loops(a: Any) -> Any:
    b = np.zeros(a.shape[0])
    for i in prange(a.shape[0]):
        b[i] = a[i] * 2
    total = 0
    for i in prange(a.shape[0]):
        total += b[i] > 1
    return b, total


def test_loops_that_follow_each_other(lib: Library) -> None:
    _check(lib, two_loops, np.random.default_rng(8).random(1000))


@numba_mlir.njit
def _scale(x: Any, by: Any = 2) -> Any:
    if x > 0.5:
        return x * by
    return -x


@numba.njit
def _add(a: Any, b: Any) -> Any:
    return a + b


def calls(a: Any) -> Any:
    out = np.empty_like(a)
    for i in prange(a.size):
        out[i] = _scale(a[i]) + _scale(a[i], by=3)
    return _add(out, a), _add(1, 2)


def test_calls_of_compiled_functions(lib: Library) -> None:
    _check(lib, calls, np.random.default_rng(0).random(100))


@numba.njit
def _endless(a: Any) -> Any:
    return a if a.size == 0 else _endless(a[1:])


def test_a_function_that_calls_itself_is_refused(lib: Library) -> None:
    compiled = numba_mlir.njit(lambda a: _endless(a))
    with pytest.raises(UnsupportedConstruct, match="'_endless' may call itself"):
        compiled(lib.asarray(np.ones(3)))


# -- reductions --------------------------------------------------------------------------
def reductions(u: Any) -> Any:
    return u.sum(), u.prod(), u.min(), u.max(), u.mean(), u.var(), u.std()


@pytest.mark.parametrize("shape", [(1,), (1000,), (37, 53), (3, 70, 5), (300, 2), (2, 1000)])
def test_reductions_of_whole_arrays(lib: Library, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(4).random(shape) * 0.1 + 0.95
    _check(lib, reductions, values, rtol=1e-9)
    _check(lib, reductions, values.astype(np.float32), rtol=2e-5)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "complex128", "bool"])
def test_sums_of_other_dtypes(lib: Library, dtype: str) -> None:
    if lib.name == "torch" and dtype == "uint64":
        pytest.skip("torch has little for unsigned integers")
    values = np.random.default_rng(4).integers(0, 2, 5000).astype(dtype)
    _check(lib, lambda a: a.sum(), values)


def axes(u: Any) -> Any:
    return u.sum(axis=0), u.mean(axis=1), u.max(axis=0), np.min(u, axis=1)


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1).reshape(-1, 1))
    return e / np.sum(e, axis=1).reshape(-1, 1)


def test_reductions_along_axes(lib: Library) -> None:
    for shape in ((40, 60), (5, 1000), (300, 128), (1, 257)):
        values = np.random.default_rng(4).random(shape)
        _check(lib, axes, values)
        _check(lib, softmax, values)


def extremes(a: Any) -> Any:
    low, high, bits = a[0], -1e30, 0
    for i in prange(len(a)):
        low = min(low, a[i])
        high = max(high, a[i])
        bits ^= i
    return low, high, bits


def test_other_reductions_of_loops(lib: Library) -> None:
    _check(lib, extremes, np.random.default_rng(4).random(3001))


def test_a_sum_is_the_same_every_time(lib: Library) -> None:
    values = lib.asarray(np.random.default_rng(4).normal(size=1_000_003))
    compiled = numba_mlir.njit(parallel=True)(foo)
    assert len({compiled(values, values) for _ in range(5)}) == 1


def test_the_maximum_of_nothing_is_numpys_error(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True)(lambda a: a.max())
    with pytest.raises(ValueError, match="zero-size array"):
        compiled(lib.asarray(np.empty(0)))


# -- results and arguments ---------------------------------------------------------------
def test_results_are_arrays_of_the_same_library(any_lib: Library) -> None:
    array = any_lib.asarray(np.arange(12.0).reshape(3, 4))
    compiled = numba_mlir.njit(lambda a: (a, a[1:], a.T, a + 1, a.shape[0], a[1, 2]))
    same, view, turned, new, size, element = compiled(array)
    assert same is array
    assert {type(one) for one in (view, turned, new)} == {type(array)}
    for result, expected in ((view, array[1:]), (turned, array.T), (new, array + 1)):
        np.testing.assert_array_equal(any_lib.to_host(result), any_lib.to_host(expected))
    assert (size, element) == (3, 6.0) and type(element) is float
    new[0, 0] = 77.0
    view[0, 0] = 55.0
    assert float(array[1, 0]) == 55.0, "the view shares memory with the argument"
    assert float(array[0, 0]) == 0.0


def test_elements_one_by_one(lib: Library) -> None:
    def edges(a: Any) -> Any:
        a[0] = a[-1] + 1
        a[1] = 3
        return a[0] * 2

    _check(lib, edges, np.arange(5.0))
    _check(lib, edges, np.arange(5, dtype=np.int16))
    _check(lib, lambda a: np.array([1.0, a.size, a[2]]), np.arange(5.0))


def library_calls(u: Any, v: Any) -> Any:
    return (
        u @ v,
        u @ u.T,
        np.dot(u, v),
        u.copy(),
        u.astype(np.float32),
        np.ones_like(v),
        v.flatten(),
    )


def test_functions_of_the_library(any_lib: Library) -> None:
    rng = np.random.default_rng(0)
    _check(any_lib, library_calls, rng.random((7, 9)), rng.random(9))


def test_sequential_functions_are_offloaded_as_well(lib: Library) -> None:
    array = lib.asarray(np.arange(10.0))
    assert numba_mlir.njit(foo)(array, array) == 90.0


def test_nothing_leaks(lib: Library) -> None:
    array = lib.asarray(np.arange(1000.0))
    compiled = numba_mlir.njit(parallel=True)(lambda a: (a + 1, a[2:], a, (a * a).sum()))
    compiled(array)
    before = sys.getrefcount(array)
    for _ in range(20):
        compiled(array)
    assert sys.getrefcount(array) == before


def test_what_was_offloaded_is_shown(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True)(foo)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(*[lib.asarray(np.ones(10))] * 2)
    report = str(compiled.mlir_diagnostics())
    assert "offloaded: kernel foo_0" in report
    assert "gpu.func @foo_0" in compiled.inspect_mlir(stage="gpu")
    (signature,) = compiled.signatures
    assert all(isinstance(arg, DeviceArray) for arg in signature)


def test_pickled_and_cached_functions(lib: Library, tmp_path: Path) -> None:
    array = lib.asarray(np.arange(10.0))
    again = pickle.loads(pickle.dumps(numba_mlir.njit(parallel=True)(softsum)))
    assert again(array) == 100.0
    source = """
        import sys, numpy as np, numba_mlir
        from device_arrays import library
        lib = library({name!r})
        @numba_mlir.njit(parallel=True, cache=True)
        def function(a):
            return (a + 1).sum(), a * 2
        total, double = function(lib.asarray(np.arange(10.0)))
        assert total == 55.0 and lib.to_host(double)[3] == 6.0
        print(any("_mlir_libs" in name for name in sys.modules))
        print(sum(function.stats.cache_hits.values()))
    """
    file = tmp_path / "cached.py"
    file.write_text(textwrap.dedent(source).format(name=lib.name))
    hits = [
        subprocess.run(
            [sys.executable, "-P", str(file)], capture_output=True, text=True, check=True,
            env={**_environment(), "NUMBA_CACHE_DIR": str(tmp_path)},
        ).stdout.split()[-2:]
        for _ in range(2)
    ]  # fmt: skip
    assert hits == [["True", "0"], ["False", "1"]], "a cached function does not load MLIR"


def softsum(a: Any) -> Any:
    return (a * 2 + 1).sum()


def _environment() -> dict[str, str]:
    import os

    support = str(Path(__file__).parent / "support")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([support, *sys.path])}


def long_array(a: Any) -> Any:
    return a * a, a.sum()


def test_more_elements_than_32_bits_can_count(lib: Library) -> None:
    if lib.name != "cupy":
        pytest.skip("needs 9 GB of a GPU's memory")
    array = lib.asarray(np.zeros(1, np.int8)).repeat(2**32 + 7)
    array[2**32 + 3] = 5
    squares, total = _compiled(long_array)(array)
    assert (total, int(squares[2**32 + 3]), int(squares[3])) == (5, 25, 0)


# -- errors ------------------------------------------------------------------------------
def test_host_and_device_in_one_function(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True)(foo)
    with pytest.raises(MixedDevicesError, match=r"argument 0 is on .* argument 1 is on the host"):
        compiled(lib.asarray(np.ones(3)), np.ones(3))
    assert issubclass(MixedDevicesError, ValueError)


def test_float16_is_refused_with_a_reason(lib: Library) -> None:
    array = lib.asarray(np.ones(3, np.float16))
    with pytest.raises(RuntimeError, match=r"no arithmetic on float16.*astype\('float32'\)"):
        _compiled(foo)(array, array)
    assert _compiled(foo)(*[lib.asarray(np.ones(3, np.float32))] * 2) == 6.0


_TABLE = np.arange(10.0)


def _allocating(a: Any) -> Any:
    total = 0.0
    for i in prange(a.size):
        total += np.sum(a[i:] * 2)
    return total


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a: a + _TABLE, "from the host|no form in a kernel|cannot be passed"),
        (lambda a: np.linalg.norm(a), "norm|from the host"),
        (lambda a: np.sort(a), "from the host"),
        (lambda a: None if a.size > 3 else a, "OptionalType"),
        (lambda a: [a], "from the host|no form for arrays"),
        (lambda a: {"a": a}, "from the host|no form for arrays"),
        (lambda a: np.zeros(3), "from the host|no array says"),
        (lambda a: print(a), "from the host"),
        (_allocating, "allocated in each iteration"),
    ],
)
def test_what_would_touch_the_device_from_the_host_is_an_error(
    lib: Library, function: Any, message: str
) -> None:
    compiled = numba_mlir.njit(parallel=True)(function)
    with pytest.raises(UnsupportedConstruct, match=message):
        compiled(lib.asarray(np.arange(10.0)))


def test_mlir_gpu_of_another_back_end(lib: Library) -> None:
    other = {"sycl": "cuda", "cuda": "sycl"}[lib.backend]
    args = [lib.asarray(np.ones(3))] * 2
    with pytest.raises(ValueError, match=f"mlir_gpu is '{other}'"):
        numba_mlir.njit(mlir_gpu=other)(foo)(*args)
    assert numba_mlir.njit(mlir_gpu=lib.backend, mlir_broadcast=True)(foo)(*args) == 6.0


def test_mlir_gpu_off(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True, mlir_gpu=False)(foo)
    with pytest.raises(ValueError, match="mlir_gpu is switched off"):
        compiled(*[lib.asarray(np.ones(3))] * 2)


# -- NumPy arrays with copies --------------------------------------------------------------
def _update(a: Any, b: Any) -> Any:
    b += a
    return a * 2, (a * b).sum(), b


def test_numpy_arrays_are_copied_for_a_call(lib: Library) -> None:
    compiled = numba_mlir.njit(mlir_gpu=lib.backend)(_update)
    a, b = np.arange(6.0), np.arange(12.0)[::2]
    double, total, same = compiled(a, b)
    assert type(double) is np.ndarray and same is b
    np.testing.assert_array_equal(b, np.arange(6.0) * 3)
    np.testing.assert_array_equal(double, a * 2)
    assert total == (a * b).sum()
    report = str(compiled.mlir_diagnostics())
    assert "2 arrays copied to the device and 3 back, 240 bytes, in 1 calls" in report
    with pytest.raises(RuntimeError, match="share memory"):
        compiled(a, a[::-1])
    with pytest.raises(RuntimeError, match="a view of an argument"):
        numba_mlir.njit(mlir_gpu=lib.backend)(lambda a: a[1:])(a)


# -- reductions in loops, and functions whose result is a number ---------------------------
def in_each_row(u: Any) -> Any:
    out = np.empty((u.shape[0], 4))
    where = np.empty(u.shape[0], np.int64)
    for i in prange(u.shape[0]):
        out[i, 0] = np.sum(u[i]) + u[i].mean()
        out[i, 1] = u[i].max() - np.min(u[i])
        out[i, 2] = np.any(u[i]) + 2 * u[i].all()
        out[i, 3] = u[i].var()
        where[i] = np.argmax(u[i]) * 100 + u[i].argmin()
    return out, where


@pytest.mark.parametrize("shape", [(50, 80), (1, 1), (3, 300), (0, 5)])
def test_reductions_of_each_row_in_a_loop(lib: Library, shape: tuple[int, int]) -> None:
    _check(lib, in_each_row, np.random.default_rng(4).random(shape), rtol=1e-9)


def test_the_maximum_of_an_empty_row_is_numpys_error(lib: Library) -> None:
    compiled = _compiled(in_each_row)
    with pytest.raises(ValueError, match="zero-size array to reduction operation maximum"):
        compiled(lib.asarray(np.empty((3, 0))))
    out, _ = compiled(lib.asarray(np.empty((0, 0))))
    assert lib.to_host(out).shape == (0, 4)


def truths(a: Any) -> Any:
    return (a > 0.5).any(), np.all(a > 0.5), a.any(), np.all(a), np.ptp(a) if a.size else 0.0


@pytest.mark.parametrize("size", [0, 1, 255, 5000])
def test_truth_values_of_whole_arrays(lib: Library, size: int) -> None:
    _check(lib, truths, np.random.default_rng(4).random(size))
    _check(lib, truths, np.zeros(size))


def positions(a: Any, u: Any) -> Any:
    return np.argmax(a), a.argmin(), np.argmax(u), np.argmax(u, axis=1), u.argmin(axis=0)


def test_positions(lib: Library) -> None:
    rng = np.random.default_rng(4)
    _check(lib, positions, rng.random(5000), rng.random((30, 40)))
    _check(lib, positions, np.array([1.0, 3.0, 3.0, 0.0, 0.0]), np.ones((3, 3)))
    with pytest.raises(ValueError, match="attempt to get argmax of an empty sequence"):
        _compiled(positions)(lib.asarray(np.empty(0)), lib.asarray(np.ones((2, 2))))


def along(a: Any) -> Any:
    products = np.cumprod(a * 0.5, axis=0)
    return np.cumsum(a, axis=1), products + 1, np.diff(a), np.diff(a, axis=0), np.diff(a[0])


@pytest.mark.parametrize("shape", [(3, 5), (1, 4), (4, 1), (700, 3)])
def test_running_sums_and_differences_along_an_axis(lib: Library, shape: tuple[int, int]) -> None:
    numbers = np.random.default_rng(4).uniform(1, 3, shape)
    _check(lib, along, numbers.astype(np.float32), rtol=1e-5)


# -- errors when it runs -------------------------------------------------------------------
def _large(a: Any, size: int) -> Any:
    return np.empty(size, np.float64), a + 1


def test_a_device_without_enough_memory(lib: Library) -> None:
    array = lib.asarray(np.arange(3.0))
    with pytest.raises(Exception) as caught:
        _compiled(_large)(array, 2**52)
    notes = " ".join(getattr(caught.value, "__notes__", []))
    assert f"shape ({2**52},) and float64 on " in notes and "test_gpu_arrays.py:" in notes
    _, plus = _compiled(_large)(array, 2)
    np.testing.assert_array_equal(lib.to_host(plus), [1.0, 2.0, 3.0])
