"""The broadcast pass on MLIR text: what it simplifies, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from ir_check import messages, parse, run_and_check

from numba_mlir.passes.base import PassResult
from numba_mlir.passes.broadcast import ORDER_MATTERS, Broadcast
from numba_mlir.passes.values import nested, operations
from numba_mlir.passes.versions import VERSIONS

CONSTANTS = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %x = arith.constant 2.0 : f64
"""


def broadcast(body: str, arguments: str = "", versions: bool = False) -> PassResult:
    """Run the pass on ``func.func @f(<arguments>) {body}`` and check the CHECK comments."""
    text = f"func.func @f({arguments}) {{ {CONSTANTS} {body}\n return }}"
    return run_and_check(text, Broadcast(versions))


def common(results: str, left: str, right: str) -> str:
    """``results = numba.broadcast`` of two shapes, given as lists of sizes."""
    ranks = [len(sizes.split(",")) for sizes in (left, right)]
    attributes = f"{{ranks = array<i64: {ranks[0]}, {ranks[1]}>, order = array<i64: 0, 1, -2>}}"
    names = results.split(",")
    operands = ", ".join(["index"] * sum(ranks))
    made = ", ".join(["index"] * len(names))
    first = names[0].split(":")[0]
    head = f"{first}:{len(names)}" if len(names) > 1 else first
    return f'{head} = "numba.broadcast"({left}, {right}) {attributes} : ({operands}) -> ({made})'


def fits(source: str, target: str, kind: str = "output") -> str:
    """``numba.broadcast_into`` of one shape into another."""
    ranks = [len(sizes.split(",")) for sizes in (source, target)]
    attributes = (
        f"{{ranks = array<i64: {ranks[0]}, {ranks[1]}>, "
        f'order = array<i64: 0, 1, -2>, kind = "{kind}"}}'
    )
    operands = ", ".join(["index"] * sum(ranks))
    return f'"numba.broadcast_into"({source}, {target}) {attributes} : ({operands}) -> ()'


ONE = "%n: index, %m: index, %k: index"
#: uses sizes so that they stay
USE = '"pyir.stmt"({0}) {{text = "use"}} : ({1}) -> ()'


def use(*values: str) -> str:
    return USE.format(", ".join(values), ", ".join(["index"] * len(values)))


