"""Loops over prange that carry variables and have to run in order, with what is said then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from carried_loops import EMPTY, GRID, MASK, NAN, TIES, K, X, check, verdicts
from numba import njit as numba_njit
from numba import prange
from numba.core.errors import NumbaPerformanceWarning

from numba_mlir import njit

SEQUENTIAL: list[Any] = []


def sequential(*args: Any) -> Any:
    return lambda f: SEQUENTIAL.append(pytest.param(f, args, id=f.__name__)) or f


@sequential((X,), (EMPTY,))
def recurrence(x):
    s = 0.0
    for i in prange(len(x)):
        s = 0.5 * s + x[i]
    return s


@sequential((K,))
def running_sum(x):
    out, s = np.zeros(len(x), np.int64), 0
    for i in prange(len(x)):
        s += x[i]
        out[i] = s
    return out, s


@sequential((X,))
def positions(x):
    out, j = np.zeros(len(x)), 0
    for i in prange(len(x)):
        if x[i] > 0.5:
            out[j] = x[i]
            j += 1
    return out, j


@sequential((X,), (NAN,))
def one_before(x):
    out, before = np.zeros(len(x)), 0.0
    for i in prange(len(x)):
        out[i] = x[i] - before
        before = x[i]
    return out, before


@sequential((X,))
def handed_to_each_other(x):
    a, b, p, q = 0, 1, 0.0, 0.0
    for i in prange(30):
        a, b = b, a + b
        p, q = max(q, x[i]), max(p, x[i])
    return a, b, p, q


@sequential((X / 50,))
def by_itself(x):
    s = 1.0001
    for i in prange(5):
        s *= x[i] + 1
        s *= s
    return s


@sequential(*[(X, p, q) for p in (True, False) for q in (True, False)])
def seen_between_two_conditions(a, first, second):
    out, v = np.zeros(len(a)), 0.5
    for i in prange(len(a)):
        if first:
            v = a[i] * 3
        out[i] = v
        if second:
            v = a[i]
    return out, v


@sequential((GRID, np.abs(K) % 4))
def assigned_by_a_loop_of_another_length(x, k):
    out, v = np.zeros(len(x)), 0.25
    for i in prange(x.shape[0]):
        for j in range(k[i]):
            v = x[i, j]
        out[i] = v
    return out, v


@sequential((X,), (TIES,))
def two_largest(x):
    a = b = -np.inf
    for i in prange(len(x)):
        if x[i] > a:
            b = a
            a = x[i]
        elif x[i] > b:
            b = x[i]
    return a, b


@sequential((X,), (NAN,))
def smallest_or_else_largest(x):
    lo, hi = 0.5, 0.5
    for i in prange(len(x)):
        if x[i] < lo:
            lo = x[i]
        elif x[i] > hi:
            hi = x[i]
    return lo, hi


@sequential((X,), (NAN,))
def number_of_records(x):
    a, n = np.inf, 0
    for i in prange(len(x)):
        if x[i] < a:
            a = x[i]
            n += 1
    return a, n


@sequential((X, K))
def goes_along_at_times(x, k):
    a, w = np.inf, -1
    for i in prange(len(x)):
        if x[i] < a:
            a = x[i]
            if k[i] % 2 == 0:
                w = i
    return a, w


@sequential((X,), (NAN,))
def records_are_stored(x):
    a, out = np.inf, np.zeros(len(x))
    for i in prange(len(x)):
        if x[i] < a:
            a = x[i]
            out[i] = 1
    return a, out


@sequential((X, MASK), (NAN, MASK))
def starts_again(x, mask):
    m, w = 2.0, 0
    for i in prange(len(x)):
        if mask[i] or x[i] < m:
            m, w = x[i], i
    return m, w


@sequential((X,), (NAN,))
def not_less_of_floats(x):
    m, w = 0.5, 0
    for i in prange(len(x)):
        if not x[i] >= m:
            m, w = x[i], i
    return m, w


@sequential((X,))
def down_and_up(x):
    a = 0.5
    for i in prange(len(x)):
        if x[i] < a:
            a = x[i]
        if x[-i] > a:
            a = x[-i]
    return a


@numba_njit
def modular(a, b):
    return (a + b) % 1009


@sequential((K,), (K[:0],))
def users_function(x):
    s = 0
    for i in prange(len(x)):
        s = modular(s, x[i])
    return s


@sequential((np.arange(1, 30),))
def floor_division(x):
    s = 10**15
    for i in prange(len(x)):
        s //= x[i]
    return s


@sequential((X,), (EMPTY,))
def a_tuple(x):
    t = (np.inf, -1)
    for i in prange(len(x)):
        if x[i] < t[0]:
            t = (x[i], i)
    return t


@sequential((X,))
def a_loop_left_early(x):
    best = -1
    for i in prange(len(x)):
        for j in range(10):
            if x[i] * j > 4:
                break
            if j > best:
                best = j
    return best


@sequential((GRID,), (GRID[:0],), (GRID.T,))
def largest_rows(x):
    r = np.full(x.shape[1], -1e9)
    for i in prange(x.shape[0]):
        r = np.maximum(r, x[i])
    return r


@sequential((GRID, np.zeros(7)), (GRID, np.zeros((2, 7))))
def sum_of_rows(x, start):
    r = before = start
    for i in prange(x.shape[0]):
        r = x[i] + r
    return r, before


# -- tests ------------------------------------------------------------------------------
@pytest.mark.parametrize(("function", "examples"), SEQUENTIAL)
def test_in_order(function: Any, examples: tuple[Any, ...]) -> None:
    compiled = njit(parallel=True, mlir_fusion=True)(function)
    with pytest.warns(NumbaPerformanceWarning, match="runs sequentially|run in order"):
        for args in examples:
            check(compiled, function, args)
    assert {kind for kind, _, _ in verdicts(compiled)} == {"missed"}


@pytest.mark.parametrize("flags", [{}, {"mlir_tiling": True}, {"mlir_identity": "exact"}], ids=str)
@pytest.mark.parametrize("function", [users_function, largest_rows])
@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
def test_other_flags(function: Any, flags: dict[str, Any]) -> None:
    data = K if function is users_function else GRID
    check(njit(parallel=True, **flags)(function), function, (data,))


def test_reason_stands_at_the_loop() -> None:
    compiled = njit(parallel=True, mlir_fusion=True)(running_sum)
    with pytest.warns(NumbaPerformanceWarning):
        compiled(K)
    ((kind, message, line),) = verdicts(compiled)
    first = running_sum.__code__.co_firstlineno
    assert (kind, line) == ("missed", first + 3)
    assert message == (
        "the loop runs sequentially: what is done at line "
        f"{first + 5} depends on 's' of the iterations before"
    )
