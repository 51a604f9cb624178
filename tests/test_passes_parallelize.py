"""The pass Parallelize on MLIR text: chunks, what puts them together, and refusals."""

from __future__ import annotations

import pytest
from ir_check import CONSTANTS, messages, parse, run_and_check

from numba_mlir.passes.base import PassResult
from numba_mlir.passes.parallelize import Parallelize

HEAD = '%a: memref<?xf64> {numba.name = "a"}, %n: index, %x: f64, %k: i64, %on: i1'


def function(body: str, results: str) -> str:
    return f"func.func @f({HEAD}) -> {results} {{\n{CONSTANTS}\n{body}\n}}"


def checked(body: str, results: str) -> PassResult:
    return run_and_check(function(body, results), Parallelize())


def loop(carried: str, types: str, body: str, returned: str = "%r#0") -> str:
    """A function with one ordered loop; ``carried`` as in ``%s = %x``, a name for each."""
    count = types.count(",") + 1
    first = types.split(",")[0]
    return function(
        f"""
        %r:{count} = scf.for %i = %c0 to %n step %c1 iter_args({carried}) -> ({types}) {{
          %v = memref.load %a[%i] : memref<?xf64>
          %w = arith.index_cast %i : index to i64
          {body}
        }} {{numba.ordered, numba.parfors = [3]}} loc("u.py":4:1)
        return {returned} : {first}
        """,
        first,
    )


def test_smallest_value_and_where_it_is() -> None:
    result = checked(
        """
        %r:2 = scf.for %i = %c0 to %n step %c1 iter_args(%best = %x, %where = %k) -> (f64, i64) {
          %v = memref.load %a[%i] : memref<?xf64>
          %less = arith.cmpf olt, %v, %best : f64
          %w = arith.index_cast %i : index to i64
          %new:2 = scf.if %less -> (f64, i64) {
            %again = memref.load %a[%i] : memref<?xf64>
            scf.yield %again, %w : f64, i64
          } else {
            scf.yield %best, %where : f64, i64
          }
          scf.yield %new#0, %new#1 : f64, i64
        } {numba.ordered, numba.parfors = [3]} loc("u.py":4:1)
        return %r#0, %r#1 : f64, i64
        // CHECK:       %[[TRIPS:.*]] = arith.maxsi %{{.*}}, %{{.*}} : index
        // CHECK:       %[[MEAN:.*]] = arith.ceildivui %[[TRIPS]], %{{.*}} : index
        // CHECK:       %[[LENGTH:.*]] = arith.maxui %[[MEAN]], %{{.*}} : index
        // CHECK:       %[[COUNT:.*]] = arith.ceildivui %[[TRIPS]], %[[LENGTH]] : index
        // CHECK:       %[[BEST:.*]] = memref.alloc(%[[COUNT]]) : memref<?xf64>
        // CHECK:       %[[WHERE:.*]] = memref.alloc(%[[COUNT]]) : memref<?xi64>
        // CHECK:       scf.parallel (%[[C:.*]]) = (%{{.*}}) to (%[[COUNT]])
        // CHECK:         %[[LOW:.*]] = arith.muli %[[C]], %[[LENGTH]]
        // CHECK:         %[[END:.*]] = arith.addi %[[LOW]], %[[LENGTH]]
        // CHECK:         %[[HIGH:.*]] = arith.minsi %[[END]], %{{.*}} : index
        // CHECK:         %[[R:.*]]:2 = scf.for %[[I:.*]] = %[[LOW]] to %[[HIGH]]
        // CHECK-SAME:    iter_args(%[[P:.*]] = %{{.*}}, %[[Q:.*]] = %{{.*}}) -> (f64, i64) {
        // CHECK:           %[[V:.*]] = memref.load %{{.*}}[%[[I]]]
        // CHECK:           %[[LESS:.*]] = arith.cmpf olt, %[[V]], %[[P]] : f64
        // CHECK-NOT:       memref.load
        // CHECK:         memref.store %[[R]]#0, %[[BEST]][%[[C]]]
        // CHECK:         memref.store %[[R]]#1, %[[WHERE]][%[[C]]]
        // CHECK:       } {numba.parfors = [3]}
        // CHECK:       %[[ALL:.*]]:2 = scf.for %[[J:.*]] = %{{.*}} to %[[COUNT]] step
        // CHECK-SAME:  iter_args(%[[S:.*]] = %{{.*}}, %[[T:.*]] = %{{.*}}) -> (f64, i64) {
        // CHECK:         %[[PART:.*]] = memref.load %[[BEST]][%[[J]]]
        // CHECK:         %[[AT:.*]] = memref.load %[[WHERE]][%[[J]]]
        // CHECK:         %[[TAKE:.*]] = arith.cmpf olt, %[[PART]], %[[S]] : f64
        // CHECK:         %[[B:.*]] = arith.select %[[TAKE]], %[[PART]], %[[S]] : f64
        // CHECK:         %[[W:.*]] = arith.select %[[TAKE]], %[[AT]], %[[T]] : i64
        // CHECK:         scf.yield %[[B]], %[[W]]
        // CHECK:       return %[[ALL]]#0, %[[ALL]]#1
        """,
        "(f64, i64)",
    )
    (message,) = messages(result, "applied")
    assert message.startswith("the loop runs in parallel chunks")


