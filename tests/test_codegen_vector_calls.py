"""Calls of functions with vector versions stay calls of them, whatever LLVM knows of arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import prange

from numba_mlir import njit
from numba_mlir.roundtrip import vectormath

pytestmark = pytest.mark.skipif(
    not vectormath.variants("log"), reason="no vector functions on this machine"
)


def log(a, out):
    for i in prange(a.size):
        out[i] = np.log(a[i])


def log_of_a_quotient(a, out):
    for i in prange(a.size):
        out[i] = np.log(out[i] / a[i])


def log2_from_one_on(a, out):
    for i in prange(a.size):
        out[i] = np.log2(a[i] * a[i] + 1)


def log10_of_what_is_cut_off(a, out):
    for i in prange(a.size):
        out[i] = np.log10(max(a[i], 0.125))


def power_of_a_constant(a, out):
    for i in prange(a.size):
        out[i] = 3.5 ** a[i]


def power_of_two(a, out):
    for i in prange(a.size):
        out[i] = 2.0 ** a[i]


def power(a, out):
    for i in prange(a.size):
        out[i] = a[i] ** out[i]


FUNCTIONS = [log, log_of_a_quotient, log2_from_one_on, log10_of_what_is_cut_off,
             power_of_a_constant, power_of_two, power]  # fmt: skip


def vectors(compiled: Any) -> set[str]:
    (text,) = compiled.inspect_asm().values()
    return set(re.findall(r"_ZGV[bcde]N\d+vv?_(\w+)|__svml_(\w+?)f?\d", text))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("fastmath", [False, True, {"nnan", "ninf"}], ids=["no", "all", "some"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_loops_call_vector_functions(
    function: Callable[..., Any], fastmath: Any, dtype: Any
) -> None:
    compiled = njit(parallel=True, fastmath=fastmath)(function)
    for size in (1, 7, 100):
        a = np.linspace(0.1, 3, size).astype(dtype)
        ours, expected = np.full(size, 0.75, dtype), np.full(size, 0.75, dtype)
        compiled(a, ours)
        function(a, expected)
        np.testing.assert_allclose(ours, expected, rtol=8 * np.finfo(dtype).eps, atol=1e-7)
    assert vectors(compiled)


def test_squares_are_no_calls() -> None:
    @njit(parallel=True, mlir_codegen=True)
    def square(a, x):
        out = np.empty_like(a)
        for i in prange(a.size):
            out[i] = a[i] ** 2.0 + 0 * np.exp(x)
        return out

    np.testing.assert_array_equal(square(np.arange(9.0), 1.0), np.arange(9.0) ** 2)
    assert not any("pow" in name for pair in vectors(square) for name in pair)


def test_what_is_no_number_and_no_logarithm() -> None:
    a = np.array([np.nan, -1.0, 0.0, -0.0, np.inf, 1.0, 5e-324] * 5)
    ours, expected = np.empty_like(a), np.empty_like(a)
    njit(parallel=True)(log)(a, ours)
    with np.errstate(all="ignore"):
        log(a, expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-15)


def running_sums(a):
    return np.cumsum(np.exp(a), axis=1)


def by_hand(a):
    out = np.empty_like(a)
    for i in prange(a.shape[0]):
        total = 0.0
        for j in range(a.shape[1]):
            total = 0.5 * total + np.exp(a[i, j])
            out[i, j] = total
    return out


def largest_so_far(a):
    out = np.empty_like(a)
    for i in prange(a.shape[0]):
        best, where = -1.0, 0
        for j in range(a.shape[1]):
            value = np.exp(a[i, j])
            if value > best:
                best, where = value, j
            out[i, j] = best + where
    return out


@pytest.mark.parametrize(
    "function", [running_sums, by_hand, largest_so_far], ids=lambda f: f.__name__
)
def test_functions_beside_a_chain_are_computed_first(function: Callable[..., Any]) -> None:
    """What depends on the iteration before comes behind them, stores included."""
    compiled = njit(parallel=True)(function)
    rng = np.random.default_rng(2)
    for shape in ((1, 0), (0, 3), (3, 1), (5, 255), (2, 256), (3, 257), (2, 1000)):
        a = rng.normal(size=shape)
        np.testing.assert_allclose(compiled(a), function(a), rtol=1e-13)
    assert "exp" in str(vectors(compiled))


def onto_itself(a):
    for i in prange(a.shape[0]):
        for j in range(1, a.shape[1]):
            a[i, j] = a[i, j - 1] * 0.5 + np.exp(a[i, j])


def test_a_chain_through_memory_stays_in_order() -> None:
    compiled = njit(parallel=True)(onto_itself)
    mine = np.random.default_rng(2).normal(size=(3, 700))
    theirs = mine.copy()
    compiled(mine)
    onto_itself(theirs)
    np.testing.assert_allclose(mine, theirs, rtol=1e-13)
