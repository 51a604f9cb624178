"""Truth values in memory are bytes.

An ``i1`` in memory takes a byte in LLVM, too, but its vectorizers have no vectors of them: loops
that read or write masks take them one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numba_mlir import mlir


def as_bytes(ops: Iterable[Any]) -> None:
    """Rewrite the loads and stores among operations of the LLVM dialect, in place.

    A byte that is not 0 is true, as in NumPy; those written are 0 and 1.
    """
    ir = mlir.ir
    byte = ir.IntegerType.get_signless(8)
    for op in ops:
        if op.name == "llvm.store" and str(op.operands[0].type) == "i1":
            with op.location, ir.InsertionPoint(op):
                op.operands[0] = mlir.llvm.zext(byte, op.operands[0])
        elif op.name == "llvm.load" and str(op.results[0].type) == "i1":
            _load(op, byte)


def _load(op: Any, byte: Any) -> None:
    ir = mlir.ir
    with op.location, ir.InsertionPoint(op):
        attributes = {name: op.attributes[name] for name in op.attributes}
        read = ir.Operation.create(op.name, [byte], list(op.operands), attributes).result
        zero = mlir.llvm.mlir_constant(ir.IntegerAttr.get(byte, 0))
        predicate = mlir.llvm.ICmpPredicate.ne
        value = mlir.llvm.icmp(predicate, read, zero)
    op.results[0].replace_all_uses_with(value)
    op.erase()