def test_a_chunk_says_whether_it_replaced_the_value() -> None:
    checked(
        """
        %r = scf.for %i = %c0 to %n step %c1 iter_args(%last = %x) -> (f64) {
          %v = memref.load %a[%i] : memref<?xf64>
          %more = arith.cmpf ogt, %v, %x : f64
          %new = arith.select %more, %v, %last : f64
          scf.yield %new : f64
        } {numba.ordered, numba.parfors = [3]}
        return %r : f64
        // CHECK:       %[[VALUES:.*]] = memref.alloc(%{{.*}}) : memref<?xf64>
        // CHECK:       %[[FLAGS:.*]] = memref.alloc(%{{.*}}) : memref<?xi1>
        // CHECK:       scf.parallel
        // CHECK:         %[[R:.*]]:2 = scf.for
        // CHECK-SAME:    iter_args(%{{.*}} = %{{.*}}, %[[F:.*]] = %false) -> (f64, i1) {
        // CHECK:           %[[MORE:.*]] = arith.cmpf ogt
        // CHECK:           %[[FLAG:.*]] = arith.select %[[MORE]], %true, %[[F]] : i1
        // CHECK:           scf.yield %{{.*}}, %[[FLAG]]
        // CHECK:         memref.store %[[R]]#1, %[[FLAGS]]
        // CHECK:       scf.for %[[J:.*]] = %{{.*}} iter_args(%[[S:.*]] = %{{.*}}) -> (f64) {
        // CHECK:         %[[V:.*]] = memref.load %[[VALUES]][%[[J]]]
        // CHECK:         %[[TAKE:.*]] = memref.load %[[FLAGS]][%[[J]]]
        // CHECK:         arith.select %[[TAKE]], %[[V]], %[[S]] : f64
        """,
        "f64",
    )


def test_a_counter_is_computed_from_the_index() -> None:
    checked(
        """
        %r = scf.for %i = %c1 to %n step %c1 iter_args(%j = %k) -> (i64) {
          %at = arith.index_cast %j : i64 to index
          memref.store %x, %a[%at] : memref<?xf64>
          %two = arith.constant 2 : i64
          %next = arith.addi %j, %two : i64
          scf.yield %next : i64
        } {numba.ordered, numba.parfors = [3]}
        return %r : i64
        // CHECK:       scf.parallel (%[[I:.*]]) = (%c1) to
        // CHECK:         %[[DONE:.*]] = arith.subi %[[I]], %c1
        // CHECK:         %[[NUMBER:.*]] = arith.index_cast %[[DONE]] : index to i64
        // CHECK:         %[[FAR:.*]] = arith.muli %[[NUMBER]], %c2_i64
        // CHECK:         %[[J:.*]] = arith.addi %{{.*}}, %[[FAR]] : i64
        // CHECK:         %[[AT:.*]] = arith.index_cast %[[J]]
        // CHECK:         memref.store %{{.*}}, %{{.*}}[%[[AT]]]
        """,
        "i64",
    )


def test_a_value_that_is_seen_only_unchanged_is_the_one_before_the_loop() -> None:
    checked(
        """
        scf.for %i = %c0 to %n step %c1 iter_args(%t = %x) -> (f64) {
          %v = memref.load %a[%i] : memref<?xf64>
          %new = arith.select %on, %v, %t : f64
          memref.store %new, %a[%i] : memref<?xf64>
          scf.yield %new : f64
        } {numba.ordered, numba.parfors = [3]}
        return %x : f64
        // CHECK:       func.func @f(
        // CHECK-SAME:  %[[N:[^:]*]]: index, %[[X:[^:]*]]: f64, %{{[^:]*}}: i64, %[[ON:.*]]: i1)
        // CHECK:       scf.parallel (%[[I:.*]]) = (%c0) to (%[[N]]) step (%c1) {
        // CHECK-NEXT:    %[[V:.*]] = memref.load %[[A:.*]][%[[I]]]
        // CHECK-NEXT:    %[[NEW:.*]] = arith.select %[[ON]], %[[V]], %[[X]] : f64
        // CHECK-NEXT:    memref.store %[[NEW]], %[[A]][%[[I]]]
        // CHECK-NEXT:    scf.reduce
        // CHECK-NEXT:  } {numba.parfors = [3]}
        """,
        "f64",
    )


