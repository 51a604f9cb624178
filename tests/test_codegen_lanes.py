"""Iterations of a parallel loop in the lanes of vectors: the same bits as one after the other."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from codegen_support import codegen
from numba import prange

from numba_mlir.roundtrip import vectormath


def forces(p, m, out):
    for i in prange(m.shape[0]):
        x = y = 0.0
        for j in range(m.shape[0]):
            dx, dy = p[0, j] - p[0, i], p[1, j] - p[1, i]
            w = m[j] / (math.sqrt(dx * dx + dy * dy + 0.01) + 1)
            x += dx * w
            y += dy * w if i >= 0 else dx
        out[0, i] = x
        out[1, i] = y


def filtered(p, m, out):
    for i in prange(m.shape[0] - 3):
        total = np.float32(0.5)
        for k in range(4):
            total += m[i + k] * p[1, k] + i * 0.25
        out[0, i] = total
        out[1, i + 3] = total - i


def powers(p, m, out):
    for r in prange(2):
        for i in range(m.shape[0]):
            out[r, i] = p[r, i]
    for i in prange(m.shape[0]):
        for r in range(2):
            value = 0.0
            for k in range(3):
                for _ in range(k):
                    value = value * m[i] + p[r, i]
            out[r, i] = value


def sums_of_rows(p, m, out):
    for i in prange(2):
        total = 0.0
        for j in range(m.shape[0]):
            total += p[i, j]
        out[i, 0] = total


CASES = {forces: True, filtered: True, powers: True, sums_of_rows: False}


def arguments(size: int, dtype: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(size)
    p, m = rng.normal(size=(2, size)), rng.normal(size=size)
    m[size // 2] = np.nan if size > 40 else 1
    return p.astype(dtype), m.astype(dtype), np.zeros((2, size), dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_results_keep_every_bit(function: Any, dtype: Any) -> None:
    compiled = codegen(function)
    plain = numba.njit(error_model="numpy")(function)
    for size in (4, 5, 15, 16, 17, 40, 1000):
        ours, expected = arguments(size, dtype), arguments(size, dtype)
        compiled(*ours)
        plain(*expected)
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    (text,) = compiled.inspect_llvm().values()
    lanes = 2 * vectormath.width() // 64  # the sums are of float64 in any case
    if function is forces and vectormath.dividing_width() < vectormath.width():
        lanes = vectormath.dividing_width() // 64
    if lanes:
        assert (f"<{lanes} x double>" in text) == CASES[function]


def density(p, m, out):
    for i in prange(m.shape[0]):
        total = 0.0
        for j in range(p.shape[1]):
            d = m[i] - p[0, j]
            total += math.exp(-d * d) * math.sin(p[1, j])
        out[0, i] = total


def softmax(p, m, out):
    for r in prange(2):
        largest = -np.inf
        for j in range(m.shape[0]):
            largest = max(largest, p[r, j])
        total, other = 0.0, 1.0
        for j in range(m.shape[0]):
            e = math.exp(p[r, j] - largest)
            out[r, j] = e
            total += e
            other = math.cos(m[j]) + other
        for j in range(m.shape[0]):
            out[r, j] = out[r, j] / total + other


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("function", [density, softmax], ids=lambda f: f.__name__)
def test_functions_beside_ordered_sums(function: Any, dtype: Any) -> None:
    compiled, plain = codegen(function), numba.njit(error_model="numpy")(function)
    for size in (1, 2, 15, 40, 255, 256, 257, 1000):
        ours, expected = arguments(size, dtype), arguments(size, dtype)
        ours[1][:], expected[1][:] = 0.25, 0.25
        compiled(*ours)
        plain(*expected)
        limit = 1e-12 if dtype is np.float64 else 1e-5
        np.testing.assert_allclose(ours[2], expected[2], rtol=limit, atol=limit)
    empty = np.empty((2, 0), dtype), np.empty(0, dtype), np.empty((2, 0), dtype)
    compiled(*empty)
    if vectormath.variants("exp"):
        (text,) = compiled.inspect_asm().values()
        assert "v_exp" in text


@pytest.mark.parametrize("layout", ["F", "A"])
def test_other_layouts(layout: str) -> None:
    compiled, plain = codegen(forces), numba.njit(error_model="numpy")(forces)
    p, m, out = arguments(50, np.float64)
    p = np.asfortranarray(p) if layout == "F" else np.repeat(p, 2, axis=1)[:, ::2]
    expected = out.copy()
    compiled(p, m, out)
    plain(p, m, expected)
    np.testing.assert_array_equal(out, expected)


def polynomial(a):
    out = np.empty_like(a)
    for i in prange(a.size):
        x = a[i]
        out[i] = (((((x * 2 + 1) * x + 3) * x + 5) * x - 7) * x + 9) * x - 1
    return out


def increased(a):
    out = np.empty_like(a)
    for i in prange(a.size):
        out[i] = a[i] + 1
    return out


@pytest.mark.parametrize(("function", "wide"), [(polynomial, True), (increased, False)])
def test_loops_that_compute_much_have_the_longest_vectors(function: Any, wide: bool) -> None:
    compiled = codegen(function)
    a = np.random.rand(1000)
    np.testing.assert_array_equal(compiled(a), numba.njit(function)(a))
    (text,) = compiled.inspect_llvm().values()
    if vectormath.width():
        assert (f'"prefer-vector-width"="{vectormath.width()}"' in text) == wide