# ---- the example ------------------------------------------------------------------
EXAMPLE = """
// CHECK-LABEL: func.func @add(
// CHECK-SAME: %[[A:[a-z0-9]+]]: memref<?x?xi64>, %[[B:[a-z0-9]+]]: memref<?x?xi64>
func.func @add(%a: memref<?x?xi64>, %b: memref<?x?xi64>) -> memref<?x?xi64> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK-DAG: %[[ONES:.*]] = arith.constant -1 : index
  // CHECK-DAG: %[[C0:.*]] = arith.constant 0 : index
  // CHECK-DAG: %[[C1:.*]] = arith.constant 1 : index
  // CHECK: %[[A0:.*]] = memref.dim %[[A]], %[[C0]]
  // CHECK: %[[A1:.*]] = memref.dim %[[A]], %[[C1]]
  // CHECK: %[[B0:.*]] = memref.dim %[[B]], %[[C0]]
  // CHECK: %[[B1:.*]] = memref.dim %[[B]], %[[C1]]
  %a0 = memref.dim %a, %c0 : memref<?x?xi64>
  %a1 = memref.dim %a, %c1 : memref<?x?xi64>
  %b0 = memref.dim %b, %c0 : memref<?x?xi64>
  %b1 = memref.dim %b, %c1 : memref<?x?xi64>
  // CHECK: %[[N:.*]]:2 = "numba.broadcast"(%[[A0]], %[[A1]], %[[B0]], %[[B1]])
  %n:2 = "numba.broadcast"(%a0, %a1, %b0, %b1)
    {ranks = array<i64: 2, 2>, order = array<i64: 0, 1, -2>}
    : (index, index, index, index) -> (index, index)
  // CHECK: %[[OUT:.*]] = memref.alloc(%[[N]]#0, %[[N]]#1)
  %out = memref.alloc(%n#0, %n#1) : memref<?x?xi64>
  // CHECK-DAG: %[[A0IS1:.*]] = arith.cmpi eq, %[[A0]], %[[C1]]
  // CHECK-DAG: %[[A1IS1:.*]] = arith.cmpi eq, %[[A1]], %[[C1]]
  // CHECK-DAG: %[[B0IS1:.*]] = arith.cmpi eq, %[[B0]], %[[C1]]
  // CHECK-DAG: %[[B1IS1:.*]] = arith.cmpi eq, %[[B1]], %[[C1]]
  %a0is1 = arith.cmpi eq, %a0, %c1 : index
  %a1is1 = arith.cmpi eq, %a1, %c1 : index
  %b0is1 = arith.cmpi eq, %b0, %c1 : index
  %b1is1 = arith.cmpi eq, %b1, %c1 : index
  // CHECK-DAG: %[[AMASK:.*]] = arith.select %[[A0IS1]], %[[C0]], %[[ONES]]
  // CHECK-DAG: %[[BMASK:.*]] = arith.select %[[B0IS1]], %[[C0]], %[[ONES]]
  // CHECK: scf.parallel (%[[I:.*]], %[[J:.*]]) = (%[[C0]], %[[C0]]) to (%[[N]]#0, %[[N]]#1)
  scf.parallel (%i, %j) = (%c0, %c0) to (%n#0, %n#1) step (%c1, %c1) {
    // CHECK: %[[AI:.*]] = arith.andi %[[I]], %[[AMASK]]
    // CHECK: %[[AJ:.*]] = arith.select %[[A1IS1]], %[[C0]], %[[J]]
    // CHECK: %[[X:.*]] = memref.load %[[A]][%[[AI]], %[[AJ]]]
    %ai = arith.select %a0is1, %c0, %i : index
    %aj = arith.select %a1is1, %c0, %j : index
    %x = memref.load %a[%ai, %aj] : memref<?x?xi64>
    // CHECK: %[[BI:.*]] = arith.andi %[[I]], %[[BMASK]]
    // CHECK: %[[BJ:.*]] = arith.select %[[B1IS1]], %[[C0]], %[[J]]
    // CHECK: %[[Y:.*]] = memref.load %[[B]][%[[BI]], %[[BJ]]]
    %bi = arith.select %b0is1, %c0, %i : index
    %bj = arith.select %b1is1, %c0, %j : index
    %y = memref.load %b[%bi, %bj] : memref<?x?xi64>
    // CHECK: %[[Z:.*]] = arith.addi %[[X]], %[[Y]]
    // CHECK: memref.store %[[Z]], %[[OUT]][%[[I]], %[[J]]]
    %z = arith.addi %x, %y : i64
    memref.store %z, %out[%i, %j] : memref<?x?xi64>
    scf.reduce
  }
  // CHECK: return %[[OUT]]
  return %out : memref<?x?xi64>
}
"""


def test_unknown_shapes_have_one_loop_and_tests_in_front_of_it() -> None:
    result = run_and_check(EXAMPLE, Broadcast())
    assert messages(result, "applied") == [
        "became a loop over 2 indices; 4 sizes are compared with 1 at run time"
    ]


def test_known_shapes_have_no_test_at_all() -> None:
    """The example with shapes (2, 3) and (1, 3): loads at index 0, no check, no select."""
    text = EXAMPLE.replace("// CHECK", "//")
    for name, size in {"a0": 2, "a1": 3, "b0": 1, "b1": 3}.items():
        array, axis = name
        text = text.replace(
            f"%{name} = memref.dim %{array}, %c{axis} : memref<?x?xi64>",
            f"%{name} = arith.constant {size} : index",
        )
    text += """
    // CHECK-LABEL: func.func @add(
    // CHECK-SAME: %[[A:[a-z0-9]+]]: memref<?x?xi64>, %[[B:[a-z0-9]+]]: memref<?x?xi64>
    // CHECK-NOT: numba.broadcast
    // CHECK-NOT: arith.select
    // CHECK: scf.parallel (%[[I:.*]], %[[J:.*]]) = (%[[C0:c0]], %c0) to (%c2, %c3)
    // CHECK-NOT: arith.select
    // CHECK: memref.load %[[A]][%[[I]], %[[J]]]
    // CHECK: memref.load %[[B]][%[[C0]], %[[J]]]
    // CHECK-NOT: arith.select
    """
    result = run_and_check(text, Broadcast())
    assert messages(result, "applied") == ["became a loop over 2 indices; the shapes need no test"]


