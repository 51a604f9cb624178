"""Sums of floating-point numbers whose order is free: those of NumPy's reductions."""

from __future__ import annotations

from typing import Any

from numba_mlir.passes.values import owner


def is_free_addition(op: Any) -> bool:
    """Whether an operation adds floating-point numbers, with the flag ``reassoc``."""
    if op.name != "arith.addf" or "fastmath" not in op.attributes:
        return False
    return "reassoc" in str(op.attributes["fastmath"])


def is_free_sum(carried: Any, new: Any) -> bool:
    """Whether a loop adds to a carried number, in any order, and uses it for nothing else."""
    op = owner(new)
    if op is None or not is_free_addition(op) or op.operands[0] != carried:
        return False
    uses = list(carried.uses)
    return len(uses) == 1 and uses[0].owner.operation == op
