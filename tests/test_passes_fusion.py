"""Fusion on whole functions: what becomes one loop, what stays, and what is said about it.

The CHECK comments stand behind the code they are about, so that a test reads as before
and after.
"""

from __future__ import annotations

from ir_check import CONSTANTS, messages, run_and_check
from loop_text import fill, fused, untouched

from numba_mlir.passes.fusion import Fusion


def test_a_chain_of_array_expressions_becomes_one_loop_without_temporaries() -> None:
    result = fused(
        """
        %c = memref.alloc(%n) {numba.type = "c"} : memref<?xf64> loc("c"("u.py":4:1))
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %a[%i] : memref<?xf64>
          %y = memref.load %b[%i] : memref<?xf64>
          %z = arith.subf %x, %y : f64
          memref.store %z, %c[%i] : memref<?xf64>
          scf.reduce
        } {numba.parfors = [3 : i64]} loc("u.py":4:1)
        %d = memref.alloc(%n) {numba.type = "d"} : memref<?xf64> loc("d"("u.py":5:1))
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %c[%i] : memref<?xf64>
          %y = memref.load %a[%i] : memref<?xf64>
          %z = arith.divf %x, %y : f64
          memref.store %z, %d[%i] : memref<?xf64>
          scf.reduce
        } {numba.parfors = [7 : i64]} loc("u.py":5:1)
        return %d : memref<?xf64>
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64> {numba.name = "a"},
        // CHECK-SAME:    %[[B:[^:]*]]: memref<?xf64> {numba.name = "b"}, %[[N:[^:]*]]: index)
        // CHECK-DAG:   %[[C0:.*]] = arith.constant 0 : index
        // CHECK-DAG:   %[[C1:.*]] = arith.constant 1 : index
        // CHECK:       %[[D:.*]] = memref.alloc(%[[N]]) {numba.type = "d"} : memref<?xf64>
        // CHECK-NEXT:  scf.parallel (%[[I:.*]]) = (%[[C0]]) to (%[[N]]) step (%[[C1]]) {
        // CHECK-NEXT:    %[[X:.*]] = memref.load %[[A]][%[[I]]]
        // CHECK-NEXT:    %[[Y:.*]] = memref.load %[[B]][%[[I]]]
        // CHECK-NEXT:    %[[Z:.*]] = arith.subf %[[X]], %[[Y]] : f64
        // CHECK-NEXT:    %[[Q:.*]] = arith.divf %[[Z]], %[[X]] : f64
        // CHECK-NEXT:    memref.store %[[Q]], %[[D]][%[[I]]]
        // CHECK-NEXT:    scf.reduce
        // CHECK-NEXT:  } {numba.parfors = [3, 7]}
        // CHECK-NEXT:  return %[[D]]
        """,
        results="-> memref<?xf64>",
    )
    assert messages(result, "applied") == [
        "fused the loops of lines 4 and 5 into one; temporary array removed: c"
    ]
    remark = result.remarks[0]
    assert (remark.pass_name, remark.file, remark.line) == ("fusion", "u.py", 4)


def test_a_returned_array_is_kept() -> None:
    result = fused(
        f"""
        %c = memref.alloc(%n) : memref<?xf64>
        %d = memref.alloc(%n) : memref<?xf64>
        {fill("%c", 4)}
        {fill("%d", 5)}
        return %c : memref<?xf64>
        // CHECK:      %[[C:.*]] = memref.alloc
        // CHECK-NOT:  memref.alloc
        // CHECK:      scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:   memref.store %{{{{.*}}}}, %[[C]][%[[I]]]
        // CHECK-NOT:    memref.store
        // CHECK:      return %[[C]]
        """,
        results="-> memref<?xf64>",
    )
    assert messages(result, "applied") == [
        "fused the loops of lines 4 and 5 into one; temporary array removed: 1 without a name"
    ]


