"""Loops over prange that carry variables: the results are those of the loop in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from carried_loops import EMPTY, GRID, MASK, NAN, ONE_D, TIES, K, X, check, verdicts
from numba import get_num_threads, prange, set_num_threads

from numba_mlir import njit
from numba_mlir.passes import chunks

PARALLEL: list[Any] = []


def parallel(*args: Any) -> Any:
    """The loop runs in parallel; tested with each of ``args``."""
    return lambda f: PARALLEL.append(pytest.param(f, args, id=f.__name__)) or f


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ITERATIONS", 3)


# -- smallest and largest ---------------------------------------------------------------
@parallel(*ONE_D)
def first_smallest(x):
    best, where = 6.0, -1
    for i in prange(len(x)):
        if x[i] < best:
            best = x[i]
            where = i
    return best, where


@parallel(*ONE_D)
def last_smallest(x):
    best, where = 4.0, -1
    for i in prange(len(x)):
        if x[i] <= best:
            best, where = x[i], i
    return best, where


@parallel((X, np.nan), (NAN, -np.inf), (TIES, 3.0), (EMPTY, 1.0))
def last_largest_other_way_round(x, best):
    where = -1
    for i in prange(len(x)):
        if best <= x[i]:
            best, where = x[i], i
    return best, where


@parallel(*ONE_D)
def ternary(x):
    m, last = -np.inf, 0
    for i in prange(len(x)):
        m = x[i] if x[i] > m else m
        last = i
    return m, last


@parallel((TIES, MASK), (NAN, MASK), (EMPTY, MASK))
def conditions_in_front_and_behind(x, mask):
    m, w, n, v = -1.0, 0, 9.0, 0
    for i in prange(len(x)):
        if mask[i] and x[i] > m:
            m, w = x[i], i
        if x[i] <= n:  # noqa: SIM102
            if not mask[i]:
                n, v = x[i], i
    return m, w, n, v


@parallel(*ONE_D)
def both_ends(x):
    lo, hi, at_lo, at_hi = np.inf, -np.inf, -1, -1
    for i in prange(len(x)):
        if x[i] < lo:
            lo, at_lo = x[i], i
        if x[i] >= hi:
            hi, at_hi = x[i], i
    return lo, hi, at_lo, at_hi


@parallel((K.astype(np.int8),), (K.astype(np.uint64),), (K[:1],))
def not_greater(x):
    best, where = x[0], 0
    for i in prange(1, len(x)):
        if x[i] > best:
            pass
        else:
            best = x[i]
            where = i
    return where, best


@parallel((GRID,), (GRID.T,), (GRID[:0],), (GRID[:, :0],), (GRID[::-2, ::3],))
def in_two_dimensions(x):
    best, row, column = np.inf, -1, -1
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            if x[i, j] < best:
                best, row, column = x[i, j], i, j
    return best, row, column


@parallel((GRID,), (GRID[:0],))
def prange_in_prange(x):
    best, row, column = -1.0, -1, -1
    for i in prange(x.shape[0]):
        for j in prange(x.shape[1]):
            if x[i, j] >= best:
                best, row, column = x[i, j], i, j
    return best, row, column


@parallel((X,), (TIES,), (NAN,))
def the_index_alone(x):
    b = 0
    for i in prange(1, len(x)):
        if x[i] < x[b]:
            b = i
    return b


@parallel((X,), (NAN,), (EMPTY,))
def distance(x):
    far, at = 0.0, 0
    for i in prange(len(x)):
        d = abs(x[i] - 3.25)
        if d > far:
            far, at = d, i
    return far, at


@parallel((X, K), (NAN, K))
def one_of_two(x, k):
    a, w = np.inf, 0
    for i in prange(len(x)):
        if k[i] > 0:
            if x[i] < a:
                a, w = x[i], i
        elif x[i] - 1 < a:
            a, w = x[i] - 1, -i
    return a, w


@parallel((X, K), (NAN, K))
def two_in_a_row_and_another_choice(x, k):
    a, w = np.inf, 0
    for i in prange(len(x)):
        if x[i] < a:
            a = x[i]
            w = i if k[i] % 2 == 0 else -i
        if x[-i] < a:
            a, w = x[-i], 2 * i
    return a, w


@parallel((X + 1j * X[::-1],))
def by_absolute_value(z):
    m = 0j
    for i in prange(len(z)):
        if abs(z[i]) > abs(m):
            m = z[i]
    return m


# -- flags and last values --------------------------------------------------------------
@parallel((TIES,), (X,), (EMPTY,))
def flags(x):
    hit, either, every, toggled = False, False, True, False
    for i in prange(len(x)):
        if x[i] == 3:
            hit = True
        either = either or x[i] == 7
        every = every and x[i] < 8
        if x[i] > 5:
            toggled = True
        if x[i] < 2:
            toggled = False
    return hit, either, every, toggled


@parallel((TIES,), (X,), (EMPTY,))
def first_match(x):
    found, where, other = False, -1, -1
    for i in prange(len(x)):
        if not found and x[i] == 3:
            found = True
            where = i
        if other < 0:  # noqa: SIM102
            if x[i] == 4:
                other = i
    return found, where, other


@parallel((TIES,), (X,), (EMPTY,))
def last_match(x):
    where, value, last = -1, 0.5, -0.0
    for i in prange(len(x)):
        if x[i] == 3:
            where = i
            value = x[i] * 2
        last = x[i]
    return where, value, last


@parallel((X,))
def index_after_the_loop(x):
    for i in prange(len(x)):
        x[i] += 1
    return i, x


@parallel((4,), (0,))
def only_where_a_condition_holds(n):
    c, d = n, 0
    for _ in prange(n):
        if c:
            d = n + 4
    return d


@parallel((X,), (EMPTY,))
def read_in_the_iteration_only(x):
    out = np.zeros(len(x))
    for i in prange(len(x)):
        if x[i] > 0.5:
            t = x[i] * 2
        if x[i] > 0.5:
            out[i] = t
    return out


@parallel((X, TIES, 1), (X, TIES, 2), (X, TIES, 3), (EMPTY, TIES, 1))
def assigned_in_some_modes(a, b, mode):
    out, t = np.zeros(len(a)), 0.5
    for i in prange(len(a)):
        if mode == 1:
            t = a[i]
        elif mode == 2:
            t = b[i]
        out[i] = t
    return out, t


@parallel((GRID, 3), (GRID, 0), (GRID[:0], 2))
def assigned_by_a_loop_inside(x, m):
    out, v = np.zeros(len(x)), 0.25
    for i in prange(x.shape[0]):
        row = x[0]
        for j in range(m):
            v = x[i, j]
            row = x[i]
        out[i] = v + row[0]
    return out, v


# -- operators and counters -------------------------------------------------------------
@parallel((TIES, K), (EMPTY, K))
def many_kinds(x, k):
    s, n, p, bits, top, last = 0.0, 0, 1.0, 0, -100, -7
    for i in prange(len(x)):
        s += x[i]
        if x[i] > 4:
            n += 1
            p *= 2.0
        else:
            s -= 1.0
            p /= 2.0
        bits ^= k[i]
        top = max(top, k[i])
        last = i
    return s, n, p, bits, top, last


@parallel((X, 2), (X, -1), (EMPTY, 1))
def counter(x, by):
    out = np.zeros(3 * len(x) + 1)
    j = len(x) if by < 0 else 0
    for i in prange(len(x)):
        out[j] = x[i]
        j += by
    return out, j


@parallel((5, 20), (20, 5), (-7, 7), (0, 0))
def bounds(a, b):
    last, s, top, odd = 100, 0, -1000, 0
    for i in prange(a, b):
        last = i
        s += i
        if i * i % 7 > top:
            top = i * i % 7
        if i % 2:
            continue
        odd = i
    return last, s, top, odd


# -- tests ------------------------------------------------------------------------------
@pytest.mark.parametrize(("function", "examples"), PARALLEL)
def test_in_parallel(function: Any, examples: tuple[Any, ...]) -> None:
    compiled = njit(parallel=True, mlir_fusion=True)(function)
    for args in examples:
        check(compiled, function, args)
    found = verdicts(compiled)
    assert found
    assert {kind for kind, _, _ in found} == {"applied"}


@pytest.mark.parametrize("flags_", [{}, {"mlir_tiling": True}, {"mlir_identity": "exact"}], ids=str)
@pytest.mark.parametrize("function", [first_smallest, flags, last_match])
def test_other_flags(function: Any, flags_: dict[str, Any]) -> None:
    check(njit(parallel=True, **flags_)(function), function, (TIES,))


def test_same_bits_for_any_number_of_threads() -> None:
    def f(x):
        s, p, last = 0.0, 1.0, -1
        for i in prange(len(x)):
            s += x[i]
            p *= 1 + x[i] / 1000
            last = i
        return s, p, last

    x = np.random.default_rng(1).normal(size=2000)
    compiled = njit(parallel=True, mlir_fusion=True)(f)
    before = get_num_threads()
    found = set()
    for threads in range(1, before + 1):
        set_num_threads(threads)
        found.add(compiled(x))
    set_num_threads(before)
    assert len(found) == 1
    np.testing.assert_allclose(found.pop(), f(x), rtol=1e-9)
