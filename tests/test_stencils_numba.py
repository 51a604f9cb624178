"""Calls of ``numba.stencil`` functions beside their definition: results, refusals, errors."""

from __future__ import annotations

import itertools
import json
import types
from typing import Any

import numba
import numpy as np
import pytest

from numba_mlir import njit


def cross_kernel(a: Any) -> Any:
    return 0.25 * (a[-1, 0] + a[1, 0] + a[0, -1] + a[0, 1])


def lopsided_kernel(a: Any) -> Any:
    return a[0, 3] - 2.0 * a[-2, 0]


def window_kernel(a: Any, scale: Any) -> Any:
    total = a[0] * 0
    for k in range(-3, 3):
        total += a[k] * scale
    return total


def weighted_kernel(a: Any, weights: Any) -> Any:
    return a[-1] * weights[0] + a[0] * weights[1] + a[1] * weights[-1]


def two_arrays_kernel(a: Any, b: Any) -> Any:
    return a[-1, 1] * b[1, 0] + b[0, 0]


def choice_kernel(a: Any) -> Any:
    if a[0] > a[1]:
        return a[0] - a[-1]
    largest = max(a[-1], a[1])
    return np.sqrt(np.abs(largest))


def cube_kernel(a: Any) -> Any:
    offset = 1
    near = a
    return near[-1, 0, offset] + near[offset, -offset, 0] - near[0, 0, 0]


def itself_kernel(a: Any) -> Any:
    return a[0] * 2


class Reference:
    """What a stencil function is defined to do, one element after the other.

    ``below`` and ``above`` are the margins of each axis; ``standard`` the numbers of the
    arguments with standard indexing.
    """

    def __init__(
        self, kernel: Any, below: Any, above: Any, cval: Any = 0, standard: Any = ()
    ) -> None:
        self.kernel, self.margins, self.standard = kernel, (below, above), standard
        self.cval = cval

    def __call__(self, a: Any, *others: Any, out: Any = None) -> Any:
        ranges = [
            range(low, size - high) for size, low, high in zip(a.shape, *self.margins, strict=True)
        ]
        found = {where: self.value(where, a, *others) for where in itertools.product(*ranges)}
        if out is None:
            probe = self.value((0,) * a.ndim, np.ones((9,) * a.ndim, a.dtype), *others)
            out = np.full(a.shape, self.cval, np.result_type(probe))
        elif self.cval:
            out[:] = self.cval
        for where, value in found.items():
            out[where] = value
        return out

    def value(self, where: Any, *args: Any) -> Any:
        arrays = [
            Shifted(arg, where)
            if isinstance(arg, np.ndarray) and number not in self.standard
            else arg
            for number, arg in enumerate(args)
        ]
        return self.kernel(*arrays)


class Shifted:
    def __init__(self, array: Any, where: Any) -> None:
        self.array, self.where = array, where

    def __getitem__(self, offsets: Any) -> Any:
        offsets = offsets if isinstance(offsets, tuple) else (offsets,)
        return self.array[tuple(i + k for i, k in zip(self.where, offsets, strict=True))]


def behind_kernel(a: Any) -> Any:
    return a[-3]


def ahead_kernel(a: Any) -> Any:
    return a[3]


REFERENCES = {
    "behind": Reference(behind_kernel, (3,), (0,)),
    "ahead": Reference(ahead_kernel, (0,), (3,)),
    "cross": Reference(cross_kernel, (1, 1), (1, 1)),
    "lopsided": Reference(lopsided_kernel, (2, 0), (0, 3), cval=np.nan),
    "window": Reference(window_kernel, (3,), (2,), cval=7),
    "weighted": Reference(weighted_kernel, (1,), (1,), standard=(1,)),
    "two_arrays": Reference(two_arrays_kernel, (1, 0), (1, 1)),
    "choice": Reference(choice_kernel, (1,), (1,)),
    "cube": Reference(cube_kernel, (1, 1, 0), (1, 0, 1)),
    "itself": Reference(itself_kernel, (0,), (0,)),
}
behind = numba.stencil(behind_kernel)
ahead = numba.stencil(ahead_kernel)
cross = numba.stencil(cross_kernel)
lopsided = numba.stencil(cval=np.nan)(lopsided_kernel)
window = numba.stencil(neighborhood=((-3, 2),), cval=7)(window_kernel)
weighted = numba.stencil(standard_indexing=("weights",))(weighted_kernel)
two_arrays = numba.stencil(two_arrays_kernel)
choice = numba.stencil(choice_kernel)
cube = numba.stencil(cube_kernel)
itself = numba.stencil(itself_kernel)


def in_python(function: Any) -> Any:
    """The function with the definitions in place of its stencil functions."""
    return types.FunctionType(function.__code__, {**function.__globals__, **REFERENCES})


