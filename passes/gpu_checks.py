"""Checks of what is the same in all iterations come out of a loop: a kernel cannot raise."""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.gpu_loops import body_of, extent, product, segments
from numba_mlir.passes.values import defined_inside, owner


def hoist_checks(loop: Any) -> None:
    """Move each check that every iteration makes, of a value known before, in front of
    ``loop``, under the condition that there is an iteration."""
    for op in body_of(loop)[1]:
        if op.name != "numba.check":
            continue
        needed = _needed(op, loop)
        if needed is None:
            continue
        with mlir.ir.InsertionPoint(loop), op.location:
            lower, upper, _, _ = segments(loop)
            sizes = [extent(low, high) for low, high in zip(lower, upper, strict=True)]
            some = mlir.arith.cmpi(mlir.arith.CmpIPredicate.ne, product(sizes), building.index(0))
            with building.only(some):
                known: dict[Any, Any] = {}
                for step in [*needed, op]:
                    copy = step.clone()
                    for number, value in enumerate(copy.operands):
                        copy.operands[number] = known.get(value, value)
                    known.update(zip(step.results, copy.results, strict=True))
        op.erase()


def _needed(check: Any, loop: Any) -> list[Any] | None:
    """The operations of the loop that a check's operands come from, in order; None where
    they depend on the iteration."""
    found: list[Any] = []

    def take(value: Any) -> bool:
        if not defined_inside(value, loop):
            return True
        op = owner(value)
        if op is None or len(op.regions):
            return False
        dialect = op.name.split(".")[0]
        if dialect != "arith" and op.name not in ("memref.dim", "numba.expr0"):
            return False
        if not all(map(take, op.operands)):
            return False
        if all(op != one for one in found):
            found.append(op)
        return True

    return found if all(map(take, check.operands)) else None