# ---- common shapes ------------------------------------------------------------------
def test_equal_sizes_are_their_own_common_size() -> None:
    broadcast(
        f"""
        {common("%s", "%n", "%n")}
        {use("%s")}
        // CHECK-NOT: numba.broadcast
        // CHECK: "pyir.stmt"(%arg0)
        """,
        ONE,
    )


def test_a_known_size_is_the_common_one_but_the_other_is_checked() -> None:
    broadcast(
        f"""
        {common("%s", "%n", "%c3")}
        {use("%s")}
        // CHECK: %[[C3:.*]] = arith.constant 3
        // CHECK: "numba.broadcast"(%{{{{.*}}}}, %[[C3]])
        // CHECK: "pyir.stmt"(%[[C3]])
        """,
        ONE,
    )


def test_a_size_of_one_changes_nothing() -> None:
    broadcast(
        f"""
        {common("%s, %t", "%n, %c1", "%m")}
        {use("%s#0", "%s#1")}
        // CHECK-NOT: numba.broadcast
        // CHECK: "pyir.stmt"(%arg0, %arg1)
        """,
        ONE,
    )


def test_constants_that_do_not_fit_stay_checked() -> None:
    broadcast(
        f"""
        %c2 = arith.constant 2 : index
        {common("%s", "%c2", "%c3")}
        {use("%s")}
        // CHECK: "numba.broadcast"(%c2, %c3)
        """
    )


def test_the_same_sizes_in_another_order_have_the_same_common_size() -> None:
    broadcast(
        f"""
        {common("%s", "%n", "%m")}
        {common("%t", "%m", "%n")}
        {common("%u", "%s", "%n")}
        {use("%s", "%t", "%u")}
        // CHECK-COUNT-1: %[[S:.*]] = "numba.broadcast"
        // CHECK-NOT: numba.broadcast
        // CHECK: "pyir.stmt"(%[[S]], %[[S]], %[[S]])
        """,
        ONE,
    )


def test_three_sizes_are_one_set_however_they_are_combined() -> None:
    broadcast(
        f"""
        {common("%s", "%n", "%m")}
        {common("%t", "%s", "%k")}
        {common("%u", "%m", "%k")}
        {common("%v", "%n", "%u")}
        {use("%t", "%v")}
        // CHECK: %[[S:.*]] = "numba.broadcast"
        // CHECK: %[[T:.*]] = "numba.broadcast"(%[[S]]
        // CHECK-NOT: numba.broadcast
        // CHECK: "pyir.stmt"(%[[T]], %[[T]])
        """,
        ONE,
    )


def test_what_one_branch_checks_is_not_known_in_the_other() -> None:
    broadcast(
        f"""
        %c = arith.cmpi eq, %n, %c3 : index
        cf.cond_br %c, ^yes, ^no
      ^yes:
        {common("%s", "%n", "%m")}
        {use("%s")}
        cf.br ^end
      ^no:
        {common("%t", "%n", "%m")}
        {use("%t")}
        cf.br ^end
      ^end:
        {common("%u", "%n", "%m")}
        {use("%u")}
        // CHECK-COUNT-3: numba.broadcast
        """,
        ONE,
    )


