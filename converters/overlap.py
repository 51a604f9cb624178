"""Where arrays lie, at run time: ``numba.disjoint``, ``numba.column_major``, and addresses."""

from __future__ import annotations

from typing import Any

from llvmlite import ir as llvm
from numba.core import types
from numba.core.cgutils import unpack_tuple
from numba.core.extending import intrinsic
from numba.core.typing import signature
from numba.np.arrayobj import make_array


@intrinsic
def disjoint(typingctx: Any, first: Any, second: Any) -> Any:
    """True when two arrays have no byte in common, by the range of bytes each one spans.

    Interleaved arrays (every second element of one buffer) count as overlapping.
    """
    if not isinstance(first, types.Array) or not isinstance(second, types.Array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return test(context, builder, sig.args, args)

    return signature(types.boolean, first, second), codegen


@intrinsic
def column_major(typingctx: Any, array: Any) -> Any:
    """True when an array lies closer together along its first axis than along its last."""
    if not isinstance(array, types.Array) or array.ndim < 2:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = make_array(array)(context, builder, args[0])
        strides = unpack_tuple(builder, whole.strides, array.ndim)
        first, last = (_magnitude(builder, strides[axis]) for axis in (0, -1))
        return builder.icmp_signed("<", first, last)

    return signature(types.boolean, array), codegen


@intrinsic
def address(typingctx: Any, array: Any) -> Any:
    """The number of an array's first byte."""
    if not isinstance(array, types.Array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = make_array(array)(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.uintp))

    return signature(types.uintp, array), codegen


#: operations on arrays that give an i1, and the intrinsics that they are exported as
TESTS = {"numba.disjoint": disjoint, "numba.column_major": column_major}
#: with those that give an index
PLACES = {**TESTS, "memref.extract_aligned_pointer_as_index": address}


def _magnitude(builder: Any, value: Any) -> Any:
    zero = llvm.Constant(value.type, 0)
    negative = builder.icmp_signed("<", value, zero)
    return builder.select(negative, builder.sub(zero, value), value)


def test(context: Any, builder: Any, array_types: Any, arrays: Any) -> Any:
    """Code of `disjoint` for two array values, an i1."""
    low_a, high_a = _span(context, builder, array_types[0], arrays[0])
    low_b, high_b = _span(context, builder, array_types[1], arrays[1])
    before = builder.icmp_unsigned("<=", high_a, low_b)
    behind = builder.icmp_unsigned("<=", high_b, low_a)
    return builder.or_(before, behind)


def _span(context: Any, builder: Any, array_type: Any, value: Any) -> tuple[Any, Any]:
    """First byte and byte behind the last one; both the same for an empty array."""
    array = make_array(array_type)(context, builder, value)
    intp = context.get_value_type(types.intp)
    zero = llvm.Constant(intp, 0)
    low = high = builder.ptrtoint(array.data, intp)
    empty = llvm.Constant(llvm.IntType(1), 0)
    sizes = unpack_tuple(builder, array.shape, array_type.ndim) if array_type.ndim else []
    strides = unpack_tuple(builder, array.strides, array_type.ndim) if array_type.ndim else []
    start = low
    for size, stride in zip(sizes, strides, strict=True):
        empty = builder.or_(empty, builder.icmp_signed("==", size, zero))
        extent = builder.mul(builder.sub(size, llvm.Constant(intp, 1)), stride)
        negative = builder.icmp_signed("<", extent, zero)
        low = builder.add(low, builder.select(negative, extent, zero))
        high = builder.add(high, builder.select(negative, zero, extent))
    high = builder.add(high, array.itemsize)
    return builder.select(empty, start, low), builder.select(empty, start, high)
