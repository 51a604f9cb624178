"""Exceptions of a loop that are raised behind it, so that LLVM makes vectors of the loop.

A ``pyir.leave_if`` with `LATE` is about a number that is no number anyone can do harm with, like
the quotient of a division by zero.  Whether one of its conditions was true is carried by the loop

    for i:  leave_if(y[i] == 0)          becomes     for i:  bad |= y[i] == 0
            out[i] = x[i] / y[i]                             out[i] = x[i] / y[i]
                                                     leave_if(bad)

and so for loop around loop, out to the function.  Not where the number could become an index or
decide how long a loop runs, and not where something else leaves the loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import clone, for_loop
from numba_mlir.passes.failures import LATE, LEAVE_IF, LEAVE_WITH, RAISER
from numba_mlir.passes.values import nested, operations

#: operations that such a number must not get to
_HARMED = frozenset({"arith.fptosi", "arith.fptoui", "scf.while", "func.call", LEAVE_WITH})


def raise_late(function: Any) -> None:
    """Carry the conditions of late exceptions out of the loops of ``function``."""
    if not any(op.name == LEAVE_IF and LATE in op.attributes for op in nested(function)):
        return
    if any(op.name in _HARMED for op in nested(function)):
        return
    for loop in reversed([op for op in nested(function) if op.name == "scf.for"]):
        inside = [op for op in nested(loop) if op.name == LEAVE_IF]
        late = [op for op in operations(loop.regions[0].blocks[0])
                if op.name == LEAVE_IF and LATE in op.attributes]  # fmt: skip
        if late and len(late) == len(inside):
            with loop.location, mlir.ir.InsertionPoint(loop):
                _carry(loop, late)


def _carry(loop: Any, late: Sequence[Any]) -> None:
    """``loop`` once more, with a flag for each exception."""
    arith, i1 = mlir.arith, mlir.ir.IntegerType.get_signless(1)
    block = loop.regions[0].blocks[0]
    *body, end = operations(block)
    lower, upper, step, *start = loop.operands
    firsts: dict[Any, Any] = {}
    for op in late:
        firsts.setdefault(op.attributes[RAISER], op)

    def again(iv: Any, *carried: Any) -> list[Any]:
        values = dict(zip(block.arguments, (iv, *carried[: len(start)]), strict=True))
        flags = dict(zip(firsts, carried[len(start) :], strict=True))
        for op in body:
            if op in late:
                condition = values.get(op.operands[0], op.operands[0])
                flags[op.attributes[RAISER]] = arith.ori(flags[op.attributes[RAISER]], condition)
            else:
                values.update(zip(op.results, clone(op, values).results, strict=True))
        return [*(values.get(value, value) for value in end.operands), *flags.values()]

    begin = [*start, *[arith.constant(i1, 0)] * len(firsts)]
    results = for_loop((lower, upper, step), again, begin)
    for (raiser, op), flag in zip(firsts.items(), results[len(start) :], strict=True):
        with op.location:
            attributes = {RAISER: raiser, LATE: mlir.ir.UnitAttr.get()}
            mlir.ir.Operation.create(LEAVE_IF, operands=[flag], attributes=attributes)
    for old, new in zip(loop.results, results, strict=False):
        old.replace_all_uses_with(new)
    loop.erase()