def use_cross(a: Any) -> Any:
    return cross(a) - a * 0.5 + np.sqrt(np.abs(a))


def use_lopsided(a: Any) -> Any:
    return lopsided(a) + a


def use_window(a: Any, scale: Any) -> Any:
    return window(a, scale)


def use_weighted(a: Any, w: Any) -> Any:
    return weighted(a, w) + 1


def use_two_arrays(a: Any, b: Any) -> Any:
    return two_arrays(a, b) * 2


def use_choice(a: Any) -> Any:
    return choice(a)


def use_cube(a: Any) -> Any:
    return cube(a)


def use_itself(a: Any) -> Any:
    return itself(a)


def twice(a: Any) -> Any:
    return cross(cross(a)) + a


def with_out(a: Any, out: Any) -> Any:
    cross(a, out=out)
    return out + 1.0


def with_out_and_border(a: Any, out: Any) -> Any:
    lopsided(a, out=out)
    return out


def in_a_loop(a: Any, count: Any) -> Any:
    for _ in range(count):
        a = cross(a) + a * 0.25
    return a


def shifted_twice(a: Any) -> Any:
    t = itself(a)
    return behind(t), behind(t) - ahead(t)


def made_here(a: Any) -> Any:
    kernel = numba.stencil(lambda x: x[-1] + x[1])
    return kernel(a) * 2.0


def check(function: Any, *args: Any, parallel: bool = True, oracle: Any = None) -> Any:
    """Compare with the definition (or ``oracle``), to the last bit; the compiled function."""
    compiled = njit(parallel=parallel)(function)
    copies = [[a.copy(order="K") if isinstance(a, np.ndarray) else a for a in args] for _ in "ab"]
    got, expected = compiled(*copies[0]), (oracle or in_python(function))(*copies[1])
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype
    for one, other in zip(*copies, strict=True):
        np.testing.assert_array_equal(one, other)
    return compiled


def applied(compiled: Any) -> list[str]:
    found = json.loads(compiled.mlir_diagnostics(level=2, format="json"))
    remarks = [remark for one in found for remark in one["remarks"]]
    return [remark["message"] for remark in remarks if remark["kind"] == "applied"]


def grid(*shape: int, dtype: Any = np.float64) -> Any:
    values = np.random.default_rng(0).integers(-20, 20, size=shape)
    return values.astype(dtype) if np.dtype(dtype).kind != "u" else np.abs(values).astype(dtype)


