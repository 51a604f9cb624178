"""Checks that subscripts are inside their arrays, for functions compiled with ``boundscheck``."""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.failures import LEAVE_IF
from numba_mlir.passes.values import nested

OUT_OF_BOUNDS = "out_of_bounds"


def check_bounds(function: Any) -> None:
    """Leave ``function`` where an index of a ``memref.load`` or ``memref.store`` is outside."""
    for op in list(nested(function)):
        if op.name in ("memref.load", "memref.store"):
            with op.location, mlir.ir.InsertionPoint(op):
                first = 1 if op.name == "memref.store" else 0
                _check(op.operands[first], list(op.operands)[first + 1 :])


def _check(array: Any, indices: list[Any]) -> None:
    ir, arith = mlir.ir, mlir.arith
    kind = ir.IndexType.get()
    for axis, index in enumerate(indices):
        operands = [array, arith.constant(kind, axis)]
        size = ir.Operation.create("memref.dim", [kind], operands).results[0]
        outside = arith.cmpi(arith.CmpIPredicate.uge, index, size)
        attributes = {"raiser": ir.FlatSymbolRefAttr.get(OUT_OF_BOUNDS)}
        ir.Operation.create(LEAVE_IF, operands=[outside], attributes=attributes)
