"""Which pairs of loops may run iteration by iteration next to each other."""

from __future__ import annotations

import re

import pytest
from ir_check import CONSTANTS, parsed

from numba_mlir.passes.legality import Loop, Verdict, can_fuse, in_bounds
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import operations

ARRAY = "memref<?xf64>"
TABLE = "memref<?x?xf64>"

#: names: a b argument arrays, d argument table, t u fresh arrays, e fresh table,
#: v view of a, g array that a statement returned before
FUNCTION = """
func.func @f(%a: memref<?xf64> {numba.name = "a"}, %b: memref<?xf64> {numba.name = "b"},
             %d: memref<?x?xf64> {numba.name = "d"}, %n: index, %x: f64, %start: index,
             %p: !numba.ref<"int64">) {
  CONSTANTS
  %k1 = arith.constant 1 : i64
  %g = "pyir.stmt"(%x) {text = "g = helper(x)"} : (f64) -> memref<?xf64> loc("g"("u.py":2:1))
  %t = memref.alloc(%n) : memref<?xf64> loc("t"("u.py":3:1))
  %u = memref.alloc(%n) : memref<?xf64> loc("u"("u.py":3:1))
  %e = memref.alloc(%n, %n) : memref<?x?xf64> loc("e"("u.py":3:1))
  %v = "numba.expr1"(%a) {view_of = 0 : i64} : (memref<?xf64>) -> memref<?xf64> loc("v"("u.py":4:1))
  FIRST loc("u.py":6:1)
  SECOND loc("u.py":7:1)
  return
}
"""


def loop(body: str, rank: int = 1, lower: str = "%c0") -> str:
    """A loop over %i (and %j) without reductions."""
    if rank == 1:
        head = f"scf.parallel (%i) = ({lower}) to (%n) step (%c1)"
    else:
        head = "scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1)"
    return f"{head} {{\n{body}\nscf.reduce\n}}"


def load(array: str, line: int = 6, type_: str = ARRAY) -> str:
    """A load, e.g. of ``%a[%i]``; its result is not used."""
    name = "%l" + "".join(c for c in array if c.isalnum())
    return f'{name} = memref.load {array} : {type_} loc("u.py":{line}:1)'


def store(array: str, line: int = 6, type_: str = ARRAY) -> str:
    return f'memref.store %x, {array} : {type_} loc("u.py":{line}:1)'


def plus(name: str, of: str, constant: str, op: str = "addi") -> str:
    """``name = index(wrap(of + constant))``: an index as the importer writes it."""
    return f"""{name}_wide = arith.index_cast {of} : index to i64
    {name}_sum = arith.{op} {name}_wide, {constant} : i64
    {name} = "numba.wrap_index"({name}_sum, %n) : (i64, index) -> index"""


def verdict(first: str, second: str) -> tuple[Verdict, list[set[str]]]:
    """The verdict on two loops, and the names of the arrays in its guards."""
    text = FUNCTION.replace("CONSTANTS", CONSTANTS)
    text = text.replace("FIRST", first).replace("SECOND", second)
    with parsed(text) as module:
        body = next(iter(module.body)).regions[0].blocks[0]
        loops = [op for op in operations(body) if op.name == "scf.parallel"]
        provenance = Provenance()
        one, two = (Loop.of(op, provenance) for op in loops)
        found = can_fuse(one, two, provenance)
        guards = [{str(provenance.root(m)) for m in pair} for pair in found.guards]
        return Verdict(found.reason), guards


I_PLUS_1 = plus("%p1", "%i", "%k1")
I_MINUS_1 = plus("%m1", "%i", "%k1", "subi")