@pytest.mark.parametrize("parallel", [True, False])
def test_sizes(parallel: bool) -> None:
    compiled = njit(parallel=parallel)(use_cross)
    for shape in itertools.product((0, 1, 2, 3, 17), (0, 1, 2, 3, 5)):
        x = grid(*shape)
        np.testing.assert_array_equal(compiled(x), in_python(use_cross)(x))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (use_window, (grid(12), 0.5)),
        (use_weighted, (grid(9), np.array([0.25, 0.5, 2.0]))),
        (use_two_arrays, (grid(6, 5), grid(6, 5, dtype=np.float32))),
        (use_choice, (grid(30),)),
        (use_cube, (grid(4, 5, 6, dtype=np.complex64),)),
        (twice, (grid(8, 9),)),
        (made_here, (grid(9),)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_forms(function: Any, args: Any) -> None:
    compiled = check(function, *args)
    assert any("became a loop" in message for message in applied(compiled))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (use_window, (grid(12, dtype=np.int32), 3)),
        (use_itself, (grid(11, dtype=np.uint8),)),
        (twice, (grid(6, 7, dtype=np.bool_),)),
        (in_a_loop, (grid(8, 9), 3)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_beside_numba(function: Any, args: Any) -> None:
    """Of small integers Numba's sums are wider than NumPy's."""
    oracle = numba.njit(function)
    assert applied(check(function, *args, oracle=oracle))
    assert applied(check(function, *args, oracle=oracle, parallel=False))


def test_layouts() -> None:
    # Numba itself gives wrong results or an AssertionError for F order
    x = grid(12, 14)
    compiled = njit(parallel=True)(use_lopsided)
    for array in (np.asfortranarray(x), x[::2, ::-1], x.T, x[:, 1:-1]):
        np.testing.assert_array_equal(compiled(array), in_python(use_lopsided)(array))
    x.flags.writeable = False
    np.testing.assert_array_equal(compiled(x), in_python(use_lopsided)(x))


@pytest.mark.parametrize("function", [with_out, with_out_and_border])
def test_output_argument(function: Any) -> None:
    compiled = check(function, grid(7, 8), np.full((7, 8), 3.0))
    assert applied(compiled)
    small = grid(2, 1), np.full((2, 1), 3.0)
    np.testing.assert_array_equal(compiled(*small), in_python(function)(*small))


def test_temporaries_in_blocks() -> None:
    compiled = njit(parallel=True)(shifted_twice)
    for n in (0, 1, 2, 3, 4, 5, 7, 8, 9, 30, 1000):
        x = grid(n)
        for got, expected in zip(compiled(x), in_python(shifted_twice)(x), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert any("in blocks of rows" in message for message in applied(compiled))


def test_one_loop_with_its_neighbours() -> None:
    compiled = check(use_cross, grid(20, 30))
    assert any("temporary array removed" in message for message in applied(compiled))
    text = compiled.inspect_mlir(stage="after-fusion")
    assert text.count("scf.parallel") == 1
    assert text.count("memref.alloc(") == 1
    assert "wrap_index" not in text


def test_sizes_that_do_not_match() -> None:
    with pytest.raises(AssertionError, match="do not match"):
        njit(parallel=True)(use_two_arrays)(grid(6, 5), grid(7, 5))
    sequential = njit(use_two_arrays)
    with pytest.raises(ValueError, match="Secondary stencil array has some dimension smaller"):
        sequential(grid(6, 5), grid(6, 4))


@numba.njit
def helper(x: Any) -> Any:
    return x + 1


@numba.stencil
def calls_a_function(a: Any) -> Any:
    return helper(a[1])


@numba.stencil(neighborhood=((-1, 1),))
def takes_a_slice(a: Any) -> Any:
    return np.sum(a[-1:2])


@numba.stencil
def divides(a: Any) -> Any:
    return a[0] // a[1]


def use_calls(a: Any) -> Any:
    return calls_a_function(a) * 2


def use_slice(a: Any) -> Any:
    return takes_a_slice(a)


def use_divides(a: Any) -> Any:
    return divides(a)


@pytest.mark.parametrize("function", [use_calls, use_slice])
def test_what_is_not_understood_stays(function: Any) -> None:
    compiled = check(function, grid(9), oracle=numba.njit(function))
    lines = compiled.mlir_diagnostics(format="json")
    assert "the stencil's kernel has" in lines or "a relative subscript" in lines


def test_division_raises_in_sequential_functions_only() -> None:
    x = np.array([4, 2, 0, 1])
    with pytest.raises(ZeroDivisionError):
        njit(use_divides)(x)
    np.testing.assert_array_equal(
        njit(parallel=True)(use_divides)(x), numba.njit(parallel=True)(use_divides)(x)
    )


def swapped(grid: Any, count: Any) -> Any:
    a, b = grid.copy(), grid.copy()
    for _ in range(count):
        b[1:-1] = 0.5 * (a[:-2] + a[2:])
        a, b = b, a
    return a


def test_arrays_that_change_places() -> None:
    compiled = njit(parallel=True)(swapped)
    for size, count in itertools.product((0, 1, 2, 3, 10), (0, 1, 4)):
        x = np.arange(size) ** 2.0
        np.testing.assert_array_equal(compiled(x, count), swapped(x, count))
    assert any("temporary array removed" in message for message in applied(compiled))


@numba.stencil(neighborhood=((-3, 0),))
def _becomes_complex(a):
    total = 0
    for i in range(-3, 1):
        k = 0.0
        if i > -2:
            k = 1j
        total += a[i] + k
    return total / 4


@pytest.mark.parametrize("parallel", [False, True])
def test_a_kernel_whose_result_is_a_kept_expression(parallel: bool) -> None:
    def f(a):
        return _becomes_complex(a) + 1

    a = np.arange(20.0)
    compiled = njit(parallel=parallel)(f)
    np.testing.assert_array_equal(compiled(a), numba.njit(parallel=parallel)(f)(a))


@numba.stencil(neighborhood=((-3, 0),))
def _same_element(a):
    total = 0
    for _ in range(-3, 1):
        total += a[0]
    return total / 30


def test_buffers_of_loops_that_change_places_in_code_that_cannot_fail() -> None:
    """The loop over ``range`` goes outside, and what it adds up for each index into buffers."""

    @njit(parallel=True, mlir_codegen=True)
    def f(a):
        return _same_element(a)

    for size in (0, 3, 10, 5000):
        a = np.random.default_rng(size).random(size)
        expected = np.zeros(size)
        expected[3:] = (a + a + a + a)[3:] / 30
        np.testing.assert_allclose(f(a), expected)


def test_an_option_of_numbas_leaves_stencils_alone() -> None:
    @njit(parallel={"stencil": False})
    def f(a):
        return _same_element(a) + 1

    a = np.arange(10.0)
    np.testing.assert_array_equal(f(a), numba.njit(lambda a: _same_element(a) + 1)(a))
    assert "stencil" in str(f.mlir_diagnostics(format="json"))
