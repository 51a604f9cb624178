"""Array statements with broadcasting, compiled and run beside NumPy."""

from __future__ import annotations

import functools
import itertools
import platform
import re
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba import prange

from numba_mlir import njit
from numba_mlir.errors import UnsupportedConstruct

#: the whole pipeline and this pass alone, in parallel functions and in others
MODES: dict[str, dict[str, bool]] = {
    "parallel": {"parallel": True},
    "broadcast": {"parallel": True, "mlir_broadcast": True},
    "sequential": {},
    "sequential-broadcast": {"mlir_broadcast": True},
}


@functools.cache
def compiled(function: Callable[..., Any], mode: str, strict: bool = False) -> Any:
    return njit(**MODES[mode], mlir_strict=strict)(function)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).integers(-9, 9, shape) / 2


def agree(function: Callable[..., Any], mode: str, make: Callable[[], tuple[Any, ...]]) -> Any:
    """The compiled function gives NumPy's results and leaves the same arrays behind."""
    plain, ours = make(), make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)
        dispatcher = compiled(function, mode)
        found = dispatcher(*ours)
    expected = function(*plain)
    if not isinstance(expected, tuple):
        expected, found = (expected,), (found,)
    for one, other in zip((*found, *ours), (*expected, *plain), strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_array_equal(one, other)
    return dispatcher


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
def test_a_row_in_a_matrix_of_one_row(mode: str) -> None:
    def add(a: Any, b: Any) -> Any:
        return a + b

    a, b = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[1, 2, 3]])
    function = agree(add, mode, lambda: (a, b))
    with pytest.raises(ValueError, match=r"^operands could not be broadcast together with shapes"):
        function(a, np.ones((3, 3), int))


# ---- statements -----------------------------------------------------------------------
def times_true(a: Any) -> Any:
    return a * True, True * a[0]


def first_row_and_column(a: Any) -> Any:
    return a - a[:, :1], a / (a[:1] + 99), a[:, 0] + a[0, 0]


def new_axes(a: Any) -> Any:
    return a[:, None] * a[None, :] + a[..., None]


def f_ordered(a: Any, b: Any) -> Any:
    return a.T + b.T, (a.T * 2).T


def columns_in_f_order(a: Any) -> Any:
    t = a[:, 1] * 2
    return t, t + a[:, 0], np.where(t > 3, t, a[:, 0])


def column(a: Any, x: Any, j: int) -> Any:
    a[:, j] = x
    a[1, :] = a[0, 0]
    return a


def in_a_loop(a: Any, b: Any, c: Any) -> Any:
    total = 0.0
    for k in range(3):
        t = a * b + k
        t += c
        a = t - b
        total += a[0, 0]
    return a, total


def in_branches(a: Any, b: Any, minus: bool) -> Any:
    c = a - b if minus else a + b
    return c * b


def rows(a: Any, b: Any) -> Any:
    out = np.zeros(a.shape)
    for i in prange(a.shape[0]):
        out[i] = a[i] * b
        out[i, 1:] += a[i, :-1]
    return out


def sums_of_rows(a: Any, b: Any) -> Any:
    out = np.zeros(a.shape[0])
    for i in prange(a.shape[0]):
        t = a[i] * b
        out[i] = t.sum()
    return out


def numbers_in_rows(a: Any) -> Any:
    for i in prange(a.shape[0]):
        a[i, :] = i
        a[i] *= 2.0
        a[i, 1:] = a[i, :-1] - 1
    return a


STATEMENTS: list[tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = [
    (times_true, lambda: (numbers(5, 1),)),
    (first_row_and_column, lambda: (numbers(5, 6),)),
    (new_axes, lambda: (numbers(7),)),
    (f_ordered, lambda: (numbers(4, 3), numbers(1, 3))),
    (columns_in_f_order, lambda: (np.asfortranarray(numbers(5, 4)),)),
    (column, lambda: (numbers(5, 4), numbers(1), -1)),
    (column, lambda: (numbers(5, 4), 3.5, 2)),
    (in_a_loop, lambda: (numbers(5, 6), numbers(6), numbers(5, 1))),
    (in_branches, lambda: (numbers(5, 6), numbers(5, 1), True)),
    (rows, lambda: (numbers(50, 7), numbers(7))),
    (sums_of_rows, lambda: (numbers(50, 7), numbers(1))),
    (numbers_in_rows, lambda: (numbers(50, 7),)),
]


@pytest.mark.parametrize(
    ("function", "make", "mode"),
    [(*case, mode) for case, mode in zip(STATEMENTS, itertools.cycle(MODES), strict=False)]
    + [(rows, lambda: (numbers(50, 7), numbers(7)), "parallel")],
)
def test_statement(function: Any, make: Any, mode: str) -> None:
    agree(function, mode, make)


def test_a_row_of_one_element_inside_a_parallel_loop() -> None:
    agree(rows, "parallel", lambda: (numbers(50, 7), numbers(1)))


# ---- overlap ------------------------------------------------------------------------------
def reverse(a: Any) -> Any:
    a[:] = a[::-1]
    return a


def shift(a: Any) -> Any:
    a[1:] = a[:-1]
    a[1:] += a[:-1]
    return a


def add_transposed(a: Any) -> Any:
    a += a.T
    return a


def swap_columns(a: Any) -> Any:
    a[:, 0] = a[:, 1]
    a[:, ::2] = a[:, 1::2]
    return a


def choose_reversed(a: Any) -> Any:
    a[:] = np.where(a > 0, 3.0, a[::-1])
    return a


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (reverse, (1001,)),
        (shift, (1001, 3)),
        (add_transposed, (200, 200)),
        (swap_columns, (1000, 4)),
        (choose_reversed, (10_001,)),
    ],
)
@pytest.mark.parametrize("mode", ["broadcast", "sequential"])
def test_a_source_that_overlaps_the_target(function: Any, shape: Any, mode: str) -> None:
    agree(function, mode, lambda: (numbers(*shape),))