LEGAL = {
    "nothing in common": (loop(store("%t[%i]")), loop(store("%u[%i]"))),
    "element written, then read": (loop(store("%t[%i]")), loop(load("%t[%i]"))),
    "element read, then written": (loop(load("%a[%i]")), loop(store("%a[%i]"))),
    "written twice": (loop(store("%t[%i]")), loop(store("%t[%i]"))),
    "shifted reads of what nobody writes": (
        loop(I_PLUS_1 + "\n" + load("%a[%p1]") + "\n" + store("%t[%i]")),
        loop(I_MINUS_1 + "\n" + load("%a[%m1]") + "\n" + store("%u[%i]")),
    ),
    "the same shifted element": (
        loop(I_PLUS_1 + "\n" + store("%t[%p1]")),
        loop(I_PLUS_1 + "\n" + load("%t[%p1]")),
    ),
    "through casts of the index": (
        loop(store("%t[%i]")),
        loop(
            "%w = arith.index_cast %i : index to i64\n%z = arith.index_cast %w : i64 to index\n"
            + load("%t[%z]")
        ),
    ),
    "two dimensions": (
        loop(store("%e[%i, %j]", type_=TABLE), 2),
        loop(load("%e[%i, %j]", type_=TABLE), 2),
    ),
    "both transposed": (
        loop(store("%e[%j, %i]", type_=TABLE), 2),
        loop(load("%e[%j, %i]", type_=TABLE), 2),
    ),
    "rows, by inner loops": (
        loop(f"scf.for %k = %c0 to %n step %c1 {{\n{store('%e[%i, %k]', type_=TABLE)}\n}}"),
        loop(f"scf.for %k = %c0 to %n step %c1 {{\n{load('%e[%i, %k]', type_=TABLE)}\n}}"),
    ),
    "whole table read by both": (
        loop(load("%d[%c0, %i]", type_=TABLE)),
        loop(load("%d[%i, %c0]", type_=TABLE)),
    ),
    "one part under a condition": (
        loop(store("%t[%i]")),
        loop(f"%c = arith.cmpi slt, %i, %n : index\nscf.if %c {{\n{load('%t[%i]')}\n}}"),
    ),
    "array of the body only": (
        loop(f"%s = memref.alloc(%n) : {ARRAY}\n" + store("%s[%c0]")),
        loop(f"%s = memref.alloc(%n) : {ARRAY}\n" + load("%s[%c1]")),
    ),
    "a fresh array and what was returned before it": (
        loop(store("%t[%i]")),
        loop(load("%g[%c0]")),
    ),
    "a statement on scalars in one of them": (
        loop('"pyir.stmt"(%x) {text = "f(x)"} : (f64) -> ()'),
        loop(store("%a[%i]")),
    ),
}


@pytest.mark.parametrize("case", LEGAL)
def test_may_be_fused(case: str) -> None:
    assert verdict(*LEGAL[case]) == (Verdict(), [])


