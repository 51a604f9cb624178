"""How far apart in memory neighbouring iterations of a loop access an array."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

from numba_mlir import mlir
from numba_mlir.passes.values import constant_int, owner, strip_casts

Layout = Literal["C", "F", "A"]

#: where a descriptor of an array has its strides
_STRIDES = 4
_ARRAY = re.compile(r"\barray\(.*, ([CFA])(, \w+)*\)$")


def layout(memref: Any) -> Layout:
    """The layout of an array: by its MLIR type where that tells, else by its Numba type.

    "A" (any strides) where neither does.
    """
    if "strided<" not in str(memref.type):
        return "C"
    match = _ARRAY.search(_numba_type(memref))
    if match is None:
        return "F" if _is_column_major(memref) else "A"
    return "F" if match[1] == "F" else "C" if match[1] == "C" else "A"


def _is_column_major(memref: Any) -> bool:
    """Whether an array made of bare numbers is told to be contiguous along its first index."""
    op = owner(memref)
    if op is None or op.name != "builtin.unrealized_conversion_cast" or len(op.operands) != 1:
        return False
    part = owner(op.operands[0])
    while part is not None and part.name == "llvm.insertvalue":
        if list(part.attributes["position"]) == [_STRIDES, 0]:
            return _is_one(part.operands[1])
        part = owner(part.operands[0])
    return False


def _is_one(value: Any) -> bool:
    op = owner(value)
    return op is not None and op.name == "llvm.mlir.constant" and op.attributes["value"].value == 1


def _numba_type(value: Any) -> str:
    """The text of the attribute that holds a value's Numba type; "" without one."""
    op = owner(value)
    if op is None:
        function = value.owner.owner
        if function is None or "arg_attrs" not in function.operation.attributes:
            return ""
        if value.owner != function.operation.regions[0].blocks[0]:  # where branches meet
            return ""
        attributes = function.operation.attributes["arg_attrs"][value.arg_number]
        return attributes["numba.type"].value if "numba.type" in attributes else ""
    if "numba.type" in op.attributes:
        return str(op.attributes["numba.type"].value)
    if "numba.types" in op.attributes:
        number = mlir.ir.OpResult(value).result_number
        return str(op.attributes["numba.types"][number].value)
    return ""


def item_bytes(memref: Any) -> int:
    """Bytes of one element; an i1 takes one."""
    element = memref.type.element_type
    parts = 1
    if isinstance(element, mlir.ir.ComplexType):
        element, parts = element.element_type, 2
    digits = re.search(r"\d+$", str(element))
    return parts * max(int(digits[0]) // 8, 1) if digits else 8


@dataclasses.dataclass(frozen=True)
class Reference:
    """One access of a statement, for the cost model."""

    memref: Any
    indices: tuple[Any, ...]
    write: bool
    unknown: Layout = "C"
    """what is assumed of an array of layout "A" """


Step = Literal["none", "next", "far"]


def step(reference: Reference, iv: Any) -> Step:
    """Where the access goes when ``iv`` grows by one.

    "none": nowhere; "next": to a neighbour in memory; "far": somewhere else.
    """
    moving = [(axis, _factor(reference.indices[axis], iv)) for axis in moving_axes(reference, iv)]
    if not moving:
        return "none"
    rank = len(reference.indices)
    kind = layout(reference.memref)
    kind = reference.unknown if kind == "A" else kind
    contiguous = 0 if kind == "F" else rank - 1
    return "next" if moving == [(contiguous, 1)] or moving == [(contiguous, -1)] else "far"


def moving_axes(reference: Reference, iv: Any) -> list[int]:
    """The axes along which the access moves when ``iv`` grows."""
    return [axis for axis, index in enumerate(reference.indices) if _factor(index, iv) != 0]


def _factor(value: Any, iv: Any) -> int | None:
    """By how much ``value`` grows with ``iv``; None where that is not a known constant."""
    value = strip_casts(value)
    if value == iv:
        return 1
    op = owner(value)
    if op is None or not len(op.operands):
        return 0
    if op.name in ("arith.addi", "arith.subi"):
        left, right = (_factor(operand, iv) for operand in op.operands)
        if left is None or right is None:
            return None
        return left + right if op.name == "arith.addi" else left - right
    if op.name == "arith.select":  # of a size that may be 1, 0 is taken: rarely
        return _factor(op.operands[2], iv)
    if op.name == "numba.wrap_index":
        return _factor(op.operands[0], iv)
    if op.name in ("arith.muli", "arith.andi"):
        left, right = op.operands
        for one, other in ((left, right), (right, left)):
            constant = _usual(one)
            if op.name == "arith.andi" and constant is not None:
                constant = 1 if constant == -1 else None
            if constant is not None:
                factor = _factor(other, iv)
                return None if factor is None else constant * factor
    return 0 if all(_factor(operand, iv) == 0 for operand in op.operands) else None


def _usual(value: Any) -> int | None:
    """A constant, or the one that is chosen where a size is not stretched (`masks`)."""
    value = strip_casts(value)
    op = owner(value)
    if op is not None and op.name == "arith.select":
        _, stretched, usual = map(strip_casts, op.operands)
        return constant_int(usual) if constant_int(stretched) == 0 else None
    return constant_int(value)
