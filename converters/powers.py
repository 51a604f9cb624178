"""Powers: ``llvm.pow`` for floats, repeated squaring for constant integer exponents.

Numba computes ``x ** n`` of an integer ``n`` by a loop of squarings; for a constant n the
products are known, so they are written out, in the loop's order.  Of complex numbers it
multiplies out squares alone.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import scalars
from numba_mlir.converters.scalars import constant, kind

#: above it Numba's loop calls math.pow instead
_LARGEST_EXPONENT = 0x10000
_EXTENSIONS = {"arith.trunci", "arith.extsi", "arith.extui"}


def constant_integer(value: Any) -> int | None:
    """The signed value of an integer constant, seen through integer casts, else None."""
    owner = value.owner
    name = getattr(owner, "name", "")
    if name == "arith.constant":
        return owner.attributes["value"].value
    if name not in _EXTENSIONS:
        return None
    source = owner.operands[0]
    number = constant_integer(source)
    if number is None or name == "arith.extsi":
        return number
    if name == "arith.extui":
        return number & ((1 << source.type.width) - 1)
    return scalars.wrap(number, value.type.width)


def _constant_number(value: Any) -> complex | None:
    """The number that a constant is, also one cast from an integer to a float or complex."""
    owner = value.owner
    match getattr(owner, "name", ""):
        case "arith.constant":
            return owner.attributes["value"].value
        case "arith.sitofp" | "arith.uitofp":
            return constant_integer(owner.operands[0])
        case "complex.constant":
            parts = [mlir.ir.FloatAttr(part).value for part in owner.attributes["value"]]
            return complex(*parts)
        case "complex.create":
            real, imag = map(_constant_number, owner.operands)
            return None if real is None or imag is None else complex(real.real, imag.real)
        case _:
            return None


def square(ty: types.Type, a: Any, b: Any) -> Any | None:
    """``a ** b`` of complex numbers where ``b`` is the constant 2."""
    is_square = kind(ty) == "complex" and _constant_number(b) == 2
    return mlir.complex.mul(a, a) if is_square else None


def power(ty: types.Type, a: Any, b: Any) -> Any | None:
    """``a ** b`` of two values of type ``ty``: floats, or a constant ``b`` >= 0."""
    return float_power(ty, a, b) if kind(ty) == "float" else by_constant(ty, a, b, ty)


def float_power(ty: types.Type, a: Any, b: Any) -> Any | None:
    """``llvm.pow``; None for other types than floats."""
    return mlir.math.powf(a, b) if kind(ty) == "float" else None


def by_constant(ty: types.Type, a: Any, b: Any, b_ty: types.Type) -> Any | None:
    """``a ** b`` of an ``a`` of type ``ty`` and an integer ``b`` of type ``b_ty``.

    None when ``b`` is not a constant, or is negative: Numba raises for a zero ``a`` then,
    under either error model.
    """
    exponent = constant_integer(b) if kind(b_ty) == "int" else None
    if exponent is None or kind(ty) not in ("int", "float"):
        return None
    return _product(ty, a, exponent) if 0 <= exponent <= _LARGEST_EXPONENT else None


def _product(ty: types.Type, a: Any, exponent: int) -> Any:
    multiply = mlir.arith.mulf if kind(ty) == "float" else mlir.arith.muli
    result = None
    while exponent:
        if exponent & 1:
            result = a if result is None else multiply(result, a)
        exponent >>= 1
        if exponent:
            a = multiply(a, a)
    return constant(ty, 1) if result is None else result