REFUSED = {
    "shifted read": (
        loop(store("%t[%i]")),
        loop(I_PLUS_1 + "\n" + load("%t[%p1]", 7)),
        r"t\[i\+1\] read at line 7 and t\[i\] written at line 6 may be one element",
    ),
    "write to what the neighbour read": (
        loop(I_PLUS_1 + "\n" + load("%a[%p1]")),
        loop(store("%a[%i]", 7)),
        r"a\[i\] written at line 7 and a\[i\+1\] read at line 6",
    ),
    "shift backwards": (
        loop(store("%t[%i]")),
        loop(I_MINUS_1 + "\n" + load("%t[%m1]", 7)),
        r"t\[\.\.\.\] read at line 7",
    ),
    "one element, read by all": (
        loop(store("%t[%i]")),
        loop(load("%t[%c0]", 7)),
        r"t\[\.\.\.\] read at line 7 and t\[i\] written",
    ),
    "one element, written by all": (
        loop(store("%t[%c0]")),
        loop(load("%t[%c0]", 7)),
        r"t\[\.\.\.\] read at line 7 and t\[\.\.\.\] written",
    ),
    "gather": (
        loop(store("%t[%i]")),
        loop(
            load("%a[%i]")
            + "\n%w = arith.fptosi %lai : f64 to i64\n%z = arith.index_cast %w : i64 to index\n"
            + load("%t[%z]", 7)
        ),
        "t.* may be one element in different iterations",
    ),
    "transposed": (
        loop(store("%e[%i, %j]", type_=TABLE), 2),
        loop(load("%e[%j, %i]", 7, TABLE), 2),
        r"e\[j, i\] read at line 7 and e\[i, j\] written at line 6",
    ),
    "accumulation over a dimension": (
        loop(store("%t[%i]"), 2),
        loop(load("%t[%i]", 7), 2),
        r"t\[i\] read at line 7 and t\[i\] written",
    ),
    "diagonal": (
        loop(store("%e[%i, %i]", type_=TABLE), 2),
        loop(load("%e[%i, %i]", 7, TABLE), 2),
        r"e\[i, i\]",
    ),
    "columns after rows": (
        loop(f"scf.for %k = %c0 to %n step %c1 {{\n{store('%e[%i, %k]', type_=TABLE)}\n}}"),
        loop(f"scf.for %k = %c0 to %n step %c1 {{\n{load('%e[%k, %i]', 7, TABLE)}\n}}"),
        r"e\[\.\.\., i\] read at line 7",
    ),
    "index that may be negative": (
        loop(plus("%w", "%i", "%k1", "subi") + "\n" + store("%t[%w]"), lower="%start"),
        loop(plus("%w", "%i", "%k1", "subi") + "\n" + load("%t[%w]"), lower="%start"),
        r"t\[\.\.\.\]",
    ),
    "base and view": (
        loop(store("%a[%i]")),
        loop(load("%v[%i]", 7)),
        r"v\[i\] read at line 7 and a\[i\] written at line 6 are different views",
    ),
    "a zero-dimensional array": (
        loop("memref.store %x, %s[] : memref<f64>"),
        loop("%l = memref.load %s[] : memref<f64>"),
        "may be one element",
    ),
    "an expression that may read the array": (
        loop(store("%t[%i]")),
        loop('%q = "numba.expr1"(%t) {text = "q = f(t)"} : (memref<?xf64>) -> f64'),
        r"t read at line \d+ and t\[i\] written at line 6",
    ),
    "a statement that is given the array": (
        loop(store("%t[%i]")),
        loop('"pyir.stmt"(%t, %i) {text = "f(t, i)"} : (memref<?xf64>, index) -> ()'),
        r"the statement at line \d+ may access t$",
    ),
    "a statement that is given an array that may overlap": (
        loop(store("%a[%i]")),
        loop('"pyir.stmt"(%b) {text = "f(b)"} : (memref<?xf64>) -> ()'),
        r"the statement at line \d+ may access a$",
    ),
    "a statement that is given an object that may hold the array": (
        loop('"pyir.stmt"(%p) {text = "f(p)"} : (!numba.ref<"int64">) -> ()'),
        loop(store("%a[%i]")),
        r"the statement at line \d+ may access a$",
    ),
    "statements in both": (
        loop('"pyir.stmt"(%x) {text = "f(x)"} : (f64) -> ()'),
        loop('"pyir.stmt"(%x) {text = "h(x)"} : (f64) -> ()'),
        r"both loops contain statements with effects, such as the statement at line \d+$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_may_not_be_fused(case: str) -> None:
    first, second, reason = REFUSED[case]
    if "%s[]" in first:
        first = "%s = memref.alloc() : memref<f64>\n" + first
    found, _ = verdict(first, second)
    assert found.reason is not None
    assert re.search(reason, found.reason), found.reason


GUARDED = {
    "argument written, argument read": (
        loop(store("%a[%i]")),
        loop(load("%b[%i]")),
        [{"a", "b"}],
    ),
    "whatever the indices": (loop(load("%b[%c0]")), loop(store("%a[%i]")), [{"a", "b"}]),
    "two arguments written": (loop(store("%a[%i]")), loop(store("%b[%i]")), [{"a", "b"}]),
    "argument and result of a statement": (
        loop(store("%a[%i]")),
        loop(load("%g[%i]")),
        [{"a", "g"}],
    ),
    "different ranks": (
        loop(load("%d[%c0, %i]", type_=TABLE)),
        loop(store("%a[%i]")),
        [{"a", "d"}],
    ),
    "a view stands for its base": (loop(store("%v[%i]")), loop(load("%b[%i]")), [{"a", "b"}]),
    "only read": (loop(load("%a[%i]")), loop(load("%b[%i]")), []),
    "fresh": (loop(store("%t[%i]")), loop(load("%b[%i]")), []),
}


@pytest.mark.parametrize("case", GUARDED)
def test_arrays_that_may_overlap_are_tested_at_run_time(case: str) -> None:
    first, second, guards = GUARDED[case]
    assert verdict(first, second) == (Verdict(), guards)


def test_an_array_found_inside_the_loop_cannot_be_tested() -> None:
    inside = '%r = "pyir.stmt"(%x) {text = "r"} : (f64) -> memref<?xf64>\n'
    found, _ = verdict(loop(inside + load("%r[%i]")), loop(store("%a[%i]")))
    assert found.reason == "a temporary array and a may overlap"


def test_the_result_of_a_reduction_is_not_ready_in_the_next_loop() -> None:
    reduction = """%s = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f64 {
      %l = memref.load %a[%i] : memref<?xf64>
      scf.reduce(%l : f64) {
      ^bb0(%y: f64, %z: f64):
        %w = arith.addf %y, %z : f64
        scf.reduce.return %w : f64
      }
    } {numba.names = ["total"]}"""
    use = '%m = arith.mulf %s, %x : f64 loc("u.py":7:1)\n'
    found, _ = verdict(reduction, loop(use))
    assert found.reason == ("total is the result of the loop at line 6 and is used at line 7")
    assert verdict(loop(store("%a[%i]")), reduction.replace("%l =", "%l ="))[0]


@pytest.mark.parametrize(
    ("body", "lower", "expected"),
    [
        (store("%t[%i]"), "%c0", True),
        (store("%t[%i]"), "%c1", True),
        (store("%t[%i]"), "%start", False),
        (I_MINUS_1 + "\n" + load("%t[%m1]"), "%c1", True),
        (I_MINUS_1 + "\n" + load("%t[%m1]"), "%c0", False),
        (I_PLUS_1 + "\n" + load("%t[%p1]"), "%c0", False),
        (load("%a[%i]"), "%c0", False),
        (load("%t[%c0]"), "%c0", False),
        (load("%e[%i, %i]", type_=TABLE), "%c0", True),
    ],
)
def test_loops_that_cannot_leave_their_arrays(body: str, lower: str, expected: bool) -> None:
    text = FUNCTION.replace("CONSTANTS", CONSTANTS).replace("SECOND", "%q = arith.constant 1 : i1")
    with parsed(text.replace("FIRST", loop(body, lower=lower))) as module:
        block = next(iter(module.body)).regions[0].blocks[0]
        op = next(op for op in operations(block) if op.name == "scf.parallel")
        assert in_bounds(Loop.of(op, Provenance())) == expected
