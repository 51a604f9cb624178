"""Loops over ``range`` around array statements: results, errors and what is left behind."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numba.core.errors import NumbaPerformanceWarning

from numba_mlir import njit, prange


def weighted(o: Any, x: Any, w: Any) -> Any:
    for k in range(len(w)):
        o += w[k] * x
    return o


def rows_and_columns(o: Any, x: Any, w: Any) -> Any:
    for k in range(len(w)):
        o += x[k] * w[k]
        o -= x[:, k]
    return o


def nested(o: Any, x: Any, w: Any) -> Any:
    k = j = -1
    for k in range(len(w) - 1, 0, -1):
        for j in range(0, 5, 3):
            c = w[k] * j
            if k % 2:
                o += c * x
            else:
                o[:] = o * 0.5 + x
    return o, k, j


def recurrence(o: Any, x: Any, w: Any) -> Any:
    s = 1.0
    for k in range(1 - len(w), len(w)):
        s = s * 0.5 + w[k]
        o = o * s + x
    return o, s


def neighbours(o: Any, x: Any, w: Any) -> Any:
    for _ in range(len(w)):
        o[1:-1] = o[:-2] + x[2:]
    return o


def largest(o: Any, x: Any, w: Any) -> Any:
    for k in prange(len(w)):
        o = np.maximum(o, x[k])
    return o


def total(o: Any, x: Any, w: Any) -> Any:
    for k in prange(len(w)):
        o = o + x[k] * w[k]
    return o


def moved(compiled: Any) -> bool:
    remarks = compiled.mlir_diagnostics(format="json")
    return "all trips of the loop" in str(remarks)


def check(function: Any, compiled: Any, *args: Any) -> None:
    mine, theirs = ([np.array(a, order="K") for a in args] for _ in range(2))
    expected, got = function(*theirs), compiled(*mine)
    if not isinstance(expected, tuple):
        expected, got = (expected,), (got,)
    for want, have in zip([*expected, *theirs], [*got, *mine], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-6)
        assert np.asarray(have).dtype == np.asarray(want).dtype


def numbers(shape: Any, dtype: Any) -> Any:
    values = np.random.default_rng(0).random(shape) * 4
    return values.astype(dtype)


@pytest.mark.parametrize("codegen", [True, False])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128, np.int32])
def test_types_and_layouts(dtype: Any, codegen: bool) -> None:
    compiled = njit(parallel=True, **({} if codegen else {"mlir_codegen": False}))(weighted)
    for shape in ((0,), (1,), (700,), (3, 0), (3, 5), (40, 70)):
        o, x, w = numbers(shape, dtype), numbers(shape, dtype), numbers(4, dtype)
        check(weighted, compiled, o, x, w)
        check(weighted, compiled, o, x, w[:0])
        check(weighted, compiled, o, x[..., :1], w)
        if len(shape) == 2:
            check(weighted, compiled, np.asfortranarray(o), x, w[::-2])
            check(weighted, compiled, o[::-1], x[0], w)
    assert moved(compiled)


@pytest.mark.parametrize("function", [rows_and_columns, nested, recurrence, total, largest])
def test_forms(function: Any) -> None:
    compiled = njit(parallel=True)(function)
    for n in (0, 1, 4, 9):
        x = numbers((n, n) if function in (rows_and_columns, total, largest) else n, float)
        check(function, compiled, numbers(n, float), x, numbers(n, float))
    assert moved(compiled)


def test_what_the_warning_says_of_arrays_that_are_carried() -> None:
    with pytest.warns(NumbaPerformanceWarning, match="iterations run in order, the array"):
        njit(parallel=True)(largest)(np.ones(3), np.ones((2, 3)), np.ones(2))


def test_neighbours_stay_as_they_are() -> None:
    compiled = njit(parallel=True)(neighbours)
    check(neighbours, compiled, numbers(9, float), numbers(9, float), numbers(3, float))
    assert not moved(compiled)
    assert "may be one element in different iterations" in str(
        compiled.mlir_diagnostics(format="json")
    )


def test_overlapping_arrays() -> None:
    compiled = njit(parallel=True)(weighted)
    for offset in (0, 1, 3):
        mine, theirs = (np.arange(1500.0) for _ in range(2))
        w = np.array([0.5, 2.0, -1.0])
        weighted(theirs[offset:], theirs[: 1500 - offset], w)
        compiled(mine[offset:], mine[: 1500 - offset], w)
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    mine, theirs = (np.arange(8.0) for _ in range(2))
    weighted(theirs, np.ones(8), theirs)
    compiled(mine, np.ones(8), mine)
    np.testing.assert_allclose(mine, theirs)


def later(o: Any, x: Any, y: Any, n: int) -> Any:
    for k in range(n):
        o += x
        if k == 2:
            o += y
    return o


def test_errors_of_shapes() -> None:
    compiled = njit(parallel=True)(later)
    for n in (0, 2, 5):
        mine, theirs = np.zeros(6), np.zeros(6)
        for run, o in ((later, theirs), (compiled, mine)):
            if n > 2:
                with pytest.raises(ValueError, match="broadcast"):
                    run(o, np.ones(6), np.ones(3), n)
            else:
                run(o, np.ones(6), np.ones(3), n)
        np.testing.assert_array_equal(mine, theirs)
    compiled(np.zeros(6), np.ones(6), np.ones(6), 5)
    assert moved(compiled)


def divided(x: Any, w: Any) -> Any:
    o = np.zeros(x.shape)
    for k in range(len(w)):
        c = 1.0 / w[k]
        o += c * x
    return o


def test_division_by_zero_in_a_later_trip() -> None:
    compiled = njit(parallel=True)(divided)
    x = numbers(9, float)
    check(divided, compiled, x, np.array([1.0, 2.0]))
    with pytest.raises(ZeroDivisionError):
        compiled(x, np.array([1.0, 0.0]))
    assert moved(compiled)


def assigned_in_the_loop(x: Any, n: int) -> Any:
    total = 0.0
    for i in range(n):
        y = np.exp(x) + i
        z = y * x
        total += z.sum()
    return y, z, total


def products_in_the_loop(x: Any, n: int) -> Any:
    w = np.ones(x.size)
    m = np.ones((x.size, x.size))
    for _ in range(3):
        y = -x * np.dot(m, w)
    return y


# without Broadcast Numba fails on the first one itself
@pytest.mark.parametrize(
    ("function", "flags"),
    [
        (assigned_in_the_loop, {}),
        (products_in_the_loop, {}),
        (products_in_the_loop, {"mlir_fusion": True}),
    ],
)
def test_arrays_that_the_first_trip_assigns_to(function: Any, flags: Any) -> None:
    compiled = njit(parallel=True, **flags)(function)
    for size, n in itertools.product((0, 1, 5, 3000 if function is assigned_in_the_loop else 40),
                                     (1, 2, 4)):  # fmt: skip
        x = np.random.default_rng(size).random(size)
        got, expected = compiled(x, n), function(x, n)
        if function is products_in_the_loop:
            got, expected = (got,), (expected,)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other)
