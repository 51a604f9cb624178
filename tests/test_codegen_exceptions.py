"""Exceptions raised inside parallel loops, calls of Numba's code, and arrays made inside."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from codegen_support import codegen, thread_counts
from numba import prange

from numba_mlir import njit


@numba.njit
def must_be_small(value):
    if value > 1:
        raise ValueError("too big")
    return value * 2


@numba.njit
def says_which(value, place):
    if value > 1:
        raise IndexError(f"number {place}")
    return value


def calling(x):
    y = np.empty(x.shape[0])
    for i in prange(x.shape[0]):
        y[i] = must_be_small(x[i])
    return y


@pytest.mark.parametrize("size", [1, 64, 100_000])
def test_an_exception_of_a_callee_is_raised(size: int) -> None:
    compiled = codegen(calling)
    np.testing.assert_array_equal(compiled(np.ones(size)), np.full(size, 2.0))
    for place in {0, size // 2, size - 1}:
        x = np.ones(size)
        x[place] = 2
        with pytest.raises(ValueError, match="too big"):
            compiled(x)
    np.testing.assert_array_equal(compiled(np.ones(size)), np.full(size, 2.0))


def test_the_first_iteration_that_fails_wins() -> None:
    @codegen
    def f(x):
        total = 0.0
        for i in prange(x.shape[0]):
            total += says_which(x[i], i)
        return total

    x = np.ones(50_000)
    assert f(x) == 50_000
    x[[7, 30_000, 49_999]] = 3
    for _ in thread_counts():
        for _ in range(5):
            with pytest.raises(IndexError, match=r"number 7$"):
                f(x)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("operator", ["//", "%"])
def test_integer_division_by_zero_raises_as_in_a_sequential_loop(dtype: Any, operator: str) -> None:
    source = f"""
def f(x, y):
    out = np.empty(x.shape[0], x.dtype)
    for i in prange(x.shape[0]):
        out[i] = x[i] {operator} y[i]
    return out
"""
    space: dict[str, Any] = {"np": np, "prange": prange}
    exec(source, space)
    compiled, numpy_errors = codegen(space["f"]), codegen(space["f"], error_model="numpy")
    x, y = np.arange(100).astype(dtype), np.full(100, 3, dtype)
    np.testing.assert_array_equal(compiled(x, y), space["f"](x, y))
    for place in (0, 63, 99):
        zero = y.copy()
        zero[place] = 0
        with pytest.raises(ZeroDivisionError, match="division or modulo by zero"):
            compiled(x, zero)
        assert numpy_errors(x, zero)[place] == 0


def test_division_of_whole_arrays_does_not_raise() -> None:
    @njit(parallel=True, mlir_codegen=True)
    def f(x, y):
        return x // y, x / y

    x = np.array([1, 2, 3])
    quotient, ratio = f(x, np.array([0, 2, 0]))
    assert quotient[1] == 1 and list(ratio) == [np.inf, 1, np.inf]


def test_bounds_are_checked_where_the_function_asks_for_it() -> None:
    def f(x, shift):
        out = np.empty(x.shape)
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                out[i, j] = x[i, j + shift]
        return out

    compiled = codegen(f, boundscheck=True)
    x = np.random.rand(40, 30)
    np.testing.assert_array_equal(compiled(x, 0), x)
    with pytest.raises(IndexError, match="out of bounds"):
        compiled(x, 1)


def test_functions_without_mlir_form_are_called() -> None:
    @codegen
    def f(x, n):
        out = np.empty(x.shape[0])
        for i in prange(x.shape[0]):
            out[i] = math.gamma(x[i]) + math.hypot(x[i], 3.0) + math.gcd(n, 12)
        return out

    x = np.linspace(0.5, 4, 30)
    expected = [math.gamma(v) + math.hypot(v, 3.0) + 6 for v in x]
    np.testing.assert_allclose(f(x, 18), expected, rtol=1e-14)


def test_a_callee_with_a_parallel_loop_of_its_own() -> None:
    @numba.njit(parallel=True)
    def inner(n):
        total = 0
        for i in prange(n):
            total += i
        return total

    @codegen
    def f(n):
        out = np.empty(n, np.int64)
        for i in prange(n):
            out[i] = inner(i)
        return out

    np.testing.assert_array_equal(f(40), [n * (n - 1) // 2 for n in range(40)])


def buffered(x, n):
    out = np.empty(x.shape[0])
    for i in prange(x.shape[0]):
        row = np.empty(n)
        three = np.empty(3)
        for j in range(n):
            row[j] = x[i] * j
        for j in range(3):
            three[j] = x[i] + j
        total = 0.0
        for j in range(n):
            total += row[j]
        out[i] = total + three[0] * three[2]
    return out


def test_arrays_made_inside_are_made_once_and_freed() -> None:
    compiled = codegen(buffered)
    x = np.random.rand(1000)
    for n in (0, 1, 50):
        np.testing.assert_allclose(compiled(x, n), buffered(x, n), rtol=1e-13)
    with pytest.raises(ValueError, match="negative dimensions"):
        compiled(x, -1)
    for n in (1 << 50, 1 << 61):
        with pytest.raises(MemoryError):
            compiled(x, n)
    assert list(compiled(np.empty(0), -1)) == []
    assert "malloc" in next(iter(compiled.inspect_llvm().values()))


def test_an_array_whose_size_changes_stays_with_numba() -> None:
    def f(x):
        out = np.empty(x.shape[0])
        for i in prange(x.shape[0]):
            row = np.empty(i + 1)
            for j in range(i + 1):
                row[j] = x[j]
            for j in range(i + 1):
                out[i] = row[j]
        return out

    compiled = njit(parallel=True, mlir_codegen=True)(f)
    x = np.random.rand(100)
    np.testing.assert_array_equal(compiled(x), x)
    (record,) = (cres.metadata["mlir"] for cres in compiled.overloads.values())
    missed = [remark.message for remark in record.remarks if remark.kind == "missed"]
    assert missed == ["an array is made whose size differs between iterations"]


def test_loops_without_effects_are_gone() -> None:
    @codegen
    def f(a, b):
        rows = a.sum(axis=-1)
        _unused = b / 2.0
        for i in prange(a.shape[0]):
            a[i, 0] + 1
        return rows + rows

    a = np.arange(12.0).reshape(3, 4)
    np.testing.assert_allclose(f(a, a), 2 * a.sum(axis=-1))


def test_callbacks_take_literals() -> None:
    @codegen
    def f(n):
        return np.random.triangular(1, 2, 3, (n, n)) + np.random.normal(0.0, 1e-9, (n, n))

    found = f(50)
    assert found.shape == (50, 50) and found.min() > 0.99 and found.max() < 3.01
