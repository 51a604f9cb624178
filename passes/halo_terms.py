"""Subscripts of loops whose sizes may be stretched, under the assumption that none is.

``i & m``, ``i * s`` and ``select(n == 1, 0, i)`` (`masks`) are i where the size n is not 1.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.legality import Loop, Term, index_term
from numba_mlir.passes.values import constant_int, defined_inside, nested, owner, strip_casts

#: operation -> what its second operand is where the size is not 1
_FACTORS = {"arith.andi": -1, "arith.muli": 1}


def unstretched(index: Any) -> tuple[Any, Any] | None:
    """(i, n == 1) of such a subscript; None for any other."""
    op = owner(strip_casts(index))
    if op is None:
        return None
    if op.name == "arith.select":
        condition, zero, other = op.operands
        return (other, condition) if _constant(zero) == 0 else None
    if op.name not in _FACTORS:
        return None
    factor = owner(strip_casts(op.operands[1]))
    if factor is None or factor.name != "arith.select":
        return None
    condition, zero, other = factor.operands
    is_factor = _constant(zero) == 0 and _constant(other) == _FACTORS[op.name]
    return (op.operands[0], condition) if is_factor else None


def assumed_term(index: Any, loop: Loop, assumed: dict[Any, None]) -> Term | None:
    """`index_term`, where need be under assumptions: conditions that go into ``assumed``."""
    plain = index_term(index, loop.ivs, loop.lower)
    if plain is not None:
        return plain
    inside = unstretched(index)
    if inside is not None and not defined_inside(inside[1], loop.op):
        term = assumed_term(inside[0], loop, assumed)
        if term is not None:
            assumed.setdefault(inside[1])
        return term
    op = owner(strip_casts(index))
    if op is None or op.name not in ("arith.addi", "arith.subi"):
        return None
    constant = _constant(op.operands[1])
    term = assumed_term(op.operands[0], loop, assumed) if constant is not None else None
    if constant is None or term is None:
        return None
    return term[0], term[1] + (constant if op.name == "arith.addi" else -constant)


def assume(loop: Loop, conditions: dict[Any, None]) -> None:
    """Let a loop's subscripts be what they are where the conditions do not hold."""
    for op in [op for op in nested(loop.op) if op.name == "arith.select" or op.name in _FACTORS]:
        # asked now: what is inside may itself have been replaced just before
        inside = unstretched(op.result)
        if inside is not None and inside[1] in conditions:
            op.result.replace_all_uses_with(inside[0])
            op.erase()


def for_unequal_sizes(block: Any) -> bool:
    """Whether a block runs only where a comparison of sizes found different ones.

    There sizes are stretched, if no error is raised.
    """
    parent = block.owner.operation
    if parent.name == "scf.if" and block in list(parent.regions[1].blocks):
        return _compares(parent.operands[0])
    before = list(block.predecessors)
    if len(before) != 1:
        return False
    last = list(before[0].operations)[-1].operation
    if last.name != "cf.cond_br" or last.successors[0] == block:
        return False
    return _compares(last.operands[0])


def _compares(condition: Any) -> bool:
    op = owner(condition)
    while op is not None and op.name == "arith.andi":
        op = owner(op.operands[0])
    is_size = op is not None and isinstance(op.operands[0].type, mlir.ir.IndexType)
    return op is not None and op.name == "arith.cmpi" and is_size


def _constant(value: Any) -> int | None:
    return constant_int(strip_casts(value))
