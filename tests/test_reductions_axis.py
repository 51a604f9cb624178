"""NumPy's reductions along axes, with keepdims, dtype and ddof, against NumPy."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numba_mlir

DTYPES = ["bool", "int8", "uint8", "int32", "uint64", "int64", "float32", "float64", "complex128"]
KINDS = ["sum", "prod", "mean", "var", "std", "max", "min", "any", "all", "argmax", "argmin", "ptp"]
METHODS = set(KINDS) - {"ptp"}


@functools.cache
def compiled(text: str, parallel: bool) -> tuple[Any, Any]:
    """The function ``lambda a: text`` and itself compiled."""
    namespace: dict[str, Any] = {"np": np}
    exec(f"def f(a):\n    return {text}", namespace)
    function = namespace["f"]
    return function, numba_mlir.njit(parallel=parallel)(function)


def outcome(function: Any, array: Any) -> Any:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(array)
    except Exception as error:
        return error


def check(text: str, array: Any, parallel: bool = False) -> None:
    plain, ours = compiled(text, parallel)
    expected, got = outcome(plain, array), outcome(ours, array)
    if isinstance(expected, Exception):
        assert type(got) is type(expected), got
        assert str(got) == str(expected)
        return
    assert not isinstance(got, Exception), got
    assert np.shape(got) == np.shape(expected)
    if isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype
    narrow = np.asarray(expected).dtype in (np.float32, np.complex64)
    np.testing.assert_allclose(got, expected, rtol=2e-5 if narrow else 1e-11, atol=1e-12)


@st.composite
def calls(draw: Any) -> tuple[str, Any]:
    """A call's text and an array for it."""
    rank = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(KINDS))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if dtype.kind == "c" and kind in ("max", "min", "ptp", "argmax", "argmin"):
        dtype = np.dtype("float64")
    if dtype.kind == "b" and kind == "ptp":
        dtype = np.dtype("int8")
    axis = st.integers(-rank, rank - 1)
    if kind not in ("argmax", "argmin"):
        axis = axis | st.permutations(range(rank)).flatmap(
            lambda order: st.integers(1, rank).map(lambda n: tuple(order[:n]))
        )
    arguments = [f"axis={draw(axis)}"]
    if draw(st.booleans()):
        arguments.append(f"keepdims={draw(st.booleans())}")
    if kind in ("sum", "prod") and draw(st.booleans()) and dtype.kind != "c":
        arguments.append(f"dtype=np.{draw(st.sampled_from(['float64', 'int64', 'complex128']))}")
    if kind in ("var", "std") and draw(st.booleans()):
        arguments.append("ddof=1")
    shape = [draw(st.sampled_from([0, 1, 2, 3, 5])) for _ in range(rank)]
    array = draw(arrays(shape, dtype))
    spelling = "a.{}({})" if kind in METHODS and draw(st.booleans()) else "np.{}(a, {})"
    return spelling.format(kind, ", ".join(arguments)), array


@st.composite
def arrays(draw: Any, shape: list[int], dtype: Any) -> Any:
    """An array in C or Fortran order, or a strided or reversed view; NaN among floats."""
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    layout = draw(st.sampled_from(["C", "F", "steps", "reversed"]))
    full = [2 * n for n in shape] if layout == "steps" else shape
    values = rng.integers(0, 4, full) if dtype.kind in "bui" else rng.normal(size=full)
    array = values.astype(dtype)
    if dtype.kind == "c":
        array += 1j * rng.normal(size=full)
    if dtype.kind == "f" and array.size and draw(st.booleans()):
        array.flat[rng.integers(array.size)] = np.nan
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "steps":
        return array[tuple(slice(None, None, 2) for _ in shape)]
    return array[::-1] if layout == "reversed" else array


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls())
def test_like_numpy(call: tuple[str, Any]) -> None:
    check(*call)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls())
def test_like_numpy_in_parallel(call: tuple[str, Any]) -> None:
    check(*call, parallel=True)


