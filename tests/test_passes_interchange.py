"""Loops over ``range`` move into the parallel loops of the array statements inside them."""

from __future__ import annotations

import pytest
from ir_check import CONSTANTS, messages, parse, run_and_check

from numba_mlir.passes.base import PassResult
from numba_mlir.passes.fusion import Fusion

HEAD = """
%o: memref<?xf64> {numba.name = "o"}, %x: memref<?xf64> {numba.name = "x"},
%w: memref<?xf64> {numba.name = "w"}, %m: memref<?x?xf64> {numba.name = "m"},
%n: index, %k: index, %flag: i1
"""
ADD = """
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {
      %a = memref.load %o[%i] : memref<?xf64>
      %b = memref.load %x[%i] : memref<?xf64>
      %c = arith.mulf %s, %b : f64
      %d = arith.addf %a, %c : f64
      memref.store %d, %o[%i] : memref<?xf64>
      scf.reduce
    } {numba.parfors = [3 : i64]} loc("u.py":6:1)
"""
FACTOR = "%s = memref.load %w[%t] : memref<?xf64>"


def loop(body: str, head: str = "%t = %c0 to %k step %c1", behind: str = "") -> str:
    text = f'scf.for {head} {{\n{body}\n}} loc("u.py":5:1)\n{behind}'
    return f"func.func @f({HEAD}) {{\n{CONSTANTS}\n{text}\nreturn\n}}"


def refused(text: str) -> list[str]:
    module = parse(text)
    before = str(module)
    result = Fusion().run(module)
    assert not result.modified
    assert str(module) == before
    return messages(result, "missed")


def moved(text: str) -> PassResult:
    result = run_and_check(text, Fusion())
    assert any("all trips of the loop" in text for text in messages(result, "applied"))
    return result


def test_before_and_after() -> None:
    result = moved(
        loop(
            FACTOR + ADD,
            behind="""
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME:    %[[O:[^:]*]]: memref<?xf64> {numba.name = "o"},
        // CHECK-SAME:    %[[X:[^:]*]]: memref<?xf64> {numba.name = "x"},
        // CHECK-SAME:    %[[W:[^:]*]]: memref<?xf64> {numba.name = "w"},
        // CHECK-SAME:    %[[M:[^:]*]]: memref<?x?xf64> {numba.name = "m"},
        // CHECK-SAME:    %[[N:[^:, ]*]]: index, %[[K:[^:, ]*]]: index
        // CHECK-DAG:   %[[C0:.*]] = arith.constant 0 : index
        // CHECK-DAG:   %[[C1:.*]] = arith.constant 1 : index
        // CHECK:       %[[SOME:.*]] = arith.cmpi slt, %[[C0]], %[[K]]
        // CHECK:       %[[OX:.*]] = "numba.disjoint"(%[[O]], %[[X]])
        // CHECK:       %[[OW:.*]] = "numba.disjoint"(%[[O]], %[[W]])
        // CHECK:       %[[APART:.*]] = arith.andi %[[OX]], %[[OW]]
        // CHECK:       %[[TEST:.*]] = arith.andi %[[SOME]], %[[APART]]
        // CHECK:       scf.if %[[TEST]] {
        // CHECK:         %[[REST:.*]] = arith.subi %[[N]], %[[C0]]
        // CHECK:         %[[SPAN:.*]] = arith.maxsi %[[REST]], %[[C0]]
        // CHECK:         %[[WHOLE:.*]] = arith.maxui %[[SPAN]], %[[C1]]
        // CHECK:         %[[FIT:.*]] = arith.minui %{{.*}}, %[[WHOLE]]
        // CHECK:         %[[SHARE:.*]] = arith.ceildivui %[[SPAN]], %{{.*}}
        // CHECK:         %[[FAIR:.*]] = arith.maxui %[[SHARE]], %[[C1]]
        // CHECK:         %[[LEAST:.*]] = arith.constant 512
        // CHECK:         %[[MOST:.*]] = arith.maxui %[[FAIR]], %[[LEAST]]
        // CHECK:         %[[SIZE:.*]] = arith.minui %[[FIT]], %[[MOST]]
        // CHECK:         %[[COUNT:.*]] = arith.ceildivui %[[SPAN]], %[[SIZE]]
        // CHECK-NEXT:    scf.parallel (%[[B:.*]]) = (%[[C0]]) to (%[[COUNT]]) step (%[[C1]]) {
        // CHECK-NEXT:      %[[FAR:.*]] = arith.muli %[[B]], %[[SIZE]]
        // CHECK-NEXT:      %[[LOW:.*]] = arith.addi %[[C0]], %[[FAR]]
        // CHECK-NEXT:      %[[END:.*]] = arith.addi %[[LOW]], %[[SIZE]]
        // CHECK-NEXT:      %[[HIGH:.*]] = arith.minsi %[[END]], %[[N]]
        // CHECK-NEXT:      scf.for %[[T:.*]] = %[[C0]] to %[[K]] step %[[C1]] {
        // CHECK-NEXT:        %[[S:.*]] = memref.load %[[W]][%[[T]]]
        // CHECK-NEXT:        scf.for %[[I:.*]] = %[[LOW]] to %[[HIGH]] step %[[C1]] {
        // CHECK-NEXT:          %[[OLD:.*]] = memref.load %[[O]][%[[I]]]
        // CHECK-NEXT:          %[[XI:.*]] = memref.load %[[X]][%[[I]]]
        // CHECK-NEXT:          %[[P:.*]] = arith.mulf %[[S]], %[[XI]]
        // CHECK-NEXT:          %[[NEW:.*]] = arith.addf %[[OLD]], %[[P]]
        // CHECK-NEXT:          memref.store %[[NEW]], %[[O]][%[[I]]]
        // CHECK:         } {numba.parfors = [3]}
        // CHECK:       } else {
        // CHECK-NEXT:    scf.for %[[U:.*]] = %[[C0]] to %[[K]] step %[[C1]] {
        // CHECK-NEXT:      memref.load %[[W]][%[[U]]]
        // CHECK-NEXT:      scf.parallel
    """,
        )
    )
    (message,) = messages(result, "applied")
    assert "where arrays overlap or sizes differ, trip by trip" in message


