"""What the import makes of functions: MLIR text, and why some loops stay one statement."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from corpus_loops import LOOPS
from ir_check import filecheck
from numba import prange
from typed_ir import imported, parfors, typed

from numba_mlir import errors, njit
from numba_mlir.roundtrip.importer import import_function

X = np.arange(1.0, 5.0)


def check(function: Callable[..., Any], args: tuple[Any, ...], checks: str) -> None:
    """Check the text of the import, which must have taken in every loop."""
    found = imported(function, *args)
    assert found.opaque == []
    filecheck(str(found.module), checks)


def test_nothing_of_the_state_is_changed() -> None:
    function, make = LOOPS[0]
    state = typed(function, *make())
    before = [(label, [id(s) for s in block.body]) for label, block in state.func_ir.blocks.items()]
    types, signatures = dict(state.typemap), dict(state.calltypes)
    loops = [(p, p.init_block.body[:], set(p.races or ())) for p in parfors(state.func_ir.blocks)]
    import_function(state)
    after = [(label, [id(s) for s in block.body]) for label, block in state.func_ir.blocks.items()]
    assert after == before
    assert dict(state.typemap) == types
    assert dict(state.calltypes) == signatures
    assert [
        (p, p.init_block.body[:], set(p.races or ())) for p in parfors(state.func_ir.blocks)
    ] == loops


def test_array_statement() -> None:
    def f(a, b):
        return a + b * 2.0

    check(f, (X, X), r"""
    // CHECK: func.func @f(%[[A:\w+]]: memref<?xf64> {numba.arg = 0 : i64, numba.name = "a", numba.type = "array(float64, 1d, C)"}, %[[B:\w+]]: memref<?xf64>
    // CHECK-SAME: -> memref<?xf64>
    // CHECK-DAG: %[[TWO:\w+]] = arith.constant 2.0
    // CHECK-DAG: %[[ZERO:\w+]] = arith.constant 0 : index
    // CHECK-DAG: %[[ONE:\w+]] = arith.constant 1 : index
    // CHECK: %[[DA:\w+]] = memref.dim %[[A]], %[[ZERO]]
    // CHECK: %[[DB:\w+]] = memref.dim %[[B]], %[[ZERO]]
    // CHECK: numba.assert_equal{{.*}}%[[DA]], %[[DB]]
    // CHECK-SAME: message =
    // CHECK: %[[OUT:\w+]] = memref.alloc(%[[DA]]) {numba.type = "array(float64, 1d, C)"} : memref<?xf64>
    // CHECK: scf.parallel (%[[I:\w+]]) = (%[[ZERO]]) to (%[[DA]]) step (%[[ONE]]) {
    // CHECK-DAG: %[[AI:\w+]] = memref.load %[[A]][%[[I]]]
    // CHECK-DAG: %[[BI:\w+]] = memref.load %[[B]][%[[I]]]
    // CHECK: %[[P:\w+]] = arith.mulf %[[BI]], %[[TWO]]
    // CHECK: %[[S:\w+]] = arith.addf %[[AI]], %[[P]]
    // CHECK: memref.store %[[S]], %[[OUT]][%[[I]]]
    // CHECK: scf.reduce
    // CHECK: return %[[OUT]]
    """)  # fmt: skip  # noqa: E501


def test_reduction_starts_from_the_variable() -> None:
    def f(x, s):
        for i in prange(x.size):
            s += x[i]
        return s

    check(
        f,
        (X, 2.5),
        r"""
    // CHECK: func.func @f(%[[X:\w+]]: memref<?xf64> {{.*}}, %[[S:\w+]]: f64
    // CHECK: %[[R:\w+]] = scf.parallel (%[[I:\w+]]) = {{.*}} init (%[[S]]) -> f64 {
    // CHECK: %[[V:\w+]] = memref.load %[[X]][%[[I]]]
    // CHECK: %[[C:\w+]] = arith.addf %{{.*}}, %[[V]] : f64
    // CHECK: scf.reduce(%[[C]] : f64) {
    // CHECK: ^bb0(%[[L:\w+]]: f64, %[[N:\w+]]: f64):
    // CHECK: %[[T:\w+]] = arith.addf %[[L]], %[[N]] : f64
    // CHECK: scf.reduce.return %[[T]]
    // CHECK: return %[[R]] : f64
    """,
    )


def test_array_reduction_keeps_its_statement() -> None:
    def f(x, r):
        for i in prange(x.shape[0]):
            r += x[i]
        return r

    check(
        f,
        (np.ones((3, 4)), X),
        r"""
    // CHECK: func.func @f(%[[X:\w+]]: memref<?x?xf64> {{.*}}, %[[R:\w+]]: memref<?xf64>
    // CHECK: %[[OUT:\w+]] = scf.parallel {{.*}} init (%[[R]]) -> memref<?xf64> {
    // CHECK: scf.reduce(%[[ROW:\w+]] : memref<?xf64>) {
    // CHECK: ^bb0(%[[L:\w+]]: memref<?xf64>, %[[N:\w+]]: memref<?xf64>):
    // CHECK: %[[SUM:\w+]] = "pyir.stmt"(%[[L]], %[[N]])
    // CHECK: scf.reduce.return %[[SUM]]
    // CHECK: return %[[OUT]]
    """,
    )


def test_loops_over_range() -> None:
    def f(x, n):
        for i in prange(x.size):
            s = 0.0
            for j in range(x.size):
                s += x[j]
            for j in range(n - 1, -1, -1):
                s += x[j]
            x[i] = s

    check(f, (X, 3), r"""
    // CHECK: func.func @f(%[[X:\w+]]: memref<?xf64> {{.*}}, %[[N:\w+]]: i64
    // CHECK: scf.parallel (%[[I:\w+]]) =
    // CHECK: %[[S:\w+]] = scf.for %[[J:\w+]] = %{{.*}} to %{{.*}} step %{{.*}} iter_args(%[[ACC:\w+]] = %{{.*}}) -> (f64) {
    // CHECK-NOT: wrap_index
    // CHECK: %[[V:\w+]] = memref.load %[[X]][%[[J]]]
    // CHECK: %[[NEW:\w+]] = arith.addf %[[ACC]], %[[V]]
    // CHECK: scf.yield %[[NEW]]
    // CHECK: %[[T:\w+]] = scf.for %[[K:\w+]] = %{{.*}} iter_args(%{{.*}} = %[[S]]) -> (f64) {
    // CHECK: numba.wrap_index
    // CHECK: memref.store %[[T]], %[[X]][%[[I]]]
    """)  # fmt: skip  # noqa: E501


def test_subscripts_that_may_be_negative_are_wrapped() -> None:
    def f(x, k):
        out = np.empty(4)
        for i in prange(4):
            out[i] = x[k] + x[i - 1]
        return out

    check(
        f,
        (X, -1),
        r"""
    // CHECK: func.func @f(%[[X:\w+]]: memref<?xf64> {{.*}}, %[[K:\w+]]: i64
    // CHECK: %[[OUT:\w+]] = memref.alloc
    // CHECK: scf.parallel (%[[I:\w+]]) =
    // CHECK: %[[N:\w+]] = memref.dim %[[X]]
    // CHECK: %[[W:\w+]] = "numba.wrap_index"(%[[K]], %[[N]]) : (i64, index) -> index
    // CHECK: memref.load %[[X]][%[[W]]]
    // CHECK: %[[BEFORE:\w+]] = arith.subi
    // CHECK: %[[V:\w+]] = "numba.wrap_index"(%[[BEFORE]], %{{.*}})
    // CHECK: memref.load %[[X]][%[[V]]]
    // CHECK: memref.store %{{.*}}, %[[OUT]][%[[I]]]
    """,
    )


def test_while_and_break() -> None:
    def f(x):
        for i in prange(x.size):
            k = 0
            while x[k] < x[i]:
                k += 1
            for j in range(4):
                if x[j] > 2.0:
                    k = j
                    break
            x[i] = k

    check(
        f,
        (X,),
        r"""
    // CHECK: scf.parallel
    // CHECK: %[[K:\w+]] = scf.if
    // CHECK: scf.while (%[[A:\w+]] = %{{.*}}) : (i64, i64) -> (i64, i64) {
    // CHECK: %[[NEXT:\w+]] = arith.addi %[[A]], %{{.*}} : i64
    // CHECK: %[[MORE:\w+]] = arith.cmpf olt
    // CHECK: scf.condition(%[[MORE]]) %[[NEXT]], %[[NEXT]]
    // CHECK: } do {
    // CHECK: %[[R:\w+]] = scf.execute_region -> i64 {
    // CHECK: cf.cond_br
    // CHECK: scf.yield %{{.*}} : i64
    // CHECK: %[[V:\w+]] = arith.sitofp %[[R]] : i64 to f64
    // CHECK: memref.store %[[V]]
    """,
    )


def test_control_flow_of_the_function_stays_blocks() -> None:
    def f(n):
        s = 0
        while s < n:
            s += 3
        return s

    check(
        f,
        (10,),
        r"""
    // CHECK: func.func @f(%[[N:\w+]]: i64
    // CHECK: %[[T:[0-9]+]] = arith.cmpi slt, %{{.*}}, %[[N]] : i64
    // CHECK: cf.cond_br %[[T]], ^[[BODY:\w+]]({{.*}}), ^[[END:\w+]]({{.*}})
    // CHECK-NOT: scf.
    // CHECK: return %{{.*}} : i64
    """,
    )


def test_types_of_arrays() -> None:
    def f(c, a, u, b, z, zero):
        return c.size + a.size + u.size + b.size + z.size + zero.size

    args = (
        np.ones((2, 3)), np.ones((4, 6))[::2, ::2], np.ones(2, np.uint8), np.ones(2, bool),
        np.ones((2, 2, 2), np.complex64, order="F"), np.array(1, np.int16),
    )  # fmt: skip
    strides = "strided<[?, ?], offset: ?>"
    found = imported(f, *args)  # kept alive: its operations do not keep the module
    assert str(found.module.body.operations[0].type) == (
        f"(memref<?x?xf64>, memref<?x?xf64, {strides}>, memref<?xi8>, memref<?xi1>, "
        "memref<?x?x?xcomplex<f32>, strided<[?, ?, ?], offset: ?>>, memref<i16>) -> i64"
    )


def test_operations_know_the_users_line_and_name() -> None:
    def f(x):
        total = x * 2.0
        return total

    found = imported(f, X)
    text = found.module.operation.get_asm(enable_debug_info=True)
    line = f.__code__.co_firstlineno + 1
    assert f'test_roundtrip_import.py":{line}:' in text
    assert 'loc("total"' in text


# -- what stays one statement ---------------------------------------------------
OPAQUE: list[Any] = []


def opaque(reason: str, args: tuple[Any, ...] = (X,)) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        OPAQUE.append(pytest.param(function, args, reason, id=function.__name__))
        return function

    return add


@opaque("the reduction of 'p' has no neutral complex128 to start from", (X * 1j,))
def complex_product(z):
    p = 1j
    for i in prange(z.size):
        p *= z[i]
    return p


# -- what is a loop in order ----------------------------------------------------
ORDERED: list[Any] = []


def ordered(name: str) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        ORDERED.append(pytest.param(function, name, id=function.__name__))
        return function

    return add


@ordered("late")
def undefined_on_a_path(x):
    out = np.zeros(4)
    for i in prange(4):
        if x[i] > 2:
            late = x[i]
        if x[i] > 2:
            out[i] = late
    return out


@ordered("last")
def last_value(x):
    last = 0.0
    for i in prange(1):
        last = x[i]
    return last


@ordered("i")
def last_index(x):
    for i in prange(1):
        x[i] = 3
    return x, i


@ordered("s")
def running_sum_is_seen(x):
    s = 0.0
    for i in prange(1):
        s += x[i]
        x[i] = s
    return s, x


@ordered("s")
def two_operators(x):
    s = 1.0
    for i in prange(1):
        s += x[i]
        s *= 2.0
    return s


@ordered("s")
def subtracted_from(x):
    s = 1.0
    for i in prange(1):
        s = x[i] - s
    return s


@ordered("r")
def two_array_operators(x):
    r = np.ones(4)
    for _ in prange(1):
        r += x
        r *= 2
    return r


@pytest.mark.parametrize(("function", "args", "reason"), OPAQUE)
def test_why_a_loop_stays_one_statement(function: Any, args: tuple[Any, ...], reason: str) -> None:
    found = imported(function, *args)
    ((loc, message),) = found.opaque
    assert message.startswith(reason)
    line = next(n for n, text in enumerate(_source(function)) if "prange" in text)
    assert loc.line == function.__code__.co_firstlineno + line
    text = str(found.module)
    assert "pyir.stmt" in text
    assert text.count("numba.parfors = ") == found.parfors - 1


@pytest.mark.parametrize(("function", "name"), ORDERED)
def test_a_loop_that_is_no_reduction_stays_in_order(function: Any, name: str) -> None:
    found = imported(function, X)
    assert not found.opaque
    ((loc, message),) = found.repairs
    assert message == f"'{name}': what the loop gives when run in order"
    line = next(n for n, text in enumerate(_source(function)) if "prange" in text)
    assert loc.line == function.__code__.co_firstlineno + line
    (loop,) = [text for text in str(found.module).splitlines() if "numba.ordered" in text]
    (carried,) = re.findall(r'numba.names = \["(\w+)', loop)
    assert carried == name


def _source(function: Any) -> list[str]:
    return inspect.getsource(function).splitlines()


# -- functions that stay as they are ---------------------------------------------
def generator(n):
    yield n


def tried(n):
    try:
        return 10 // n
    except Exception:
        return -1


@pytest.mark.parametrize(
    ("function", "reason"),
    [(generator, "a generator keeps its state in named variables"), (tried, "a try block")],
)
def test_function_left_alone(function: Any, reason: str) -> None:
    with pytest.raises(errors.UnsupportedConstruct, match=reason):
        imported(function, 3)
    compiled = njit(parallel=True, mlir_identity="exact")(function)
    found, expected = compiled(3), function(3)
    assert found == expected if function is tried else list(found) == list(expected)
    report = compiled.mlir_diagnostics(format="json")
    assert reason in report
