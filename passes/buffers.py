"""Arrays that a loop body makes for itself, in code that frees what it allocates.

Each ``memref.alloc`` moves in front of the loops of its function, where its sizes must be
known: one buffer serves all iterations, since a fresh array has no contents to rely on.  A
small one of constant size goes on the stack, the others are freed where the function returns.
"""

from __future__ import annotations

import math
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import ON_STACK, address_of, index
from numba_mlir.passes.failures import LEAVE_IF
from numba_mlir.passes.values import ancestor_in, defined_inside, nested

#: bytes of an array that is put on the stack
_STACK = 4096
_ALIGNMENT = 64
#: operations that use an array without keeping it
_USES = frozenset({"memref.load", "memref.store", "memref.dim", "memref.cast"})

#: functions that give the status of these errors
NO_MEMORY, NEGATIVE_SIZE = "no_memory", "negative_size"


class Unhoistable(ValueError):
    """Why an array cannot be made in front of the loops; ``op`` is its allocation."""

    def __init__(self, message: str, op: Any) -> None:
        super().__init__(message)
        self.op = op


def allocations(function: Any) -> list[Any]:
    return [op for op in nested(function) if op.name == "memref.alloc"]


def hoist(function: Any) -> None:
    """Move the allocations of ``function``, in which `allocations` are then to be freed.

    Raises Unhoistable.
    """
    heap: list[Any] = []
    wrong: list[Any] = []
    (last,) = [op for op in nested(function) if op.name == "func.return"]
    for op in allocations(function):
        _check_uses(op, op.results[0])
        loop = ancestor_in(op, last.block)
        if loop is None:
            raise Unhoistable("an array is made on some paths only", op)
        if loop != op and any(defined_inside(size, loop) for size in op.operands):
            raise Unhoistable("an array is made whose size differs between iterations", op)
        with op.location, mlir.ir.InsertionPoint(loop):
            if _is_small(op):
                _on_stack(op)
            else:
                heap.append(_on_heap(op, wrong))
    _check(last.block, heap, wrong)
    with mlir.ir.InsertionPoint(last), last.location:
        for buffer in heap:
            mlir.ir.Operation.create("memref.dealloc", operands=[buffer])


def _check_uses(op: Any, value: Any) -> None:
    for use in value.uses:
        user = use.owner.operation
        if user.name not in _USES or (user.name == "memref.store" and use.operand_number == 0):
            raise Unhoistable("an array is made in each iteration and used as a whole", op)
        if user.name == "memref.cast":
            _check_uses(op, user.results[0])


def _is_small(op: Any) -> bool:
    kind = mlir.ir.MemRefType(op.results[0].type)
    if len(op.operands) or not kind.has_static_shape:
        return False
    return ON_STACK in op.attributes or math.prod(kind.shape) * 16 <= _STACK


def _on_stack(op: Any) -> None:
    ir = mlir.ir
    attributes = {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([0, 0])}
    made = ir.Operation.create("memref.alloca", [op.results[0].type], [], attributes)
    op.results[0].replace_all_uses_with(made.results[0])
    op.erase()


def _on_heap(op: Any, wrong: list[Any]) -> Any:
    """The new allocation's memref; ``wrong`` gets conditions for not going on, with the error."""
    ir, arith = mlir.ir, mlir.arith
    zero = arith.constant(ir.IndexType.get(), 0)
    wrong += [
        (arith.cmpi(arith.CmpIPredicate.slt, size, zero), NEGATIVE_SIZE) for size in op.operands
    ]
    if len(op.operands):
        wrong.append((_is_too_large(op), NO_MEMORY))
    sizes = [arith.maxsi(size, zero) for size in op.operands]
    attributes = {
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(sizes), 0]),
        "alignment": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _ALIGNMENT),
    }
    made = ir.Operation.create("memref.alloc", [op.results[0].type], sizes, attributes)
    op.results[0].replace_all_uses_with(made.results[0])
    op.erase()
    return made.results[0]


def _is_too_large(op: Any) -> Any:
    """Whether there are more elements than any machine has, so that their size may overflow."""
    ir, arith = mlir.ir, mlir.arith
    wide, real = ir.IntegerType.get_signless(64), ir.F64Type.get()
    kind = ir.MemRefType(op.results[0].type)
    known = math.prod(n for n in kind.shape if n != ir.ShapedType.get_dynamic_size())
    total = arith.constant(real, ir.FloatAttr.get(real, float(known)))
    for size in op.operands:
        total = arith.mulf(total, arith.sitofp(real, arith.index_cast(wide, size)))
    most = arith.constant(real, ir.FloatAttr.get(real, 2.0**46))
    return arith.cmpf(arith.CmpFPredicate.OGT, total, most)


def _check(block: Any, heap: list[Any], wrong: list[Any]) -> None:
    """Leave when an allocation went wrong: behind all of them, so that all can be freed."""
    if not heap:
        return
    ir, arith = mlir.ir, mlir.arith
    owners = [buffer.owner for buffer in heap]
    order = [op.operation for op in block.operations]
    last = max(order.index(owner) for owner in owners)
    with ir.InsertionPoint(order[last + 1]), ir.Location.unknown():
        for condition, raiser in wrong:
            _leave_if(condition, raiser)
        for buffer in heap:
            null = arith.cmpi(arith.CmpIPredicate.eq, address_of(buffer), index(0))
            _leave_if(null, NO_MEMORY)


def _leave_if(condition: Any, raiser: str) -> None:
    attributes = {"raiser": mlir.ir.FlatSymbolRefAttr.get(raiser)}
    mlir.ir.Operation.create(LEAVE_IF, operands=[condition], attributes=attributes)