def test_trips_that_are_known_and_arrays_that_nobody_else_has_need_no_test() -> None:
    moved(
        f"""func.func @f(%x: memref<?xf64>, %s: f64, %n: index) -> memref<?xf64> {{
        {CONSTANTS}
        %c9 = arith.constant 9 : index
        %o = memref.alloc(%n) : memref<?xf64>
        scf.for %t = %c0 to %c9 step %c1 {{
          {ADD}
        }}
        return %o : memref<?xf64>
        }}
        // CHECK-NOT: scf.if
        // CHECK:     scf.parallel
        // CHECK:     scf.for
        // CHECK:     scf.for
        // CHECK-NOT: scf.parallel
        """
    )


def test_numbers_behind_the_last_trip() -> None:
    moved(
        f"""func.func @f({HEAD}) -> f64 {{
        {CONSTANTS}
        %half = arith.constant 0.5 : f64
        %last = scf.for %t = %c0 to %k step %c1 iter_args(%s = %half) -> (f64) {{
          {ADD}
          %next = arith.mulf %s, %half : f64
          scf.yield %next : f64
        }}
        return %last : f64
        }}
        // CHECK:      %[[HALF:.*]] = arith.constant 5.0
        // CHECK:      %[[R:.*]] = scf.if
        // CHECK-NEXT:   %[[LAST:.*]] = scf.for {{{{.*}}}} iter_args(%[[S:.*]] = %[[HALF]])
        // CHECK-NEXT:     %[[NEXT:.*]] = arith.mulf %[[S]], %[[HALF]]
        // CHECK-NEXT:     scf.yield %[[NEXT]]
        // CHECK:        scf.parallel
        // CHECK:          scf.for {{{{.*}}}} iter_args(%{{{{.*}}}} = %[[HALF]])
        // CHECK:        scf.yield %[[LAST]]
        // CHECK:      return %[[R]]
        """
    )


