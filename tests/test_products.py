"""Products and sums along columns that share a matrix: one pass over its rows."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest

from numba_mlir import njit
from numba_mlir.passes import small_products
from numba_mlir.passes.machine import Machine


@pytest.fixture(autouse=True)
def loops_for_small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, small products stay calls: see test_small_products.py."""
    monkeypatch.setattr(small_products, "this_machine", lambda: Machine(l2=0))
    monkeypatch.setattr(small_products, "ROWS", 0)
    monkeypatch.setattr(small_products, "COLUMNS", 0)


def bicg(a: Any, x: Any, y: Any) -> Any:
    return a @ x, a.T @ y


def atax(a: Any, x: Any, y: Any) -> Any:
    return a.T @ (a @ x)


def gradient(a: Any, x: Any, y: Any) -> Any:
    return a.T @ (a @ x - y) * 2.0


def mvt(a: Any, x: Any, y: Any) -> Any:
    return y + np.dot(a, x), x - np.dot(y, a)


def gemver(a: Any, x: Any, y: Any) -> Any:
    b = a + np.outer(y, x) + np.outer(y * 2.0, x)
    z = 1.5 * (b.T @ y) + x
    return b, z, 0.5 * (b @ z)


def both_sums(a: Any, x: Any, y: Any) -> Any:
    return a.sum(axis=0) + x, a.sum(axis=1), (a * a).mean(axis=0)


def spread(a: Any, x: Any, y: Any) -> Any:
    distance = a - a.mean(axis=0)
    return distance / (a.std(axis=0) + 1.0), a.max(axis=1)


def three(a: Any, x: Any, y: Any) -> Any:
    r = a @ x
    return a @ (x * 2.0), a.T @ r, r.sum(), a.T @ y


def power(a: Any, x: Any, y: Any) -> Any:
    return a @ (a.T @ y)


def changed(a: Any, x: Any, y: Any) -> Any:
    before = a @ x
    a[:] = a * 0.5
    return before, a.T @ y, a


