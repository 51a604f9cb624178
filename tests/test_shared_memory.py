"""Arrays of a parallel loop that share memory: Numba's lowering takes them for distinct."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import prange

from numba_mlir import njit


def part(a):
    b = np.ones(len(a))
    s = b[: len(a)]
    total = 0.0
    for i in prange(len(a)):
        b[i] = 1
        s[i] = a[i, 0] + i
        total += b[i]
    return total


def column(a):
    s = a[:, 0]
    for i in prange(len(a)):
        a[i, 0] = 1
        s[i] = i
        a[i, 1] = a[i, 0]
    return a.sum()


def transposed(a):
    s = a.T
    for i in prange(len(a)):
        a[i, 0] = 1
        s[0, i] = i
        a[i, 1] = a[i, 0]
    return a.sum()


def reshaped(a):
    b = a[:, 0].copy()
    s = b.reshape(len(a))
    for i in prange(len(a)):
        b[i] = 1
        s[i] = i
        a[i, 1] = b[i]
    return a.sum()


def view_of_a_view(a):
    s = a[:, :2]
    t = s[:, 0]
    for i in prange(len(a)):
        s[i, 0] = 1
        t[i] = i
        s[i, 1] = s[i, 0]
    return a.sum()


@pytest.mark.parametrize("function", [part, column, transposed, reshaped, view_of_a_view])
@pytest.mark.parametrize("flags", [
    {}, {"mlir_codegen": False}, {"mlir_identity": True}, {"mlir_broadcast": True},
    {"mlir_fusion": True}, {"mlir_tiling": True}, {"mlir_codegen": True},
], ids=["all", "no codegen", "identity", "broadcast", "fusion", "tiling", "codegen"])  # fmt: skip
def test_views_made_in_front_of_the_loop(function: Any, flags: Any) -> None:
    a = np.random.default_rng(0).random((50, 3))
    expected, before = a.copy(), function(a.copy())
    function(expected)
    got = a.copy()
    assert njit(parallel=True, **flags)(function)(got) == pytest.approx(before, rel=1e-12)
    np.testing.assert_array_equal(got, expected)
