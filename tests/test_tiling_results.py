"""Tiled functions beside the interpreter's execution of them: sizes, strides, dtypes, overlaps.

Tiling keeps the order of every sum, so results are compared bit for bit.
"""

from __future__ import annotations

import itertools
import json
import platform
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numba
import numpy as np
import pytest
from numba import prange

import numba_mlir
from numba_mlir.passes.machine import Machine
from numba_mlir.roundtrip.copying import Copier

SIZES = [(0, 3, 2), (3, 0, 2), (2, 3, 0), (1, 1, 1), (5, 7, 3), (35, 70, 21)]


def matmul_ijk(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(b.shape[1]):
            s = 0.0
            for k in range(a.shape[1]):
                s += a[i, k] * b[k, j]
            c[i, j] = s


def matmul_zero(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(b.shape[1]):
            c[i, j] = 0
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def matmul_ikj(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def matmul_scaled(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(b.shape[1]):
            s = 0.0
            for k in range(a.shape[1]):
                s += a[i, k] * b[k, j]
            c[i, j] = 2.5 * s - 1


def matmul_nested_prange(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in prange(b.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def lower_triangle(a: Any, b: Any, c: Any) -> None:
    for i in prange(min(a.shape[0], b.shape[1])):
        for j in range(i + 1):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * a[j, k]


def upper_rows(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(i, b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def inner_triangle(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(min(k, b.shape[1])):
                c[i, j] += a[i, k] * b[k, j]


def column_sums(a: Any, b: Any, c: Any) -> None:
    for j in prange(b.shape[1]):
        for k in range(b.shape[0]):
            c[0, j] += b[k, j]


def row_sums(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        s = 0.0
        for k in range(a.shape[1]):
            s += a[i, k]
        c[i, 0] = s


def shifted_store(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0] - 1):
        for j in range(b.shape[1] - 1):
            for k in range(a.shape[1]):
                c[i + 1, j + 1] += a[i, k] * b[k, j]


def conditional(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                x = a[i, k]
                c[i, j] += x * b[k, j] if x > 0 else -x


def several_statements(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(b.shape[1]):
            c[i, j] = 1
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
        for j in range(b.shape[1]):
            c[i, j] = c[i, j] * 2


MATMULS = [
    matmul_ijk, matmul_zero, matmul_ikj, matmul_scaled, matmul_nested_prange, lower_triangle,
    upper_rows, inner_triangle, column_sums, row_sums, shifted_store, conditional,
    several_statements,
]  # fmt: skip


def _arrays(sizes: tuple[int, int, int], dtype: str = "f8") -> tuple[Any, Any, Any]:
    n, m, k = sizes
    rng = np.random.default_rng(n + m + k)
    make = [rng.integers(-9, 9, shape) / 4 for shape in ((n, k), (k, m), (n, m))]
    a, b, c = (array.astype(dtype) for array in make)
    return a, b, c


def _check(tiled: Any, *arguments: Any) -> Any:
    """Run tiled and interpreted on copies, and compare all arrays bit for bit."""
    mine, theirs = Copier(arguments).values, Copier(arguments).values
    results = tiled(*mine), tiled.py_func(*theirs)
    for one, other in zip((*mine, results[0]), (*theirs, results[1]), strict=True):
        np.testing.assert_array_equal(one, other)
    return results[0]


def _applied(dispatcher: Any) -> list[str]:
    report = json.loads(dispatcher.mlir_diagnostics(format="json"))
    return [r["message"] for one in report for r in one["remarks"]
            if r["kind"] == "applied" and r["pass_name"] == "tiling"]  # fmt: skip


@pytest.fixture(autouse=True)
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that arrays of some dozen elements have several."""
    small = Machine(l1=2 << 10, l2=4 << 10, cores=2)
    monkeypatch.setattr("numba_mlir.passes.tiling.this_machine", lambda: small)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Loops whose arrays overlap give the interpreter's result in its order only."""
    numba.njit(lambda: 0)()  # compiling reads NUMBA_NUM_THREADS, which has to be done first
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.mark.parametrize("function", MATMULS, ids=lambda f: f.__name__)
def test_sizes_that_are_no_multiples_of_anything(function: Callable[..., Any]) -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(function)
    for sizes in SIZES:
        if 0 in sizes and function in (column_sums, row_sums):
            continue
        _check(tiled, *_arrays(sizes))
    assert _applied(tiled)


@pytest.mark.parametrize("sizes", [(8,), (3, 5), (4, 4, 4), (100, 1, 7)])
def test_sizes_of_blocks_given_by_the_user(sizes: tuple[int, ...]) -> None:
    for function in (matmul_zero, lower_triangle):
        tiled = numba_mlir.njit(parallel=True, mlir_tiling=sizes)(function)
        for shape in SIZES:
            _check(tiled, *_arrays(shape))
        assert f"blocks of {sizes[-1]}" in _applied(tiled)[0] or function is lower_triangle


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u8", "f4", "c8", "c16"])
def test_dtypes(dtype: str) -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(products)
    a, b, _ = _arrays((9, 21, 10), dtype)
    assert _check(tiled, a, b).dtype == dtype


def products(a: Any, b: Any) -> Any:
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]
    return c


def matmul_shorter(a: Any, b: Any, c: Any) -> None:
    """Rows are begun behind their beginning and left before their end, if they are that long."""
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(3, b.shape[1] - 5):
                c[i, j] += a[i, k] * b[k, j]


def matmul_columns(a: Any, b: Any, c: Any) -> None:
    """The same of transposed arrays."""
    for i in prange(a.shape[1]):
        for k in range(a.shape[0]):
            for j in range(3, b.shape[0] - 5):
                c[j, i] += a[k, i] * b[j, k]


def _beginning(array: Any, behind: int, order: Literal["C", "F"]) -> Any:
    """A copy whose memory begins ``behind`` elements behind a line."""
    memory = np.empty(array.nbytes + 128 + behind * array.itemsize, "u1")
    start = -memory.ctypes.data % 64 + behind * array.itemsize
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape, order=order)
    copy[:] = array
    return copy


@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "c16"])
def test_blocks_begin_with_a_line_of_the_cache(dtype: str) -> None:
    """From so many lines in a row on, wherever the array begins."""
    by_rows = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_shorter)
    flags = {"mlir_tiling": (8, 4, 64), "mlir_codegen": True}
    by_columns = numba_mlir.njit(parallel=True, **flags)(matmul_columns)
    pairs = itertools.product((0, 1, 3), (0, 4, 63, 96, 128, 129, 136, 512, 520))
    for behind, m in [*pairs, (1, 2112), (2, 2114), (5, 520)]:
        arrays = _arrays((5, m, 6), dtype)
        transposed = tuple(array.T for array in arrays)
        for function, given, order in ((by_rows, arrays, "C"), (by_columns, transposed, "F")):
            begins = (0, behind, behind if behind < 5 else 0)
            mine, theirs = (
                [_beginning(*one, order) for one in zip(given, begins, strict=True)] for _ in "12"
            )
            function(*mine)
            by_rows.py_func(*(theirs if order == "C" else (array.T for array in theirs)))
            np.testing.assert_array_equal(mine[2], theirs[2])


@pytest.mark.parametrize("mode", ["reversed", "stepped", "F"])
def test_layouts(mode: str) -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_ikj)

    def changed(array: Any) -> Any:
        if mode == "F":
            return np.asfortranarray(array)
        if mode == "reversed":
            return array[::-1, ::-1]
        bigger = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        bigger[::2, ::3] = array
        return bigger[::2, ::3]

    for sizes in SIZES:
        _check(tiled, *(changed(array) for array in _arrays(sizes)))


@pytest.mark.parametrize("parallel", [False, True])
def test_arrays_of_either_branch(parallel: bool) -> None:
    """Where branches meet, an array's layout is not that of the argument in its place."""

    def function(x: Any) -> Any:
        t = x * x
        if t.size > 30:
            t = t * 2
            x = t - x
        return t + x

    tiled = numba_mlir.njit(parallel=parallel)(function)
    for shape in ((3, 4), (30, 40)):
        x = np.asfortranarray(np.arange(shape[0] * shape[1], dtype=float).reshape(shape))
        np.testing.assert_array_equal(tiled(x), function(x))


@pytest.mark.parametrize("function", [matmul_ijk, column_sums], ids=lambda f: f.__name__)
def test_arrays_that_overlap_run_the_loops_as_they_were(
    function: Callable[..., Any], one_thread: None
) -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(function)
    plain = numba.njit(parallel=True)(function)
    for places in ((0, 0, 0), (0, 10, 20), (0, 20, 10), (20, 0, 5), (3, 0, 20)):
        mine, theirs = (np.arange(40.0 * 20).reshape(40, 20) % 7 / 64 for _ in range(2))
        tiled(*(mine[place : place + 20] for place in places))
        plain(*(theirs[place : place + 20] for place in places))
        np.testing.assert_array_equal(mine, theirs)
    assert "do not overlap" in _applied(tiled)[0]


def test_nans_and_signed_zeros_come_out_as_they_were() -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_ijk)
    a, b, c = _arrays((9, 18, 7))
    a[3, 2], b[4, 5], b[0], a[7] = np.nan, np.inf, -0.0, -0.0
    mine, theirs = c.copy(), c.copy()
    tiled(a, b, mine)
    matmul_ijk(a, b, theirs)
    assert mine.tobytes() == theirs.tobytes()


def test_a_read_only_operand() -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_ikj)
    a, b, c = _arrays((9, 18, 7))
    a.flags.writeable = b.flags.writeable = False
    _check(tiled, a, b, c)


def transposed_sum(a: Any, b: Any) -> Any:
    return a + b.T


def weighted(a: Any, b: Any) -> Any:
    return a * 2 + b


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 40), (33, 65), (32, 64)])
def test_a_transposed_operand(shape: tuple[int, int], parallel: bool) -> None:
    tiled = _TRANSPOSED[parallel]
    rng = np.random.default_rng(0)
    _check(tiled, rng.random(shape), rng.random(shape[::-1]))
    assert any("blocks of" in message for message in _applied(tiled))


