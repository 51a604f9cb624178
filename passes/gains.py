"""What decides whether a piece gains: functions of the C library that LLVM can compute for many
numbers at a time, and loops inside each other."""

from __future__ import annotations

from typing import Any

from numba_mlir.passes import libm
from numba_mlir.passes.failures import LEAVE_IF, LEAVE_WITH
from numba_mlir.passes.values import constant_int, nested, operations

_LOOPS = frozenset({"scf.for", "scf.while", "scf.execute_region", "scf.parallel"})
#: what keeps LLVM from taking several iterations at a time
_OBSTACLES = frozenset({*_LOOPS, LEAVE_IF, LEAVE_WITH, "func.call"})
#: iterations that are fewer than the lanes of some vectors
_FEW = 16


def vector_functions(function: Any, inlined: bool) -> set[str]:
    """Symbols that are called in every iteration of an innermost loop, on what that iteration has.

    All that are called where the function has no loop and may be ``inlined`` into one.
    """
    if inlined:
        calls = [op for op in nested(function) if op.name in libm.FUNCTIONS]
    else:
        loops = [op for op in nested(function) if op.name in _LOOPS]
        calls = [op for loop in loops for op in _free_calls(loop)]
    return {libm.symbol(libm.FUNCTIONS[op.name], op.results[0].type) for op in calls}


def _free_calls(loop: Any) -> list[Any]:
    if loop.name != "scf.for" or any(op.name in _OBSTACLES for op in nested(loop)):
        return []
    low, high, step = map(constant_int, list(loop.operands)[:3])
    if None not in (low, high, step) and len(range(low, high, step)) < _FEW:  # type: ignore[arg-type]
        return []
    block = loop.regions[0].blocks[0]
    waiting = set(list(block.arguments)[1:])
    found = []
    for op in operations(block):
        inner = [op, *nested(op)]
        if any(value in waiting for one in inner for value in one.operands):
            waiting.update(op.results)
        elif op.name in libm.FUNCTIONS:
            found.append(op)
    return found


def carrying_depth(op: Any) -> int:
    """The most ``scf.for`` inside each other that carry values on, as those of a sum do."""
    inner = [one for region in op.regions for block in region.blocks for one in operations(block)]
    own = op.name == "scf.for" and len(op.results) > 0
    return own + max(map(carrying_depth, inner), default=0)
