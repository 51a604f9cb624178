"""Whether arrays of a parallel loop share memory, for `shared_memory`."""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.roundtrip.values import defining, walk


def is_array(value: Any) -> bool:
    return isinstance(value.type, mlir.ir.MemRefType)


def roots(value: Any, depth: int = 16) -> set[Any]:
    """The arrays whose memory ``value`` may be: itself, or what it was made from."""
    op = defining(value)
    if op is None or op.name == "memref.alloc" or depth == 0:
        return {value}
    if op.name.startswith("numba.expr") and "view_of" not in op.attributes:
        return {value}
    found: set[Any] = set()
    for operand in op.operands:
        if is_array(operand):
            found |= roots(operand, depth - 1)
    return found or {value}


def shares_memory(loop: Any) -> bool:
    """Whether a written array of the loop shares memory with another one.

    Views made inside the loop are seen by Numba itself.
    """
    used: dict[Any, None] = {}
    written: dict[Any, None] = {}
    inside = {a for region in loop.regions for block in region.blocks for a in block.arguments}
    for op in walk(loop.regions[0]):
        inside |= set(op.results)
        inside |= {a for region in op.regions for block in region.blocks for a in block.arguments}
        for number, operand in enumerate(op.operands):
            if operand in inside or not is_array(operand):
                continue
            used[operand] = None
            if op.name == "pyir.stmt" or (op.name == "memref.store" and number == 1):
                written[operand] = None
    origin = {array: roots(array) for array in used}
    return any(
        other != target and not _kept_apart(other, target) and origin[target] & origin[other]
        for target in written
        for other in used
    )


def _kept_apart(source: Any, target: Any) -> bool:
    """Whether ``source`` was made such that it does not overlap ``target``."""
    op = defining(source)
    return op is not None and op.name == "numba.unaliased" and op.operands[1] == target
