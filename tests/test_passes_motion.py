"""What may change places with a loop, and in which direction."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from ir_check import CONSTANTS, parsed

from numba_mlir.passes.effects import summarise
from numba_mlir.passes.motion import plan
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import line_of, operations

FUNCTION = """
func.func @f(%a: memref<?xf64> {numba.name = "a"}, %b: memref<?xf64> {numba.name = "b"},
             %n: index, %m: index, %x: f64, %k: i64) {
  CONSTANTS
  %t = memref.alloc(%n) : memref<?xf64> loc("t"("u.py":1:1))
  %u = memref.alloc(%n) : memref<?xf64> loc("u"("u.py":1:1))
  %seen = memref.alloc(%n) : memref<?xf64> loc("seen"("u.py":1:1))
  "pyir.stmt"(%seen) {text = "keep(seen)"} : (memref<?xf64>) -> ()
  %s = FIRST loc("u.py":2:1)
  BETWEEN
  SECOND loc("u.py":9:1)
  return
}
"""


def loop(body: str, upper: str = "%n") -> str:
    """A loop with a reduction of %x, which the first loop gives as %s."""
    return f"""scf.parallel (%i) = (%c0) to ({upper}) step (%c1) init (%zero) -> f64 {{
      {body}
      scf.reduce(%x : f64) {{
      ^bb0(%p: f64, %q: f64):
        %r = arith.addf %p, %q : f64
        scf.reduce.return %r : f64
      }}
    }}"""


def store(array: str) -> str:
    return f"memref.store %x, {array}[%i] : memref<?xf64>"


def load(array: str, name: str = "%l") -> str:
    return f"{name} = memref.load {array}[%i] : memref<?xf64>"


def plan_for(first: str, between: str, second: str) -> tuple[list[Any], list[Any], str | None]:
    """Lines of the operations that go above, of those that go below; or the reason."""
    text = FUNCTION.replace("CONSTANTS", CONSTANTS).replace("FIRST", first)
    text = text.replace("BETWEEN", between).replace("SECOND", second)
    with parsed(text) as module:
        ops = operations(next(iter(module.body)).regions[0].blocks[0])
        one, two = (i for i, op in enumerate(ops) if line_of(op) in (2, 9))
        provenance = Provenance()
        summaries = functools.cache(lambda op: summarise(op, provenance))
        found = plan([ops[one]], ops[one + 1 : two], ops[two], summaries, provenance)
        above, below = ([line_of(op) for op in group] for group in (found.above, found.below))
        return above, below, found.reason


def stmt(line: int, operand: str = "", type_: str = "", more: str = "") -> str:
    return f'"pyir.stmt"({operand}) {{text = "f()"{more}}} : ({type_}) -> () loc("u.py":{line}:1)'


CHECK = '"numba.assert_equal"(%n, %m) {message = "m"} : (index, index) -> () loc("u.py":5:1)'
ALLOC = '%c = memref.alloc(%n) : memref<?xf64> loc("u.py":3:1)'
OTHER = '"numba.check"(%x, %k) {text = "check(k)"} : (f64, i64) -> () loc("u.py":5:1)'
READ = '%y = memref.load %b[%c0] : memref<?xf64> loc("u.py":5:1)'
WRITE = 'memref.store %x, %b[%c0] : memref<?xf64> loc("u.py":5:1)'
SIZES = "{ranks = array<i64: 1, 1>, order = array<i64: 0, 1>}"
BROADCAST = f'%w = "numba.broadcast"(%n, %m) {SIZES} : (index, index) -> index loc("u.py":5:1)'
COPY = """%w = "numba.unaliased"(%b, %u)
  : (memref<?xf64>, memref<?xf64>) -> memref<?xf64> loc("u.py":5:1)"""
USE = '%z = arith.addf %s, %x : f64 loc("u.py":4:1)'

#: (first loop, between, second loop) -> lines above and lines below
POSSIBLE: dict[str, tuple[str, str, str, list[int], list[int]]] = {
    "an allocation": (loop(store("%t")), ALLOC, loop(store("%c")), [3], []),
    "a check of sizes, even in front of stores": (
        loop(store("%a")), CHECK, loop(store("%b")), [5], [],
    ),
    "a check of shapes whose result bounds the second loop": (
        loop(store("%a")), BROADCAST, loop(store("%b"), "%w"), [5], [],
    ),
    "a copy of an array that the first loop does not touch": (
        loop(store("%t")), COPY, loop(load("%w")), [5], [],
    ),
    "what uses the first loop goes behind": (loop(store("%t")), USE, loop(store("%u")), [], [4]),
    "what uses what goes behind goes behind": (
        loop(store("%t")),
        USE + '\n%w = arith.mulf %z, %z : f64 loc("u.py":5:1)\n' + ALLOC,
        loop(store("%c")),
        [3],
        [4, 5],
    ),
    "an independent loop": (
        loop(store("%t")),
        loop(store("%b"), "%m") + ' loc("u.py":5:1)',
        loop(load("%t")),
        [5],
        [],
    ),
    "a loop that depends on the first": (
        loop(store("%t")),
        loop(load("%t"), "%m") + ' loc("u.py":5:1)',
        loop(store("%u")),
        [],
        [5],
    ),
    "a scalar read of another array": (loop(store("%t")), READ, loop(store("%u")), [5], []),
    "a scalar read that must wait, past a loop that only reads": (
        loop(store("%b")), READ, loop(load("%a")), [], [5],
    ),
    "a statement, past loops on hidden arrays": (
        loop(store("%t")), stmt(5), loop(load("%t")), [5], [],
    ),
    "a statement that uses the first loop, past a loop on hidden arrays": (
        loop(store("%t")), stmt(5, "%s", "f64"), loop(store("%u")), [], [5],
    ),
    "a statement on one hidden array, past loops on another": (
        loop(store("%t")), stmt(5, "%u", "memref<?xf64>"), loop(load("%t")), [5], [],
    ),
    "another check, past loops that write nothing the caller sees": (
        loop(load("%a")), OTHER, loop(load("%b")), [5], [],
    ),
    "a statement that only raises": (
        loop(load("%a")), stmt(5, "%k", "i64", ", raises"), loop(load("%b")), [5], [],
    ),
    "a check of the first loop's result, past a loop within its array": (
        loop(load("%a")),
        '"numba.check"(%s, %k) {text = "check(s)"} : (f64, i64) -> () loc("u.py":5:1)',
        loop(load("%t")),
        [],
        [5],
    ),
    "a view of an array that the first loop writes": (
        loop(store("%a")),
        '%v = "numba.expr1"(%a) {view_of = 0 : i64} : (memref<?xf64>) -> memref<?xf64>'
        ' loc("u.py":5:1)',
        loop(load("%v")),
        [5],
        [],
    ),
    "a tuple with an array that the first loop writes": (
        loop(store("%t")),
        '%v = "numba.expr1"(%t) {numba.type = "Tuple"} : (memref<?xf64>) -> !numba.ref<"Tuple">'
        ' loc("u.py":5:1)',
        loop(load("%b")),
        [],
        [5],
    ),
    "sizes and other facts about an array that the first loop writes": (
        loop(store("%a")),
        '%v = "numba.expr1"(%a) {metadata} : (memref<?xf64>) -> i64 loc("u.py":5:1)',
        loop(load("%b")),
        [5],
        [],
    ),
    "a division by a constant": (
        loop(store("%a")),
        stmt(4, "%s", "f64", ", raises")
        + '\n%two = arith.constant 2 : i64 loc("u.py":3:1)'
        + '\n%d = arith.divsi %k, %two : i64 loc("u.py":5:1)',
        loop(load("%t")),
        [3, 5],
        [4],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", POSSIBLE)
def test_the_way_is_freed(case: str) -> None:
    first, between, second, above, below = POSSIBLE[case]
    assert plan_for(first, between, second) == (above, below, None)


#: (first loop, between, second loop) -> reason
IMPOSSIBLE: dict[str, tuple[str, str, str, str]] = {
    "a statement, past a loop that writes what the caller sees": (
        loop(store("%t")), stmt(5, "%s", "f64"), loop(store("%a")),
        "the statement at line 5 may access a",
    ),
    "a statement, past a loop that reads what the caller may change": (
        loop(load("%a")), stmt(5), loop(load("%a")),
        "the statement at line 5 may access a",
    ),
    "a statement, past a loop on an array that a statement has kept": (
        loop(store("%seen")), stmt(5), loop(load("%seen")),
        "the statement at line 5 may access seen",
    ),
    "a statement that is given the array": (
        loop(store("%t")), stmt(5, "%t", "memref<?xf64>"), loop(load("%t")),
        "the statement at line 5 may access t",
    ),
    "a statement whose result is needed": (
        loop(load("%a")),
        '%c = "pyir.stmt"(%x) {text = "c = f(x)"} : (f64) -> memref<?xf64>'
        ' loc("c"("u.py":5:1))',
        loop(store("%c")),
        "c, which the loop at line 9 needs, cannot be computed earlier: "
        "the statement at line 5 may access a",
    ),
    "two statements": (
        loop(stmt(2)), stmt(5), loop(stmt(9)),
        "the statement at line 5 may have effects",
    ),
    "a scalar read of what the loops write": (
        loop(store("%b")), READ, loop(store("%b")),
        r"b is read at line 5 and b written at line \d+",
    ),
    "a scalar read of what may overlap": (
        loop(store("%a")), READ, loop(store("%a")),
        r"b is read at line 5 and a written at line \d+",
    ),
    "a scalar write": (
        loop(load("%b")), WRITE, loop(load("%b")),
        r"b is written at line 5 and b read at line \d+",
    ),
    "a copy of an array that the first loop writes": (
        loop(store("%b")), COPY, loop(load("%w")),
        "a temporary array, which the loop at line 9 needs, cannot be computed earlier: "
        r"b is written at line \d+ and b read at line 5",
    ),
    "an expression that may read elements": (
        loop(store("%a")),
        '%v = "numba.expr1"(%a) {text = "v"} : (memref<?xf64>) -> i64 loc("u.py":5:1)',
        loop(store("%a")),
        r"a is read at line 5 and a written at line \d+",
    ),
    "an index that the first loop's array gives": (
        loop(store("%b")),
        READ
        + """
        %y1 = arith.fptosi %y : f64 to i64
        %y2 = arith.index_cast %y1 : i64 to index loc("top"("u.py":6:1))""",
        loop(load("%t"), "%y2"),
        "a temporary value, which the loop at line 9 needs, cannot be computed earlier: "
        r"b is written at line \d+ and b read at line 5",
    ),
    "a check of the first loop's result, and a loop that the caller sees": (
        loop(load("%t")), stmt(5, "%s", "f64", ", raises"), loop(store("%a")),
        "the statement at line 5 may raise before a is written",
    ),
    "a check of the first loop's result, and a loop that may leave its array": (
        loop(load("%t")), stmt(5, "%s", "f64", ", raises"), loop(load("%a")),
        "the statement at line 5 must come before the loop at line 9",
    ),
    "a statement, and a loop that may leave its array": (
        loop(store("%t")), stmt(5, "%s", "f64"), loop(store("%u"), "%m"),
        "the statement at line 5 must come before the loop at line 9",
    ),
    "another check, past a loop that writes what the caller sees": (
        loop(store("%a")), OTHER, loop(store("%a")),
        "the statement at line 5 may raise before a is written",
    ),
    "a division that may trap": (
        loop(store("%a")),
        '%d = arith.divsi %k, %k : i64 loc("u.py":5:1)',
        loop(store("%a")),
        "the statement at line 5 may raise before a is written",
    ),
    "memory operations that nobody described": (
        loop(load("%a")),
        'memref.copy %a, %b : memref<?xf64> to memref<?xf64> loc("u.py":5:1)',
        loop(load("%a")),
        "the statement at line 5 may access a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_the_way_is_not_freed(case: str) -> None:
    first, between, second, reason = IMPOSSIBLE[case]
    above, below, found = plan_for(first, between, second)
    assert (above, below) == ([], [])
    assert found is not None
    assert re.fullmatch(reason, found), found


def test_two_checks_keep_their_order() -> None:
    dependent = '"numba.check"(%s, %k) {text = "check(s)"} : (f64, i64) -> () loc("u.py":4:1)'
    assert plan_for(loop(load("%a")), f"{dependent}\n{OTHER}", loop(load("%t"))) == (
        [],
        [4, 5],
        None,
    )
    _, _, reason = plan_for(loop(load("%a")), f"{dependent}\n{CHECK}", loop(load("%a"), "%m"))
    assert reason == "the statement at line 4 must come before the loop at line 9"