def test_what_a_dominating_block_checks_is_known() -> None:
    broadcast(
        f"""
        {common("%s", "%n", "%m")}
        %c = arith.cmpi eq, %n, %c3 : index
        cf.cond_br %c, ^yes, ^end
      ^yes:
        {common("%t", "%m", "%n")}
        {use("%t")}
        cf.br ^end
      ^end:
        {use("%s")}
        // CHECK: %[[S:.*]] = "numba.broadcast"
        // CHECK-NOT: numba.broadcast
        // CHECK: "pyir.stmt"(%[[S]])
        // CHECK: "pyir.stmt"(%[[S]])
        """,
        ONE,
    )


# ---- targets ------------------------------------------------------------------------
#: source, target -> whether a check stays
TARGETS: dict[str, tuple[str, str, bool]] = {
    "the same sizes": ("%n, %m", "%n, %m", False),
    "fewer dimensions": ("%m", "%n, %m", False),
    "a size of 1": ("%c1, %m", "%n, %m", False),
    "another size": ("%k, %m", "%n, %m", True),
    "a constant": ("%c3", "%n", True),
    "more dimensions, of size 1": ("%c1, %n", "%n", True),
}


@pytest.mark.parametrize("case", TARGETS)
def test_a_check_against_a_target(case: str) -> None:
    source, target, stays = TARGETS[case]
    count = "// CHECK-COUNT-1: numba.broadcast_into" if stays else ""
    broadcast(f"{fits(source, target)}\n{count}\n// CHECK-NOT: numba.broadcast_into", ONE)


def test_a_check_against_a_target_is_made_once() -> None:
    broadcast(
        f"""
        {fits("%k", "%n")}
        {fits("%k", "%n", "input")}
        {fits("%n", "%k")}
        // CHECK: "numba.broadcast_into"(%arg2, %arg0)
        // CHECK-NEXT: "numba.broadcast_into"(%arg0, %arg2)
        // CHECK-NOT: numba.broadcast_into
        """,
        ONE,
    )


# ---- tests inside loops ---------------------------------------------------------------
VECTOR = "memref<?xf64>"


def reading(array: str, size: str, bound: str = "%n", more: str = "") -> str:
    """A loop below ``bound`` that reads ``array``, stretched where ``size`` is 1."""
    return f"""
    %is1 = arith.cmpi eq, {size}, %c1 : index
    scf.parallel (%i) = (%c0) to ({bound}) step (%c1) {{
      %at = arith.select %is1, %c0, %i : index
      %e = memref.load {array}[%at] : {VECTOR}
      memref.store %e, %b[%i] : {VECTOR}
      {more}
      scf.reduce
    }}"""


ARRAYS = f"%a: {VECTOR}, %b: {VECTOR}, {ONE}"


def test_a_size_that_is_the_bound_needs_no_test() -> None:
    result = broadcast(
        f"""
        {reading("%a", "%n")}
        // CHECK: scf.parallel (%[[I:.*]]) =
        // CHECK-NOT: arith.select
        // CHECK: memref.load %{{{{.*}}}}[%[[I]]]
        """,
        ARRAYS,
    )
    assert messages(result, "applied") == ["became a loop over 1 index; the shapes need no test"]


def test_another_size_is_tested() -> None:
    result = broadcast(
        f"""
        {reading("%a", "%m")}
        // CHECK: %[[IS1:.*]] = arith.cmpi eq, %arg3
        // CHECK: scf.parallel (%[[I:.*]]) =
        // CHECK: %[[AT:.*]] = arith.select %[[IS1]], %c0, %[[I]]
        // CHECK: memref.load %{{{{.*}}}}[%[[AT]]]
        """,
        ARRAYS,
    )
    assert messages(result, "applied") == [
        "became a loop over 1 index; 1 size is compared with 1 at run time"
    ]


def _sum_of(count: int) -> str:
    """A loop that adds ``count`` arrays, each of a size of its own."""
    names = [f"a{number}" for number in range(count)]
    tests = "".join(f"%t{n} = arith.cmpi eq, %n{n}, %c1 : index\n" for n in names)
    loads = "".join(
        f"%i{n} = arith.select %t{n}, %c0, %i : index\n%l{n} = memref.load %{n}[%i{n}] : {VECTOR}\n"
        f'"numba.check"(%l{n}, %l{n}) : (f64, f64) -> ()\n'
        for n in names
    )
    return f"""{tests}
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
      {loads}
      scf.reduce
    }}"""


