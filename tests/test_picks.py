"""Elements that a mask picks, ``a[m]``: reduced where they are, or copied by words of the mask."""

from __future__ import annotations

import traceback
from typing import Any

import numba
import numpy as np
import pytest

from numba_mlir import njit
from numba_mlir.passes.picks import LOOPS

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")

OPTIONS: list[dict[str, Any]] = [
    {"parallel": True},
    {},
    {"parallel": True, "mlir_codegen": False},
]


# -- reduced where they are ------------------------------------------------------------
def total(a, m):
    return a[m].sum(), np.sum(a[m]), m.sum()


def moments(a, m):
    v = a[m]
    return v.mean(), v.std(), v.var(), v.size, len(v), v.shape[0]


def extrema(a, m):
    v = a[m]
    return v.max(), np.min(v), v.sum()


def computed(a, m):
    v = a[m]
    w = v * v - 1
    return w.sum(), np.abs(v).sum(), np.sqrt((v * v + 1.0).mean())


def product(a, m):
    return a[m].prod()


def by_comparison(a, m):
    return a[a > 2].sum(), a[(a > 1) & m].mean(), m[~m].sum()


def in_rings(a, m):
    out = np.zeros(4)
    for k in range(4):
        ring = (k <= a) & (a < k + 2)
        v = a[ring]
        if v.size > 0:
            out[k] = v.mean() + len(v)
    return out


def everything(a, m):
    return total(a, m), moments(a, m), product(a[:9], m[:9]), by_comparison(a, m)


def _arrays(dtype: str, n: int) -> Any:
    rng = np.random.default_rng(n)
    values = rng.random(n) * 5 if dtype[0] != "c" else rng.random(n) * (2 + 3j)
    masks = (rng.random(n) < 0.5, np.ones(n, bool), np.zeros(n, bool), rng.random(n) < 0.02)
    for m in masks:
        a = values.astype(dtype)
        yield a, m
        yield np.repeat(a, 2)[::2], m[::-1]
        yield a[::-1], np.repeat(m, 3)[::3]


