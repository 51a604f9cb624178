"""Numbers that are never negative, so that they need no test for an index from the end."""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import constant_int, nested, owner

#: on ``scf.parallel``: for each index, whether it is never negative
NOT_NEGATIVE = "numba.not_negative"
#: operations whose result has the sign of their operands; sizes are far from overflow
_KEEP = frozenset(
    {"arith.addi", "arith.muli", "arith.divsi", "arith.divui", "arith.index_cast", "arith.extsi",
     "arith.minsi", "arith.minui", "arith.remsi", "arith.remui", "arith.index_castui"}
)  # fmt: skip
_ALWAYS = frozenset({"memref.dim", "arith.extui"})
_DEPTH = 16


def is_not_negative(value: Any, depth: int = _DEPTH) -> bool:
    """Whether an integer or an index is known to be 0 or more."""
    op = owner(value)
    if op is None:
        return _is_counter(value, depth)
    number = constant_int(value)
    if number is not None:
        return number >= 0
    if op.name in _ALWAYS:
        return True
    if depth == 0 or not len(op.operands):
        return False
    if op.name == "arith.maxsi":
        return any(is_not_negative(operand, depth - 1) for operand in op.operands)
    operands = list(op.operands)[1:] if op.name == "arith.select" else list(op.operands)
    known = op.name in _KEEP or op.name == "arith.select"
    return known and all(is_not_negative(operand, depth - 1) for operand in operands)


def _is_counter(value: Any, depth: int) -> bool:
    """The index of a loop that begins at 0 or more."""
    loop = value.owner.owner.operation
    number = value.arg_number
    if loop.name == "scf.for":
        return number == 0 and is_not_negative(loop.operands[0], depth - 1)
    if loop.name != "scf.parallel":
        return False
    if NOT_NEGATIVE in loop.attributes:
        return mlir.ir.DenseBoolArrayAttr(loop.attributes[NOT_NEGATIVE])[number]
    return is_not_negative(loop.operands[number], depth - 1)


def drop_wraps(module: Any) -> None:
    """Replace each ``numba.wrap_index`` of a number that is never negative by the number."""
    for op in list(nested(module.operation)):
        if op.name == "numba.wrap_index" and is_not_negative(op.operands[0]):
            with op.location, mlir.ir.InsertionPoint(op):
                number = mlir.arith.index_cast(mlir.ir.IndexType.get(), op.operands[0])
            op.results[0].replace_all_uses_with(number)
            op.erase()
