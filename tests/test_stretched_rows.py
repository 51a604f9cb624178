"""Broadcasting of many shapes: rows of one element beside full ones, in blocks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from numba_mlir import njit


def fresh(a, b, c, d):
    return a * b + c * d - b


def in_place(a, b, c, d):
    a[:] = np.minimum(a * 2, b + c) + d
    return a


def mixed(a, b, c, d):
    a[:] = np.where(a > b, a - c, b + d * a)
    return a


def masks(a, b, c, d):
    chosen, other = b > 3, d < 5
    a[:] = np.where(chosen & (other | (a > c)), a * b, c + d)
    return a


def parts(a, b, c, d):
    a[:] = np.minimum(a, b[:, :1] + a[1:2, :] * c[:, -1:]) + d
    return a


FUNCTIONS = (fresh, in_place, mixed, masks, parts)
SIZES = (0, 1, 2, 3, 15, 16, 100, 256, 257, 600)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_as_numpy(function: Any, dtype: str, parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    rng = np.random.default_rng(1)
    for n in SIZES:
        shapes = [(3, n), (3, 1), (1, n), (1, 1)]
        for kinds in itertools.islice(itertools.permutations(shapes[1:]), 3):
            args = [rng.integers(1, 9, shape).astype(dtype) for shape in (shapes[0], *kinds)]
            want = function(*(x.copy() for x in args))
            np.testing.assert_array_equal(compiled(*args), want, strict=True)


def test_is_in_blocks() -> None:
    a = np.ones((4, 300))
    compiled = njit(parallel=True)(in_place)
    compiled(a, a[:, :1].copy(), a[:1].copy(), a[:1, :1].copy())
    assert "alloca [256 x double]" in compiled.inspect_llvm(compiled.signatures[0])


def three(a, b, c):
    return np.minimum(a, b + c)


def standardise(a, b, c):
    a[:] = (a - b) * c
    return a


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("function", [three, standardise])
def test_few_rows_have_a_version_each(function: Any, parallel: bool) -> None:
    compiled, rng = njit(parallel=parallel)(function), np.random.default_rng(1)
    for n in (0, 1, 2, 15, 100, 300):
        for kinds in itertools.product([(3, n), (3, 1), (1, n), (1, 1)], repeat=2):
            args = [rng.random(shape) for shape in ((3, n), *kinds)]
            want = function(*(x.copy() for x in args))
            np.testing.assert_array_equal(compiled(*args), want, strict=True)
    (text,) = compiled.inspect_llvm().values()
    assert "alloca [256 x double]" not in text
    assert "x double>" in text


def own_row(a):
    a[:] = a + a[:1] * a[:, :1]
    return a


def own_column(a):
    a += a[:, :1] * a[1:2] + a[:1, 1:2]
    return a


@pytest.mark.parametrize("function", [own_row, own_column])
@pytest.mark.parametrize("n", [2, 16, 300])
def test_rows_of_the_array_that_is_written(function: Any, n: int) -> None:
    a = np.arange(5.0 * n).reshape(5, n) % 7
    want = function(a.copy())
    np.testing.assert_array_equal(njit(parallel=True)(function)(a), want)


def by_number(a, b, s):
    out = np.zeros(a.shape[0])
    for i in range(a.shape[0]):
        out[i] = a[i] + b[i * s]
    return out


@pytest.mark.parametrize("step", [0, 1, 2, -1])
def test_other_factors(step: int) -> None:
    """A factor of the user's own is no factor of broadcasting."""
    a, b = np.arange(100.0), np.arange(200.0)
    for parallel in (True, False):
        compiled = njit(parallel=parallel)(by_number)
        np.testing.assert_array_equal(compiled(a, b, step), by_number(a, b, step))


def through_views(a, b):
    for i in range(2):
        a[:, i::2] = a[:, i::2] * b + b[:1] * a[:, :1]
    return a


def test_strided_rows() -> None:
    a = np.arange(1200.0).reshape(4, 300) % 11
    b = np.array([[1.0], [2], [0], [3]])
    want = through_views(a.copy(), b)
    np.testing.assert_array_equal(njit(parallel=True)(through_views)(a, b), want)
