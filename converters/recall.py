"""Calls of our own intrinsics, met when a function comes back for another round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters import (
    arrays,
    broadcasting,
    build,
    casts,
    divisions,
    intrinsics,
    kept,
    scalars,
)
from numba_mlir.converters.broadcasting import Rule
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.lowering import OpSpec
from numba_mlir.converters.overlap import PLACES, TESTS
from numba_mlir.converters.slots import Slot


def call(frame: Frame, function: Any, args: Sequence[Slot], expr: Any) -> Slot | None:
    """The result of calling one of our intrinsics; None for another function."""
    spec = intrinsics.spec_of(function)
    if spec is not None:
        return _operation(frame, spec, args)
    target = intrinsics.cast_of(function)
    if target is not None:
        return _cast(frame, target, args[0])
    rule = broadcasting.rule_of(function)
    if rule is not None:
        return _broadcast(frame, rule, args[0], expr)
    if function is broadcasting.unaliased_source:
        return _unaliased(frame, *args)
    if function in (divisions.divide, divisions.quotient):
        return divisions.emit(frame, function, args, expr)
    place = next((name for name, known in PLACES.items() if function is known), None)
    if place is not None and all(arrays.is_native(arg) for arg in args):
        return _place(place, [arg.value for arg in args])
    return None


def _place(name: str, operands: Sequence[Any]) -> Slot:
    if name in TESTS:
        bit = scalars.to_mlir(types.boolean)
        return Slot(types.boolean, build.value(name, operands, bit))
    return _number(build.value(name, operands, build.index_type()))


def _number(index: Any) -> Slot:
    return Slot(types.uintp, build.index_cast(index, scalars.to_mlir(types.uintp)), index=index)


def _operation(frame: Frame, spec: OpSpec, args: Sequence[Slot]) -> Slot | None:
    operands = [_operand(frame, *pair) for pair in zip(args, spec.operands, strict=True)]
    if any(operand is None for operand in operands):
        return None
    attributes = {name: _attribute(name, value) for name, value in spec.attributes}
    if spec.result != types.uintp:
        native = scalars.to_mlir(spec.result)
        return Slot(spec.result, build.value(spec.name, operands, native, attributes))
    index = build.value(spec.name, operands, build.index_type(), attributes)
    return _number(index)


def _operand(frame: Frame, slot: Slot, numba_type: Any) -> Any | None:
    """The argument in the type that the operation has it (uintp is an ``index``)."""
    if numba_type == types.uintp:
        return frame.size(slot)
    number = frame.scalar(slot)
    return None if number is None else casts.cast(*number, numba_type)


def _attribute(name: str, value: Any) -> Any:
    ir_ = mlir.ir
    if name == "predicate":
        return ir_.IntegerAttr.get(ir_.IntegerType.get_signless(64), value)
    if name == "isExact":
        return ir_.UnitAttr.get()
    kind = {"fastmath": "arith.fastmath", "overflowFlags": "arith.overflow"}.get(name)
    if kind is not None:
        return ir_.Attribute.parse(f"#{kind}<{', '.join(value)}>")
    return ir_.Attribute.parse(f"#index<cmp_predicate {value}>")


def _cast(frame: Frame, target: Any, slot: Slot) -> Slot | None:
    number = frame.scalar(slot)
    value = None if number is None else casts.cast(*number, target)
    if value is None:
        return None
    wide = isinstance(target, types.Integer) and target.bitwidth == 64
    return Slot(target, value, index=slot.index if wide else None)


def _broadcast(frame: Frame, rule: Rule, whole: Slot, expr: Any) -> Slot | None:
    """The common sizes, as a tuple whose members are known."""
    sizes = [frame.size(slot) for slot in whole.elements or ()]
    if len(sizes) != sum(rule.ranks) or any(size is None for size in sizes):
        return None
    common = broadcasting.emit(rule, sizes)
    if not common:
        return frame.undefined(types.none)
    wide = scalars.to_mlir(types.intp)
    members = [Slot(types.intp, build.index_cast(size, wide), index=size) for size in common]
    made = kept.Kept(frame, expr.loc)
    numba_type = types.UniTuple(types.intp, len(members))
    items = [made.var((slot.value, slot.type)) for slot in members]
    value = made.assign(ir.Expr.build_tuple(items, expr.loc), numba_type)
    return Slot(numba_type, value, elements=tuple(members))


def _unaliased(frame: Frame, source: Slot, target: Slot) -> Slot | None:
    if not (arrays.is_native(source) and arrays.is_native(target)):
        return None
    kind = frame.type_attribute(source.type)
    value = broadcasting.unaliased(source.value, target.value, kind)
    return Slot(source.type, value, sizes=source.sizes)
