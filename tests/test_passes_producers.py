"""Cheap temporaries that are computed in the loops that read them, on MLIR text and compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from ir_check import messages, run_and_check

from numba_mlir import njit
from numba_mlir.passes.base import PassResult
from numba_mlir.passes.broadcast import Broadcast

V = "memref<?xf64>"
TYPED = '{numba.type = "array(float64, 1d, C)"}'
HEAD = f"""
  func.func @f(%a: {V} {TYPED}, %b: {V} {TYPED}, %out: {V} {TYPED}, %n: index, %m: index,
               %k: index, %x: f64) {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %n1 = arith.cmpi eq, %n, %c1 : index
    %s = "numba.broadcast"(%n, %m) {{ranks = array<i64: 1, 1>, order = array<i64: 0, 1, -2>}}
      : (index, index) -> index
    %t = memref.alloc(%s) : {V}
    scf.parallel (%i) = (%c0) to (%s) step (%c1) {{
      %at = arith.select %n1, %c0, %i : index
      %e = memref.load %a[%at] : {V}
      PRODUCER
      memref.store %p, %t[%i] : {V}
      scf.reduce
    }}
    BETWEEN
    %s1 = arith.cmpi eq, %s, %c1 : index
    scf.parallel (%i) = (%c0) to (%k) step (%c1) {{
      %at = arith.select %s1, %c0, %i : index
      %e = memref.load %t[%at] : {V}
      %o = memref.load %out[%i] : {V}
      %r = arith.addf %o, %e : f64
      memref.store %r, %out[%i] : {V}
      scf.reduce
    }}
    return
  }}
