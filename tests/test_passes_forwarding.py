"""Loads replaced by what was stored or loaded before, and arrays removed thereby."""

from __future__ import annotations

import pytest
from ir_check import CONSTANTS, filecheck, parsed

from numba_mlir import mlir
from numba_mlir.passes.forwarding import Forwarder
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.temporaries import remove_unread, stored_allocations
from numba_mlir.passes.values import operations

FUNCTION = """
func.func @f(%a: memref<?xf64>, %b: memref<?xf64>, %n: index, %x: f64, %y: f64, %c: i1) {
  CONSTANTS
  %k1 = arith.constant 1 : i64
  %t = memref.alloc(%n) : memref<?xf64>
  %u = memref.alloc(%n) : memref<?xf64>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    BODY
    scf.reduce
  }
  "test.keep"(%t, %u) : (memref<?xf64>, memref<?xf64>) -> ()
  return
}
"""

#: binds what the checks of all bodies refer to
CHECKS = """
// CHECK-LABEL: func.func @f(
// CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64>, %[[B:[^:]*]]: memref<?xf64>, %[[N:[^:]*]]: index,
// CHECK-SAME:    %[[X:[^:]*]]: f64, %[[Y:[^:]*]]: f64, %[[C:[^:]*]]: i1)
// CHECK: %[[T:.*]] = memref.alloc
// CHECK: %[[U:.*]] = memref.alloc
// CHECK: scf.parallel (%[[I:.*]]) =
"""


def use(value: str) -> str:
    return f'"test.use"({value}) : (f64) -> ()'


def forward(body: str) -> int:
    """Forward in a loop with this body and check it; returns how many loads went."""
    text = FUNCTION.replace("CONSTANTS", CONSTANTS).replace("BODY", body)
    with parsed(text) as module:
        block = next(iter(module.body)).regions[0].blocks[0]
        loop = next(op for op in operations(block) if op.name == "scf.parallel")
        removed = Forwarder(loop, Provenance()).run()
        assert module.operation.verify()
        mlir.run_pipeline(module.operation, "builtin.module(cse)")
        filecheck(str(module), CHECKS + body)
    return removed


LOAD = "memref.load %t[%i] : memref<?xf64>"
STORE_X = "memref.store %x, %t[%i] : memref<?xf64>"
STORE_Y = "memref.store %y, %t[%i] : memref<?xf64>"

FORWARDED = {
    "a stored value": f"""
      {STORE_X}
      %l = {LOAD}
      {use("%l")}
      // CHECK-NEXT: memref.store %[[X]], %[[T]][%[[I]]]
      // CHECK-NEXT: "test.use"(%[[X]])
    """,
    "the last of two stored values": f"""
      {STORE_X}
      {STORE_Y}
      %l = {LOAD}
      {use("%l")}
      // CHECK: "test.use"(%[[Y]])
    """,
    "a loaded value": f"""
      %k = {LOAD}
      %l = {LOAD}
      {use("%l")}
      // CHECK-NEXT: %[[L:.*]] = memref.load %[[T]][%[[I]]]
      // CHECK-NEXT: "test.use"(%[[L]])
    """,
    "into a conditional": f"""
      {STORE_X}
      scf.if %c {{
        %l = {LOAD}
        {use("%l")}
      }}
      // CHECK: scf.if
      // CHECK-NEXT: "test.use"(%[[X]])
    """,
    "into an inner loop": f"""
      {STORE_X}
      scf.for %j = %c0 to %n step %c1 {{
        %l = {LOAD}
        {use("%l")}
        memref.store %y, %u[%j] : memref<?xf64>
      }}
      // CHECK: scf.for
      // CHECK-NEXT: "test.use"(%[[X]])
    """,
    "across a store to another fresh array": f"""
      {STORE_X}
      memref.store %y, %u[%i] : memref<?xf64>
      %l = {LOAD}
      {use("%l")}
      // CHECK: "test.use"(%[[X]])
    """,
    "across a store to an argument": f"""
      {STORE_X}
      memref.store %y, %a[%i] : memref<?xf64>
      %l = {LOAD}
      {use("%l")}
      // CHECK: "test.use"(%[[X]])
    """,
    "across a statement on scalars": f"""
      {STORE_X}
      "pyir.stmt"(%y) {{text = "f(y)"}} : (f64) -> ()
      %l = {LOAD}
      {use("%l")}
      // CHECK: "test.use"(%[[X]])
    """,
    "at an index computed twice": f"""
      %p = arith.index_cast %i : index to i64
      %q = arith.addi %p, %k1 : i64
      %r = "numba.wrap_index"(%q, %n) : (i64, index) -> index
      memref.store %x, %t[%r] : memref<?xf64>
      %s = arith.addi %i, %c1 : index
      %l = memref.load %t[%s] : memref<?xf64>
      {use("%l")}
      // CHECK: "test.use"(%[[X]])
    """,
    "at an index that is not the loop's": f"""
      %p = arith.muli %i, %i : index
      memref.store %x, %t[%p] : memref<?xf64>
      %q = arith.muli %i, %i : index
      %l = memref.load %t[%q] : memref<?xf64>
      {use("%l")}
      // CHECK: "test.use"(%[[X]])
    """,
}


@pytest.mark.parametrize("case", FORWARDED)
def test_forwarded(case: str) -> None:
    assert forward(FORWARDED[case]) == 1