REFUSED = {
    "recurrence": ("%s = %x", "f64", "%y = arith.mulf %s, %x : f64\n"
                   "%t = arith.addf %y, %v : f64\nscf.yield %t : f64"),
    "two operators": ("%s = %x", "f64", "%y = arith.addf %s, %v : f64\n"
                      "%t = arith.mulf %y, %x : f64\nscf.yield %t : f64"),
    "subtracted from": ("%s = %x", "f64", "%t = arith.subf %v, %s : f64\nscf.yield %t : f64"),
    "not at least, of floats": (
        "%s = %x", "f64", "%c = arith.cmpf oge, %v, %s : f64\n"
        "%t = arith.select %c, %s, %v : f64\nscf.yield %t : f64"),
    "another value than the one compared": (
        "%s = %x", "f64", "%c = arith.cmpf olt, %v, %s : f64\n"
        "%y = arith.addf %v, %x : f64\n%t = arith.select %c, %y, %s : f64\nscf.yield %t : f64"),
    "down, then up": (
        "%s = %x", "f64", "%c = arith.cmpf olt, %v, %s : f64\n"
        "%t = arith.select %c, %v, %s : f64\n%y = arith.negf %v : f64\n"
        "%d = arith.cmpf ogt, %y, %t : f64\n%u = arith.select %d, %y, %t : f64\n"
        "scf.yield %u : f64"),
    "unordered comparison": (
        "%s = %x", "f64", "%c = arith.cmpf ult, %v, %s : f64\n"
        "%t = arith.select %c, %v, %s : f64\nscf.yield %t : f64"),
    "counts the records": (
        "%s = %x, %m = %k", "f64, i64", "%c = arith.cmpf olt, %v, %s : f64\n"
        "%t = arith.select %c, %v, %s : f64\n%p = arith.addi %m, %w : i64\n"
        "%q = arith.select %c, %p, %m : i64\nscf.yield %t, %q : f64, i64"),
    "handed on": ("%s = %x, %t = %x", "f64, f64", "scf.yield %t, %v : f64, f64"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_stays_in_order(name: str) -> None:
    carried, types, body = REFUSED[name]
    module = parse(loop(carried, types, body))
    result = Parallelize().run(module)
    (message,) = messages(result, "missed")
    assert message.endswith("no reduction whose parts can be put together")
    assert (result.remarks[0].file, result.remarks[0].line) == ("u.py", 4)
    text = str(module)
    assert "scf.parallel" not in text
    assert "numba.ordered" not in text


EFFECTS = {
    "stored": "memref.store %s, %a[%i] : memref<?xf64> loc(\"u.py\":6:1)",
    "stored under a condition": "%c = arith.cmpf olt, %v, %s : f64\nscf.if %c {\n"
    "memref.store %x, %a[%i] : memref<?xf64> loc(\"u.py\":6:1)\n}",
    "given to a statement": '"pyir.stmt"(%s) {stmt = 1 : i64, text = "call"} : (f64) -> () '
    'loc("u.py":6:1)',
    "as often as it says": "%z = arith.fptosi %s : f64 to i64\n"
    "%e = arith.index_cast %z : i64 to index\nscf.for %j = %c0 to %e step %c1 {\n"
    "memref.store %x, %a[%j] : memref<?xf64> loc(\"u.py\":6:1)\n}",
}  # fmt: skip


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_that_depend_on_what_is_carried(name: str) -> None:
    body = f"{EFFECTS[name]}\n%t = arith.addf %s, %v : f64\nscf.yield %t : f64"
    module = parse(loop("%s = %x", "f64", body))
    (message,) = messages(Parallelize().run(module), "missed")
    assert "what is done at line 6 depends on" in message
    assert "scf.parallel" not in str(module)


def test_inside_a_parallel_loop_nothing_is_cut() -> None:
    module = parse(
        function(
            """
            scf.parallel (%p) = (%c0) to (%n) step (%c1) {
              %r = scf.for %i = %c0 to %n step %c1 iter_args(%s = %x) -> (f64) {
                %v = memref.load %a[%i] : memref<?xf64>
                %c = arith.cmpf olt, %v, %s : f64
                %t = arith.select %c, %v, %s : f64
                scf.yield %t : f64
              } {numba.ordered, numba.parfors = [3]}
              memref.store %r, %a[%p] : memref<?xf64>
              scf.reduce
            } {numba.parfors = [2]}
            return %x : f64
            """,
            "f64",
        )
    )
    result = Parallelize().run(module)
    assert not result.remarks
    assert str(module).count("scf.parallel") == 1
    assert "numba.ordered" not in str(module)


def test_nothing_to_do_without_an_ordered_loop() -> None:
    text = function("return %x : f64", "f64")
    assert not Parallelize().applies(parse(text))
