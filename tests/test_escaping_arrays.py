"""Arrays that are written after a tuple, a list or a caller of ours has got hold of them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from numba import njit as numba_njit
from numba import prange

from numba_mlir import njit
from numba_mlir.roundtrip import escape_passes

A = np.random.default_rng(3).random(6)
Pair = namedtuple("Pair", "array size")


def assigned(a, n):
    b = np.zeros(n)
    t = (b, n)
    b[:] = a + 1
    return t


def in_place(a, n):
    b = np.zeros(n)
    t = (b, n)
    b += a
    return t


def in_a_loop(a, n):
    b = np.zeros(n)
    t = (b, n)
    for i in prange(n):
        b[i] = a[i]
    return t


def in_a_list(a, n):
    b = np.zeros(n)
    arrays = [b]
    b[:] = a + 1
    return arrays[0], n


def appended(a, n):
    arrays = [a]
    for k in range(3):
        b = np.zeros(n)
        arrays.append(b)
        b[:] = a + k
    return arrays[1] + arrays[2], n


def in_a_named_tuple(a, n):
    b = np.zeros(n)
    t = Pair(b, n)
    b[:] = a + 1
    return t.array, t.size


def a_view_is_in_the_tuple(a, n):
    b = np.zeros(n)
    t = (b[1:], n)
    b[:] = a + 1
    return t


def through_a_view(a, n):
    b = np.zeros(n)
    v = b[::-1]
    t = (b, n)
    v[:] = a + 1
    return t


def on_one_path(a, n):
    b = np.zeros(n)
    t = (b, n)
    if n > 2:
        b[:] = a + 1
    else:
        b[:] = a - 1
    return t


@numba_njit
def same(b):
    return b


def by_a_function(a, n):
    b = np.zeros(n)
    c = same(b)
    b[:] = a + 1
    return c, n


FUNCTIONS = [
    assigned, in_place, in_a_loop, in_a_list, appended, in_a_named_tuple,
    a_view_is_in_the_tuple, through_a_view, on_one_path, by_a_function,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_writes_are_seen(function: Any) -> None:
    found, n = njit(parallel=True)(function)(A, 6)
    np.testing.assert_array_equal(found, function(A, 6)[0])
    assert n == 6


@pytest.mark.parametrize("flag", ["mlir_broadcast", "mlir_fusion"])
def test_with_one_pass(flag: str) -> None:
    found, _ = njit(parallel=True, **{flag: True})(assigned)(A, 6)
    np.testing.assert_array_equal(found, A + 1)


def test_a_tuple_that_is_returned_at_once_gets_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(a, n):
        out = np.zeros(n)
        for i in prange(n):
            out[i] = a[i] * 2
        out += 1
        return out, n

    def fails(*_: Any) -> None:
        raise AssertionError("a mark")

    monkeypatch.setattr(escape_passes, "_mark", fails)
    found, _ = njit(parallel=True)(f)(A, 6)
    np.testing.assert_array_equal(found, A * 2 + 1)
    with pytest.raises(AssertionError, match="a mark"):
        njit(parallel=True)(assigned)(A, 6)