def test_reductions_of_one_array_become_one_loop() -> None:
    result = fused(
        """
        %one = arith.constant 1.0 : f64
        %s, %m = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero, %x) -> (f64, f64) {
          %v = memref.load %a[%i] : memref<?xf64>
          %w = arith.mulf %v, %x : f64
          scf.reduce(%v, %w : f64, f64) {
          ^bb0(%p: f64, %q: f64):
            %r = arith.addf %p, %q : f64
            scf.reduce.return %r : f64
          }, {
          ^bb0(%p: f64, %q: f64):
            %r = arith.maximumf %q, %p : f64
            scf.reduce.return %r : f64
          }
        } {numba.parfors = [1 : i64], numba.names = ["s", "m"]}
        %t = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%one) -> f64 {
          %v = memref.load %a[%i] : memref<?xf64>
          scf.reduce(%v : f64) {
          ^bb0(%p: f64, %q: f64):
            %r = arith.mulf %p, %q : f64
            scf.reduce.return %r : f64
          }
        } {numba.parfors = [2 : i64], numba.names = ["t"]}
        return %m, %s, %t : f64, f64, f64
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME:   %[[A:[^:]*]]: memref<?xf64> {numba.name = "a"}
        // CHECK-SAME:   %[[X:[^:, ]*]]: f64)
        // CHECK:       %[[ZERO:.*]] = arith.constant 0.0
        // CHECK:       %[[ONE:.*]] = arith.constant 1.0
        // CHECK:       %[[R:.*]]:3 = scf.parallel (%[[I:.*]]) = {{.*}} init
        // CHECK-SAME:    (%[[ZERO]], %[[X]], %[[ONE]]) -> (f64, f64, f64) {
        // CHECK-NEXT:    %[[V:.*]] = memref.load %[[A]][%[[I]]]
        // CHECK-NEXT:    %[[W:.*]] = arith.mulf %[[V]], %[[X]]
        // CHECK-NEXT:    scf.reduce(%[[V]], %[[W]], %[[V]] : f64, f64, f64) {
        // CHECK-NEXT:    ^bb0(%[[P:.*]]: f64, %[[Q:.*]]: f64):
        // CHECK-NEXT:      arith.addf %[[P]], %[[Q]]
        // CHECK:         ^bb0(%[[P:.*]]: f64, %[[Q:.*]]: f64):
        // CHECK-NEXT:      arith.maximumf %[[Q]], %[[P]]
        // CHECK:         ^bb0(%[[P:.*]]: f64, %[[Q:.*]]: f64):
        // CHECK-NEXT:      arith.mulf %[[P]], %[[Q]]
        // CHECK:       } {numba.names = ["s", "m", "t"], numba.parfors = [1, 2]}
        // CHECK-NEXT:  return %[[R]]#1, %[[R]]#0, %[[R]]#2
        """,
        "%x: f64",
        "-> (f64, f64, f64)",
    )
    assert len(messages(result, "applied")) == 1


def test_a_loop_may_pass_an_independent_one() -> None:
    result = fused(
        f"""
        %m = arith.addi %n, %c1 : index
        %c = memref.alloc(%n) : memref<?xf64> loc("c"("u.py":3:1))
        %d = memref.alloc(%m) : memref<?xf64> loc("d"("u.py":3:1))
        {fill("%c", 4, number=1)}
        {fill("%d", 5, "(%c0) to (%m)", number=2)}
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
          %x = memref.load %c[%i] : memref<?xf64>
          memref.store %x, %a[%i] : memref<?xf64>
          scf.reduce
        }} {{numba.parfors = [3 : i64]}} loc("u.py":6:1)
        return %d : memref<?xf64>
        // CHECK:      %[[D:.*]] = memref.alloc
        // CHECK:      memref.store %{{{{.*}}}}, %[[D]]
        // CHECK:      numba.parfors = [2]
        // CHECK-NEXT: scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:   memref.store %{{{{.*}}}}, %[[A:.*]][%[[I]]]
        // CHECK-NEXT:   scf.reduce
        // CHECK-NEXT: }} {{numba.parfors = [1, 3]}}
        """,
        results="-> memref<?xf64>",
    )
    assert messages(result, "applied") == [
        "fused the loops of lines 4 and 6 into one; temporary array removed: c"
    ]
    assert messages(result, "missed")[0] == (
        "the loop of line 5 was not fused with the loops of lines 4 and 6: "
        "their bounds differ, or are not known to be equal"
    )


def test_sizes_that_are_checked_are_equal_and_the_check_moves_in_front() -> None:
    fused(
        f"""
        %na = memref.dim %a, %c0 : memref<?xf64>
        %c = memref.alloc(%na) : memref<?xf64>
        {fill("%c", 4, "(%c0) to (%na)")}
        %nb = memref.dim %b, %c0 : memref<?xf64>
        "numba.assert_equal"(%na, %nb) {{message = "sizes"}} : (index, index) -> ()
        %d = memref.alloc(%nb) : memref<?xf64>
        {fill("%d", 5, "(%c0) to (%nb)")}
        return %c, %d : memref<?xf64>, memref<?xf64>
        // CHECK:      %[[NA:.*]] = memref.dim %[[A:.*]],
        // CHECK:      %[[C:.*]] = memref.alloc(%[[NA]])
        // CHECK:      %[[NB:.*]] = memref.dim %[[B:.*]],
        // CHECK-NEXT: "numba.assert_equal"(%[[NA]], %[[NB]])
        // CHECK-NEXT: %[[D:.*]] = memref.alloc(%[[NB]])
        // CHECK-NEXT: scf.parallel (%[[I:.*]]) = (%{{{{.*}}}}) to (%[[NA]])
        // CHECK-NEXT:   memref.store %{{{{.*}}}}, %[[C]][%[[I]]]
        // CHECK-NEXT:   memref.store %{{{{.*}}}}, %[[D]][%[[I]]]
        // CHECK-NEXT:   scf.reduce
        // CHECK-NOT:  scf.parallel
        """,
        results="-> (memref<?xf64>, memref<?xf64>)",
    )


