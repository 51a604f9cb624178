"""Arrays that a ``prange`` loop adds up: each thread has its own, none is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import prange

from numba_mlir import njit

# Enough iterations that threads which share an array lose some of them.
N = 20000
X = np.random.default_rng(0).integers(0, 5, (N, 4)).astype(float)
FLAGS: dict[str, dict[str, bool]] = {
    "all": {}, "broadcast": {"mlir_broadcast": True}, "fusion": {"mlir_fusion": True},
    "tiling": {"mlir_tiling": True}, "codegen": {"mlir_codegen": True},
    "identity": {"mlir_identity": True},
}  # fmt: skip


def rows(x, r):
    for i in prange(len(x)):
        r += x[i]
    return r


def expression(x, r):
    for i in prange(len(x)):
        r += x[i] * 2 + 1
    return r


def difference(x, r):
    for i in prange(len(x)):
        r -= x[i]
    return r


def of_a_number(x, r):
    for i in prange(len(x)):
        r += x[i, 0]
    return r


def beside_a_number(x, r):
    s = 0.0
    for i in prange(len(x)):
        r += x[i]
        s += x[i].sum()
    return r, s


def under_a_condition(x, r):
    for i in prange(len(x)):
        if x[i, 0] > 1:
            r += x[i]
    return r


def in_a_loop_inside(x, r):
    for i in prange(len(x)):
        for j in range(3):
            r += x[i] * j
    return r


def in_a_parallel_loop_inside(x, r):
    for i in prange(len(x) // 4):
        for j in prange(4):
            r += x[4 * i + j]
    return r


def narrower(x, r):
    total = np.zeros(4, np.float32)
    for i in prange(len(x)):
        total += x[i]
    return r + total


def known_by_two_names(x, r):
    q = r
    for i in prange(len(x)):
        r += x[i]
    return r, q


def counts(x, r):
    found = np.zeros(5, np.int64)
    for i in prange(len(x)):
        mine = np.zeros(5, np.int64)
        for j in range(4):
            mine[int(x[i, j])] += 1
        found += mine
    return found, r


def private(x, r):
    out = np.zeros_like(x)
    for i in prange(len(x)):
        t = x[i].copy()
        t += r
        t *= 2
        out[i] += t
        row = out[i]
        row -= 1
    return out


@pytest.mark.parametrize("flags", FLAGS.values(), ids=list(FLAGS))
@pytest.mark.parametrize("function", [
    rows, expression, difference, of_a_number, beside_a_number, under_a_condition,
    in_a_loop_inside, in_a_parallel_loop_inside, narrower, known_by_two_names, counts, private,
])  # fmt: skip
def test_none_is_lost(function: Any, flags: Any) -> None:
    check(function, flags)


def again(x, r):
    for _ in range(3):
        for i in prange(len(x)):
            r += x[i]
    return r


def again_from_zero(x, r):
    for _ in range(3):
        t = np.zeros(4)
        for i in prange(len(x)):
            t += x[i]
        r += t
    return r


def twice(x, r):
    for i in prange(len(x)):
        r += x[i]
        r += 1.0
    return r


def new_arrays(x, r):
    for i in prange(len(x)):
        r = r + x[i]
    return r


@pytest.mark.parametrize("flags", [{}, FLAGS["fusion"]], ids=["all", "fusion"])
@pytest.mark.parametrize("function", [again, again_from_zero, twice, new_arrays])
def test_what_numba_itself_gets_wrong(function: Any, flags: Any) -> None:
    """In a loop around it Numba frees the array; other forms it refuses or mixes up."""
    check(function, flags)


def check(function: Any, flags: Any) -> None:
    start = np.array([7.0, 5.0, 3.0, 1.0])
    expected_start = start.copy()
    expected = function(X, expected_start)
    compiled: Any = njit(parallel=True, **flags)(function)
    for _ in range(3):
        mine = start.copy()
        got = compiled(X, mine)
        for one, other in zip(each(got), each(expected), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(mine, expected_start)


def each(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_kept_for_numba_to_find() -> None:
    compiled: Any = njit(parallel=True, mlir_broadcast=True)(in_a_loop_inside)
    compiled(X[:2], np.zeros(4))
    (text,) = {compiled.inspect_mlir(sig) for sig in compiled.signatures}
    assert "inplace_binop" in text
