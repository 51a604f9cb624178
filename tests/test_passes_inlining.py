"""Element-wise loops whose result is read in another order: computed where it is read."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from ir_check import messages
from loop_text import fused, untouched

from numba_mlir import njit

MATRIX = "memref<?x?xf64>"


def columns(compute: str, between: str = "", more: str = "", loads: str = "") -> str:
    """A loop that makes ``%t`` from ``%x``, and one that adds up its columns into ``%s``."""
    return f"""
        %t = memref.alloc(%n, %m) : {MATRIX} loc("t"("u.py":4:1))
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {{
          %v = memref.load %x[%i, %j] : {MATRIX}
          %w = {compute}
          memref.store %w, %t[%i, %j] : {MATRIX}
          scf.reduce
        }} {{numba.parfors = [1 : i64]}} loc("u.py":4:1)
        {between}
        %u = memref.alloc(%n) : memref<?xf64>
        %s = memref.alloc(%m) : memref<?xf64>
        scf.parallel (%j) = (%c0) to (%m) step (%c1) {{
          %sum = scf.for %i = %c0 to %n step %c1 iter_args(%old = %zero) -> f64 {{
            %v = memref.load %t[%i, %j] : {MATRIX}
            %new = arith.addf %old, %v : f64
            {loads}
            scf.yield %new : f64
          }}
          memref.store %sum, %s[%j] : memref<?xf64>
          scf.reduce
        }} {{numba.parfors = [2 : i64]}} loc("u.py":5:1)
        {more}
        return %s : memref<?xf64>
    """


ARGUMENTS = f"%x: {MATRIX}, %m: index"
CHEAP, EXPENSIVE = "arith.mulf %v, %v : f64", "math.exp %v : f64"
AGAIN = f"%v2 = memref.load %t[%i, %j] : {MATRIX}\n memref.store %v2, %u[%i] : memref<?xf64>"


@pytest.mark.parametrize("compute", [CHEAP, EXPENSIVE])
def test_columns_of_a_temporary_array(compute: str) -> None:
    name = compute.split()[0]
    result = fused(
        columns(compute)
        + f"""
        // CHECK:      func.func @f({{{{.*}}}}, %[[N:[^:]*]]: index,
        // CHECK-SAME: %[[X:[^:]*]]: {MATRIX}, %[[M:.*]]: index
        // CHECK-NOT:  memref.alloc(%[[N]], %[[M]])
        // CHECK:      scf.parallel (%[[J:.*]]) = ({{{{.*}}}}) to (%[[M]])
        // CHECK-NEXT:   scf.for %[[I:.*]] = {{{{.*}}}} to %[[N]] {{{{.*}}}}(%[[OLD:.*]] =
        // CHECK-NEXT:     %[[V:.*]] = memref.load %[[X]][%[[I]], %[[J]]]
        // CHECK-NEXT:     %[[W:.*]] = {name} %[[V]]
        // CHECK-NEXT:     arith.addf %[[OLD]], %[[W]]
        // CHECK-NOT:  scf.parallel
        """,
        arguments=ARGUMENTS,
        results="-> memref<?xf64>",
    )  # fmt: skip
    assert messages(result, "applied") == [
        "t is computed where it is read; the temporary array is removed"
    ]


def test_what_is_cheap_is_computed_twice() -> None:
    result = fused(
        columns(CHEAP, loads=AGAIN) + "// CHECK-NOT: = memref.alloc({{.*}}, {{.*}})",
        arguments=ARGUMENTS,
        results="-> memref<?xf64>",
    )
    assert len(messages(result, "applied")) == 1


@pytest.mark.parametrize(
    "body",
    [
        columns(EXPENSIVE, loads=AGAIN),  # exp twice
        columns(CHEAP, between=f"memref.store %zero, %x[%c0, %c1] : {MATRIX}"),
        columns(CHEAP, between=f'"pyir.stmt"(%x) : ({MATRIX}) -> ()'),
        columns(CHEAP, loads="memref.store %new, %x[%i, %j] : memref<?x?xf64>"),
        columns(CHEAP, more=f'"pyir.stmt"(%t) : ({MATRIX}) -> ()'),
        columns(CHEAP).replace("%t[%i, %j] : memref<?x?xf64>\n            %new",
                               "%t[%i, %c0] : memref<?x?xf64>\n            %new"),
        columns(CHEAP).replace("to (%n, %m)", "to (%m, %m)"),
        columns(CHEAP).replace("= (%c0, %c0)", "= (%c1, %c0)"),
    ],
)  # fmt: skip
def test_refusals(body: str) -> None:
    untouched(body, arguments=ARGUMENTS, results="-> memref<?xf64>")


def pairwise(x: Any, y: Any) -> Any:
    return np.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=2))


def chained(x: Any, y: Any) -> Any:
    d = x[:, None, :] * y[None, :, :]
    e = d + 1.0
    return (e * e).mean(axis=0), e.max(axis=1)


def changed(x: Any, y: Any) -> Any:
    d = x[:, None, :] + y[None, :, :]
    x[:] = 0.0
    return d.sum(axis=0), x


def four(x: Any, y: Any) -> Any:
    d = x[:, None, :, None] * y[None, :, None, :]
    return d.sum(axis=(0, 2)), (x[:, :, None, None] - y[:1]).min(axis=1)


def same(got: Any, expected: Any) -> None:
    for one, other in zip(
        got if isinstance(got, tuple) else (got,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [pairwise, chained, changed, four])
def test_values(function: Any) -> None:
    compiled = njit(function)
    rng = np.random.default_rng(0)
    for n, m, d in [(3, 4, 5), (1, 4, 5), (3, 1, 1), (2, 2, 600)]:
        x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
        for a, b in itertools.product((x, np.asfortranarray(x)), (y, y[::-1], y[:, :1])):
            same(compiled(a.copy(order="K"), b), function(a.copy(), b))


@pytest.mark.parametrize("kind", ["sum", "mean", "var", "max", "argmin"])
def test_every_axis_without_the_full_array(kind: str) -> None:
    for axis in range(3):
        namespace: dict[str, Any] = {"np": np}
        source = "def f(x, y):\n    d = np.abs(x[:, None, :] - y[None, :, :]) * 2.0\n"
        exec(f"{source}    return np.{kind}(d, axis={axis})", namespace)
        compiled = njit(namespace["f"])
        x, y = np.random.default_rng(axis).normal(size=(2, 6, 7))
        same(compiled(x, y[:4]), namespace["f"](x, y[:4]))
        text = compiled.inspect_mlir(stage="after-fusion")
        assert not [
            line for line in text.splitlines() if "memref.alloc(" in line and "<?x?x?" in line
        ]


def test_one_loop_in_parallel_functions() -> None:
    compiled = njit(parallel=True)(pairwise)
    x, y = np.random.default_rng(1).normal(size=(2, 6, 7))
    same(compiled(x, y[:4]), pairwise(x, y[:4]))
    text = compiled.inspect_mlir(stage="after-row-fusion")
    assert text.count("scf.parallel") == 1
    assert text.count("memref.alloc(") == 1  # the result