def test_a_check_behind_both_loops_moves_in_front_when_it_makes_them_equal() -> None:
    fused(
        f"""
        %na = memref.dim %a, %c0 : memref<?xf64>
        {fill("%a", 4, "(%c0) to (%na)")}
        %nb = memref.dim %b, %c0 : memref<?xf64>
        %c = memref.alloc(%nb) : memref<?xf64>
        {fill("%c", 5, "(%c0) to (%nb)")}
        %nc = memref.dim %c, %c0 : memref<?xf64>
        "numba.assert_equal"(%na, %nc) {{message = "sizes"}} : (index, index) -> ()
        return %c : memref<?xf64>
        // CHECK:      %[[NA:.*]] = memref.dim %[[A:.*]],
        // CHECK:      %[[NB:.*]] = memref.dim %[[B:.*]],
        // CHECK-NEXT: %[[C:.*]] = memref.alloc(%[[NB]])
        // CHECK-NEXT: "numba.assert_equal"(%[[NA]], %[[NB]])
        // CHECK-NEXT: scf.parallel (%[[I:.*]]) = (%{{{{.*}}}}) to (%[[NA]])
        // CHECK-NEXT:   memref.store %{{{{.*}}}}, %[[A]][%[[I]]]
        // CHECK-NEXT:   memref.store %{{{{.*}}}}, %[[C]][%[[I]]]
        // CHECK-NEXT:   scf.reduce
        // CHECK-NOT:  scf.parallel
        """,
        results="-> memref<?xf64>",
    )


def test_sizes_are_compared_through_allocations() -> None:
    fused(
        """
        %c = memref.alloc(%n, %n) : memref<?x?xf64>
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1) {
          memref.store %zero, %c[%i, %j] : memref<?x?xf64>
          scf.reduce
        }
        %p = memref.dim %c, %c0 : memref<?x?xf64>
        %q = memref.dim %c, %c1 : memref<?x?xf64>
        scf.parallel (%i, %j) = (%c0, %c0) to (%p, %q) step (%c1, %c1) {
          %x = memref.load %c[%i, %j] : memref<?x?xf64>
          memref.store %x, %d[%j, %i] : memref<?x?xf64>
          scf.reduce
        }
        return
        // CHECK:      %[[ZERO:.*]] = arith.constant 0.0
        // CHECK-NOT:  memref.alloc
        // CHECK:      scf.parallel (%[[I:.*]], %[[J:.*]]) =
        // CHECK-NEXT:   memref.store %[[ZERO]], %{{.*}}[%[[J]], %[[I]]]
        // CHECK-NEXT:   scf.reduce
        // CHECK-NOT:  scf.parallel
        """,
        "%d: memref<?x?xf64>",
    )


def test_loops_inside_a_time_loop_of_ordinary_blocks() -> None:
    fused(
        f"""
        %k0 = arith.constant 0 : i64
        cf.br ^head(%k0 : i64)
      ^head(%t: i64):
        %c = memref.alloc(%n) : memref<?xf64>
        {fill("%c", 4)}
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
          %x = memref.load %c[%i] : memref<?xf64>
          memref.store %x, %a[%i] : memref<?xf64>
          scf.reduce
        }}
        %more = arith.cmpi slt, %t, %last : i64
        cf.cond_br %more, ^head(%t : i64), ^end
      ^end:
        return
        // CHECK:      %[[ZERO:.*]] = arith.constant 0.0
        // CHECK:      ^bb1(%{{{{.*}}}}: i64):
        // CHECK-NEXT:   scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:     memref.store %[[ZERO]], %{{{{.*}}}}[%[[I]]]
        // CHECK-NEXT:     scf.reduce
        // CHECK-NOT:    scf.parallel
        // CHECK:        cf.cond_br
        """,
        "%last: i64",
    )


