"""Large fresh arrays written past the caches: which loops, and the same values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from codegen_support import codegen, thread_counts
from compare import same
from numba import prange

from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.streams import COPY
from numba_mlir.roundtrip import nontemporal

LEAST = 5000  # bytes, in these tests


@pytest.fixture(autouse=True)
def _small_arrays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nontemporal, "least", lambda: LEAST)


def streams(compiled: Any) -> int:
    """Calls of the copy in the function's code."""
    (text,) = compiled.inspect_llvm().values()
    return len(re.findall(rf"call [^\n]*@{re.escape(COPY)}\(", text))


def one(a, b):
    out = np.empty_like(a)
    for i in prange(a.size):
        out[i] = a[i] + b[i]
    return out


def two(a, b):
    first, second = np.empty(a.size, np.float32), np.empty(a.size)
    for i in prange(a.size):
        t = a[i] * b[i]
        first[i] = t
        second[i] = t - 1 if t > 0.25 else np.sin(t)
    return first, second


def part(a, b):
    out = np.empty(a.size + 7)
    out[:3] = 0
    out[a.size :] = 0
    for i in prange(3, a.size):
        out[i] = a[i - 3] + b[i]
    return out


def rows(a, b):
    out = np.empty(a.shape)
    for i in prange(a.shape[0]):
        total = 0.0
        for j in range(a.shape[1]):
            total += a[i, j]
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] * total + b[i, j]
    return out


def planes(a, b):
    out = np.empty(a.shape)
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            for k in range(a.shape[2]):
                out[i, j, k] = a[i, j, k] + b[k, j, i]
    return out


def given(a, b):
    for i in prange(a.size):
        a[i] = b[i] + 1
    return a


def read_again(a, b):
    out = np.empty(a.size)
    for i in prange(a.size):
        out[i] = a[i]
        if b[i] > 0.5:
            out[i] += b[i]
    return out


def some(a, b):
    out = np.zeros(a.size)
    for i in prange(a.size):
        if b[i] > 0.5:
            out[i] = a[i]
    return out


def columns(a, b):
    out = np.empty((a.shape[1], a.shape[0]))
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j] + b[i, j]
    return out


def vectors(
    sizes: tuple[int, ...] = (0, 1, 511, 512, 513, 625, 1024, 5000, 20_001),
) -> Iterator[Any]:
    for size in sizes:
        yield np.random.rand(size), np.random.rand(size)


@pytest.mark.parametrize(("function", "expected"), [(one, 1), (two, 2)])
def test_vectors_of_all_sizes(function: Any, expected: int) -> None:
    compiled = codegen(function)
    for a, b in vectors():
        same(compiled(a, b), function(a, b))
    assert streams(compiled) == expected


def test_a_part_that_begins_inside_a_line() -> None:
    compiled = codegen(part)
    for a, b in vectors((700, 5000)):
        got, wanted = compiled(a, b)[3 : a.size], a[:-3] + b[3:]
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32])
def test_other_types(dtype: Any) -> None:
    compiled = codegen(one)
    for size in (1249, 1250, 1251, 9999):
        a, b = (np.arange(size, dtype=dtype) for _ in range(2))
        same(compiled(a, b), a + b)
    assert streams(compiled) == 1


@pytest.mark.parametrize("function", [rows, planes])
def test_rows_that_begin_inside_lines(function: Any) -> None:
    compiled = codegen(function)
    shapes = [(7, 701), (1, 5000), (3, 512), (40, 33), (0, 5), (5, 0), (1000, 1)]
    if function is planes:
        shapes = [(*shape[::-1], shape[-1]) for shape in shapes[:4]]
    for shape in shapes:
        a, b = np.random.rand(*shape), np.random.rand(*shape)
        same(compiled(a, b), function(a, b))
    assert streams(compiled) > 0


@pytest.mark.parametrize(("function", "expected"), [(given, 0), (read_again, 0), (some, 1)])
def test_arrays_that_somebody_may_read_in_between(function: Any, expected: int) -> None:
    compiled = codegen(function)
    a, b = np.random.rand(5000), np.random.rand(5000)
    same(compiled(a.copy(), b), function(a.copy(), b))
    assert streams(compiled) == expected  # np.zeros is a loop that fills


def test_elements_that_are_not_neighbours() -> None:
    compiled = codegen(columns)
    a, b = np.random.rand(70, 90), np.random.rand(70, 90)
    same(compiled(a, b), (a + b).T.copy())
    assert streams(compiled) == 0


def test_any_number_of_threads() -> None:
    compiled = codegen(one)
    a, b = np.random.rand(100_003), np.random.rand(100_003)
    for _ in thread_counts():
        np.testing.assert_array_equal(compiled(a, b), a + b)
    assert numba.get_num_threads() >= 1


def test_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert nontemporal.least() in (0, min(this_machine().l3 // 2, 16 << 20))
