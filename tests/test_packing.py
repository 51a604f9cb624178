"""Contractions in register tiles: the sums of the program, for all layouts and sizes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
from codegen_support import codegen, thread_counts
from ir_check import parse
from numba import prange
from numba.np.ufunc.parallel import NUM_THREADS

from numba_mlir import njit
from numba_mlir.passes import packing
from numba_mlir.passes.contractions import contraction
from numba_mlir.passes.dependences import check
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.nests import read_nest
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.register_tiles import tile

#: blocks of a few tiles
SMALL = Machine(l1=1 << 10, l2=32 << 10, l3=64 << 10, registers=32, cores=2)
#: rows, columns, terms
SIZES = [(1, 1, 8), (1, 70, 40), (2, 9, 17), (3, 5, 9), (4, 33, 5), (2, 100, 9), (8, 48, 64),
         (17, 50, 130), (40, 3, 70), (70, 17, 65), (0, 4, 9), (4, 0, 9), (5, 7, 0),
         (33, 49, 3), (9, 9, 1), (110, 37, 70)]  # fmt: skip


def outer_sums(a, b, c):
    for i in prange(c.shape[0]):
        for k in range(a.shape[1]):
            for j in range(c.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def scalar_sums(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            s = 1.5
            for k in range(a.shape[1]):
                s -= b[k, j] * a[i, k]
            c[i, j] = s


def columns_outside(a, b, c):
    for j in prange(c.shape[1]):
        for i in range(c.shape[0]):
            c[i, j] = c[i, j] * c[i, j]
        for i in range(c.shape[0]):
            for k in range(a.shape[1]):
                c[i, j] = a[i, k] * b[k, j] - c[i, j]


def distances(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                d = a[i, k] - b[k, j]
                c[i, j] += d * d


def computed_operands(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                x = 2 * a[i, k] if i > 3 else np.exp(a[i, k]) - a[i, 0]
                c[i, j] = c[i, j] + x * b[k, j]


def two_factors(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j] - b[k, 0] * a[i, 0]


FUNCTIONS = [outer_sums, scalar_sums, columns_outside, distances, computed_operands, two_factors]


def _reversed(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]


def _strided(x: np.ndarray) -> np.ndarray:
    big = np.full((2 * x.shape[0], 3 * x.shape[1]), np.nan, x.dtype)
    big[::2, 1::3] = x
    return big[::2, 1::3]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "reversed": _reversed,
    "strided": _strided,
}


def arguments(size: tuple[int, int, int], dtype: Any) -> list[np.ndarray]:
    rows, columns, terms = size
    rng = np.random.default_rng(rows + columns + terms)
    shapes = (rows, terms), (terms, columns), (rows, columns)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@functools.cache
def plain(function: Callable[..., Any]) -> Any:
    return numba.njit(error_model="numpy")(function)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "this_machine", lambda: SMALL)


def _remarks(compiled: Any) -> list[str]:
    (found, *_) = json.loads(compiled.mlir_diagnostics(format="json"))
    return [remark["message"] for remark in found["remarks"]]


def _pairs(size: Any, dtype: Any, layouts: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """Arguments twice: in the layouts, and copies of them."""
    given = [LAYOUTS[name](x) for name, x in zip(layouts, arguments(size, dtype), strict=True)]
    yield given, [np.array(x) for x in given]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_precise_results_keep_every_bit(function: Any) -> None:
    compiled = codegen(function, mlir_precise=True)
    for size in SIZES:
        for ours, expected in _pairs(size, np.float64, ("C", "C", "C")):
            compiled(*ours)
            plain(function)(*expected)
            np.testing.assert_array_equal(ours[2], expected[2], str(size))
    assert any("operands packed" in text for text in _remarks(compiled))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "layouts",
    [("F", "F", "F"), ("C", "F", "strided"), ("strided", "reversed", "C"), ("reversed", "C", "F")],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layouts_do_not_matter(dtype: Any, layouts: tuple[str, ...]) -> None:
    compiled = codegen(outer_sums, mlir_precise=True)
    for size in SIZES:
        for ours, expected in _pairs(size, dtype, layouts):
            compiled(*ours)
            plain(outer_sums)(*expected)
            np.testing.assert_array_equal(ours[2], expected[2], str(size))
    assert any("operands packed" in text for text in _remarks(compiled))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "function", [outer_sums, columns_outside, distances], ids=lambda f: f.__name__
)
def test_products_are_not_rounded_by_themselves(function: Any, dtype: Any) -> None:
    compiled = codegen(function)
    for size in SIZES:
        for ours, expected in _pairs(size, dtype, ("C", "C", "C")):
            wide = [x.astype(np.float64) for x in expected]
            plain(function)(*wide)
            compiled(*ours)
            bound = 20 * np.finfo(dtype).eps * (np.abs(wide[2]).max(initial=0) + size[2])
            np.testing.assert_allclose(ours[2], wide[2], rtol=0, atol=bound)


def test_a_product_that_is_added_has_one_rounding() -> None:
    tiny = 2.0**-30
    a, b = np.full((9, 8), 1 + tiny), np.zeros((8, 9))
    b[0] = 1 - tiny
    c = np.full((9, 9), -1.0)
    compiled = codegen(outer_sums)
    compiled(a, b, c)
    np.testing.assert_array_equal(c, -(tiny**2))
    precise = codegen(outer_sums, mlir_precise=True)
    c[:] = -1
    precise(a, b, c)
    np.testing.assert_array_equal(c, 0)


@pytest.mark.parametrize("terms", [2, 3, 16, 21])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "function", [outer_sums, scalar_sums, distances, two_factors], ids=lambda f: f.__name__
)
def test_few_rows_have_the_bits_of_many(function: Any, dtype: Any, terms: int) -> None:
    compiled = codegen(function)
    a, b, c = arguments((40, 37, terms), dtype)
    every = c.copy()
    compiled(a, b, every)
    for rows in range(1, 9):
        some = c[:rows].copy()
        compiled(a[:rows], b, some)
        np.testing.assert_array_equal(some, every[:rows], str(rows))


def test_one_column_is_summed_as_it_was() -> None:
    compiled, fast = (codegen(scalar_sums, fastmath=flag) for flag in (False, True))
    for ours, expected in _pairs((17, 1, 50), np.float64, ("C", "C", "C")):
        compiled(*ours)
        plain(scalar_sums)(*expected)
        np.testing.assert_array_equal(ours[2], expected[2])
        fast(*ours)
        np.testing.assert_allclose(ours[2], expected[2], rtol=1e-13)


def test_threads_do_not_change_the_result() -> None:
    compiled = codegen(outer_sums)
    results = []
    for _ in thread_counts():
        a, b, c = arguments((37, 100, 200), np.float64)
        compiled(a, b, c)
        results.append(c)
    for result in results:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.usefixtures("small_blocks")
def test_arrays_that_overlap_are_seen() -> None:
    compiled, expected_of = codegen(outer_sums), plain(outer_sums)
    for run in (compiled, expected_of):
        run(*arguments((2, 2, 2), np.float64))
    next(thread_counts())  # one thread: in the order of the program
    for place in (0, 10, 100, 1500):
        ours, expected = (np.random.default_rng(1).normal(size=3000) for _ in "12")
        for memory, run in ((ours, compiled), (expected, expected_of)):
            a = memory[:1600].reshape(40, 40)
            run(a[:35], a, memory[place : place + 1400].reshape(35, 40))
        np.testing.assert_array_equal(ours, expected)
    numba.set_num_threads(NUM_THREADS)


def test_what_is_not_a_number_goes_where_it_belongs() -> None:
    compiled = codegen(outer_sums)
    a, b, c = arguments((19, 30, 40), np.float64)
    a[3, 5], b[7, 11], b[:, 29] = np.nan, np.inf, np.nan
    expected = c.copy()
    plain(outer_sums)(a, b, expected)
    compiled(a, b, c)
    np.testing.assert_allclose(c, expected, rtol=1e-11)


def batches(a, b, c):
    for p in prange(c.shape[0]):
        for i in range(c.shape[1]):
            for j in range(c.shape[2]):
                for q in range(b.shape[1]):
                    for k in range(a.shape[2]):
                        c[p, i, j] += a[p, i, k] * b[p, q, k, j]


def test_loops_around_a_product(small_blocks: None) -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=s) for s in ((3, 19, 70), (3, 2, 70, 33), (3, 19, 33)))
    compiled, expected = codegen(batches, mlir_precise=True), c.copy()
    compiled(a, b, c)
    plain(batches)(a, b, expected)
    np.testing.assert_array_equal(c, expected)
    assert any("operands packed" in text for text in _remarks(compiled))


def moving_elements(a, b, c):
    for j in prange(c.shape[0]):
        for k in range(b.shape[1] - 1):
            for p in range(c.shape[1]):
                for i in range(c.shape[2]):
                    c[j, p - 1, i] = c[j, p - 1, i] - a[k, p, i] * b[p, k + 1, j]


def test_elements_that_move_with_the_terms() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=s) for s in ((20, 9, 30), (9, 21, 25), (25, 9, 30)))
    compiled, expected = codegen(moving_elements, mlir_precise=True), c.copy()
    compiled(a, b, c)
    plain(moving_elements)(a, b, expected)
    np.testing.assert_array_equal(c, expected)


def test_only_the_whole_pipeline_leaves_products_to_codegen() -> None:
    ours = njit(parallel=True)(outer_sums)
    a, b, c = arguments((30, 30, 30), np.float64)
    ours(a, b, c)
    texts = _remarks(ours)
    assert any("Codegen packs it" in text for text in texts)
    assert any("operands packed" in text for text in texts)
    tiled = njit(parallel=True, mlir_tiling=True)(outer_sums)
    checked = njit(parallel=True, boundscheck=True)(outer_sums)
    for compiled in (tiled, checked):
        compiled(a, b, c)
        assert any("unrolled" in text for text in _remarks(compiled))
        assert not any("packs" in text for text in _remarks(compiled))


def triangle(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(i):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def running(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] = c[i, j] * a[i, k] / b[k, j]


def integers(a, b, c):
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def shifted(a, b, c):
    for i in prange(c.shape[0]):
        for k in range(a.shape[1]):
            for j in range(c.shape[1]):
                c[i, j - 1] += a[i, k] * b[k, j]


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (shifted, np.float64),
        (triangle, np.float64),
        (running, np.float64),
        (integers, np.int64),
        (integers, np.complex128),
    ],
)
def test_others_are_left_alone(function: Any, dtype: Any) -> None:
    compiled = njit(parallel=True, mlir_codegen=True)(function)
    (a, b, c), (*_, expected) = next(_pairs((20, 20, 20), dtype, ("C", "C", "C")))
    compiled(a, b, c)
    plain(function)(a, b, expected)
    np.testing.assert_array_equal(c, expected)
    assert not any("operands packed" in text for text in _remarks(compiled))


def test_tiles_fit_registers_and_caches() -> None:
    wide = tile(Machine(l1=32 << 10, l2=1 << 20, l3=32 << 20, registers=32, cores=2), 512, 8)
    assert wide.rows * wide.vectors + wide.vectors + 1 <= 32
    assert wide.block_rows % wide.rows == wide.block_columns % wide.columns == 0
    assert wide.block_rows * wide.block_terms * 8 <= 1 << 19
    narrow = tile(Machine(registers=16), 256, 4)
    assert narrow.rows * narrow.vectors + narrow.vectors + 1 <= 16


NEST = """
func.func @f(%a: memref<?x?xf64>, %b: memref<?x?xf64>, %c: memref<?x?xf64>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.for %k = %c0 to %n step %c1 {
      scf.for %j = %c0 to %n step %c1 {
        %x = memref.load %a[{x}] : memref<?x?xf64>
        %y = memref.load %b[{y}] : memref<?x?xf64>
        %z = memref.load %c[%i, %j] : memref<?x?xf64>
        %p = arith.mulf %x, %y : f64
        %s = arith.addf %z, %p : f64
        memref.store %s, %c[%i, %j] : memref<?x?xf64>
      }
    }
    scf.reduce
  }
  return
}
"""


@pytest.mark.parametrize(
    ("x", "y", "is_one"),
    [("%i, %k", "%k, %j", True), ("%j, %k", "%k, %i", True), ("%k, %i", "%j, %k", True),
     ("%i, %j", "%k, %j", False), ("%i, %k", "%k, %k", False), ("%i, %i", "%j, %j", False)],
)  # fmt: skip
def test_what_a_contraction_is(x: str, y: str, is_one: bool) -> None:
    module = parse(NEST.replace("{x}", x).replace("{y}", y))
    with module.context:
        (function,) = module.body.operations
        block = function.operation.regions[0].blocks[0]
        (loop,) = [op.operation for op in block.operations if op.operation.name == "scf.parallel"]
        nest = read_nest(loop, Provenance())
        check(nest, Provenance())
        found = contraction(nest.statements[0], nest)
    assert (found is not None) == is_one


def chained(a, b, c):
    d = np.zeros_like(c)
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                d[i, j] += a[i, k] * b[k, j]
    for i in prange(c.shape[0]):
        for j in range(c.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += d[i, k] * b[k, j]


def test_two_products_in_a_function() -> None:
    a, b, c = arguments((30, 30, 30), np.float64)
    expected = c + a @ b @ b
    compiled = codegen(chained)
    compiled(a, b, c)
    np.testing.assert_allclose(c, expected, atol=1e-10)
    assert sum("operands packed" in text for text in _remarks(compiled)) == 2