def _outcome(function: Any, *args: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return function(*args)
    except (ValueError, IndexError) as error:
        return type(error)


def _assert_same(got: Any, want: Any, dtype: str) -> None:
    tolerance = 1e-4 if dtype in ("float32", "complex64") else 1e-11
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            _assert_same(one, other, dtype)
    elif isinstance(want, type):
        assert got is want
    else:
        np.testing.assert_allclose(got, want, rtol=tolerance)


REALS = ("float64", "float32", "int8", "uint16", "int64")
CASES = [
    (total, (*REALS, "complex128", "bool")),
    (moments, ("float64", "float32", "int8", "uint16", "bool")),
    (extrema, REALS),
    (computed, ("float64", "float32", "int64")),
    (product, ("float64", "int64", "complex64")),
    (by_comparison, REALS),
    (in_rings, REALS),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("function", "dtypes"), CASES, ids=[f.__name__ for f, _ in CASES])
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:Degrees of freedom")
def test_as_numpy(function: Any, dtypes: tuple[str, ...], options: dict[str, Any]) -> None:
    compiled = njit(**options)(function)
    # compiling is what takes time
    for dtype in dtypes[: 1 if "mlir_codegen" in options else 2] if options else dtypes:
        for n in (0, 1, 5, 64, 1000, 40001):
            if n > 64 and function is product:
                continue
            for a, m in _arrays(dtype, n):
                got, want = _outcome(compiled, a, m), _outcome(function, a, m)
                _assert_same(got, want, dtype)


@pytest.mark.parametrize("function", [total, moments, extrema, computed, product, in_rings])
@pytest.mark.parametrize("parallel", [True, False])
def test_no_copy_is_made(function: Any, parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    compiled(np.arange(9.0), np.arange(9) % 2 == 0)
    assert "are reduced without a copy of them" in compiled.mlir_diagnostics()
    (text,) = compiled.inspect_llvm().values()
    assert "llvm.ctpop" not in text  # what counts for a copy


def test_nans_that_are_not_picked_do_not_count() -> None:
    def finite(a):
        v = a[np.isfinite(a)]
        return v.sum(), v.max(), v.min(), v.mean()

    a = np.array([1.0, np.nan, 3.0, np.inf, -np.inf, 2.0])
    assert njit(parallel=True)(finite)(a) == finite(a) == (6.0, 3.0, 1.0, 2.0)
    picked = np.array([True, True, False, False, False, False])
    assert np.isnan(njit(extrema)(a, picked)[0])


def test_the_sum_of_negative_zeros_is_one() -> None:
    a = np.array([-0.0, 5.0, -0.0])
    m = np.array([True, False, True])
    assert np.signbit(njit(lambda a, m: a[m].sum())(a, m)) == np.signbit(a[m].sum())


# -- where a copy is needed ---------------------------------------------------------------
def written_array(a, m):
    v = a[m]
    a[:] = 0
    return v.sum()


def written_mask(a, m):
    v = a[m]
    m[:] = True
    return v.sum(), v.size


def written_in_loop(a, m):
    total = 0.0
    for k in range(3):
        v = a[m]
        total += v.sum()
        a[k] = 5
    return total


def read_behind_loop(a, m):
    v = a[m]
    for k in range(2):
        a[k] = 7
    return v.sum()


def written_under_condition(a, m):
    v = a[m]
    if m[0]:
        a[0] = 9
    return v.sum()


def kept(a, m):
    v = a[m]
    return v, v.sum()


def stored_into(a, m):
    v = a[m]
    v[0] = 7
    return v.sum()


def seen_by_another(a, m):
    v = a[m]
    pair = (v, 1)
    pair[0][0] = 7
    return v.sum()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "function",
    [written_array, written_mask, written_in_loop, read_behind_loop, written_under_condition,
     kept, stored_into, seen_by_another],
)  # fmt: skip
def test_what_changes_meanwhile(function: Any, options: dict[str, Any]) -> None:
    compiled = njit(**options)(function)
    for n in (3, 10, 1001):
        a, m = np.arange(1.0, n + 1), np.arange(n) % 3 != 1
        want = function(a.copy(), m.copy())
        for view in (a.copy(), np.repeat(a, 2)[::2]):
            _assert_same(compiled(view, m.copy()), want, "float64")


def test_arrays_that_overlap() -> None:
    def shifted(a, b, m):
        v = a[m]
        b += 1.0
        return v.sum()

    base, m = np.arange(12.0), np.arange(10) % 2 == 0
    want = shifted(base[:10].copy(), base[2:].copy(), m)
    for options in OPTIONS:
        memory = base.copy()
        assert njit(**options)(shifted)(memory[:10], memory[2:], m) == want


def test_too_many_loops_read_a_copy() -> None:
    lines = [f"    s{k} = ((v - s{k - 1}) ** 2).sum()" for k in range(1, LOOPS + 1)]
    text = "\n".join(["def f(a, m):", "    v = a[m]", "    s0 = v.sum()", *lines])
    names: dict[str, Any] = {}
    exec(f"{text}\n    return s{LOOPS}\n", names)
    compiled = njit(names["f"])
    a, m = np.arange(9.0), np.arange(9) % 2 == 0
    np.testing.assert_allclose(compiled(a, m), names["f"](a, m))
    assert "without a copy" not in compiled.mlir_diagnostics()


def test_functions_are_not_computed_for_elements_that_are_not_picked() -> None:
    def exponentials(a, m):
        return np.exp(a[m]).sum()

    compiled = njit(exponentials)
    a, m = np.arange(9.0), np.arange(9) % 2 == 0
    np.testing.assert_allclose(compiled(a, m), exponentials(a, m))
    assert "without a copy" not in compiled.mlir_diagnostics()


# -- copies -----------------------------------------------------------------------------
def pick(a, m):
    return a[m]


def pick_twice(a, m):
    return a[m][a[m] != 3], a[1:][m[1:]]


DTYPES = ("float64", "float32", "int8", "uint16", "int64", "bool", "complex64", "complex128")


@pytest.mark.parametrize("parallel", [True, False])
def test_copies(parallel: bool) -> None:
    first, second = njit(parallel=parallel)(pick), njit(parallel=parallel)(pick_twice)
    for dtype in DTYPES[:2] if parallel else DTYPES:
        for n in (*range(20), 63, 64, 65, 1000, 40001):
            for a, m in _arrays(dtype, n):
                a.flags.writeable = False
                np.testing.assert_array_equal(first(a, m), pick(a, m))
                assert first(a, m).dtype == a.dtype and first(a, m).flags.writeable
                if n:
                    for got, want in zip(second(a, m), pick_twice(a, m), strict=True):
                        np.testing.assert_array_equal(got, want)


def test_words_of_all_densities() -> None:
    rng, compiled = np.random.default_rng(3), njit(pick)
    for density in np.linspace(0, 1, 41):
        for n in (8, 17, 100, 1000):
            a, m = rng.random(n), rng.random(n) < density
            np.testing.assert_array_equal(compiled(a, m), a[m])
            np.testing.assert_array_equal(compiled(a[:-3], m[3:]), a[:-3][m[3:]])


def test_masks_with_other_bytes_than_0_and_1_as_in_numba() -> None:
    m = np.array([0, 1, 2, 3, 255, 254, 1, 1, 2, 1], np.uint8).view(bool)
    a = np.arange(10.0)
    np.testing.assert_array_equal(njit(pick)(a, m), numba.njit(pick)(a, m))


def test_large_copies_are_ordinary_arrays() -> None:
    n = 2_000_000
    a, m = np.arange(float(n)), np.arange(n) % 5 != 2
    compiled = njit(pick)
    for _ in range(3):
        picked = compiled(a, m)
        np.testing.assert_array_equal(picked, a[m])
        assert picked.flags.c_contiguous and picked.flags.writeable
        picked[:] = 0


def test_a_mask_picks_for_another_array_that_it_assigns() -> None:
    def assign(a, b, m):
        a[m] = b[m]
        v = b[m]
        v *= 2
        b[m] = v

    for parallel in (True, False):
        compiled = njit(parallel=parallel)(assign)
        a, b, m = np.arange(9.0), np.arange(9.0) * 10, np.arange(9) % 2 == 0
        c, d = a.copy(), b.copy()
        compiled(a, b, m)
        assign(c, d, m)
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


# -- sizes --------------------------------------------------------------------------------
@pytest.mark.parametrize("function", [pick, total, moments, kept])
@pytest.mark.parametrize("options", [{"parallel": True}, {}], ids=str)
def test_sizes_that_do_not_fit(function: Any, options: dict[str, Any]) -> None:
    compiled, a = njit(**options)(function), np.arange(5.0)
    for n in (1, 4, 6, 100):
        for m in (np.ones(n, bool), np.zeros(n, bool)):
            with pytest.raises(IndexError, match="boolean index did not match") as caught:
                compiled(a, m)
            places = [frame.lineno for frame in traceback.extract_tb(caught.value.__traceback__)]
            start = function.__code__.co_firstlineno
            assert any(start <= (line or 0) <= start + 2 for line in places)


def test_an_empty_mask_picks_nothing_of_any_array() -> None:
    a, m = np.arange(5.0), np.ones(0, bool)
    assert pick(a, m).size == njit(pick)(a, m).size == 0
    assert njit(lambda a, m: a[m].sum())(a, m) == 0