@st.composite
def calls_along(draw: Any) -> tuple[str, Any]:
    """A running sum or product, or differences, along an axis."""
    rank = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["cumsum", "cumprod", "diff"]))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    arguments = [f"axis={draw(st.integers(-rank, rank - 1))}"]
    if kind == "diff":
        if draw(st.booleans()):
            arguments = draw(st.sampled_from([[], ["n=1"], ["1", *arguments]]))
    elif draw(st.booleans()) and dtype.kind != "c":
        arguments.append(f"dtype=np.{draw(st.sampled_from(['float64', 'int64', 'complex128']))}")
    few = st.sampled_from([0, 1, 2, 3, 5])
    shape = [draw(few) for _ in range(rank)]
    if rank < 4:  # more than one block of neighbours
        shape[-1] = draw(few | st.sampled_from([1024, 2049]))
    array = draw(arrays(shape, dtype))
    if dtype.kind in "fc":
        array[array < 0.5] *= -0.0
    method = kind != "diff" and draw(st.booleans())
    return (f"a.{kind}" if method else f"np.{kind}") + (
        f"({', '.join(arguments)})" if method else f"({', '.join(['a', *arguments])})"
    ), array


def check_along(text: str, array: Any, parallel: bool) -> None:
    """To the last bit: NumPy adds up in this order too."""
    plain, ours = compiled(text, parallel)
    expected, got = outcome(plain, array), ours(array)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    if got.dtype.kind == "c" and "cumprod" in text:  # products of complex numbers: LLVM's way
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-300)
    else:
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got.real), np.signbit(expected.real))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls_along())
def test_along_an_axis_like_numpy(call: tuple[str, Any]) -> None:
    check_along(*call, parallel=False)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(calls_along())
def test_along_an_axis_like_numpy_in_parallel(call: tuple[str, Any]) -> None:
    check_along(*call, parallel=True)


def test_along_an_axis_in_functions_that_are_not_imported() -> None:
    def f(a: Any, b: Any) -> Any:  # a generator stays as Numba has it
        yield np.cumsum(a, axis=0), np.cumprod(a, axis=1), np.diff(b, axis=0), np.diff(b)

    a, b = np.arange(1.0, 13).reshape(3, 4) / 4, np.arange(12).reshape(4, 3) % 5 > 2
    ours, theirs = next(numba_mlir.njit(f)(a, b)), next(f(a, b))
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype


@pytest.mark.parametrize(
    "text", ["np.cumsum(a, axis=2)", "a.cumprod(axis=-3)", "np.diff(a, axis=2)"]
)
def test_along_an_axis_that_is_not_there(text: str) -> None:
    check(text, np.ones((2, 3)))
    check(text, np.ones((2, 3)), parallel=True)


@pytest.mark.parametrize(
    "text", ["np.cumsum(a)", "a.cumprod()", "np.diff(a, 2)", "np.cumsum(a[0])"]
)
def test_elements_one_behind_the_other_stay_with_numba(text: str) -> None:
    a = np.arange(12.0).reshape(3, 4)
    check(text, a)
    check(text, a, parallel=True)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("kind", ["sum", "prod", "mean", "std", "max", "min", "any", "argmax"])
def test_whole_arrays_have_the_types_of_numba(kind: str, parallel: bool) -> None:
    array = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    function, ours = compiled(f"np.{kind}(a)", parallel)
    plain = numba.njit(function)
    np.testing.assert_allclose(ours(array), plain(array), rtol=1e-6)
    returned = ours.nopython_signatures[0].return_type
    assert returned == plain.nopython_signatures[0].return_type


@pytest.mark.parametrize(
    "text",
    ["a.max(axis=1)", "np.min(a, axis=(0, 1))", "np.ptp(a, axis=0)", "a.argmin(axis=1)",
     "a.sum(axis=2)", "np.max(a, axis=-3)", "np.sum(a, axis=(0, 0))"],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(0, 0), (2, 0), (0, 2)])