_TRANSPOSED = {
    parallel: numba_mlir.njit(parallel=parallel, mlir_tiling=True)(transposed_sum)
    for parallel in (True, False)
}


def test_a_transposed_operand_of_the_whole_pipeline() -> None:
    """Broadcast's tests of sizes that may be 1, which come through Numba's IR, are understood."""
    whole = numba_mlir.njit(parallel=True)(transposed_sum)
    rng = np.random.default_rng(0)
    for shape in ((33, 65), (1, 40), (40, 1), (0, 3)):
        _check(whole, rng.random(shape), rng.random(shape[::-1]))
    _check(whole, rng.random((33, 65)), rng.random((1, 33)))
    _check(whole, rng.random((33, 65)), rng.random((65, 1)))
    assert any("blocks of" in message for message in _applied(whole))


def crossing(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            c[i, j] = a[i, j] + b[j, i]


def swapped_axes(a: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            for k in range(a.shape[2]):
                c[i, k, j] = 2 * a[i, j, k]


def crossing_triangle(a: Any, b: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(min(i, a.shape[1])):
            c[i, j] = a[i, j] + b[j, i]


def test_a_transposed_operand_in_loops() -> None:
    rng = np.random.default_rng(0)
    compiled = numba_mlir.njit(parallel=True, mlir_tiling=True)
    two, three, triangle = (compiled(f) for f in (crossing, swapped_axes, crossing_triangle))
    for n, m in ((0, 3), (3, 0), (1, 1), (1, 40), (16, 8), (67, 129)):
        _check(two, rng.random((n, m)), rng.random((m, n)), rng.random((n, m)))
        _check(two, *(rng.random((2 * max(n, m),) * 2)[::-2, : max(n, m)] for _ in range(3)))
        _check(triangle, rng.random((n, m)), rng.random((m, n)), rng.random((n, m)))
        _check(three, rng.random((3, n, m)), rng.random((3, m, n)))
    for tiled in (two, three):
        assert any("blocks of" in message for message in _applied(tiled))


#: with the caches of these tests rows of 16 numbers of 8 bytes meet
@pytest.mark.parametrize("n", [31, 32, 33, 48, 64])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "complex128", "bool"])
def test_rows_that_meet_in_the_cache(n: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    for m in (1, 31, 64, 130):
        a, b = (rng.integers(0, 100, shape).astype(dtype) for shape in ((n, m), (m, n)))
        _check(_CROSSING, a, b, np.zeros_like(a))
        _check(_TRANSPOSED[True], a, b)
        _check(_CROSSING, a[::-1, ::-1], np.repeat(b, 2, 1)[:, ::2], np.zeros_like(a))
        _check(_CROSSING, np.asfortranarray(a), np.asfortranarray(b), np.zeros_like(a, order="F"))
    assert any("blocks of" in message for message in _applied(_CROSSING))


_CROSSING = numba_mlir.njit(parallel=True, mlir_tiling=True)(crossing)


def test_a_transposition_onto_itself(one_thread: None) -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(crossing)
    mine, theirs = (np.arange(60.0 * 60).reshape(60, 60) for _ in range(2))
    tiled(mine, mine, mine)
    crossing(theirs, theirs, theirs)
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("parallel", [True, False])
def test_fortran_order_elementwise(parallel: bool) -> None:
    tiled = numba_mlir.njit(parallel=parallel, mlir_tiling=True)(weighted)
    rng = np.random.default_rng(0)
    for shape in ((0, 3), (1, 1), (33, 65)):
        a, b = (np.asfortranarray(rng.random(shape)) for _ in range(2))
        result = _check(tiled, a, b)
        assert result.flags.f_contiguous
    if parallel:  # in sequential functions Broadcast has the loops in this order already
        assert "innermost" in _applied(tiled)[0]


def scaled_loop(a: Any, c: Any) -> None:
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            c[i, j] = 2 * a[i, j]


def strided(order: Literal["C", "F"], n: int, m: int) -> Any:
    """An array of layout "A" whose elements lie in ``order``."""
    return np.random.default_rng(n).random((n + 2, 2 * m)).copy(order)[1:-1, ::2][::-1]


@pytest.mark.parametrize("function", [scaled_loop, crossing], ids=lambda f: f.__name__)
def test_strides_known_at_run_time_only(function: Any) -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(function)
    count = 2 if function is scaled_loop else 3
    for orders in itertools.product("CF", repeat=count):
        for n, m in ((0, 0), (1, 1), (1, 40), (40, 1), (33, 70)):
            arrays = [strided(order, n, m) for order in orders]
            if function is crossing:
                arrays[1] = strided(orders[1], m, n)
            _check(tiled, *arrays)
    where = "(where these lie in F order: a, c)" if count == 2 else "(where these lie in C order:"
    assert any(where in message for message in _applied(tiled))


def test_sums_over_strided_arrays() -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_ijk)
    for orders in ("CCC", "FFF", "CFC", "FCC"):
        shapes = (35, 21), (21, 70), (35, 70)
        _check(
            tiled, *(strided(order, *shape) for order, shape in zip(orders, shapes, strict=True))
        )


def test_three_and_four_dimensions() -> None:
    def swapped(a: Any, b: Any) -> Any:
        return a + b.T

    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(swapped)
    rng = np.random.default_rng(0)
    for shape in ((5, 33, 9), (2, 3, 34, 5)):
        _check(tiled, rng.random(shape), rng.random(shape[::-1]))
    assert _applied(tiled)


def test_an_inner_loop_is_vectorised_and_reads_little() -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_ijk)
    tiled(*_arrays((5, 7, 3)))
    blocks = re.split(r"\n(?=[\w.]+:)", "".join(tiled.inspect_llvm().values()))
    counts = [
        [len(re.findall(rf"\b{what} <\d+ x double>", block)) for what in ("fmul", "load", "store")]
        for block in blocks
    ]
    products, loads, stores = max(counts)
    assert products >= 16, "four rows by four terms, in vectors"
    assert loads <= products // 2
    assert stores <= products // 4


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 instructions")
def test_the_inner_loop_of_a_product_in_assembly() -> None:
    tiled = numba_mlir.njit(parallel=True, mlir_tiling=True)(matmul_ikj)
    tiled(*_arrays((5, 7, 3)))
    loops = re.split(r"\n(?=\.LBB)", "".join(tiled.inspect_asm().values()))
    body = max(loops, key=lambda loop: len(re.findall(r"\bv?mulpd\b", loop)))
    assert len(re.findall(r"\bv?mulpd\b", body)) >= 16
    assert not re.search(r"\bv?(mul|add)sd\b|\bcall", body), "no scalar arithmetic in the loop"


def test_a_bound_that_divides_is_not_computed_earlier() -> None:
    @numba_mlir.njit(parallel=True, mlir_tiling=True, error_model="numpy")
    def f(a, b, c, parts):
        for i in prange(a.shape[0]):
            for k in range(a.shape[1]):
                for j in range(b.shape[1] // parts):
                    c[i, j] += a[i, k] * b[k, j]

    c = np.zeros((3, 8))
    f(np.ones((3, 0)), np.ones((0, 8)), c, 0)  # no trip of the loop over k divides by zero
    assert not c.any()
    f(np.ones((3, 4)), np.ones((4, 8)), c, 2)
    np.testing.assert_array_equal(c, [[4.0] * 4 + [0.0] * 4] * 3)
    assert "may divide by zero" in f.mlir_diagnostics(format="json")