def test_an_array_that_goes_from_trip_to_trip_is_one_array() -> None:
    moved(
        f"""func.func @f(%p: memref<?xf64>, %k: index) -> memref<?xf64> {{
        {CONSTANTS}
        %r = scf.for %t = %c0 to %k step %c1 iter_args(%old = %p) -> (memref<?xf64>) {{
          %n = memref.dim %old, %c0 : memref<?xf64>
          %new = memref.alloc(%n) : memref<?xf64>
          scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
            %a = memref.load %old[%i] : memref<?xf64>
            %b = arith.addf %a, %a : f64
            memref.store %b, %new[%i] : memref<?xf64>
            scf.reduce
          }}
          scf.yield %new : memref<?xf64>
        }}
        return %r : memref<?xf64>
        }}
        // CHECK-LABEL: @f(
        // CHECK-SAME:    %[[P:[^:]*]]: memref<?xf64>, %[[K:[^:]*]]: index)
        // CHECK:      %[[R:.*]] = scf.if
        // CHECK:        %[[A:.*]] = memref.alloc
        // CHECK:        scf.parallel
        // CHECK:          scf.for %[[I:.*]] = %[[LOW:.*]] to %[[HIGH:.*]] step
        // CHECK-NEXT:       %[[V:.*]] = memref.load %[[P]][%[[I]]]
        // CHECK-NEXT:       memref.store %[[V]], %[[A]][%[[I]]]
        // CHECK:          scf.for %{{{{.*}}}} = %{{{{.*}}}} to %[[K]]
        // CHECK-NEXT:       scf.for %[[J:.*]] = %[[LOW]] to %[[HIGH]] step
        // CHECK-NEXT:         memref.load %[[A]][%[[J]]]
        // CHECK:              memref.store %{{{{.*}}}}, %[[A]][%[[J]]]
        // CHECK:        scf.yield %[[A]]
        // CHECK-NEXT: }} else {{
        // CHECK-NEXT:   scf.yield %[[P]]
        """
    )


def with_access(load: str = "%o[%i]", store: str = "%o[%i]", extra: str = "") -> str:
    return f"""
      {FACTOR}
      %one = arith.constant 1 : index
      scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
        %next = arith.addi %i, %one : index
        %a = memref.load {load} : memref<?xf64>
        memref.store %a, {store} : memref<?xf64>
        {extra}
        scf.reduce
      }} loc("u.py":6:1)
    """


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (with_access(load="%o[%next]"), "may be one element in different iterations"),
        (with_access(store="%o[%c0]"), "may be one element in different iterations"),
        (with_access(load="%o[%t]"), "may be one element in different iterations"),
        (f"{FACTOR}\n memref.store %s, %w[%t] : memref<?xf64>\n{ADD}", "an element is written"),
        (f"%s = memref.load %o[%t] : memref<?xf64>\n{ADD}", "are written in other iterations"),
        (f'{FACTOR}\n "pyir.stmt"(%o) : (memref<?xf64>) -> ()\n{ADD}', "is not understood here"),
        (ADD.replace("(%n)", "(%t)").replace("%s,", "%b,"), "may differ from trip to trip"),
        (
            """
            %z = arith.constant 0.0 : f64
            %sum = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%z) -> f64 {
              %b = memref.load %x[%i] : memref<?xf64>
              scf.reduce(%b : f64) {
              ^bb0(%l: f64, %r: f64):
                %q = arith.addf %l, %r : f64
                scf.reduce.return %q : f64
              }
            } loc("u.py":6:1)
            """
            + ADD.replace("%s,", "%sum,"),
            "reduces an array to a number",
        ),
        (
            """
            scf.parallel (%i) = (%c0) to (%n) step (%c1) {
              %b = memref.load %m[%t, %i] : memref<?x?xf64>
              %c = arith.addf %b, %b : f64
              memref.store %c, %m[%t, %i] : memref<?x?xf64>
              scf.reduce
            } loc("u.py":6:1)
            """,
            "each trip goes through other elements",
        ),
        (
            f"""
            {FACTOR}
            "numba.assert_equal"(%t, %n) {{message = "sizes"}} : (index, index) -> ()
            {ADD}
            """,
            "may fail in a later trip",
        ),
    ],
)  # fmt: skip
def test_refused(body: str, reason: str) -> None:
    found = refused(loop(body))
    assert any(reason in text for text in found), found