def same(got: Any, expected: Any, rtol: float = 1e-11) -> None:
    for one, other in zip(
        got if isinstance(got, tuple) else (got,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


def arguments(n: int, m: int, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(n + m)
    shapes = (n, m), (m,), (n,)
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)  # pyright: ignore


ONE_PASS = [bicg, atax, gradient, mvt, both_sums]


@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
@pytest.mark.parametrize("function", [*ONE_PASS, gemver, spread, three, power, changed])
def test_values(function: Any) -> None:
    compiled = njit(function)
    for n, m in [(7, 5), (1, 6), (6, 1), (1, 1), (100, 3), (3, 600)]:
        a, x, y = arguments(n, m)
        same(compiled(a.copy(), x, y), function(a.copy(), x, y))
    if function in (bicg, gradient, both_sums):
        a, x, y = arguments(8, 6)
        f = np.asfortranarray(a)
        same(compiled(f, x, y), function(f, x, y))


@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
@pytest.mark.parametrize("function", [bicg, gradient, three])
def test_values_in_parallel(function: Any) -> None:
    compiled = njit(parallel=True)(function)
    for n, m in [(7, 5), (0, 3), (3, 0), (100, 3), (5000, 3)]:  # chunks of 32 rows, or 64 chunks
        a, x, y = arguments(n, m)
        same(compiled(a, x, y), function(a, x, y))
    if function is bicg:  # the factors 2.0 of the others are float64 in Numba
        a, x, y = arguments(70, 6, np.float32)
        same(compiled(a, x, y), function(a, x, y), rtol=1e-4)
    a, x, y = arguments(12, 10)
    same(compiled(a[::2, ::-2], x[::2], y[::2]), function(a[::2, ::-2], x[::2], y[::2]))


def loops_over(text: str, matrix: str) -> int:
    """How many parallel loops read an argument."""
    loops = text.split("scf.parallel")[1:]
    return sum(f"memref.load {matrix}[" in loop for loop in loops)


@pytest.mark.parametrize("parallel", [False, True])
def test_the_matrix_is_read_once(parallel: bool) -> None:
    for function in ONE_PASS if not parallel else [bicg, gradient]:
        compiled = njit(parallel=parallel)(function)
        same(compiled(*arguments(9, 4)), function(*arguments(9, 4)))
        stage = "after-row-fusion" if parallel else "after-fusion"
        text = compiled.inspect_mlir(stage=stage)
        if function is not both_sums:
            text = text.split("{numba.large}")[1].split("numba.product")[0]
        if parallel:
            assert loops_over(text, "%arg0") == 1


def test_what_cannot_share_the_matrix_stays_with_blas() -> None:
    compiled = njit(power)
    compiled(*arguments(3, 3))
    text = compiled.inspect_mlir(stage="after-fusion")
    assert text.count("numba.product") == 2


def test_one_product_and_other_numbers_stay_with_blas() -> None:
    @njit
    def one(a: Any, x: Any) -> Any:
        return (a @ x) * 2.0

    @njit
    def complex_(a: Any, x: Any) -> Any:
        return a @ x, a.T @ x

    @njit
    def matrices(a: Any) -> Any:
        return a @ a, a.T @ a

    a = np.random.default_rng(0).normal(size=(4, 4))
    same(one(a, a[0]), (a @ a[0]) * 2.0)
    assert "numba.product" in one.inspect_mlir(stage="after-fusion")
    same(matrices(a), (a @ a, a.T @ a))
    same(complex_(a + 1j, a[0] - 1j), ((a + 1j) @ (a[0] - 1j), (a + 1j).T @ (a[0] - 1j)))


@pytest.mark.parametrize("parallel", [False, True])
def test_sizes_that_do_not_fit(parallel: bool) -> None:
    compiled, plain = njit(parallel=parallel)(bicg), numba.njit(bicg)
    a = np.ones((3, 4))
    for x, y in [(np.ones(3), np.ones(3)), (np.ones(4), np.ones(4)), (np.ones(1), np.ones(3))]:
        with pytest.raises(ValueError) as expected:
            plain(a, x, y)
        with pytest.raises(ValueError) as got:
            compiled(a, x, y)
        assert str(got.value) == str(expected.value)


def test_as_exact_as_blas_and_one_result_for_any_number_of_threads() -> None:
    compiled = njit(parallel=True)(bicg)
    rng = np.random.default_rng(1)
    a, x, y = (
        rng.random((3000, 40)) * 10.0 ** rng.integers(0, 7, (3000, 40)),
        *rng.random((2, 3000)),
    )
    x = x[:40]
    before, found = numba.get_num_threads(), set()
    try:
        for count in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(count)
            found.add(tuple(array.tobytes() for array in compiled(a, x, y)))
    finally:
        numba.set_num_threads(before)
    assert len(found) == 1
    ours, blas = compiled(a, x, y)[1], a.T @ y
    exact = np.array([math.fsum(column * y) for column in a.T])
    assert np.abs(ours - exact).max() <= max(
        np.abs(blas - exact).max(), 4 * np.spacing(exact.max())
    )


def test_four_rows_at_once() -> None:
    compiled = njit(bicg)
    for n in range(1, 10):
        a, x, y = arguments(n, 33)
        same(compiled(a, x, y), bicg(a, x, y))
    text = compiled.inspect_mlir(stage="after-fusion").split("numba.product")[0]
    assert "step %c4" in text
    assert text.count("arith.mulf") == 10  # two products for each of 4 rows, and of the rest


def test_sums_of_several_rows_have_one_loop_for_blocks_and_tail() -> None:
    compiled = njit(parallel=True)(atax)
    for m in (0, 1, 63, 64, 65, 511, 512, 513, 1030, 1088):
        for n in (3, 9):
            a, x, y = arguments(n, m)
            same(compiled(a, x, y), atax(a, x, y))
    text = compiled.inspect_mlir(stage="after-reductions").split("numba.product")[0]
    # over blocks, the tail among them, and over their elements: for four rows, and for the rest
    assert text.count("iter_args") == 4


def test_outer_products() -> None:
    def f(a: Any, b: Any) -> Any:
        return np.outer(a, b), np.outer(a, a) + 1, np.outer(b[::2], a)

    compiled = njit(f)
    for a, b in [
        (np.arange(3.0), np.arange(4.0)),
        (np.arange(3), np.arange(4.0)),
        (np.arange(3, dtype=np.int8), np.arange(4, dtype=np.int8)),
        (np.arange(2) * 1j, np.empty(0)),
    ]:
        for one, other in zip(compiled(a, b), f(a, b), strict=True):
            np.testing.assert_array_equal(one, other)
    assert compiled.inspect_mlir(stage="after-fusion").count("np.outer") == 0
