"""Blocks inside loops, those of loops that are left early, as structured loops and branches.

Upstream's pass after Bahmann, Reissmann, Jahre and Meyer, "Perfect Reconstructability of Control
Flow from Demand Dependence Graphs", 2015, makes ``scf.while``, ``scf.if`` and
``scf.index_switch``; of the last, ``scf.if`` is made here.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import index
from numba_mlir.passes.values import nested

_STRUCTURE = "func.func(lift-cf-to-scf,canonicalize,cse)"


def structure(function: Any) -> None:
    """Leave no ``scf.execute_region`` of several blocks in a ``func.func``."""
    mlir.run_pipeline(function, _STRUCTURE)
    for op in [op for op in nested(function) if op.name == "scf.index_switch"]:
        default, *cases = [region.blocks[0] for region in op.regions]
        numbers = list(op.attributes["cases"])
        with op.location, mlir.ir.InsertionPoint(op):
            values = _choose(op, list(zip(numbers, cases, strict=True)), default)
        for old, new in zip(op.results, values, strict=True):
            old.replace_all_uses_with(new)
        op.erase()


def _choose(op: Any, cases: list[tuple[int, Any]], default: Any) -> list[Any]:
    ir, types = mlir.ir, [result.type for result in op.results]
    (number, block), *others = cases
    test = mlir.arith.cmpi(mlir.arith.CmpIPredicate.eq, op.operands[0], index(number))
    made = ir.Operation.create("scf.if", types, [test], regions=2)
    block.append_to(made.regions[0])
    if not others:
        default.append_to(made.regions[1])
    else:
        with ir.InsertionPoint(made.regions[1].blocks.append()):
            ir.Operation.create("scf.yield", operands=_choose(op, others, default))
    return list(made.results)
