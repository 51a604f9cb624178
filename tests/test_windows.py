"""Parts of arrays with bounds and steps of any kind: which elements, and what loops access."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from ir_check import run_and_check

from numba_mlir import njit
from numba_mlir.passes.broadcast import Broadcast


def moved(a: Any, b: Any, i: Any, j: Any) -> Any:
    return a[i:j] + b[:j] * a[i], a[i:] - b[: len(b) - i], b[-3:2] + a[j:i:1]


def steps(a: Any, b: Any, i: Any, j: Any) -> Any:
    a[::2] = b[::-2][::-1] * 2
    b[i:j:3] = a[i:j:3] + 1
    return a[j:i:-2] - b[j:i:-2], a[-2::-3] * 2, b[4:0:-1] + 1


def rows(a: Any, b: Any, i: Any, j: Any) -> Any:
    part = a[i:, :j]
    part[:, ::2] = part[:, ::2] * 2
    part[::-1] += 1
    b[j:i, -1] = a[j:i, i]
    return part, a[i, j:] - b[-1, j:], a[None, i:j, :, None][0] * 2


def in_sweeps(a: Any, b: Any, i: Any, j: Any) -> Any:
    for k in range(i):
        a[k + 1 :] -= a[k] * b[k + 1 :]
        b[k : len(b) - k] = a[k : len(a) - k] * 0.5
    return a + b


def outcome(function: Any, args: list[Any]) -> Any:
    try:
        return function(*args)
    except ValueError as error:
        return str(error)


def same(got: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        for pair in zip(got, expected, strict=True):
            same(*pair)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("function", "parallel"), [(moved, True), (steps, False), (rows, True), (in_sweeps, False)]
)
def test_agrees_with_numpy(function: Any, parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    for size, i, j in itertools.product((3, 4, 7), (-3, -1, 0, 1, 2), (-9, -2, 0, 1, 3, 8)):
        if (function is rows and j not in (0, 1)) or (function is in_sweeps and i > size):
            continue
        shape = (size, 5) if function is rows else (size,)
        sets = []
        for _ in "ab":
            rng = np.random.default_rng(0)
            sets.append([rng.random(shape), rng.random(shape), i, j])
        got, expected = (
            outcome(f, args) for f, args in zip((compiled, function), sets, strict=True)
        )
        same(got, expected)
        for one, other in zip(*sets, strict=True):
            np.testing.assert_array_equal(one, other)


def test_loops_access_the_array_itself() -> None:
    compiled = njit(parallel=True)(moved)
    compiled(np.ones(5), np.ones(5), 0, 2)
    text = compiled.inspect_mlir(stage="after-broadcast")
    assert "strided" not in text.split("scf.parallel", 1)[1]
    assert "numba.window" not in text
    assert "numba.window" in compiled.inspect_mlir(stage="imported")
    assert json.loads(compiled.mlir_diagnostics(format="json"))


def same_part(a: Any, b: Any, i: Any) -> None:
    a[i::2] = a[i::2] * 2
    a[i::2] += b[: len(a[i::2])]


def by_tuple(a: Any, index: Any) -> Any:
    return a[index] * 2


def test_an_index_whose_parts_are_not_known() -> None:
    x = np.arange(12.0).reshape(3, 4)
    for parallel in (True, False):
        got = njit(parallel=parallel)(by_tuple)(x, (1, slice(0, 3)))
        np.testing.assert_array_equal(got, x[1, :3] * 2)


def test_loops_on_the_same_part_fuse() -> None:
    compiled = njit(parallel=True)(same_part)
    for size, i in itertools.product((0, 1, 2, 9), (-3, 0, 1, 4)):
        got, expected, b = (np.arange(size, dtype=float) for _ in "abc")
        compiled(got, b, i)
        same_part(expected, b, i)
        np.testing.assert_array_equal(got, expected)
    assert "fused" in compiled.mlir_diagnostics(format="json")


def test_before_and_after() -> None:
    run_and_check(
        """
        func.func @f(%a: memref<?x?xf64>, %index: !numba.ref<"index">, %n: index, %s: index,
                     %k: index, %out: memref<?xf64>) {
          %c0 = arith.constant 0 : index
          %c1 = arith.constant 1 : index
          %view = "numba.expr2"(%a, %index) {view_of = 0 : i64}
            : (memref<?x?xf64>, !numba.ref<"index">) -> memref<?xf64, strided<[?], offset: ?>>
          %w = "numba.window"(%view, %k, %s) {axes = array<i64: -1, 0>, steps = array<i64: 1, -2>}
            : (memref<?xf64, strided<[?], offset: ?>>, index, index)
            -> memref<?xf64, strided<[?], offset: ?>>
          scf.parallel (%i) = (%c0) to (%n) step (%c1) {
            %x = memref.load %w[%i] : memref<?xf64, strided<[?], offset: ?>>
            memref.store %x, %out[%i] : memref<?xf64>
            scf.reduce
          }
          return
        }
        // CHECK:      func.func @f(%[[A:[^:]*]]: memref<?x?xf64>, %{{[^:]*}}: !numba.ref<
        // CHECK-SAME:   %[[N:[^:]*]]: index, %[[S:[^:]*]]: index, %[[K:[^:]*]]: index,
        // CHECK-SAME:   %[[OUT:[^:]*]]: memref<?xf64>)
        // CHECK-NOT:  numba.
        // CHECK:      %[[STEP:.*]] = arith.constant -2 : index
        // CHECK:      scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:   %[[MANY:.*]] = arith.muli %[[I]], %[[STEP]] : index
        // CHECK-NEXT:   %[[J:.*]] = arith.addi %[[S]], %[[MANY]] : index
        // CHECK-NEXT:   %[[X:.*]] = memref.load %[[A]][%[[K]], %[[J]]] : memref<?x?xf64>
        // CHECK-NEXT:   memref.store %[[X]], %[[OUT]][%[[I]]]
        """,
        Broadcast(),
    )
