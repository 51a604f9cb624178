"""Array statements around reductions of rows: one loop over rows, no array in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import prange

from numba_mlir import njit


def softmax(x: Any) -> Any:
    shifted = np.exp(x - np.max(x, axis=1)[:, None])
    return shifted / shifted.sum(axis=1)[:, None]


def keepdims(x: Any) -> Any:
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def layernorm(x: Any) -> Any:
    distance = x - x.mean(axis=1)[:, None]
    variance = (distance * distance).mean(axis=1)
    return distance / np.sqrt(variance + 1e-5)[:, None]


def normalise(x: Any) -> Any:
    return x / x.sum(axis=1)[:, None]


def two_results(x: Any) -> Any:
    return x.mean(axis=1), x.var(axis=1)


def last_of_three(x: Any) -> Any:
    return (x.reshape(2, -1, x.shape[1]) * 2).max(axis=2)


ONE_LOOP = [softmax, keepdims, layernorm, normalise]
SHAPES = [(4, 6), (2, 0), (0, 3), (1, 1), (6, 1), (2, 1500)]


def same(got: Any, expected: Any) -> None:
    for one, other in zip(
        got if isinstance(got, tuple) else (got,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [*ONE_LOOP, two_results, last_of_three])
def test_values(function: Any) -> None:
    compiled = njit(function)
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = rng.normal(size=shape)
        try:
            expected = function(x)
        except ValueError:
            with pytest.raises(ValueError):
                compiled(x)
            continue
        same(compiled(x), expected)
        if function is not last_of_three:  # Numba reshapes arrays in C order only
            same(compiled(np.asfortranarray(x)), expected)
            same(compiled(np.repeat(x, 2, axis=1)[:, ::2]), expected)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("function", ONE_LOOP)
def test_rows_become_one_loop_without_arrays_between(function: Any, parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    x = np.random.default_rng(1).normal(size=(5, 7))
    same(compiled(x), function(x))
    stage = "after-row-fusion" if parallel else "after-fusion"
    text = compiled.inspect_mlir(stage=stage)
    assert text.count("scf.parallel") == 1
    matrices = [line for line in text.splitlines() if "memref.alloc(" in line and "<?x?x" in line]
    assert len(matrices) == 1  # the result


def test_nan_and_infinity_in_rows() -> None:
    x = np.array([[np.nan, 1.0], [np.inf, 2.0], [3.0, 4.0]])
    with np.errstate(all="ignore"):
        same(njit(softmax)(x), softmax(x))


def test_an_array_that_is_returned_is_not_removed() -> None:
    def f(x: Any) -> Any:
        shifted = np.exp(x - np.max(x, axis=1)[:, None])
        return shifted, shifted / shifted.sum(axis=1)[:, None]

    x = np.random.default_rng(2).normal(size=(4, 5))
    same(njit(f)(x), f(x))


def test_rows_of_an_array_that_is_read_in_columns_too() -> None:
    def f(x: Any) -> Any:
        squares = x * x
        return squares.sum(axis=1), squares.sum(axis=0)

    x = np.random.default_rng(3).normal(size=(4, 5))
    same(njit(f)(x), f(x))


def test_an_output_that_is_the_input() -> None:
    def f(x: Any) -> Any:
        total = x.sum(axis=1)
        x[:] = x / total[:, None]
        x[:, ::-1] = x * x.max(axis=1)[:, None]
        return x

    x = np.random.default_rng(4).random((4, 5))
    same(njit(f)(x.copy()), f(x.copy()))


def test_reductions_of_one_array_in_one_loop() -> None:
    def f(x: Any) -> Any:
        return x.mean() + x.std() + x.min() + x.max()

    compiled = njit(parallel=True)(f)
    x = np.random.default_rng(5).normal(size=40_000)
    same(compiled(x), f(x))


def test_a_loop_that_was_moved_in_front_does_not_join_behind() -> None:
    """The loop that fills ``third`` has two indices and joins no rows; what adds to it does."""

    @njit(parallel=True, mlir_fusion=True)
    def f(x: Any) -> Any:
        first = x / 2
        second = np.zeros(first.shape)
        for i in prange(first.shape[0]):
            for j in prange(first.shape[1]):
                second[i, j] = abs(first[i, j]) + 0.5
        third = np.zeros(x.shape)
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                third[i, j] += x[i, j]
        return first, second, third

    for shape in SHAPES:
        x = np.random.default_rng(0).normal(size=shape)
        same(f(x), (x / 2, abs(x / 2) + 0.5, x))


def test_a_version_for_equal_sizes_knows_the_bounds_of_rows() -> None:
    """Sums of rows inside a version have its bounds too, and need no array of one row."""

    def forces(x, y, mass):
        dx, dy = x - x[:, None], y - y[:, None]
        pull = mass / (dx * dx + dy * dy + 0.1)
        return (dx * pull).sum(axis=1), (dy * pull).sum(axis=1)

    compiled, rng = njit(parallel=True)(forces), np.random.default_rng(0)
    for n, m in ((1, 1), (5, 5), (1, 5), (5, 1), (40, 40)):
        args = rng.random(n), rng.random(n), rng.random(m)
        for got, want in zip(compiled(*args), forces(*args), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)
    equal = compiled.inspect_mlir(stage="after-row-fusion").split("} else {")[0]
    assert equal.count("scf.for") == 1
    assert equal.count("memref.alloc(") == 2


@pytest.mark.parametrize("parallel", [False, True])
def test_a_version_leaves_bounds_alone_that_its_loops_make(parallel: bool) -> None:
    """Columns that are added up have loops inside, and bounds that are broadcast in there."""

    def function(a, b):
        t = np.cumsum(np.maximum(a, b) * b, axis=0) * 0.1
        u = np.cumsum(a * b, axis=0) * 0.1
        w = np.cumsum(u * a, axis=0) * 0.1
        return np.minimum(a * b, (b * b)[::-1] + (b + b)), np.cumsum(t * w, axis=0) * 0.1

    compiled, rng = njit(parallel=parallel)(function), np.random.default_rng(0)
    for shape, other in (((3, 4), (3, 4)), ((3, 1), (3, 4)), ((3, 4), (1, 4)), ((1, 1), (1, 1))):
        args = rng.random(shape), rng.random(other)
        for got, want in zip(compiled(*args), function(*args), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)
