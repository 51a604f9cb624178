"""Elements that a mask picks, changed and written back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numba_mlir import njit


def in_place(x, y):
    x[x > 0.5] *= 2
    return x


def by_an_array(x, y):
    x[x > 0.5] += y[x > 0.5]
    return x


def by_a_name(x, y):
    m = x > 0.5
    v = y[m]
    v -= 1
    x[m] = v
    return x, v


def one_element_stored(x, y):
    m = x > 0.5
    v = x[m]
    v[0] = 7
    x[m] = v
    return x


def source_changed(x, y):
    m = x > 0.5
    v = y[m]
    y[:] = 0
    x[m] = v
    return x, y


def used_twice(x, y):
    m = x > 0.5
    v = y[m]
    x[m] = v
    y[m] = v * 2 + 1
    return x, y, v


def at_once(x, y):
    m = y > 0.5
    x[m] = y[m]
    return x


def a_number(x, y):
    x[y > 0.5] = 3
    x[x > 0.9] = y.sum()
    return x


def computed(x, y):
    m = y < 0.25
    x[m] = y[m] ** 2 + x[m]
    return x


@pytest.mark.parametrize("function", [
    in_place, by_an_array, by_a_name, one_element_stored, source_changed, used_twice, at_once,
    a_number, computed,
])  # fmt: skip
@pytest.mark.parametrize("flags", [
    {}, {"parallel": False}, {"mlir_codegen": False}, {"mlir_broadcast": True},
    {"mlir_fusion": True}, {"mlir_codegen": True},
], ids=["all", "sequential", "no codegen", "broadcast", "fusion", "codegen"])  # fmt: skip
def test_written_back(function: Any, flags: Any) -> None:
    compiled: Any = njit(**{"parallel": True, **flags})(function)
    x, y = np.random.default_rng(1).random((2, 202))[:, ::-2]
    mine, other = x.copy(), y.copy()
    expected = function(x := x.copy(), y := y.copy())
    got = compiled(mine, other)
    for one, another in zip(each(got), each(expected), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-12)
    np.testing.assert_allclose(mine, x, rtol=1e-12)
    np.testing.assert_allclose(other, y, rtol=1e-12)


def each(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)
