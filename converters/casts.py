"""Conversions between scalar types, with the semantics of Numba's ``context.cast``.

Conversions of a float that is out of the integer's range are undefined (poison) in
MLIR as they are in the LLVM IR that Numba emits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir as llvm
from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import scalars
from numba_mlir.converters.lowering import Emission
from numba_mlir.converters.registry import EMITTERS

# ---- forward ----------------------------------------------------------------------


def cast(value: Any, from_ty: types.Type, to_ty: types.Type) -> Any | None:
    """``value`` of Numba type ``from_ty`` converted to ``to_ty``.

    None where Numba has no conversion (complex to real) or a type is not scalar.
    """
    from_ty, to_ty = types.unliteral(from_ty), types.unliteral(to_ty)
    if from_ty == to_ty:
        return value
    source, target = scalars.kind(from_ty), scalars.kind(to_ty)
    if source is None or target is None:
        return None
    if target == "bool":
        return is_true(value, from_ty)
    if target == "complex":
        return _to_complex(value, from_ty, to_ty)
    if source == "complex":
        return None
    return _real(value, from_ty, to_ty)


def cast_all(
    values: Sequence[Any], from_tys: Sequence[types.Type], to_tys: Sequence[types.Type]
) -> tuple[Any, ...] | None:
    """Each value cast to its target type; None where one cannot be."""
    triples = zip(values, from_tys, to_tys, strict=True)
    converted = tuple(cast(*triple) for triple in triples)
    return None if any(value is None for value in converted) else converted


def is_true(value: Any, ty: types.Type) -> Any:
    """``bool(value)`` as i1: different from zero; NaN is true."""
    arith = mlir.arith
    match scalars.kind(ty):
        case "bool":
            return value
        case "int":
            return arith.cmpi(arith.CmpIPredicate.ne, value, scalars.constant(ty, 0))
        case "float":
            return arith.cmpf(arith.CmpFPredicate.UNE, value, scalars.constant(ty, 0.0))
        case "complex":
            part = ty.underlying_float
            parts = (mlir.complex.re(value), mlir.complex.im(value))
            return arith.ori(*(is_true(p, part) for p in parts))
        case _:
            raise TypeError(f"no truth value for Numba type {ty}")


def _real(value: Any, from_ty: types.Type, to_ty: types.Type) -> Any:
    """Between two of boolean (source only), integer and float."""
    arith = mlir.arith
    type_ = scalars.to_mlir(to_ty)
    source, target = scalars.kind(from_ty), scalars.kind(to_ty)
    from_bits = 1 if source == "bool" else from_ty.bitwidth
    if source == target == "float":
        return (arith.extf if from_bits < to_ty.bitwidth else arith.truncf)(type_, value)
    if source == "float":
        return (arith.fptosi if to_ty.signed else arith.fptoui)(type_, value)
    signed = scalars.is_signed(from_ty)
    if target == "float":
        return (arith.sitofp if signed else arith.uitofp)(type_, value)
    if from_bits == to_ty.bitwidth:
        return value
    if from_bits > to_ty.bitwidth:
        return arith.trunci(type_, value)
    return (arith.extsi if signed else arith.extui)(type_, value)


def _to_complex(value: Any, from_ty: types.Type, to_ty: types.Type) -> Any:
    part = to_ty.underlying_float
    if scalars.kind(from_ty) == "complex":
        source = from_ty.underlying_float
        parts = [cast(p, source, part) for p in (mlir.complex.re(value), mlir.complex.im(value))]
    else:
        parts = [cast(value, from_ty, part), scalars.constant(part, 0.0)]
    return mlir.complex.create_(scalars.to_mlir(to_ty), *parts)


def to_index(value: Any, ty: types.Type) -> Any:
    """An integer ``value`` of Numba type ``ty`` as ``index``."""
    arith = mlir.arith
    convert = arith.index_cast if scalars.is_signed(ty) else arith.index_castui
    return convert(mlir.ir.IndexType.get(), value)


def from_index(value: Any, ty: types.Type) -> Any:
    """An ``index`` value, which is not negative, as integer Numba type ``ty``."""
    return mlir.arith.index_cast(scalars.to_mlir(ty), value)


# ---- backward ---------------------------------------------------------------------

for _name, _method in {
    "arith.extsi": "sext",
    "arith.extui": "zext",
    "arith.trunci": "trunc",
    "arith.extf": "fpext",
    "arith.truncf": "fptrunc",
    "arith.sitofp": "sitofp",
    "arith.uitofp": "uitofp",
    "arith.fptosi": "fptosi",
    "arith.fptoui": "fptoui",
    "arith.bitcast": "bitcast",
}.items():
    EMITTERS.add(_name, lambda e, m=_method: getattr(e.builder, m)(e.args[0], e.result_type))


def _resize(e: Emission, extend: str) -> llvm.Value:
    """Between ``index`` (64 bits) and a signless integer."""
    (value,) = e.args
    if value.type.width > e.result_type.width:
        return e.builder.trunc(value, e.result_type)
    if value.type.width == e.result_type.width:
        return value
    return getattr(e.builder, extend)(value, e.result_type)


EMITTERS.update(
    {
        "arith.index_cast": lambda e: _resize(e, "sext"),
        "arith.index_castui": lambda e: _resize(e, "zext"),
        "index.casts": lambda e: _resize(e, "sext"),
        "index.castu": lambda e: _resize(e, "zext"),
    }
)