def test_errors_are_those_of_numpy(text: str, shape: tuple[int, int]) -> None:
    check(text, np.empty(shape))


@pytest.mark.parametrize(
    "text", ["np.add.reduce(a)", "np.maximum.reduce(a, axis=1)", "np.logical_and.reduce(a, axis=0)"]
)
def test_ufuncs_reduce(text: str) -> None:
    check(text, np.random.default_rng(0).normal(size=(3, 4)))


@pytest.mark.parametrize("parallel", [False, True])
def test_columns_in_blocks(parallel: bool) -> None:
    rng = np.random.default_rng(6)
    for width in (1, 255, 256, 257, 2100):  # around the widths of blocks
        for text in ("a.sum(axis=0)", "a.max(axis=0)"):
            check(text, rng.normal(size=(3, width)), parallel)


def test_a_long_sum_is_as_exact_as_numpys() -> None:
    array = np.random.default_rng(3).random(1_000_003) * 10.0 ** (np.arange(1_000_003) % 7)
    exact = math.fsum(array)
    for parallel in (False, True):
        function, ours = compiled("a.sum()", parallel)
        assert abs(ours(array) - exact) <= max(abs(function(array) - exact), np.spacing(exact))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e308])
def test_sums_that_are_not_finite(value: float) -> None:
    array = np.full(2000, value)
    for text in ("a.sum()", "a.reshape(2, 1000).sum(axis=1)"):
        check(text, array)
    check("a.sum()", np.array([np.inf, 1.0, -np.inf]))


def test_one_result_for_any_number_of_threads() -> None:
    array = np.random.default_rng(4).normal(size=300_001)
    _, ours = compiled("a.sum()", True)
    before, found = numba.get_num_threads(), set()
    try:
        for count in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(count)
            found.add(ours(array))
    finally:
        numba.set_num_threads(before)
    assert len(found) == 1


def test_methods_of_other_things_are_left_alone() -> None:
    @numba.experimental.jitclass([("x", numba.int64)])
    class Holder:
        def __init__(self, x: int) -> None:
            self.x = x

        def sum(self) -> int:
            return self.x + 1

    @numba_mlir.njit
    def f(holder: Any) -> Any:
        return holder.sum()

    assert f(Holder(4)) == 5


def test_plain_numba_does_not_learn_new_forms() -> None:
    compiled("np.max(a, axis=1)", False)[1](np.ones((2, 2)))
    with pytest.raises(numba.TypingError):
        numba.njit(lambda a: np.max(a, axis=1))(np.ones((2, 2)))


def test_functions_that_are_not_imported_compute_the_same() -> None:
    def f(a: Any) -> Any:  # a generator stays as Numba has it
        yield a.sum(axis=1), np.max(a, axis=0), a.std(axis=0, keepdims=True), a.argmin(axis=1)

    array = np.random.default_rng(5).normal(size=(4, 5))
    for got, expected in zip(next(numba_mlir.njit(f)(array)), next(f(array)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_an_axis_that_is_no_constant_stays_with_numba() -> None:
    @numba_mlir.njit
    def f(a: Any, axis: int) -> Any:
        return np.sum(a, axis)

    array = np.ones((2, 3))
    np.testing.assert_array_equal(f(array, 1), [3.0, 3.0])


def complex_extrema(x: Any) -> Any:
    return np.max(x), x.min(), np.amax(x[::2]), x.max() + np.amin(x)


def test_extrema_of_complex_numbers_in_parallel_functions() -> None:
    compiled = numba_mlir.njit(parallel=True)(complex_extrema)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, 40) + 1j * rng.integers(0, 3, 40)
    for one in (x, x[:1], x.reshape(8, 5)[::2], x.astype(np.complex64)):
        assert compiled(one) == complex_extrema(one)
    with pytest.raises(ValueError, match="zero-size"):
        compiled(np.zeros(0, complex))
