"""Sums of several rows at once, each in its order: the same bits as one row after the other."""

from __future__ import annotations

import re
from typing import Any

import numba
import numpy as np
import pytest
from codegen_support import codegen, thread_counts
from numba import prange


def products(a, x, out):
    for i in prange(a.shape[0]):
        total = 0.0
        for j in range(a.shape[1]):
            total += a[i, j] * x[j]
        out[i, 0] = total


def normalised(a, x, out):
    for i in prange(a.shape[0]):
        total = largest = a[i, 0]
        for j in range(1, a.shape[1]):
            total += a[i, j]
            largest = max(largest, a[i, j])
        if largest > 0.9:
            for j in range(a.shape[1]):
                out[i, j] = (a[i, j] - total / a.shape[1]) * x[i % 3]
        else:
            for j in range(a.shape[1]):
                out[i, j] = largest
        out[i, 1] = i


def twice(a, x, out):
    n = a.shape[1]
    for i in prange(2, a.shape[0]):
        mean, count = 0.0, 0
        for j in range(n):
            mean += a[i, j] / n
            count += a[i, j] > 0.5
        spread, j = 0.0, 1
        while j < n and spread < 2:
            spread += (a[i, j] - mean) * (a[i, j] - mean)
            j += 1
        rest = 1.0
        for j in range(n):
            rest = rest * 0.5 + a[i, n - 1 - j] * spread
        out[i, 0] = rest + count + j


def of_planes(a, x, out):
    for h in range(2):
        for i in prange(a.shape[0] // 2):
            for k in range(3):
                total = x[k]
                for j in range(a.shape[1]):
                    total -= a[2 * i + h, j] * k
                out[2 * i + h, k] += total


def both_indices(a, x, out):
    b = a.reshape(-1, 2, a.shape[1])
    o = out.reshape(-1, 2, a.shape[1])
    for i in prange(b.shape[0]):
        for h in prange(2):
            total = np.float32(0.25)
            for j in range(b.shape[2]):
                total += b[i, h, j] * np.float32(0.5)
            o[i, h, 1] = total


def ragged(a, x, out):
    for i in prange(a.shape[0]):
        total = 0.0
        for j in range(i % 5):
            total += a[i, j]
        out[i, 0] = total


INTERLEAVED = {products: True, normalised: True, twice: True, of_planes: False, both_indices: False,
               ragged: False}  # fmt: skip


def arguments(rows: int, columns: int, dtype: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(rows)
    a = (rng.random((rows, columns)) * 5).astype(dtype)
    if dtype is not np.int16:
        a[rows // 2, columns // 2] = np.nan
    return a, rng.random(columns).astype(dtype), np.zeros((rows, columns), dtype)


def has_chains_beside(compiled: Any) -> bool:
    """Whether a loop of the machine code carries numbers of four rows."""
    blocks = re.split(r"\n\n", next(iter(compiled.inspect_llvm().values())))
    found = [len(re.findall(r"phi (?:double|float)\b", block)) for block in blocks]
    wide = [re.search(r"phi <[48] x (?:double|float)>", block) for block in blocks]
    return max(found) >= 4 or any(wide)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
@pytest.mark.parametrize("function", INTERLEAVED, ids=lambda f: f.__name__)
def test_results_keep_every_bit(function: Any, dtype: Any) -> None:
    compiled, plain = codegen(function), numba.njit(error_model="numpy")(function)
    for shape in ((2, 5), (4, 7), (6, 33), (26, 64), (100, 9)):
        ours, expected = arguments(*shape, dtype), arguments(*shape, dtype)
        for _ in thread_counts():
            ours[2][:] = 0
            compiled(*ours)
        plain(*expected)
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    if dtype is np.float64:
        assert has_chains_beside(compiled) == INTERLEAVED[function]


@pytest.mark.parametrize("form", ["F", "strided", "reversed", "read-only", "no columns", "no rows"])
@pytest.mark.parametrize("function", [products, twice], ids=lambda f: f.__name__)
def test_layouts(function: Any, form: str) -> None:
    a, x, out = arguments(22, 12, np.float64)
    a = {
        "F": np.asfortranarray(a),
        "strided": np.repeat(a, 2, axis=1)[:, ::2],
        "reversed": a[::-1, ::-1],
        "read-only": a.copy(),
        "no columns": a[:, :0],
        "no rows": a[:0],
    }[form]
    a.flags.writeable = form != "read-only"
    if form == "no columns" and function is twice:
        pytest.skip("divides by the number of columns")
    expected = out.copy()
    codegen(function)(a, x, out)
    numba.njit(error_model="numpy")(function)(a, x, expected)
    np.testing.assert_array_equal(out, expected)


def test_sums_in_any_order_are_llvms() -> None:
    compiled = codegen(products, fastmath=True)
    a, x, out = arguments(40, 64, np.float64)
    a[:] = 0.5
    compiled(a, x, out)
    np.testing.assert_allclose(out[:, 0], a @ x, rtol=1e-13)
