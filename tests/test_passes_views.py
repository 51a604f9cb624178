"""Views of arrays, whole views, and where memory comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ir_check import CONSTANTS, messages, parse, parsed, run_and_check

from numba_mlir.passes.fusion import Fusion
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import operations, variable_name
from numba_mlir.passes.views import view_base, whole_base

VIEWS = """
func.func @f(%a: memref<?xf64>, %d: memref<?x?xf64>,
             %slice: !numba.ref<"Function(<class 'slice'>)">,
             %none: !numba.ref<"none">, %one: !numba.ref<"Literal[int](1)">,
             %dots: !numba.ref<"ellipsis">, %k: i64) {
  %all = "numba.expr3"(%slice, %none, %none)
    : (!numba.ref<"Function(<class 'slice'>)">, !numba.ref<"none">, !numba.ref<"none">)
    -> !numba.ref<"slice<a:b>"> loc("all")
  %tail = "numba.expr3"(%slice, %one, %none)
    : (!numba.ref<"Function(<class 'slice'>)">, !numba.ref<"Literal[int](1)">,
       !numba.ref<"none">) -> !numba.ref<"slice<a:b>"> loc("tail")
  %both = "numba.expr2"(%all, %all) : (!numba.ref<"slice<a:b>">, !numba.ref<"slice<a:b>">)
    -> !numba.ref<"UniTuple(slice<a:b> x 2)"> loc("both")
  %mixed = "numba.expr2"(%all, %tail) : (!numba.ref<"slice<a:b>">, !numba.ref<"slice<a:b>">)
    -> !numba.ref<"UniTuple(slice<a:b> x 2)"> loc("mixed")
  %v1 = "numba.expr2"(%a, %all) {view_of = 0 : i64}
    : (memref<?xf64>, !numba.ref<"slice<a:b>">) -> memref<?xf64> loc("a[:]")
  %v2 = "numba.expr2"(%a, %dots) {view_of = 0 : i64}
    : (memref<?xf64>, !numba.ref<"ellipsis">) -> memref<?xf64> loc("a[...]")
  %v3 = "numba.expr2"(%d, %both) {view_of = 0 : i64}
    : (memref<?x?xf64>, !numba.ref<"UniTuple(slice<a:b> x 2)">) -> memref<?x?xf64> loc("d[:, :]")
  %v4 = "numba.expr1"(%v1) {view_of = 0 : i64, whole}
    : (memref<?xf64>) -> memref<?xf64> loc("whole of a[:]")
  %v5 = "numba.expr2"(%a, %tail) {view_of = 0 : i64}
    : (memref<?xf64>, !numba.ref<"slice<a:b>">) -> memref<?xf64> loc("a[1:]")
  %v6 = "numba.expr2"(%d, %mixed) {view_of = 0 : i64}
    : (memref<?x?xf64>, !numba.ref<"UniTuple(slice<a:b> x 2)">) -> memref<?x?xf64> loc("d[:, 1:]")
  %v7 = "numba.expr1"(%a) {view_of = 0 : i64} : (memref<?xf64>) -> memref<?xf64> loc("other")
  %v8 = "numba.expr2"(%a, %all) {view_of = 0 : i64} : (memref<?xf64>, !numba.ref<"slice<a:b>">)
    -> memref<?xf64, strided<[?], offset: ?>> loc("a[:] of another layout")
  %v9 = "numba.expr2"(%v5, %all) {view_of = 0 : i64}
    : (memref<?xf64>, !numba.ref<"slice<a:b>">) -> memref<?xf64> loc("a[1:][:]")
  %n1 = "numba.expr2"(%a, %k) : (memref<?xf64>, i64) -> memref<?xf64> loc("no view")
  %n2 = "pyir.stmt"(%a) : (memref<?xf64>) -> memref<?xf64> loc("returned")
  %n3 = "pyir.stmt"(%a) {fresh} : (memref<?xf64>) -> memref<?xf64> loc("made")
  return
}
"""


@pytest.fixture
def values() -> Iterator[dict[str, Any]]:
    """The values of VIEWS by the names in their locations; arguments by theirs."""
    with parsed(VIEWS) as module:
        block = next(iter(module.body)).regions[0].blocks[0]
        found: dict[str, Any] = {"a": block.arguments[0], "d": block.arguments[1]}
        for op in operations(block)[:-1]:
            found[str(op.location).removeprefix('loc("').removesuffix('")')] = op.result
        yield found


@pytest.mark.parametrize(
    ("view", "whole_of", "base"),
    [
        ("a[:]", "a", "a"),
        ("a[...]", "a", "a"),
        ("d[:, :]", "d", "d"),
        ("whole of a[:]", "a", "a[:]"),
        ("a[1:]", "a[1:]", "a"),
        ("d[:, 1:]", "d[:, 1:]", "d"),
        ("other", "other", "a"),
        ("a[:] of another layout", "a[:] of another layout", "a"),
        ("a[1:][:]", "a[1:]", "a[1:]"),
        ("a", "a", None),
        ("no view", "no view", None),
        ("returned", "returned", None),
    ],
)
def test_bases_of_views(values: dict[str, Any], view: str, whole_of: str, base: str | None) -> None:
    assert whole_base(values[view]) == values[whole_of]
    found = view_base(values[view])
    assert found is None if base is None else found == values[base]


@pytest.mark.parametrize(
    ("array", "kind", "root"),
    [
        ("a[1:][:]", "argument", "a"),
        ("a[:] of another layout", "argument", "a"),
        ("no view", "unknown", "no view"),
        ("returned", "unknown", "returned"),
        ("made", "fresh", "made"),
    ],
)
def test_roots(values: dict[str, Any], array: str, kind: str, root: str) -> None:
    found = Provenance().root(values[array])
    assert (found.kind, found.value == values[root]) == (kind, True)


CAPTURES = """
func.func @f(%a: memref<?xf64>, %n: index, %c: i1) -> memref<?xf64> {
  CONSTANTS
  %r = memref.alloc(%n) : memref<?xf64> loc("returned")
  %p = memref.alloc(%n) : memref<?xf64> loc("printed")
  %t = memref.alloc(%n) : memref<?xf64> loc("in a tuple")
  %v = memref.alloc(%n) : memref<?xf64> loc("viewed")
  %b = memref.alloc(%n) : memref<?xf64> loc("branched")
  "test.point"() : () -> () loc("first")
  %x = memref.load %r[%c0] : memref<?xf64>
  %w = "numba.expr1"(%v) {view_of = 0 : i64} : (memref<?xf64>) -> memref<?xf64>
  "pyir.stmt"(%p) {text = "print(p)"} : (memref<?xf64>) -> ()
  %tt = "numba.expr1"(%t) {text = "(t,)"} : (memref<?xf64>) -> !numba.ref<"Tuple">
  "pyir.stmt"(%w) {text = "print(w)"} : (memref<?xf64>) -> ()
  "test.point"() : () -> () loc("second")
  cf.cond_br %c, ^one(%b : memref<?xf64>), ^two
^one(%u: memref<?xf64>):
  "test.point"() : () -> () loc("third")
  cf.br ^two
^two:
  return %r : memref<?xf64>
}
"""


def test_who_knows_an_array_and_from_where_on() -> None:
    with parsed(CAPTURES.replace("CONSTANTS", CONSTANTS)) as module:
        named = {}
        for block in next(iter(module.body)).regions[0].blocks:
            for op in operations(block):
                named[str(op.location).removeprefix('loc("').removesuffix('")')] = op
        provenance = Provenance()

        def known(point: str) -> set[str]:
            arrays = ["returned", "printed", "in a tuple", "viewed", "branched"]
            roots = {name: provenance.root(named[name].result) for name in arrays}
            return {n for n, root in roots.items() if provenance.captured(root, named[point])}

        assert known("first") == set()
        assert known("second") == {"printed", "in a tuple", "viewed"}
        assert known("third") == {"printed", "in a tuple", "viewed", "branched"}


def test_names_of_variables() -> None:
    with parsed(
        """
        func.func @f(%a: i64 {numba.name = "a.2"}, %b: i64) {
          %x = arith.constant 1 : i64 loc("x.1"("u.py":1:1))
          %t = arith.constant 2 : i64 loc("$12const.3"("u.py":1:1))
          %i = arith.constant 3 : i64 loc("sum__locals__v5"("u.py":1:1))
          return
        }"""
    ) as module:
        block = next(iter(module.body)).regions[0].blocks[0]
        x, t, i, _ = operations(block)
        found = [variable_name(v) for v in (*block.arguments, x.result, t.result, i.result)]
    assert found == ["a", None, "x", None, None]


IN_PLACE = f"""func.func @f(%a: memref<?xf64> {{numba.name = "a"}}, %n: index) {{
  {CONSTANTS}
  %t = memref.alloc(%n) : memref<?xf64> loc("t"("u.py":1:1))
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
    %x = memref.load %a[%i] : memref<?xf64>
    %y = arith.addf %x, %x : f64
    memref.store %y, %t[%i] : memref<?xf64>
    scf.reduce
  }} loc("u.py":2:1)
  %v = "numba.expr1"(%a) {{view_of = 0 : i64ATTRIBUTE}} : (memref<?xf64>) -> memref<?xf64>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
    %x = memref.load %t[%i] : memref<?xf64>
    memref.store %x, %v[%i] : memref<?xf64>
    scf.reduce
  }} loc("u.py":3:1)
  return
}}
"""


def test_assignment_to_a_whole_view_is_assignment_to_the_array() -> None:
    run_and_check(
        IN_PLACE.replace("ATTRIBUTE", ", whole")
        + """
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64>
        // CHECK-NOT:   numba.expr
        // CHECK:       scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:    %[[X:.*]] = memref.load %[[A]][%[[I]]]
        // CHECK-NEXT:    %[[Y:.*]] = arith.addf %[[X]], %[[X]]
        // CHECK-NEXT:    memref.store %[[Y]], %[[A]][%[[I]]]
        // CHECK-NEXT:    scf.reduce
        // CHECK-NOT:   scf.parallel
        """,
        Fusion(),
    )


def test_assignment_to_any_other_view_waits_for_all_reads() -> None:
    result = Fusion().run(parse(IN_PLACE.replace("ATTRIBUTE", "")))
    assert not result.modified
    (message,) = messages(result, "missed")
    assert message.endswith("are different views of one array")