KEPT = {
    "nothing known": f"%l = {LOAD}\n{use('%l')}",
    "another element": f"""
      memref.store %x, %t[%c0] : memref<?xf64>
      %l = {LOAD}
      {use("%l")}
    """,
    "a store that may be to the element": f"""
      {STORE_X}
      memref.store %y, %t[%c0] : memref<?xf64>
      %l = {LOAD}
      {use("%l")}
    """,
    "a store on one path": f"""
      {STORE_X}
      scf.if %c {{
        {STORE_Y}
      }}
      %l = {LOAD}
      {use("%l")}
    """,
    "a store in the other branch": f"""
      scf.if %c {{
        {STORE_X}
      }} else {{
        %l = {LOAD}
        {use("%l")}
      }}
    """,
    "a store later in the inner loop": f"""
      {STORE_X}
      scf.for %j = %c0 to %n step %c1 {{
        %l = {LOAD}
        {use("%l")}
        {STORE_Y}
      }}
    """,
    "a store before the end of an inner loop": f"""
      {STORE_X}
      scf.for %j = %c0 to %n step %c1 {{
        memref.store %y, %t[%j] : memref<?xf64>
      }}
      %l = {LOAD}
      {use("%l")}
    """,
    "an inner loop's own element": f"""
      scf.for %j = %c0 to %n step %c1 {{
        memref.store %x, %t[%j] : memref<?xf64>
      }}
      scf.for %j = %c0 to %n step %c1 {{
        %l = memref.load %t[%j] : memref<?xf64>
        {use("%l")}
      }}
    """,
    "a statement that gets the array": f"""
      {STORE_X}
      "pyir.stmt"(%t) {{text = "f(t)"}} : (memref<?xf64>) -> ()
      %l = {LOAD}
      {use("%l")}
    """,
    "a store to an argument that may overlap": f"""
      memref.store %x, %a[%i] : memref<?xf64>
      memref.store %y, %b[%i] : memref<?xf64>
      %l = memref.load %a[%i] : memref<?xf64>
      {use("%l")}
    """,
    "control flow with a store": f"""
      {STORE_X}
      scf.execute_region {{
        cf.cond_br %c, ^one, ^two
      ^one:
        {STORE_Y}
        cf.br ^two
      ^two:
        %l = {LOAD}
        {use("%l")}
        scf.yield
      }}
    """,
}


@pytest.mark.parametrize("case", KEPT)
def test_not_forwarded(case: str) -> None:
    body = KEPT[case]
    assert forward(body + '// CHECK: %[[L:.*]] = memref.load\n// CHECK: "test.use"(%[[L]])') == 0


def removed(before: str, body: str, after: str) -> tuple[list[str | None], str]:
    """Remove the unread arrays of a loop; returns their names and the module's text."""
    text = f"""
    func.func @f(%a: memref<?xf64>, %n: index, %x: f64) -> index {{
      {CONSTANTS}
      {before}
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
        {body}
        scf.reduce
      }}
      {after}
    }}"""
    with parsed(text) as module:
        block = next(iter(module.body)).regions[0].blocks[0]
        loop = next(op for op in operations(block) if op.name == "scf.parallel")
        names = remove_unread(stored_allocations(loop, Provenance()))
        assert module.operation.verify()
        return names, str(module)


ALLOC = '%t = memref.alloc(%n, %n) : memref<?x3x?xf64> loc("t.2"("u.py":1:1))'
STORE = "memref.store %x, %t[%i, %i, %i] : memref<?x3x?xf64>"


def test_an_array_that_is_only_stored_to_goes_and_its_sizes_stay_known() -> None:
    names, text = removed(
        ALLOC,
        STORE,
        """%p = memref.dim %t, %c0 : memref<?x3x?xf64>
        %q = memref.dim %t, %c1 : memref<?x3x?xf64>
        %r = arith.addi %p, %q : index
        return %r : index""",
    )
    assert names == ["t"]
    filecheck(
        text,
        """
        // CHECK: func.func @f(%{{.*}}: memref<?xf64>, %[[N:.*]]: index
        // CHECK-NOT: memref.
        // CHECK: %[[THREE:.*]] = arith.constant 3 : index
        // CHECK: %[[R:.*]] = arith.addi %[[N]], %[[THREE]]
        // CHECK: return %[[R]]
        """,
    )


def test_unused_expressions_do_not_keep_an_array() -> None:
    names, _ = removed(
        ALLOC,
        STORE,
        """%s = "numba.expr1"(%t) {text = "t.shape"} : (memref<?x3x?xf64>) -> !numba.ref<"shape">
        return %n : index""",
    )
    assert names == ["t"]


@pytest.mark.parametrize(
    "after",
    [
        "%l = memref.load %t[%c0, %c0, %c0] : memref<?x3x?xf64>\nreturn %n : index",
        '"pyir.stmt"(%t) {text = "print(t)"} : (memref<?x3x?xf64>) -> ()\nreturn %n : index',
        "cf.br ^next(%t : memref<?x3x?xf64>)\n^next(%u: memref<?x3x?xf64>):\nreturn %n : index",
        "%d = memref.dim %t, %n : memref<?x3x?xf64>\nreturn %d : index",
    ],
    ids=["read", "given to a statement", "passed on", "size along an unknown axis"],
)
def test_an_array_that_somebody_may_read_stays(after: str) -> None:
    names, text = removed(ALLOC, STORE, after)
    assert names == []
    assert "memref.store" in text


def test_an_argument_is_no_temporary() -> None:
    names, text = removed("", "memref.store %x, %a[%i] : memref<?xf64>", "return %n : index")
    assert names == []
    assert "memref.store" in text
