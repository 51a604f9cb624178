"""Arrays of numbers: shapes, allocation, elements and views.

A Numba array is a memref.  An element access needs one ``index`` operand a dimension,
already inside the array as far as Python's wrap-around rule goes (``numba.wrap_index``).
"""

from __future__ import annotations

from typing import Any, TypeGuard

from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters import build, casts, scalars
from numba_mlir.converters.frame import TYPE, Frame, array_type
from numba_mlir.converters.slots import Env, Slot


def is_native(slot: Slot | None) -> TypeGuard[Slot]:
    """Whether the slot is an array that is a memref in MLIR."""
    return slot is not None and array_type(slot.type) is not None


def dim(frame: Frame, array: Slot, axis: int) -> Any:
    """``memref.dim``: the size of one axis as an ``index``."""
    return build.value("memref.dim", (array.value, frame.index_constant(axis)), build.index_type())


def size_slot(frame: Frame, array: Slot, axis: int) -> Slot:
    size = dim(frame, array, axis)
    native = scalars.to_mlir(types.intp)
    return Slot(types.intp, build.index_cast(size, native), index=size)


def shape(frame: Frame, array: Slot) -> tuple[Slot, ...]:
    return tuple(size_slot(frame, array, axis) for axis in range(array.type.ndim))


def size(frame: Frame, array: Slot) -> Slot:
    """The number of elements; an array of one dimension has as many as its axis is long."""
    sizes = shape(frame, array)
    if len(sizes) == 1:
        return sizes[0]
    native = scalars.to_mlir(types.intp)
    product = frame.constant(1, native)
    for one in sizes:
        product = build.value("arith.muli", (product, one.value), native)
    return Slot(types.intp, product)


def constant_size(size: Any) -> int | None:
    """The number that an index value is, where it is a constant."""
    op = definition(size)
    return op.attributes["value"].value if op is not None and op.name == "arith.constant" else None


def same_size(left: Any, right: Any) -> bool:
    """Whether two index values are one value, or the same size of the same array."""
    if left is None or left == right:
        return left is not None
    one, other = definition(left), definition(right)
    if one is None or other is None or not one.name == other.name == "memref.dim":
        return False
    axes = [constant_size(op.operands[1]) for op in (one, other)]
    return one.operands[0] == other.operands[0] and None not in axes and axes[0] == axes[1]


def definition(value: Any) -> Any | None:
    """The operation that makes a value; None for an argument of a block."""
    owner = value.owner
    return None if isinstance(owner, mlir.ir.Block) else owner.operation


def literal_index(number: int) -> Slot:
    return Slot(types.IntegerLiteral(number), None, number)


def position(frame: Frame, array: Slot, axis: int, slot: Slot) -> Any:
    """One subscript as an ``index`` operand; None when it is not an integer."""
    if slot.index is not None:
        return slot.index
    if isinstance(slot.type, types.IntegerLiteral):
        number = slot.type.literal_value
        if number >= 0:
            return frame.index_constant(number)
        return build.value(
            "arith.addi",
            (dim(frame, array, axis), frame.index_constant(number)),
            build.index_type(),
        )
    number_and_type = frame.scalar(slot)
    if number_and_type is None or not isinstance(number_and_type[1], types.Integer):
        return None
    number, numba_type = number_and_type
    if not numba_type.signed:
        return build.index_cast(casts.cast(number, numba_type, types.uint64), build.index_type())
    wide = casts.cast(number, numba_type, types.int64)
    return build.value("numba.wrap_index", (wide, dim(frame, array, axis)), build.index_type())


def positions(frame: Frame, array: Slot, subscripts: list[Slot]) -> list[Any] | None:
    if len(subscripts) != array.type.ndim:
        return None
    found = [position(frame, array, axis, s) for axis, s in enumerate(subscripts)]
    return None if any(p is None for p in found) else found


def subscripts_of(slot: Slot | None) -> list[Slot] | None:
    """The subscripts behind an index variable; None when they are not known one by one."""
    if slot is None:
        return None
    if slot.elements is not None:
        return list(slot.elements)
    if isinstance(slot.type, types.BaseTuple):
        return [] if len(slot.type) == 0 else None
    return [slot]


def load(frame: Frame, array: Slot, subscripts: list[Slot]) -> Slot | None:
    """``memref.load`` of one element; None when a subscript is not an integer."""
    where = positions(frame, array, subscripts)
    if where is None:
        return None
    element = array.type.dtype
    value = build.value("memref.load", (array.value, *where), scalars.to_mlir(element))
    return Slot(element, value)


def getitem(frame: Frame, env: Env, expr: Any) -> Slot | None:
    array = env.get(expr.value.name)
    index = env.get(expr.index.name)
    if array is not None and array.elements is not None and index is not None:
        return _tuple_member(array.elements, index)
    if array is None or not is_native(array):
        return None
    subscripts = subscripts_of(index)
    return None if subscripts is None else load(frame, array, subscripts)


def _tuple_member(elements: tuple[Slot, ...], index: Slot) -> Slot | None:
    if not isinstance(index.type, types.IntegerLiteral):
        return None
    number = index.type.literal_value
    return elements[number] if -len(elements) <= number < len(elements) else None


def store(frame: Frame, env: Env, stmt: Any) -> bool:
    """``memref.store`` of one element; False when the statement is not one."""
    array = env.get(stmt.target.name)
    if array is None or not is_native(array) or not array.type.mutable:
        return False
    value = frame.scalar(env.get(stmt.value.name))
    if value is None:
        return False
    if isinstance(stmt, ir.StaticSetItem):
        if not isinstance(stmt.index, int):
            return False
        subscripts: list[Slot] | None = [literal_index(stmt.index)]
    else:
        subscripts = subscripts_of(env.get(stmt.index.name))
    if subscripts is None:
        return False
    where = positions(frame, array, subscripts)
    converted = casts.cast(*value, array.type.dtype) if where is not None else None
    if where is None or converted is None:
        return False
    build.op("memref.store", (converted, array.value, *where))
    return True


def allocate(frame: Frame, sizes: list[Any], numba_type: Any) -> Slot:
    """``memref.alloc``: a fresh, uninitialised array, as np.empty makes it.

    MLIR's folding of constant sizes drops attributes but keeps locations, so the Numba type
    (an unsigned dtype has no other trace) also stands in the location's metadata.
    """
    ir_ = mlir.ir
    attribute = frame.type_attribute(numba_type)
    attributes = {
        TYPE: attribute,
        "operandSegmentSizes": ir_.DenseI32ArrayAttr.get([len(sizes), 0]),
    }
    with ir_.Location.fused([ir_.Location.current], attribute):
        value = build.value("memref.alloc", sizes, frame.mlir_type(numba_type), attributes)
    return Slot(numba_type, value)


#: index types that select a view of the array (and not a copy of some elements)
BASIC = (types.Integer, types.SliceType, types.EllipsisType, types.NoneType)


def getitem_flags(frame: Frame, env: Env, expr: Any) -> dict[str, Any]:
    """Flags of a subscript that is kept: basic indexing of an array is a view of it."""
    owner = frame.type_of(expr.value.name)
    if isinstance(owner, types.BaseTuple):
        return {"pure": True}
    sig = frame.calltypes.get(expr)
    if not isinstance(owner, types.Array) or sig is None:
        return {}
    if not isinstance(sig.return_type, types.Array) or len(sig.args) < 2:
        return {}
    index = sig.args[1]
    members = list(index) if isinstance(index, types.BaseTuple) else [index]
    basic = all(isinstance(m, BASIC) for m in members)
    return {"pure": True, "view_of": 0} if basic else {}
