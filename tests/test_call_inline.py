"""Short functions of numbers that loops call become part of them, and mean what they meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba import prange

import numba_mlir
from numba_mlir.roundtrip import vectormath

SCALE = 1.75
TABLE = np.array([0.5, 2.5, 4.5, 6.5, 8.5])
PAIR = (1.5, 2.0)


@numba.njit
def logistic(x):
    return 1.0 / (1.0 + np.exp(-SCALE * x))


@numba.njit
def bell(x):
    return np.exp(-SCALE * x * x)


@numba.njit
def early(x):
    if x < 0:
        return 0
    if x > 1.5:
        return x * 2
    y = 1
    if x > 1:
        y = 2.5
    return y + x


@numba_mlir.njit
def nested(x):
    return logistic(x) - early(x) * bell(x)


@numba.njit
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@numba.njit
def refuses(x):
    if x > 1.9:
        raise ValueError("too large")
    return x + 1


@numba.njit
def with_loop(x):
    total = 0.0
    while total < x:
        total += 0.25
    return total


@numba.njit
def with_ways_out(x):
    for i in range(20):
        for j in range(i):
            if x * j > 10:
                return i + 1 / (j + 1)
        if x + i > 5:
            break
    else:
        return -1.0
    return i * x


@numba.njit
def with_prange(x):
    last = x
    for i in prange(9):
        last = last * 0.5 + i
    return last


@numba.njit
def with_default(x, y=3.0):
    return x * y


@numba.njit("float32(float32)")
def casts(x):
    return x * np.float32(1.1)


@numba.njit(locals={"y": numba.float32})
def with_locals(x):
    y = x * 1.1
    return y + 1.0


@numba.njit
def looks_up(x):
    return TABLE[int(x * x)] + PAIR[int(x > 0)]


@numba.njit(fastmath=True)
def fast(x):
    return x * 3.0 + 1.0


@numba.njit
def parts(x, flag):
    return complex(x, 1) if flag else complex(0, x)


def _closure(offset: float) -> Any:
    @numba.njit
    def shifted(x):
        return x + offset

    return shifted


SHIFTED = _closure(0.5)

CALLEES = {
    "product": lambda x: bell(x),
    "division": lambda x: logistic(x),
    "branches": lambda x: early(x),
    "calls": lambda x: nested(x) + nested(x * 2),
    "recursion": lambda x: fibonacci(int(x * 3) + 2) + x,
    "loop": lambda x: with_loop(x),
    "ways out": lambda x: with_ways_out(x),
    "prange": lambda x: with_prange(x),
    "defaults": lambda x: with_default(x) + with_default(x, 2.0) + with_default(y=x, x=1.5),
    "signature": lambda x: casts(x),
    "locals": lambda x: with_locals(x),
    "globals": lambda x: looks_up(x),
    "fastmath": lambda x: fast(x),
    "complex": lambda x: abs(parts(x, x > 1)),
    "closure": lambda x: SHIFTED(x),
    "literal": lambda x: SHIFTED(2) + x,
}  # fmt: skip


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", CALLEES)
def test_a_call_gives_what_it_gave(name: str, parallel: bool) -> None:
    one = numba.njit(CALLEES[name])

    def function(a: Any) -> Any:
        out = np.empty(a.size)
        total = 0.0
        for i in prange(a.size):
            out[i] = one(a[i])
            total += one(a[i] + 0.25)
        return out, total

    ours, plain = numba_mlir.njit(parallel=parallel)(function), numba.njit(function)
    for size in (0, 1, 5, 1000):
        a = np.linspace(-1, 1.8, size)
        for got, expected in zip(ours(a), plain(a), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "int64", "float32", "bool"])
def test_types_are_those_of_the_callee(dtype: str) -> None:
    @numba.njit(error_model="numpy")
    def mixed(x, y):
        z = x // y
        return z * y + x % y - 1

    def function(a: Any, b: Any) -> Any:
        out = np.empty(a.size, np.float64)
        for i in prange(a.size):
            out[i] = mixed(a[i], b[i])
        return out

    a = np.arange(1, 9).astype(dtype)
    b = a[::-1].copy()
    expected = numba.njit(function)(a, b)
    for parallel in (False, True):
        ours = numba_mlir.njit(parallel=parallel, error_model="numpy")(function)
        np.testing.assert_array_equal(ours(a, b), expected)


def _call_in_loop(one: Any) -> Callable[..., Any]:
    def function(a: Any, out: Any) -> None:
        for i in prange(a.size):
            out[i] = one(a[i])

    return function


@pytest.mark.parametrize(
    ("one", "bad", "error"),
    [(numba.njit(lambda x: 2.0 / x), 0.0, ZeroDivisionError), (refuses, 1.95, ValueError)],
    ids=["division", "raise"],
)
@pytest.mark.parametrize("parallel", [False, True])
def test_exceptions_arrive(one: Any, bad: float, error: type[Exception], parallel: bool) -> None:
    ours = numba_mlir.njit(parallel=parallel)(_call_in_loop(one))
    a = np.linspace(0.5, 1.5, 300)
    ours(a, np.empty_like(a))
    a[137] = bad
    with pytest.raises(error):
        ours(a, np.empty_like(a))


def test_the_error_model_is_that_of_the_callee() -> None:
    numpys = numba.njit(error_model="numpy")(lambda x: 1.0 / x)
    a, out = np.array([1.0, 0.0, -0.0]), np.empty(3)
    numba_mlir.njit(parallel=True)(_call_in_loop(numpys))(a, out)
    np.testing.assert_array_equal(out, [1.0, np.inf, -np.inf])
    ours = numba_mlir.njit(parallel=True, error_model="numpy")(_call_in_loop(numpys))
    ours(a, out)
    np.testing.assert_array_equal(out, [1.0, np.inf, -np.inf])
    pythons = numba.njit(error_model="python")(lambda x: 1.0 / x)
    for parallel in (False, True):
        ours = numba_mlir.njit(parallel=parallel, error_model="numpy")(_call_in_loop(pythons))
        with pytest.raises(ZeroDivisionError):
            ours(a, out)


def test_a_callee_of_a_callee_has_its_error_model() -> None:
    inner = numba.njit(lambda x: 1.0 / x)
    outer = numba.njit(error_model="numpy")(lambda x: inner(x) + 1)
    a, out = np.array([1.0, 0.0, -0.0]), np.empty(3)
    for parallel in (False, True):
        numba_mlir.njit(parallel=parallel)(_call_in_loop(outer))(a, out)
        np.testing.assert_array_equal(out, [2.0, np.inf, -np.inf])


@pytest.mark.skipif(not vectormath.variants("exp"), reason="no vector functions on this machine")
@pytest.mark.parametrize("parallel", [False, True])
def test_functions_of_a_callee_are_computed_as_vectors(parallel: bool) -> None:
    ours = numba_mlir.njit(parallel=parallel)(_call_in_loop(bell))
    a = np.linspace(-3, 3, 1001)
    out = np.empty_like(a)
    ours(a, out)
    np.testing.assert_allclose(out, np.exp(-SCALE * a * a), rtol=1e-14)
    (text,) = ours.inspect_asm().values()
    assert re.search(r"_ZGV[bcde]N\d+v_exp|__svml_exp", text)


def test_an_exception_behind_inner_loops_and_several_divisions() -> None:
    inverse = numba.njit(lambda x, y: 1 / x + np.exp(y) / y)

    def function(a: Any, out: Any) -> Any:
        total = 0.0
        for i in prange(a.shape[0]):
            for j in range(a.shape[1]):
                out[i, j] = inverse(a[i, j], a[i, j] - 1)
                if out[i, j] > 3:
                    total += inverse(a[i, j], 2.0)
        return total

    ours, plain = numba_mlir.njit(parallel=True)(function), numba.njit(function)
    a = np.random.default_rng(1).uniform(1.5, 3, (50, 70))
    mine, theirs = np.empty_like(a), np.empty_like(a)
    np.testing.assert_allclose(ours(a, mine), plain(a, theirs), rtol=1e-13)
    np.testing.assert_allclose(mine, theirs, rtol=1e-13)
    for bad in (0.0, 1.0):
        a[17, 33] = bad
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            ours(a, mine)
    a[17, 33] = np.nan  # is no zero
    ours(a, mine)


def test_a_quotient_that_becomes_an_index_stops_the_loop_at_once() -> None:
    inverse = numba.njit(lambda x: 1 / x)

    def function(a: Any, out: Any) -> None:
        for i in prange(a.size):
            out[int(inverse(a[i]))] = 1

    a, out = np.full(100, 0.25), np.zeros(5)
    ours = numba_mlir.njit(parallel=True)(function)
    ours(a, out)
    np.testing.assert_array_equal(out, [0, 0, 0, 0, 1])
    a[50] = 0
    with pytest.raises(ZeroDivisionError):
        ours(a, out)


def test_a_precise_callee_stays_precise() -> None:
    precise = numba_mlir.njit(mlir_precise=True)(lambda x: np.exp(x))
    ours = numba_mlir.njit(parallel=True)(_call_in_loop(precise))
    a, out = np.linspace(-3, 3, 1001), np.empty(1001)
    ours(a, out)
    np.testing.assert_array_equal(out, [precise(x) for x in a])