def _sums(count: int) -> str:
    return ", ".join(f"%a{k}: {VECTOR}, %na{k}: index" for k in range(count)) + ", %n: index"


def test_few_tests_of_the_innermost_index_stay() -> None:
    broadcast(
        f"{_sum_of(3)}\n// CHECK: scf.parallel\n// CHECK-NOT: muli"
        "\n// CHECK-COUNT-3: arith.select\n// CHECK-NOT: muli",
        _sums(3),
    )


def test_many_tests_of_the_innermost_index_become_factors() -> None:
    broadcast(
        f"""{_sum_of(4)}
        // CHECK: %[[T:.*]] = arith.cmpi eq, %arg1, %c1
        // CHECK: %[[S:.*]] = arith.select %[[T]], %c0, %c1
        // CHECK: scf.parallel (%[[I:.*]]) =
        // CHECK-NOT: arith.select
        // CHECK: %[[AT:.*]] = arith.muli %[[I]], %[[S]]
        // CHECK: memref.load %arg0[%[[AT]]]
        // CHECK-NOT: arith.select
        """,
        _sums(4),
    )


def test_a_row_in_a_matrix_is_read_with_a_factor() -> None:
    """The matrix keeps its test: one that has a single column is not rare."""
    broadcast(
        f"""
        %m1 = arith.cmpi eq, %m, %c1 : index
        %k1 = arith.cmpi eq, %k, %c1 : index
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1) {{
          %at = arith.select %m1, %c0, %j : index
          %e = memref.load %a[%at] : {VECTOR}
          %in = arith.select %k1, %c0, %j : index
          memref.store %e, %q[%i, %in] : memref<?x?xf64>
          scf.reduce
        }}
        // CHECK-DAG: %[[M1:.*]] = arith.cmpi eq, %arg3
        // CHECK-DAG: %[[K1:.*]] = arith.cmpi eq, %arg4
        // CHECK: %[[S:.*]] = arith.select %[[M1]], %c0, %c1
        // CHECK: scf.parallel (%[[I:.*]], %[[J:.*]]) =
        // CHECK: %[[AT:.*]] = arith.muli %[[J]], %[[S]]
        // CHECK: memref.load %arg0[%[[AT]]]
        // CHECK: %[[IN:.*]] = arith.select %[[K1]], %c0, %[[J]]
        // CHECK: memref.store %{{{{.*}}}}, %arg1[%[[I]], %[[IN]]]
        """,
        f"%a: {VECTOR}, %q: memref<?x?xf64>, {ONE}",
    )


# ---- arrays that may overlap ------------------------------------------------------------
def _apart(source: str, target: str) -> str:
    return f"""
    %s = "numba.unaliased"({source}, {target}) : ({VECTOR}, {VECTOR}) -> {VECTOR}
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
      %e = memref.load %s[%i] : {VECTOR}
      memref.store %e, {target}[%i] : {VECTOR}
      scf.reduce
    }}"""


FRESH = f"%t = memref.alloc(%n) : {VECTOR}\n"
WHOLE = f'%w = "numba.expr1"(%b) {{view_of = 0 : i64, whole}} : ({VECTOR}) -> {VECTOR}\n'
PART = f'%v = "numba.expr1"(%b) {{view_of = 0 : i64}} : ({VECTOR}) -> {VECTOR}\n'
KEPT = f'"pyir.stmt"(%t) {{text = "keep"}} : ({VECTOR}) -> ()\n'
UNKNOWN = f'%u = "pyir.stmt"() {{text = "u"}} : () -> {VECTOR}\n'


@pytest.mark.parametrize(
    ("before", "source", "target"),
    [
        (FRESH, "%t", "%b"),
        (FRESH, "%b", "%t"),
        (WHOLE, "%w", "%b"),
        (UNKNOWN + FRESH + KEPT, "%t", "%b"),
    ],
    ids=["fresh source", "fresh target", "the target itself", "kept by a statement"],
)
def test_an_array_that_cannot_overlap_is_not_copied(before: str, source: str, target: str) -> None:
    broadcast(f"{before}{_apart(source, target)}\n// CHECK-NOT: numba.unaliased", ARRAYS)