"""
CHEAP = "%p = arith.mulf %e, %x : f64"
MANY = "\n".join(
    ["%q0 = arith.addf %e, %x : f64"]
    + [f"%q{i} = arith.addf %q{i - 1}, %e : f64" for i in range(1, 8)]
    + ["%p = arith.mulf %q7, %x : f64"]
)


def run(producer: str, between: str, checks: str) -> PassResult:
    text = HEAD.replace("PRODUCER", producer).replace("BETWEEN", between)
    return run_and_check(text + checks, Broadcast())


def test_a_cheap_temporary_is_computed_where_it_is_read_from_a_copy_if_need_be() -> None:
    result = run(
        CHEAP,
        "",
        """
        // CHECK-NOT: memref.alloc
        // CHECK: %[[N1:.*]] = arith.cmpi eq, %arg3, %c1
        // CHECK: %[[APART:.*]] = "numba.unaliased"(%arg0, %arg2)
        // CHECK-NEXT: scf.parallel (%[[I:.*]]) = (%c0) to (%arg5)
        // CHECK-NEXT: %[[AT:.*]] = arith.select %[[N1]], %c0, %[[I]]
        // CHECK-NEXT: %[[E:.*]] = memref.load %[[APART]][%[[AT]]]
        // CHECK-NEXT: %[[P:.*]] = arith.mulf %[[E]], %arg6
        // CHECK-NEXT: %[[O:.*]] = memref.load %arg2[%[[I]]]
        // CHECK-NEXT: %[[R:.*]] = arith.addf %[[O]], %[[P]]
        // CHECK-NEXT: memref.store %[[R]], %arg2[%[[I]]]
        // CHECK-NOT: scf.parallel
        """,
    )
    assert any("a temporary array is not made" in text for text in messages(result, "applied"))


@pytest.mark.parametrize(
    ("producer", "between"),
    [
        ("%p = math.exp %e : f64", ""),
        ("%p = arith.divf %e, %x : f64", ""),
        (MANY, ""),
        (CHEAP, f"memref.store %x, %a[%c0] : {V}"),
        (CHEAP, f"memref.store %x, %b[%c0] : {V}"),
        (CHEAP, '"pyir.stmt"() {text = "print"} : () -> ()'),
        (CHEAP, f'"pyir.stmt"(%t) {{text = "keep"}} : ({V}) -> ()'),
        (CHEAP, f'%y = memref.load %t[%c0] : {V}\n"pyir.stmt"(%y) {{raises}} : (f64) -> ()'),
    ],
    ids=[
        "exp",
        "division",
        "many operations",
        "what it reads is written",
        "what may overlap it is written",
        "a statement of unknown effect",
        "somebody else knows the temporary",
        "a single element is read",
    ],
)
def test_a_temporary_stays(producer: str, between: str) -> None:
    run(producer, between, "// CHECK: memref.alloc\n// CHECK-COUNT-2: scf.parallel")


def test_few_operations_are_repeated_for_the_rows_of_a_matrix() -> None:
    def stretched(a: Any, b: Any, x: Any) -> Any:
        t = (a + b) * a
        return x - t

    def longer(a: Any, b: Any, x: Any) -> Any:
        t = (a + b) * (b - a)
        return x - t

    for function, gone in ((stretched, True), (longer, False)):
        compiled = njit(parallel=True)(function)
        agree(function, compiled, lambda: (numbers(5), numbers(5), numbers(4, 5)))
        report = compiled.mlir_diagnostics(format="json")
        assert ("a temporary array is not made" in report) == gone


def three(a: Any, b: Any, c: Any) -> Any:
    s = a + b
    t = s * c
    return t - a


def add_product(out: Any, a: Any, b: Any) -> Any:
    out += a * b
    return out


def twice(a: Any, b: Any, c: Any) -> Any:
    s = a - b
    u = s + c
    v = s * c
    return u, v


def shifted(a: Any, b: Any, c: Any) -> Any:
    a[1:] += b[:-1] * 2
    a[:-1] -= c[1:] + 1
    return a


def rows(a: Any, b: Any, c: Any) -> Any:
    for k in range(a.shape[0]):
        for i in range(a.shape[0]):
            a[i, :] = np.minimum(a[i, :], a[i, k] + a[k, :])
    return a


def integers(a: Any, b: Any, c: Any) -> Any:
    s = (a > b) & (b < 3)
    t = np.where(s, a, c)
    t += a * b
    return t


def numbers(*shape: int, dtype: Any = float) -> Any:
    return np.random.default_rng(sum(shape)).integers(-9, 9, shape).astype(dtype)


SHAPES = [
    ((4, 5), (4, 5), (4, 5)),
    ((4, 5), (1, 5), (4, 1)),
    ((4, 1), (1, 5), (4, 5)),
    ((5,), (4, 5), (1, 1)),
    ((0, 5), (1, 5), (0, 1)),
    ((4, 5), (), (5,)),
]


def agree(function: Callable[..., Any], compiled: Any, make: Callable[[], Any]) -> None:
    plain, ours = make(), make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)
        found, expected = compiled(*ours), function(*plain)
    if not isinstance(expected, tuple):
        found, expected = (found,), (expected,)
    for one, other in zip((*found, *ours), (*expected, *plain), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("function", [three, twice])
def test_shapes(function: Callable[..., Any], parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    for shapes in SHAPES:
        agree(function, compiled, lambda s=shapes: tuple(numbers(*shape) for shape in s))


@pytest.mark.parametrize("parallel", [True, False])
def test_arrays_that_overlap_the_target(parallel: bool) -> None:
    compiled = njit(parallel=parallel)(add_product)
    whole = numbers(9, 9)
    picks: list[Callable[[Any], Any]] = [
        lambda x: (x[1:], x[:-1], x[1:]),
        lambda x: (x[:8], x[7:8], x[:8]),
        lambda x: (x[1:, :8], x[1:, :8], x[:8, 1:]),
        lambda x: (x[::2], x[::-2], x[:1]),
        lambda x: (x[:, 2:3], x[:, 3:4], x[:1, :1]),
    ]
    for pick in picks:
        agree(add_product, compiled, lambda pick=pick: pick(whole.copy()))
    for function, shape in ((shifted, (9,)), (rows, (6, 6))):
        compiled = njit(parallel=parallel)(function)
        agree(function, compiled, lambda shape=shape: tuple(numbers(*shape) for _ in range(3)))

        def same(shape: Any = shape) -> Any:
            a = numbers(*shape)
            return a, a, a

        agree(function, compiled, same)


def test_other_dtypes() -> None:
    compiled = njit(parallel=True)(integers)
    for dtype in (np.int8, np.uint16, np.int64, np.float32):
        for shapes in (((4, 5), (4, 5), (4, 5)), ((4, 5), (1, 5), (4, 1))):
            agree(
                integers,
                compiled,
                lambda s=shapes, d=dtype: tuple(np.abs(numbers(*x, dtype=d)) for x in s),
            )


def test_a_shape_that_does_not_fit_is_an_error_before_anything_is_written() -> None:
    compiled = njit(parallel=True)(add_product)
    out = numbers(4, 5)
    before = out.copy()
    with pytest.raises(ValueError, match="broadcast"):
        compiled(out, numbers(4, 5), numbers(3, 5))
    with pytest.raises(ValueError, match="non-broadcastable output"):
        compiled(out[:1], numbers(4, 5), numbers(1, 5))
    np.testing.assert_array_equal(out, before)