def test_what_goes_from_trip_to_trip_is_a_number_or_an_array() -> None:
    found = refused(
        f"""func.func @f({HEAD}, %r: !numba.ref<"list">, %s: f64) -> !numba.ref<"list"> {{
        {CONSTANTS}
        %z = scf.for %t = %c0 to %k step %c1 iter_args(%q = %r) -> (!numba.ref<"list">) {{
          {ADD}
          scf.yield %q : !numba.ref<"list">
        }}
        return %z : !numba.ref<"list">
        }}"""
    )
    assert any("is no number goes from one trip" in text for text in found)


def test_only_one_trip_needs_no_blocks() -> None:
    assert refused(loop(FACTOR + ADD, "%t = %c0 to %c1 step %c1")) == []


def test_the_inner_one_of_two_loops() -> None:
    """The outer one writes an element between the loops."""
    result = run_and_check(
        loop(
            f"""
            {FACTOR}
            memref.store %s, %w[%t] : memref<?xf64>
            scf.for %u = %c0 to %k step %c1 {{
              {ADD}
            }} loc("u.py":7:1)
            // CHECK:     scf.for
            // CHECK:       memref.store
            // CHECK:       scf.if
            // CHECK:         scf.parallel
            // CHECK-NEXT:      arith.muli
            // CHECK:           scf.for
            // CHECK-NEXT:        scf.for
            """
        ),
        Fusion(),
    )
    assert any("all trips" in text for text in messages(result, "applied"))
    assert any("an element is written" in text for text in messages(result, "missed"))


def test_what_a_loop_computes_for_a_trip_is_computed_once() -> None:
    moved(
        loop(
            f"""
            %s = scf.for %u = %c0 to %t step %c1 iter_args(%v = %zero) -> (f64) {{
              %q = memref.load %w[%u] : memref<?xf64>
              %y = arith.addf %v, %q : f64
              scf.yield %y : f64
            }}
            {ADD}
            // CHECK:      scf.if
            // CHECK:        %[[VALUES:.*]] = memref.alloc
            // CHECK:        scf.for %[[T:.*]] =
            // CHECK:          %[[S:.*]] = scf.for
            // CHECK:          memref.store %[[S]], %[[VALUES]][%[[T]]]
            // CHECK:        scf.parallel
            // CHECK-NEXT:     arith.muli
            // CHECK:          scf.for %[[U:.*]] =
            // CHECK-NEXT:       %[[KEPT:.*]] = memref.load %[[VALUES]][%[[U]]]
            // CHECK-NEXT:       scf.for
            // CHECK:              arith.mulf %[[KEPT]],
            """
        )
    )


def test_a_check_of_each_trip_is_made_before_arrays_that_nobody_has_yet() -> None:
    moved(
        f"""func.func @f(%x: memref<?xf64>, %s: f64, %n: index, %k: index) -> memref<?xf64> {{
        {CONSTANTS}
        %o = memref.alloc(%n) : memref<?xf64>
        scf.for %t = %c0 to %k step %c1 {{
          "numba.assert_equal"(%t, %n) {{message = "sizes"}} : (index, index) -> ()
          {ADD}
        }}
        return %o : memref<?xf64>
        }}
        // CHECK:      scf.if
        // CHECK-NEXT:   scf.for %[[T:.*]] =
        // CHECK-NEXT:     "numba.assert_equal"(%[[T]], %{{{{.*}}}})
        // CHECK-NEXT:   }}
        // CHECK:        scf.parallel
        // CHECK-NOT:    numba.assert_equal
        """
    )