def test_a_check_in_a_dominating_block_counts_and_one_on_another_path_does_not() -> None:
    loops = f"""
        {fill("%a", 4, "(%c0) to (%n)")}
        scf.parallel (%i) = (%c0) to (%m) step (%c1) {{
          memref.store %zero, %a[%i] : memref<?xf64>
          scf.reduce
        }} loc("u.py":5:1)
        return"""
    check = '"numba.assert_equal"(%n, %m) {message = "sizes"} : (index, index) -> ()'
    fused(
        f"""{check}
        cf.br ^next
      ^next:
        {loops}
        // CHECK: scf.parallel
        // CHECK-NOT: scf.parallel
        """,
        "%m: index",
    )
    assert untouched(
        f"""cf.cond_br %c, ^left, ^join
      ^left:
        {check}
        cf.br ^join
      ^join:
        {loops}
        """,
        "%m: index, %c: i1",
    ) == [
        "the loops of lines 4 and 5 were not fused: "
        "their bounds differ, or are not known to be equal"
    ]


def test_loops_inside_structured_control_flow() -> None:
    fused(
        f"""
        scf.if %c {{
          {fill("%a", 4)}
          scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
            %x = memref.load %a[%i] : memref<?xf64>
            %y = arith.addf %x, %x : f64
            memref.store %y, %a[%i] : memref<?xf64>
            scf.reduce
          }}
        }}
        return
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64>
        // CHECK:      %[[ZERO:.*]] = arith.constant 0.0
        // CHECK:      scf.if
        // CHECK-NEXT:   scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:     memref.store %[[ZERO]], %[[A]][%[[I]]]
        // CHECK-NEXT:     %[[Y:.*]] = arith.addf %[[ZERO]], %[[ZERO]]
        // CHECK-NEXT:     memref.store %[[Y]], %[[A]][%[[I]]]
        // CHECK-NEXT:     scf.reduce
        // CHECK-NOT:    scf.parallel
        """,
        "%c: i1",
    )


def test_parallel_loops_inside_a_fused_loop_are_fused_too() -> None:
    inner = """scf.parallel (%j) = (%c0) to (%n) step (%c1) {
            VALUE
            memref.store %x, %c[%i, %j] : memref<?x?xf64>
            scf.reduce
          } {numba.parfors = [NUMBER : i64]}"""
    first = inner.replace("VALUE", "%x = memref.load %a[%j] : memref<?xf64>")
    second = inner.replace(
        "VALUE",
        "%y = memref.load %c[%i, %j] : memref<?x?xf64>\n%x = arith.mulf %y, %y : f64",
    )
    fused(
        f"""
        %c = memref.alloc(%n, %n) : memref<?x?xf64>
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
          {first.replace("NUMBER", "1")}
          scf.reduce
        }} {{numba.parfors = [2 : i64]}}
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
          {second.replace("NUMBER", "3")}
          scf.reduce
        }} {{numba.parfors = [4 : i64]}}
        return %c : memref<?x?xf64>
        // CHECK:      scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:   scf.parallel (%[[J:.*]]) =
        // CHECK-NEXT:     %[[X:.*]] = memref.load %{{{{.*}}}}[%[[J]]]
        // CHECK-NEXT:     memref.store %[[X]], %[[C:.*]][%[[I]], %[[J]]]
        // CHECK-NEXT:     %[[Y:.*]] = arith.mulf %[[X]], %[[X]]
        // CHECK-NEXT:     memref.store %[[Y]], %[[C]][%[[I]], %[[J]]]
        // CHECK-NEXT:     scf.reduce
        // CHECK-NEXT:   }} {{numba.parfors = [1, 3]}}
        // CHECK-NEXT:   scf.reduce
        // CHECK-NEXT: }} {{numba.parfors = [2, 4]}}
        """,
        results="-> memref<?x?xf64>",
    )


def _row_loop(array: str, line: int, value: str = "%zero") -> str:
    return f"""scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
      scf.for %j = %c0 to %n step %c1 {{
        memref.store {value}, {array}[%i, %j] : memref<?x?xf64>
      }}
      scf.reduce
    }} loc("u.py":{line}:1)"""


