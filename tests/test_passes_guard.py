"""Arrays that the caller may have passed overlapping: fused under a run-time test."""

from __future__ import annotations

from ir_check import CONSTANTS, messages, parse, run_and_check

from numba_mlir.passes.fusion import Fusion

HEAD = f"""func.func @f(%a: memref<?xf64> {{numba.name = "a"}},
    %b: memref<?xf64> {{numba.name = "b"}}, %n: index) -> RESULTS {{{CONSTANTS}"""

WRITE_A_THEN_SUM_B = """
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %zero, %a[%i] : memref<?xf64>
    scf.reduce
  } {numba.parfors = [1 : i64]} loc("u.py":4:1)
  %s = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f64 {
    %x = memref.load %b[%i] : memref<?xf64>
    scf.reduce(%x : f64) {
    ^bb0(%p: f64, %q: f64):
      %r = arith.addf %p, %q : f64
      scf.reduce.return %r : f64
    }
  } {numba.parfors = [2 : i64]} loc("u.py":5:1)
"""


def head(results: str) -> str:
    return HEAD.replace("RESULTS", results)


def test_fused_where_the_arrays_are_disjoint_and_unchanged_otherwise() -> None:
    result = run_and_check(
        head("f64")
        + WRITE_A_THEN_SUM_B
        + """
        return %s : f64
      }
      // CHECK-LABEL: func.func @f(
      // CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64> {numba.name = "a"},
      // CHECK-SAME:    %[[B:[^:]*]]: memref<?xf64>
      // CHECK:      %[[ZERO:.*]] = arith.constant 0.0
      // CHECK:      %[[APART:.*]] = "numba.disjoint"(%[[A]], %[[B]])
      // CHECK-NEXT: %[[S:.*]] = scf.if %[[APART]] -> (f64) {
      // CHECK-NEXT:   %[[T:.*]] = scf.parallel (%[[I:.*]]) = {{.*}} init (%[[ZERO]]) -> f64 {
      // CHECK-NEXT:     memref.store %[[ZERO]], %[[A]][%[[I]]]
      // CHECK-NEXT:     %[[X:.*]] = memref.load %[[B]][%[[I]]]
      // CHECK-NEXT:     scf.reduce(%[[X]] : f64) {
      // CHECK:        numba.parfors = [1, 2]
      // CHECK-NEXT:   scf.yield %[[T]] : f64
      // CHECK-NEXT: } else {
      // CHECK-NEXT:   scf.parallel (%[[I:.*]]) =
      // CHECK-NEXT:     memref.store %[[ZERO]], %[[A]][%[[I]]]
      // CHECK-NEXT:     scf.reduce
      // CHECK-NEXT:   } {numba.parfors = [1]}
      // CHECK-NEXT:   %[[U:.*]] = scf.parallel (%[[I:.*]]) = {{.*}} init (%[[ZERO]]) -> f64 {
      // CHECK-NEXT:     %[[X:.*]] = memref.load %[[B]][%[[I]]]
      // CHECK:        numba.parfors = [2]
      // CHECK-NEXT:   scf.yield %[[U]] : f64
      // CHECK-NEXT: }
      // CHECK-NEXT: return %[[S]] : f64
      """,
        Fusion(),
    )
    assert messages(result, "applied") == [
        "fused the loops of lines 4 and 5 into one where a and b do not overlap"
    ]
    assert messages(result, "missed") == []


def test_a_temporary_is_needed_by_the_unfused_loops_only() -> None:
    result = run_and_check(
        head("()")
        + """
        %t = memref.alloc(%n) : memref<?xf64> loc("t"("u.py":3:1))
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %b[%i] : memref<?xf64>
          memref.store %x, %t[%i] : memref<?xf64>
          scf.reduce
        }
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %t[%i] : memref<?xf64>
          memref.store %x, %a[%i] : memref<?xf64>
          scf.reduce
        }
        return
      }
      // CHECK-LABEL: func.func @f(
      // CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64> {numba.name = "a"},
      // CHECK-SAME:    %[[B:[^:]*]]: memref<?xf64> {numba.name = "b"}, %[[N:.*]]: index
      // CHECK-NOT:  memref.alloc
      // CHECK:      scf.if
      // CHECK-NEXT:   scf.parallel (%[[I:.*]]) =
      // CHECK-NEXT:     %[[X:.*]] = memref.load %[[B]][%[[I]]]
      // CHECK-NEXT:     memref.store %[[X]], %[[A]][%[[I]]]
      // CHECK-NEXT:     scf.reduce
      // CHECK-NEXT:   }
      // CHECK-NEXT: } else {
      // CHECK-NEXT:   %[[T:.*]] = memref.alloc(%[[N]])
      // CHECK-NEXT:   scf.parallel (%[[I:.*]]) =
      // CHECK-NEXT:     %[[X:.*]] = memref.load %[[B]][%[[I]]]
      // CHECK-NEXT:     memref.store %[[X]], %[[T]][%[[I]]]
      // CHECK:        scf.parallel (%[[I:.*]]) =
      // CHECK-NEXT:     %[[X:.*]] = memref.load %[[T]][%[[I]]]
      // CHECK-NEXT:     memref.store %[[X]], %[[A]][%[[I]]]
      """,
        Fusion(),
    )
    assert messages(result, "applied")[0].endswith("temporary array removed: t")