@pytest.mark.parametrize(
    ("before", "source", "target"),
    [("", "%a", "%b"), (PART, "%v", "%b"), (FRESH + KEPT + UNKNOWN, "%u", "%t")],
    ids=["two arguments", "a part of the target", "an unknown array and a kept one"],
)
def test_an_array_that_may_overlap_is_copied(before: str, source: str, target: str) -> None:
    result = broadcast(f"{before}{_apart(source, target)}\n// CHECK: numba.unaliased", ARRAYS)
    assert len(messages(result, "analysis")) == 1


def test_a_part_of_an_array_is_accessed_through_the_array() -> None:
    view = "{view_of = 0 : i64, window = array<i64: -1, 2, 0, 1>}"
    strided = "memref<?xf64, strided<[?], offset: ?>>"
    broadcast(
        f"""
        %v = "numba.expr1"(%m2) {view} : (memref<?x?xf64>) -> {strided}
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
          %e = memref.load %v[%i] : {strided}
          memref.store %e, %b[%i] : {VECTOR}
          scf.reduce
        }}
        // CHECK: scf.parallel (%[[I:.*]]) =
        // CHECK: %[[J:.*]] = arith.addi %[[I]], %c1
        // CHECK: memref.load %arg0[%c2, %[[J]]] : memref<?x?xf64>
        """,
        f"%m2: memref<?x?xf64>, %b: {VECTOR}, {ONE}",
    )


def _order_matters(body: str) -> bool:
    module = parse(f"func.func @f({ARRAYS}) {{ {CONSTANTS} {body}\n return }}")
    Broadcast().run(module)
    (function,) = operations(module.body)
    return ORDER_MATTERS in function.attributes


def _copying(source: str, target: str) -> str:
    return f"""scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
      %e = memref.load {source}[%i] : {VECTOR}
      memref.store %e, {target}[%i] : {VECTOR}
      scf.reduce
    }}
    """


def test_loops_on_views_of_one_array_keep_their_order() -> None:
    assert _order_matters(_copying("%a", "%b") + PART + _copying("%v", "%a"))
    assert _order_matters(_copying("%a", "%b") + _copying("%b", "%a"))
    assert not _order_matters(FRESH + _copying("%a", "%t") + _copying("%t", "%t"))


# ---- versions -----------------------------------------------------------------------------
def _two_loops(between: str = "") -> str:
    """t = exp(a) stretched to (n, m)'s common size; then b's own loop, of another bound."""
    return f"""
    {common("%s", "%n", "%m")}
    %t = memref.alloc(%s) : {VECTOR}
    %n1 = arith.cmpi eq, %n, %c1 : index
    scf.parallel (%i) = (%c0) to (%s) step (%c1) {{
      %at = arith.select %n1, %c0, %i : index
      %x0 = memref.load %a[%at] : {VECTOR}
      %e = math.exp %x0 : f64
      memref.store %e, %t[%i] : {VECTOR}
      scf.reduce
    }}
    {between}
    {common("%r", "%s", "%k")}
    %u = memref.alloc(%r) : {VECTOR}
    %s1 = arith.cmpi eq, %s, %c1 : index
    scf.parallel (%i) = (%c0) to (%r) step (%c1) {{
      %at = arith.select %s1, %c0, %i : index
      %e = memref.load %t[%at] : {VECTOR}
      memref.store %e, %u[%i] : {VECTOR}
      scf.reduce
    }}
    "pyir.stmt"(%u) {{text = "use"}} : ({VECTOR}) -> ()
    """


