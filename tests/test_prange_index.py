"""The index of a parallel loop as an ordinary number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import prange

from numba_mlir import njit

A = np.random.default_rng(0).random(11)


def either_way(a, k):
    out = np.zeros(len(a))
    for i in prange(len(a)):
        j = len(a) - i - 1 if k > 0 else i
        out[j] = i
    return out


def one_of_two_assignments(a, k):
    out = np.zeros(len(a))
    for i in prange(len(a)):
        j = k
        if a[i] > 0.5:
            j = i
        out[i] = a[j]
    return out


def counted_down(a, k):
    out = np.zeros(len(a))
    for i in prange(len(a)):
        j = i
        while j > 0 and a[j] > 0.3:
            j = j - 1
        out[i] = a[j]
    return out


def shifted(a, k):
    out = np.zeros(len(a))
    for i in prange(len(a)):
        j = i
        j -= k
        if j < 0:
            j += len(a)
        out[i] = a[j]
    return out


def larger_of_two(a, k):
    out = np.zeros(len(a))
    for i in prange(len(a)):
        out[i] = a[max(k, i)] + a[min(i, k)] + max(0, i - 1)
    return out


def below_zero(a, k):
    out = np.zeros(2 * k)
    for i in prange(-k, k):
        j = i
        if i < 0:
            j = i + 2 * k
        out[j] = i
    return out


def large_numbers(a, k):
    out = np.zeros(len(a), np.int64)
    for i in prange(len(a)):
        h = i
        if k > 0:
            h = i * 9007199254740993 + k
        out[i] = h
    return out


FUNCTIONS = [
    either_way, one_of_two_assignments, counted_down, shifted, larger_of_two, below_zero,
    large_numbers,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_index_as_a_number(function: Any) -> None:
    compiled = njit(parallel=True)(function)
    np.testing.assert_array_equal(compiled(A, 3), function(A, 3))


def every_other(a, k):
    out, last, top, where = np.zeros(3 * k * len(a)), -1, -1.0, -1
    for i in prange(1, len(a), 2):
        out[i * k] = i
        last = i
        if a[i] > top:
            top, where = a[i], i
    return out, last, top, where


def downwards(a, k):
    out = np.zeros(len(a))
    for i in prange(len(a) - 1, -1, -1):
        out[i] = a[i] + i * k
    return out


def any_step(a, start, stop, step):
    out, n, last = np.zeros(99), 0, -1
    for i in prange(start, stop, step):
        out[i + 40] = i
        n += 1
        last = i
    return out, n, last


def test_steps() -> None:
    for found, wanted in zip(
        njit(parallel=True)(every_other)(A, 2), every_other(A, 2), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(njit(parallel=True)(downwards)(A, 3), downwards(A, 3))


def test_steps_that_are_known_at_run_time() -> None:
    compiled = njit(parallel=True)(any_step)
    for bounds in (
        (0, 20, 3),
        (20, 0, -3),
        (5, 5, 1),
        (5, 4, 1),
        (-9, 9, 4),
        (9, -9, -4),
        (0, 1, 50),
    ):
        for found, wanted in zip(compiled(A, *bounds), any_step(A, *bounds), strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="arg 3 must not be zero"):
        compiled(A, 0, 5, 0)


@pytest.mark.parametrize("function", [either_way, counted_down])
@pytest.mark.parametrize("flag", ["mlir_broadcast", "mlir_fusion", "mlir_tiling"])
def test_with_one_pass(function: Any, flag: str) -> None:
    compiled = njit(parallel=True, **{flag: True})(function)
    np.testing.assert_array_equal(compiled(A, 3), function(A, 3))