def test_what_needs_no_test_is_fused_in_the_other_branch_too() -> None:
    run_and_check(
        head("memref<?xf64>")
        + """
        %t = memref.alloc(%n) : memref<?xf64>
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          memref.store %zero, %t[%i] : memref<?xf64>
          scf.reduce
        } {numba.parfors = [1 : i64]}
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %b[%i] : memref<?xf64>
          memref.store %x, %t[%i] : memref<?xf64>
          scf.reduce
        } {numba.parfors = [2 : i64]}
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          memref.store %zero, %a[%i] : memref<?xf64>
          scf.reduce
        } {numba.parfors = [3 : i64]}
        return %t : memref<?xf64>
      }
      // CHECK:     "numba.disjoint"
      // CHECK:     numba.parfors = [1, 2, 3]
      // CHECK:     else
      // CHECK:     numba.parfors = [1, 2]
      // CHECK:     numba.parfors = [3]
      // CHECK-NOT: scf.parallel
      """,
        Fusion(),
    )


def test_one_test_for_all_pairs_and_none_twice() -> None:
    result = run_and_check(
        head("()").replace("%n: index", '%n: index, %c: memref<?xf64> {numba.name = "c"}')
        + """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %b[%i] : memref<?xf64>
          memref.store %x, %a[%i] : memref<?xf64>
          memref.store %zero, %a[%i] : memref<?xf64>
          scf.reduce
        } loc("u.py":4:1)
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %b[%i] : memref<?xf64>
          memref.store %x, %c[%i] : memref<?xf64>
          scf.reduce
        } loc("u.py":5:1)
        return
      }
      // CHECK-LABEL: func.func @f(
      // CHECK-SAME:    %[[A:[^:]*]]: memref<?xf64> {numba.name = "a"},
      // CHECK-SAME:    %[[B:[^:]*]]: memref<?xf64> {numba.name = "b"},
      // CHECK-SAME:    %[[C:[^:]*]]: memref<?xf64> {numba.name = "c"}
      // CHECK:      %[[P:.*]] = "numba.disjoint"(%[[B]], %[[C]])
      // CHECK-NEXT: %[[Q:.*]] = "numba.disjoint"(%[[A]], %[[B]])
      // CHECK-NEXT: %[[PQ:.*]] = arith.andi %[[P]], %[[Q]]
      // CHECK-NEXT: %[[R:.*]] = "numba.disjoint"(%[[A]], %[[C]])
      // CHECK-NEXT: %[[ALL:.*]] = arith.andi %[[PQ]], %[[R]]
      // CHECK-NEXT: scf.if %[[ALL]] {
      """,
        Fusion(),
    )
    assert messages(result, "applied") == [
        "fused the loops of lines 4 and 5 into one where b and c, a and b, a and c do not overlap"
    ]


def test_a_limit_on_pairs() -> None:
    text = head("f64") + WRITE_A_THEN_SUM_B + "return %s : f64 }"
    module = parse(text)
    before = str(module)
    result = Fusion(max_guards=0).run(module)
    assert not result.modified
    assert str(module) == before
    assert messages(result, "missed") == [
        "the loops of lines 4 and 5 were not fused: "
        "too many pairs of arrays may overlap (1, the limit is 0)"
    ]


def test_no_test_inside_a_parallel_loop() -> None:
    text = (
        head("()")
        + """
        scf.parallel (%k) = (%c0) to (%n) step (%c1) {
        """
        + WRITE_A_THEN_SUM_B
        + "scf.reduce } return }"
    )
    module = parse(text)
    result = Fusion().run(module)
    assert not result.modified
    assert messages(result, "missed") == [
        "the loops of lines 4 and 5 were not fused: a and b may overlap, which is not tested here"
    ]


def test_loads_are_reused_across_stores_to_arrays_that_were_tested() -> None:
    run_and_check(
        head("()")
        + """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %b[%i] : memref<?xf64>
          memref.store %x, %a[%i] : memref<?xf64>
          scf.reduce
        }
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %x = memref.load %b[%i] : memref<?xf64>
          %y = arith.mulf %x, %x : f64
          memref.store %y, %a[%i] : memref<?xf64>
          scf.reduce
        }
        return
      }
      // CHECK:      scf.if
      // CHECK-NEXT:   scf.parallel (%[[I:.*]]) =
      // CHECK-NEXT:     %[[X:.*]] = memref.load %[[B:.*]][%[[I]]]
      // CHECK-NEXT:     memref.store %[[X]], %[[A:.*]][%[[I]]]
      // CHECK-NEXT:     %[[Y:.*]] = arith.mulf %[[X]], %[[X]]
      // CHECK-NEXT:     memref.store %[[Y]], %[[A]][%[[I]]]
      // CHECK-NEXT:     scf.reduce
      """,
        Fusion(),
    )
