"""Export of what the pass GpuOutline made: launches, and the host's work on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters.overlap import disjoint
from numba_mlir.gpu import intrinsics
from numba_mlir.passes.base import source_position
from numba_mlir.roundtrip.exporter import Exporter
from numba_mlir.roundtrip.values import name_hint


def _tuple(ex: Exporter, members: Sequence[Any]) -> Any:
    emit = ex.emit
    kind = types.Tuple.from_types([emit.type_of(one) for one in members])
    return emit.assign(ir.Expr.build_tuple(list(members), emit.loc), kind, "$args")


def _launch(ex: Exporter, op: Any) -> None:
    sizes = list(op.attributes["operandSegmentSizes"])
    operands = list(op.operands)[sizes[0] :]
    numbers = [ex.number(operands[i], types.int64) for i in (0, 1, 2, 3, 4)]
    arguments = [_argument(ex, value) for value in operands[6:]]
    module, kernel = str(op.attributes["kernel"]).replace("@", "").split("::")
    assert module, op
    call = intrinsics.launcher(ex.kernels[kernel])
    members = [_tuple(ex, numbers), _tuple(ex, arguments)]
    ex.emit.call(call, call._name, members, [ex.emit.type_of(one) for one in members])


def _argument(ex: Exporter, value: Any) -> Any:
    """An array, or a number in exactly the type that the kernel has for it."""
    return ex.var(value) if str(value.type).startswith("memref<") else ex.number(value)


def _alloc(ex: Exporter, op: Any) -> None:
    like, *sizes = list(op.operands)
    dtype = ex.types.of(op.results[0]).dtype
    if "numba.scratch" in op.attributes:
        number = mlir.ir.IntegerAttr(op.attributes["numba.scratch"]).value
        call = intrinsics.scratch(dtype, number)
    else:
        file, line = source_position(op.location)
        call = intrinsics.allocator(dtype, f" ({file}:{line})" if line else "")
    members = [ex.var(like), _tuple(ex, [ex.number(size, types.int64) for size in sizes])]
    var = ex.emit.call(
        call, "allocate", members, [ex.emit.type_of(one) for one in members],
        name_hint(op.location),
    )  # fmt: skip
    ex.alias(op.results[0], var)


def _called(ex: Exporter, op: Any, intrinsic: Any, name: str) -> None:
    """A call with all operands of ``op``, which are arrays, that gives its result."""
    arrays = [ex.var(operand) for operand in op.operands]
    kinds = [ex.emit.type_of(array) for array in arrays]
    ex.alias(op.results[0], ex.emit.call(intrinsic, name, arrays, kinds))


def _landing(ex: Exporter, op: Any) -> None:
    _called(ex, op, intrinsics.landing, "landing")


def _counter(ex: Exporter, op: Any) -> None:
    _called(ex, op, intrinsics.counter, "counter")


def _place(ex: Exporter, op: Any) -> None:
    number = mlir.ir.IntegerAttr(op.attributes["number"]).value
    _called(ex, op, intrinsics.place(number, ex.types.of(op.results[0]).dtype), "place")


def _arrived(ex: Exporter, op: Any) -> None:
    _called(ex, op, intrinsics.arrived, "arrived")


def _indices(ex: Exporter, values: Sequence[Any]) -> Any:
    return _tuple(ex, [ex.number(value, types.int64) for value in values])


def _load(ex: Exporter, op: Any) -> None:
    array, *indices = list(op.operands)
    members = [ex.var(array), _indices(ex, indices)]
    var = ex.emit.call(intrinsics.read, "read", members, [ex.emit.type_of(m) for m in members])
    ex.alias(op.results[0], var)


def _store(ex: Exporter, op: Any) -> None:
    value, array, *indices = list(op.operands)
    dtype = ex.types.of(array).dtype
    members = [ex.var(array), _indices(ex, indices), ex.number(value, dtype)]
    ex.emit.call(intrinsics.write, "write", members, [ex.emit.type_of(m) for m in members])


def _same(ex: Exporter, op: Any) -> None:
    """An array as a kernel sees it: the variable stays."""
    ex.alias(op.results[0], ex.var(op.operands[0]))


def unaliased(ex: Exporter, op: Any) -> None:
    """``numba.unaliased`` of arrays on a device."""
    arrays = [ex.var(value) for value in op.operands]
    kinds = [ex.emit.type_of(array) for array in arrays]
    keep = ex.emit.call(disjoint, "disjoint", arrays, kinds)
    var = ex.emit.call(
        intrinsics.copy_unless, "copy_unless", [keep, arrays[0]], [types.boolean, kinds[0]],
        name_hint(op.location),
    )  # fmt: skip
    ex.alias(op.results[0], var)


RULES: dict[str, Callable[[Exporter, Any], None]] = {
    "gpu.launch_func": _launch,
    "builtin.unrealized_conversion_cast": _same,
    "numba.device_alloc": _alloc,
    "numba.device_arrived": _arrived,
    "numba.device_counter": _counter,
    "numba.device_landing": _landing,
    "numba.device_load": _load,
    "numba.device_place": _place,
    "numba.device_store": _store,
    "numba.unaliased": unaliased,
}
