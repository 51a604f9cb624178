"""Loops that fusion leaves alone, and the reason that it gives."""

from __future__ import annotations

import re

import pytest
from loop_text import fill, untouched

REFUSALS = {
    "different upper bounds": (
        fill("%a", 4) + fill("%a", 5, "(%c0) to (%m)"),
        "their bounds differ, or are not known to be equal",
    ),
    "different lower bounds": (
        fill("%a", 4) + fill("%a", 5, "(%c1) to (%n)"),
        "their bounds differ, or are not known to be equal",
    ),
    "a step": (
        fill("%a", 4) + fill("%a", 5).replace("step (%c1)", "step (%m)"),
        "a step is not one",
    ),
    "different numbers of dimensions": (
        fill("%a", 4)
        + """scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1) {
          scf.reduce
        } loc("u.py":5:1)""",
        "they have 1 and 2 dimensions",
    ),
    "a shifted read": (
        fill("%a", 4, "(%c0) to (%m)")
        + """scf.parallel (%i) = (%c0) to (%m) step (%c1) {
          %i1 = arith.addi %i, %c1 : index
          %x = memref.load %a[%i1] : memref<?xf64> loc("u.py":6:9)
          memref.store %x, %a[%i] : memref<?xf64> loc("u.py":6:1)
          scf.reduce
        } loc("u.py":5:1)""",
        r"a\[i\+1\] read at line 6 and a\[i\] written at line \d+ may be one element in different "
        "iterations",
    ),
    "a statement between them": (
        fill("%a", 4)
        + '"pyir.stmt"(%a) {text = "print(a)"} : (memref<?xf64>) -> () loc("u.py":5:1)\n'
        + fill("%a", 6),
        "the statement at line 5 may access a",
    ),
    "a check that cannot come earlier": (
        fill("%a", 4)
        + """%x = memref.load %a[%c0] : memref<?xf64>
        %y = arith.fptosi %x : f64 to i64
        %k = arith.index_cast %y : i64 to index
        "numba.assert_equal"(%k, %n) {message = "sizes"} : (index, index) -> () loc("u.py":5:1)
        """
        + fill("%a", 6, "(%c0) to (%k)"),
        "a temporary value, which the loop at line 6 needs, cannot be computed earlier: .*",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_with_a_reason(case: str) -> None:
    body, reason = REFUSALS[case]
    (message,) = untouched(body + "\nreturn", "%m: index")
    assert re.fullmatch(rf"the loops of lines 4 and [56] were not fused: {reason}", message), (
        message
    )


def test_a_reduction_that_the_next_loop_uses() -> None:
    (message,) = untouched(
        """
        %s = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f64 {
          %v = memref.load %a[%i] : memref<?xf64>
          scf.reduce(%v : f64) {
          ^bb0(%p: f64, %q: f64):
            %r = arith.addf %p, %q : f64
            scf.reduce.return %r : f64
          }
        } {numba.names = ["s.1"]} loc("u.py":4:1)
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          memref.store %s, %a[%i] : memref<?xf64> loc("u.py":5:7)
          scf.reduce
        } loc("u.py":5:1)
        return
        """
    )
    assert message.endswith("s is the result of the loop at line 4 and is used at line 5")