def into(x: Any, y: Any) -> Any:
    np.multiply(x, 2, y)
    y[1:] = x[:-1] + 1
    return y


@pytest.mark.parametrize("mode", ["broadcast", "sequential"])
def test_arguments_that_overlap(mode: str) -> None:
    for part in (
        lambda b: (b, b),
        lambda b: (b[:-1], b[1:]),
        lambda b: (b[1:], b[:-1]),
        lambda b: (b[::-1], b),
    ):
        agree(into, mode, lambda part=part: part(numbers(1000)))


def two_orders(b: Any, c: Any, d: Any) -> Any:
    t = b + c
    u = t + d
    v = t[::-1] * d
    t += 1
    return t, u, v


@pytest.mark.parametrize("mode", ["broadcast", "parallel"])
def test_loops_that_read_one_array_in_different_orders(mode: str) -> None:
    """The loops have a version for equal sizes, and Numba's fusion must not join those."""
    function = agree(two_orders, mode, lambda: tuple(numbers(100_003) for _ in range(3)))
    agree(two_orders, mode, lambda: (numbers(9), numbers(1), numbers(9)))
    assert "numba.versions" in function.inspect_mlir(stage="after-broadcast")


# ---- dtypes --------------------------------------------------------------------------------
SCALARS = [True, np.int8(3), np.uint8(3), np.int16(3), np.uint16(3), np.int32(3), np.uint32(3),
           3, np.uint64(3), np.float32(0.5), 0.5, np.complex64(1j), 1j]  # fmt: skip


def with_number(a: Any, b: Any, x: Any) -> Any:
    return a * x + b


@pytest.mark.parametrize(
    ("number", "mode"),
    list(zip(SCALARS, itertools.cycle(["sequential-broadcast"] * 4 + ["broadcast"]), strict=False)),
    ids=[type(x).__name__ for x in SCALARS],
)
def test_a_number_of_any_dtype_is_typed_as_numba_types_it(number: Any, mode: str) -> None:
    a, b = np.arange(6, dtype=np.int16).reshape(2, 3), np.ones((2, 1), np.float32)
    found = compiled(with_number, mode)(a, b, number)
    expected = numba.njit(with_number)(a, b, number)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# ---- what is refused -------------------------------------------------------------------------
def later(a: Any, b: Any) -> Any:
    return a + b


@pytest.mark.parametrize("mode", ["parallel", "sequential-broadcast"])
@np.errstate(invalid="ignore")
def test_complex_numbers_have_numpys_order(mode: str) -> None:
    """Real parts, then imaginary ones; plain Numba has no types for it."""

    def compare(a: Any, b: Any) -> Any:
        return a < b, (a <= b) & (b >= 0.5), np.where(a > b, a, b), (a >= b).sum()

    parts = [0.0, 0.5, -1.0, np.nan, np.inf]
    values = np.array([complex(x, y) for x, y in itertools.product(parts, parts)])
    agree(compare, mode, lambda: (values[:, None], values[None, ::-1]))
    agree(compare, mode, lambda: (values.astype(np.complex64), 0.5))


def test_arrays_without_an_mlir_form_stay_as_numba_has_them() -> None:
    days = np.array(["2026-01-01", "2026-01-02"], "datetime64[D]")
    step = np.array([1, 2], "timedelta64[D]")
    function = compiled(later, "parallel")
    np.testing.assert_array_equal(function(days, step), days + step)
    assert "datetime64" in str(function.mlir_diagnostics())
    with pytest.raises(UnsupportedConstruct, match="datetime64"):
        compiled(later, "parallel", strict=True)(days, step)


# ---- machine code -----------------------------------------------------------------------------
@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 assembly")
@pytest.mark.parametrize("mode", ["broadcast", "sequential"])
def test_the_inner_loop_of_unknown_shapes_is_vectorised(mode: str) -> None:
    """Packed additions of neighbouring elements, none that gathers them one by one."""
    function = compiled(later, mode)
    function(numbers(3, 4), numbers(1, 4))
    (assembly,) = function.inspect_asm().values()
    assert re.search(r"v?addpd\s+[-\w]*\(%[^)]*\), ?%[xyz]mm", assembly)
    assert "gather" not in assembly