def test_loops_whose_bounds_may_be_equal_have_a_version_for_it() -> None:
    result = broadcast(
        f"""{_two_loops()}
        // CHECK: func.func @f(%[[A:.*]]: memref<?xf64>, %{{{{.*}}}}: memref<?xf64>,
        // CHECK-SAME: %[[N:.*]]: index, %[[M:.*]]: index, %[[K:.*]]: index
        // CHECK: %[[R:.*]] = "numba.broadcast"(%{{{{.*}}}}, %[[K]])
        // CHECK: %[[U:.*]] = memref.alloc(%[[R]])
        // CHECK: %[[MN:.*]] = arith.cmpi eq, %[[M]], %[[N]]
        // CHECK: %[[KN:.*]] = arith.cmpi eq, %[[K]], %[[N]]
        // CHECK: %[[ALL:.*]] = arith.andi %[[MN]], %[[KN]]
        // CHECK: scf.if %[[ALL]] {{
        // CHECK-NEXT: %[[T:.*]] = memref.alloc(%[[N]])
        // CHECK-NEXT: scf.parallel (%[[I:.*]]) = (%c0) to (%[[N]])
        // CHECK-NEXT: %[[E:.*]] = memref.load %[[A]][%[[I]]]
        // CHECK-NEXT: %[[EXP:.*]] = math.exp %[[E]]
        // CHECK-NEXT: memref.store %[[EXP]], %[[T]][%[[I]]]
        // CHECK: scf.parallel (%[[J:.*]]) = (%c0) to (%[[N]])
        // CHECK-NEXT: %[[F:.*]] = memref.load %[[T]][%[[J]]]
        // CHECK-NEXT: memref.store %[[F]], %[[U]][%[[J]]]
        // CHECK: }} else {{
        // CHECK-COUNT-2: arith.select
        """,
        ARRAYS,
        versions=True,
    )
    assert "have a version for equal sizes, without tests" in messages(result, "applied")[0]


@pytest.mark.parametrize(
    "between",
    [
        "memref.store %x, %a[%c0] : memref<?xf64>",
        '"pyir.stmt"(%t) {text = "keep"} : (memref<?xf64>) -> ()',
        '"pyir.stmt"() {text = "print"} : () -> ()',
    ],
    ids=["a store", "a statement that keeps the array", "a statement"],
)
def test_loops_with_something_between_them_have_no_versions(between: str) -> None:
    broadcast(f"{_two_loops(between)}\n// CHECK-NOT: scf.if", ARRAYS, versions=True)


def test_a_check_does_not_go_in_front_of_what_the_caller_sees_written() -> None:
    body = _two_loops().replace("%t[%i]", "%b[%i]")
    broadcast(f"{body}\n// CHECK-NOT: scf.if", ARRAYS, versions=True)


def test_loops_of_equal_bounds_have_no_versions() -> None:
    body = FRESH + _copying("%a", "%t") + _copying("%t", "%b")
    broadcast(f"{body}\n// CHECK-NOT: scf.if", ARRAYS, versions=True)


def _versions(module: Any) -> list[Any]:
    return [op for op in nested(module.operation) if VERSIONS in op.attributes]


def test_the_slow_version_has_one_test_of_the_innermost_index_at_most() -> None:
    """Its code is compiled for the rare case: it must not grow with the number of arrays."""
    text = f"func.func @f({ARRAYS}) {{ {CONSTANTS} {_two_loops()}\n return }}"
    extra = """%m1 = arith.cmpi eq, %m, %c1 : index
      scf.parallel (%i) = (%c0) to (%s) step (%c1) {
      %at2 = arith.select %m1, %c0, %i : index
      %e2 = memref.load %b[%at2] : memref<?xf64>
      memref.store %e2, %t[%i] : memref<?xf64>
    """
    module = parse(text.replace("scf.parallel (%i) = (%c0) to (%s) step (%c1) {", extra, 1))
    Broadcast().run(module)
    assert module.operation.verify()
    (branch,) = _versions(module)
    fast, slow = (str(region.blocks[0]) for region in branch.regions)
    assert "arith.select" not in fast
    assert "arith.muli" not in fast
    assert slow.count("arith.muli") == 2


def test_loops_of_a_slow_version_do_not_keep_numba_from_fusing_the_fast_one() -> None:
    assert not _order_matters(_two_loops())
