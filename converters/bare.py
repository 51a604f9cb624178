"""Numba values as bare pointers and numbers: the arguments of functions that MLIR compiles.

==========================  ===============================================================
Numba value                 arguments
==========================  ===============================================================
number                      itself
array, C or F layout        pointer to the first element, sizes
array, A layout             pointer to the first element, sizes, strides in elements
tuple                       those of its members
==========================  ===============================================================

`send` takes a Numba value apart in the LLVM IR of Numba's own code, `receive` puts the
arguments together in MLIR.  Both follow `leaves`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llvmlite import ir as llvm
from numba.core import cgutils, types

from numba_mlir import mlir
from numba_mlir.converters import build, scalars
from numba_mlir.converters.frame import Frame, array_type
from numba_mlir.converters.slots import Slot

Role = Literal["data", "size", "stride", "number"]


@dataclass(frozen=True)
class Leaf:
    """One argument: its role, and for a number or an array the Numba type."""

    role: Role
    type: Any = None

    def mlir(self) -> Any:
        if self.role == "data":
            return mlir.ir.Type.parse("!llvm.ptr")
        if self.role == "number":
            return scalars.to_mlir(self.type)
        return mlir.ir.IntegerType.get_signless(64)


def leaves(numba_type: Any) -> tuple[Leaf, ...] | None:
    """The arguments that a value of ``numba_type`` becomes; None for other kinds of values.

    An array of complex numbers in A layout is another kind: the distance between its
    elements need not be a multiple of their size.
    """
    if isinstance(numba_type, types.BaseTuple):
        members = [leaves(member) for member in numba_type]
        if any(member is None for member in members):
            return None
        return tuple(leaf for member in members for leaf in member or ())
    if isinstance(numba_type, types.Literal):
        return () if scalars.kind(types.unliteral(numba_type)) else None
    if type(numba_type) is types.Array:
        return _array_leaves(numba_type)
    if scalars.kind(numba_type) is None or numba_type == types.float16:
        return None
    return (Leaf("number", numba_type),)


def _array_leaves(array: Any) -> tuple[Leaf, ...] | None:
    element = scalars.kind(array.dtype)
    if element is None or array.dtype == types.float16 or not array.aligned:
        return None
    if array.layout == "A" and element == "complex":
        return None
    strides = (Leaf("stride"),) * array.ndim if array.layout == "A" else ()
    return (Leaf("data", array), *(Leaf("size"),) * array.ndim, *strides)


# ---- Numba's side -------------------------------------------------------------------


def send(context: Any, builder: llvm.IRBuilder, numba_type: Any, value: Any) -> list[llvm.Value]:
    """The arguments for a Numba value, in the order of `leaves`."""
    if isinstance(numba_type, types.BaseTuple):
        members = enumerate(numba_type)
        parts = ((member, builder.extract_value(value, i)) for i, member in members)
        return [leaf for part in parts for leaf in send(context, builder, *part)]
    if isinstance(numba_type, types.Literal):
        return []
    if type(numba_type) is types.Array:
        return _send_array(context, builder, numba_type, value)
    return [value]


def _send_array(context: Any, builder: llvm.IRBuilder, array: Any, value: Any) -> list[llvm.Value]:
    parts = context.make_array(array)(context, builder, value)
    data = builder.bitcast(parts.data, llvm.IntType(8).as_pointer())
    found = [data, *cgutils.unpack_tuple(builder, parts.shape, array.ndim)]
    if array.layout == "A":
        size = context.get_constant(types.intp, context.get_abi_sizeof(parts.data.type.pointee))
        for stride in cgutils.unpack_tuple(builder, parts.strides, array.ndim):
            found.append(builder.sdiv(stride, size))
    return found


def llvm_types(context: Any, numba_type: Any) -> list[llvm.Type]:
    """The types of the values that `send` returns."""
    kinds = {"data": llvm.IntType(8).as_pointer(), "size": llvm.IntType(64)}
    kinds["stride"] = kinds["size"]
    return [kinds.get(leaf.role) or context.get_value_type(leaf.type)
            for leaf in leaves(numba_type) or ()]  # fmt: skip


# ---- MLIR's side ---------------------------------------------------------------------


def receive(frame: Frame, numba_type: Any, arguments: Iterator[Any]) -> Slot:
    """The variable that the next ``arguments`` stand for, at the insertion point."""
    if isinstance(numba_type, types.BaseTuple):
        members = tuple(receive(frame, member, arguments) for member in numba_type)
        return Slot(numba_type, frame.undefined(numba_type).value, elements=members)
    if isinstance(numba_type, types.Literal):
        # the value is for statements that are kept, and gone where there are none
        value = frame.undefined(numba_type).value
        return Slot(numba_type, value, numba_type.literal_value)
    if type(numba_type) is types.Array:
        return _receive_array(numba_type, arguments)
    value = next(arguments)
    index = None
    if numba_type in (types.uint64, types.uintp):
        index = build.index_cast(value, build.index_type())
    return Slot(numba_type, value, index=index)


def _receive_array(array: Any, arguments: Iterator[Any]) -> Slot:
    data = next(arguments)
    sizes = [next(arguments) for _ in range(array.ndim)]
    if array.layout == "A":
        strides = [next(arguments) for _ in range(array.ndim)]
    else:
        strides = _dense_strides(sizes, array.layout)
    native = array_type(array)
    value = build.value("builtin.unrealized_conversion_cast", [_descriptor(data, sizes, strides)],
                        native)  # fmt: skip
    indices = tuple(build.index_cast(size, build.index_type()) for size in sizes)
    return Slot(array, value, sizes=indices)


def _dense_strides(sizes: Sequence[Any], layout: str) -> list[Any]:
    """Strides of a contiguous array: NumPy's own may be anything where a size is 0 or 1."""
    word = mlir.ir.IntegerType.get_signless(64)
    strides = [_word(1)]
    for size in sizes[:-1] if layout == "F" else reversed(sizes[1:]):
        strides.append(build.value("llvm.mul", [strides[-1], size], word))
    strides = strides[: len(sizes)]
    return strides if layout == "F" else strides[::-1]


def _word(number: int) -> Any:
    ir = mlir.ir
    word = ir.IntegerType.get_signless(64)
    return build.value("llvm.mlir.constant", (), word, {"value": ir.IntegerAttr.get(word, number)})


def _descriptor(data: Any, sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
    """MLIR's memref descriptor: pointers, offset, sizes, strides."""
    rank = len(sizes)
    tail = f", array<{rank} x i64>, array<{rank} x i64>" if rank else ""
    kind = mlir.ir.Type.parse(f"!llvm.struct<(ptr, ptr, i64{tail})>")
    value = build.value("llvm.mlir.undef", (), kind)
    fields: list[tuple[Any, list[int]]] = [(data, [0]), (data, [1]), (_word(0), [2])]
    fields += [(size, [3, axis]) for axis, size in enumerate(sizes)]
    fields += [(stride, [4, axis]) for axis, stride in enumerate(strides)]
    for field, position in fields:
        where = mlir.ir.DenseI64ArrayAttr.get(position)
        value = build.value("llvm.insertvalue", [value, field], kind, {"position": where})
    return value
