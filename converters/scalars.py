"""Scalar types and constants: Numba type <-> MLIR type.

======================  ==================  =====================================
Numba                   MLIR                canonical Numba type of the MLIR type
======================  ==================  =====================================
boolean                 i1                  boolean
intN, uintN             iN                  intN
floatN                  fN                  floatN
complex64, complex128   complex<f32, f64>   the same
(sizes and indices)     index               uintp
======================  ==================  =====================================

Numba has no CPU representation for float16 values (arrays of them exist); the type
is mapped all the same, so that such arrays can be imported.
"""

from __future__ import annotations

import functools
from typing import Any

from numba.core import types

from numba_mlir import mlir

#: MLIR type, as text -> the Numba type that stands for it after export
CANONICAL: dict[str, types.Type] = {
    "i1": types.boolean,
    "i8": types.int8,
    "i16": types.int16,
    "i32": types.int32,
    "i64": types.int64,
    "index": types.uintp,
    "f16": types.float16,
    "f32": types.float32,
    "f64": types.float64,
    "complex<f32>": types.complex64,
    "complex<f64>": types.complex128,
}


def kind(ty: types.Type) -> str | None:
    """``"bool"``, ``"int"``, ``"float"`` or ``"complex"``; None when not a scalar."""
    return _kind(type(ty))


@functools.cache
def _kind(class_: type) -> str | None:
    """`kind` of the instances of a class; Numba's classes of types are slow to test."""
    kinds = {types.Boolean: "bool", types.Integer: "int", types.Float: "float",
             types.Complex: "complex"}  # fmt: skip
    return next((found for base, found in kinds.items() if issubclass(class_, base)), None)


def is_signed(ty: types.Type) -> bool:
    """Whether ``ty`` is a signed integer type (a boolean is not)."""
    return isinstance(ty, types.Integer) and ty.signed


def to_mlir(ty: types.Type) -> Any | None:
    """The MLIR type of scalar Numba type ``ty`` in the current context, or None."""
    ty = types.unliteral(ty)
    ir = mlir.ir
    match kind(ty):
        case "bool":
            return ir.IntegerType.get_signless(1)
        case "int":
            return ir.IntegerType.get_signless(ty.bitwidth)
        case "float":
            return _float_type(ty.bitwidth)
        case "complex":
            return ir.ComplexType.get(_float_type(ty.bitwidth // 2))
        case _:
            return None


def _float_type(bits: int) -> Any:
    ir = mlir.ir
    return {16: ir.F16Type, 32: ir.F32Type, 64: ir.F64Type}[bits].get()


@functools.lru_cache(maxsize=256)
def canonical(mlir_type: Any) -> types.Type | None:
    """The Numba type that stands for a scalar MLIR type after export, or None."""
    return CANONICAL.get(str(mlir_type))


def wrap(value: int, bits: int) -> int:
    """``value`` modulo ``2**bits``, as the signed two's complement number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def constant(ty: types.Type, value: Any) -> Any:
    """An SSA constant of scalar type ``ty``; integers wrap to two's complement.

    Raises TypeError when ``ty`` is not a scalar type.
    """
    ir, arith = mlir.ir, mlir.arith
    type_ = to_mlir(ty)
    match kind(ty):
        case "bool":
            return arith.constant(type_, ir.BoolAttr.get(bool(value)))
        case "int":
            return arith.constant(type_, ir.IntegerAttr.get(type_, wrap(int(value), ty.bitwidth)))
        case "float":
            return arith.constant(type_, ir.FloatAttr.get(type_, float(value)))
        case "complex":
            part = ty.underlying_float
            value = complex(value)
            return mlir.complex.create_(
                type_, constant(part, value.real), constant(part, value.imag)
            )
        case _:
            raise TypeError(f"no MLIR constant of Numba type {ty}")


def index_constant(value: int) -> Any:
    """An SSA constant of type ``index``."""
    index = mlir.ir.IndexType.get()
    return mlir.arith.constant(index, mlir.ir.IntegerAttr.get(index, value))