def test_loops_with_inner_loops_and_nothing_in_common_fuse_only_as_neighbours() -> None:
    allocations = """
      %p = memref.alloc(%n, %n) : memref<?x?xf64>
      %q = memref.alloc(%n, %n) : memref<?x?xf64>
    """
    end = "return %p, %q : memref<?x?xf64>, memref<?x?xf64>"
    results = "-> (memref<?x?xf64>, memref<?x?xf64>)"
    between = """scf.parallel (%i) = (%c0) to (%m) step (%c1) {
      memref.store %zero, %a[%i] : memref<?xf64>
      scf.reduce
    } loc("u.py":5:1)"""
    fused(
        f"""{allocations} {_row_loop("%p", 4)} {_row_loop("%q", 6)} {end}
        // CHECK: scf.parallel
        // CHECK-COUNT-2: scf.for
        // CHECK-NOT: scf.parallel
        """,
        results=results,
    )
    reasons = untouched(
        f"{allocations} {_row_loop('%p', 4)} {between} {_row_loop('%q', 6)} {end}",
        "%m: index",
        results,
    )
    assert len(reasons) == 2
    fused(
        f"""{allocations} {_row_loop("%p", 4)} {between} {_row_loop("%p", 6)} {end}
        // CHECK:     scf.parallel
        // CHECK-NOT: scf.for
        // CHECK:     scf.parallel
        // CHECK:     scf.for
        // CHECK-NOT: scf.{{for|parallel}}
        """,
        "%m: index",
        results,
    )


def test_a_loop_that_moved_up_may_take_in_what_was_fused_before() -> None:
    """The third loop joins the first; that makes the second a neighbour of both."""
    other = fill("%a", 5, "(%c0) to (%m)")
    result = fused(
        f"""
        %p = memref.alloc(%n, %n) : memref<?x?xf64>
        %q = memref.alloc(%n, %n) : memref<?x?xf64>
        {_row_loop("%p", 4)} {other} {_row_loop("%q", 6)} {_row_loop("%p", 7)}
        return %p, %q : memref<?x?xf64>, memref<?x?xf64>
        // CHECK:     scf.parallel
        // CHECK-NOT: scf.for
        // CHECK:     scf.parallel
        // CHECK-COUNT-2: scf.for
        // CHECK-NOT: scf.{{for|parallel}}
        """,
        "%m: index",
        "-> (memref<?x?xf64>, memref<?x?xf64>)",
    )
    assert messages(result, "applied") == ["fused the loops of lines 6, 4 and 7 into one"]


def test_every_function_of_a_module_is_fused() -> None:
    function = """func.func @NAME(%a: memref<?xf64>, %n: index) {
      CONSTANTS LOOP LOOP
      return
    }
    // CHECK-LABEL: func.func @NAME
    // CHECK: scf.parallel
    // CHECK-NOT: scf.parallel
    """.replace("CONSTANTS", CONSTANTS).replace("LOOP", fill("%a", 4))
    result = run_and_check(function.replace("NAME", "f") + function.replace("NAME", "g"), Fusion())
    assert len(messages(result, "applied")) == 2


def _sum_loop(out: str, line: int, indices: str) -> str:
    """``for i in parallel: for j: out[i] += %A[indices]``."""
    return f"""
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
      scf.for %j = %c0 to %n step %c1 {{
        %x = memref.load %A[{indices}] : memref<?x?xf64>
        %s = memref.load {out}[%i] : memref<?xf64>
        %t = arith.addf %s, %x : f64
        memref.store %t, {out}[%i] : memref<?xf64>
      }}
      scf.reduce
    }} loc("t.py":{line}:0)
    """


_SUMS = """
    %p = memref.alloc(%n) : memref<?xf64>
    %q = memref.alloc(%n) : memref<?xf64>
"""


def test_rows_and_columns_keep_an_order_each() -> None:
    result = fused(
        f"""
        {_SUMS} {_sum_loop("%p", 4, "%i, %j")} {_sum_loop("%q", 5, "%j, %i")}
        return %p, %q : memref<?xf64>, memref<?xf64>
        // CHECK-COUNT-2: scf.parallel
        """,
        "%A: memref<?x?xf64>",
        "-> (memref<?xf64>, memref<?xf64>)",
    )
    assert messages(result, "applied") == []
    assert messages(result, "missed") == [
        "the loops of lines 4 and 5 were not fused: one goes along rows, one along columns"
    ]


def test_loops_of_one_order_and_loops_that_need_each_other_are_fused() -> None:
    columns = _sum_loop("%p", 4, "%j, %i"), _sum_loop("%q", 5, "%j, %i")
    needing = _sum_loop("%p", 4, "%i, %j"), _sum_loop("%p", 5, "%j, %i")
    for first, second in (columns, needing):
        result = fused(
            f"""
            {_SUMS} {first} {second}
            return %p, %q : memref<?xf64>, memref<?xf64>
            // CHECK:     scf.parallel
            // CHECK-NOT: scf.parallel
            """,
            "%A: memref<?x?xf64>",
            "-> (memref<?xf64>, memref<?xf64>)",
        )
        assert messages(result, "applied") == ["fused the loops of lines 4 and 5 into one"]
