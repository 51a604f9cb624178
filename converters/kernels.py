"""Forward rules on operands of one type: what Python's operators and NumPy's ufuncs share.

A kernel takes the operands' Numba type and their MLIR values, and returns the result,
or None where the type has no exact form.  Nothing here executes undefined behaviour:
integer divisions select a harmless divisor first.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import scalars
from numba_mlir.converters.scalars import constant, kind

Type = types.Type


def _pick(ty: Type, operands: tuple[Any, ...], **names: str) -> Any | None:
    """Apply the MLIR function that ``names`` gives for the kind of ``ty``, e.g.
    ``float="arith.addf"``; None when there is none."""
    name = names.get(kind(ty) or "")
    if name is None:
        return None
    dialect, function = name.split(".")
    return getattr(getattr(mlir, dialect), function)(*operands)


def _overflowing(ty: Type, name: str, a: Any, b: Any) -> Any:
    """Integer ``arith.<name>`` that wraps.

    On int64, the type of Python's integers and of indices, it has ``nsw`` as in Numba's
    own lowering, which lets LLVM see that ``i + 1`` of an index is not negative.
    """
    flags = mlir.ir.Attribute.parse("#arith.overflow<nsw>") if ty == types.int64 else None
    return getattr(mlir.arith, name)(a, b, overflow_flags=flags)


def add(ty: Type, a: Any, b: Any) -> Any | None:
    if kind(ty) == "int":
        return _overflowing(ty, "addi", a, b)
    return _pick(ty, (a, b), bool="arith.ori", float="arith.addf", complex="complex.add")


def sub(ty: Type, a: Any, b: Any) -> Any | None:
    if kind(ty) == "int":
        return _overflowing(ty, "subi", a, b)
    return _pick(ty, (a, b), bool="arith.xori", float="arith.subf", complex="complex.sub")


def mul(ty: Type, a: Any, b: Any) -> Any | None:
    if kind(ty) == "int":
        return _overflowing(ty, "muli", a, b)
    return _pick(ty, (a, b), bool="arith.andi", float="arith.mulf", complex="complex.mul")


def square(ty: Type, a: Any) -> Any | None:
    if kind(ty) == "int":
        return mlir.arith.muli(a, a)
    return None if kind(ty) == "bool" else mul(ty, a, a)


def bit_and(ty: Type, a: Any, b: Any) -> Any | None:
    return _pick(ty, (a, b), bool="arith.andi", int="arith.andi")


def bit_or(ty: Type, a: Any, b: Any) -> Any | None:
    return _pick(ty, (a, b), bool="arith.ori", int="arith.ori")


def bit_xor(ty: Type, a: Any, b: Any) -> Any | None:
    return _pick(ty, (a, b), bool="arith.xori", int="arith.xori")


def invert(ty: Type, a: Any) -> Any | None:
    if kind(ty) not in ("bool", "int"):
        return None
    return mlir.arith.xori(a, constant(ty, -1))


def shift_left(ty: Type, a: Any, b: Any) -> Any | None:
    """``a << b``; undefined for ``b`` outside 0 … width - 1, as in Numba."""
    return _pick(ty, (a, b), int="arith.shli")


def shift_right(ty: Type, a: Any, b: Any) -> Any | None:
    """``a >> b``; undefined for ``b`` outside 0 … width - 1, as in Numba."""
    return _pick(ty, (a, b), int="arith.shrsi" if scalars.is_signed(ty) else "arith.shrui")


def negate(ty: Type, a: Any) -> Any | None:
    if kind(ty) == "int":
        return mlir.arith.subi(constant(ty, 0), a)
    return _pick(ty, (a,), float="arith.negf", complex="complex.neg")


def positive(ty: Type, a: Any) -> Any | None:
    return a


def absolute(ty: Type, a: Any) -> Any | None:
    """``abs``; the smallest signed integer stays as it is; complex gives a float."""
    if kind(ty) == "int" and not scalars.is_signed(ty):
        return a
    return _pick(ty, (a,), int="math.absi", float="math.absf", complex="complex.abs")


def conjugate(ty: Type, a: Any) -> Any | None:
    if kind(ty) != "complex":
        return a
    parts = mlir.complex.re(a), mlir.arith.negf(mlir.complex.im(a))
    return mlir.complex.create_(a.type, *parts)


def real(ty: Type, a: Any) -> Any:
    return mlir.complex.re(a) if kind(ty) == "complex" else a


def imag(ty: Type, a: Any) -> Any:
    return mlir.complex.im(a) if kind(ty) == "complex" else constant(ty, 0)


def divide_float(ty: Type, a: Any, b: Any) -> Any | None:
    """IEEE division; None for other types."""
    return _pick(ty, (a, b), float="arith.divf")


def reciprocal(ty: Type, a: Any) -> Any | None:
    return mlir.arith.divf(constant(ty, 1.0), a) if kind(ty) == "float" else None


def sign(ty: Type, a: Any) -> Any | None:
    """np.sign, of unsigned integers as in NumPy (Numba compares them as signed ones)."""
    arith = mlir.arith
    if kind(ty) == "float":
        zero, one, minus = (constant(ty, n) for n in (0.0, 1.0, -1.0))
        below = arith.select(_compare("OLT", a, zero), minus, a)
        return arith.select(_compare("OGT", a, zero), one, below)
    if kind(ty) != "int":
        return None
    zero, one = constant(ty, 0), constant(ty, 1)
    is_zero = arith.cmpi(arith.CmpIPredicate.eq, a, zero)
    if not ty.signed:
        return arith.select(is_zero, zero, one)
    nonzero = arith.select(arith.cmpi(arith.CmpIPredicate.sgt, a, zero), one, constant(ty, -1))
    return arith.select(is_zero, zero, nonzero)


def signbit(ty: Type, a: Any) -> Any | None:
    """np.signbit of a float."""
    if kind(ty) != "float":
        return None
    bits = mlir.ir.IntegerType.get_signless(ty.bitwidth)
    zero = mlir.arith.constant(bits, mlir.ir.IntegerAttr.get(bits, 0))
    as_integer = mlir.arith.bitcast(bits, a)
    return mlir.arith.cmpi(mlir.arith.CmpIPredicate.slt, as_integer, zero)


# ---- integer division -------------------------------------------------------------


def _safe_divisor(ty: Type, a: Any, b: Any) -> tuple[Any, Any]:
    """``(bad, divisor)``: ``bad`` where b is zero or the quotient overflows; the divisor
    is 1 there."""
    arith = mlir.arith
    eq = arith.CmpIPredicate.eq
    bad = arith.cmpi(eq, b, constant(ty, 0))
    if scalars.is_signed(ty):
        smallest = arith.cmpi(eq, a, constant(ty, 1 << (ty.bitwidth - 1)))
        overflow = arith.andi(smallest, arith.cmpi(eq, b, constant(ty, -1)))
        bad = arith.ori(bad, overflow)
    return bad, arith.select(bad, constant(ty, 1), b)


def _signs_differ(ty: Type, remainder: Any, b: Any) -> Any:
    """Whether truncated division has to be moved towards minus infinity."""
    arith = mlir.arith
    inexact = arith.cmpi(arith.CmpIPredicate.ne, remainder, constant(ty, 0))
    differ = arith.cmpi(arith.CmpIPredicate.slt, arith.xori(remainder, b), constant(ty, 0))
    return arith.andi(inexact, differ)


def floor_divide_int(ty: Type, a: Any, b: Any) -> Any | None:
    """Floored quotient; 0 for a zero divisor and for ``min // -1``."""
    arith = mlir.arith
    if kind(ty) != "int":
        return None
    bad, divisor = _safe_divisor(ty, a, b)
    if not ty.signed:
        return arith.select(bad, constant(ty, 0), arith.divui(a, divisor))
    quotient = arith.divsi(a, divisor)
    fix = _signs_differ(ty, arith.remsi(a, divisor), divisor)
    floored = arith.select(fix, arith.subi(quotient, constant(ty, 1)), quotient)
    return arith.select(bad, constant(ty, 0), floored)


def remainder_int(ty: Type, a: Any, b: Any) -> Any | None:
    """Remainder with the divisor's sign; 0 for a zero divisor and for ``min % -1``."""
    arith = mlir.arith
    if kind(ty) != "int":
        return None
    bad, divisor = _safe_divisor(ty, a, b)
    if not ty.signed:
        return arith.select(bad, constant(ty, 0), arith.remui(a, divisor))
    remainder = arith.remsi(a, divisor)
    fix = _signs_differ(ty, remainder, divisor)
    floored = arith.select(fix, arith.addi(remainder, divisor), remainder)
    return arith.select(bad, constant(ty, 0), floored)


# ---- float division ---------------------------------------------------------------


def _compare(predicate: str, a: Any, b: Any) -> Any:
    return mlir.arith.cmpf(getattr(mlir.arith.CmpFPredicate, predicate), a, b)


def python_divmod_float(ty: Type, x: Any, y: Any) -> tuple[Any, Any]:
    """``divmod`` of Python's ``//`` and ``%`` under Numba's "numpy" error model.

    A zero (or NaN) divisor gives ``x / y`` and ``fmod(x, y)``.
    """
    arith = mlir.arith
    zero, one = constant(ty, 0.0), constant(ty, 1.0)
    mod = arith.remf(x, y)
    div = arith.divf(arith.subf(x, mod), y)
    inexact = _compare("UNE", mod, zero)
    y_negative = _compare("OLT", y, zero)
    differ = arith.andi(inexact, arith.xori(y_negative, _compare("OLT", mod, zero)))
    signed_zero = arith.select(y_negative, constant(ty, -0.0), zero)
    result_mod = arith.select(inexact, arith.select(differ, arith.addf(mod, y), mod), signed_zero)
    div = arith.select(differ, arith.subf(div, one), div)
    floor = mlir.math.floor(div)
    above = _compare("OGT", arith.subf(div, floor), constant(ty, 0.5))
    nearest = arith.select(above, arith.addf(floor, one), floor)
    tiny = arith.divf(arith.mulf(arith.mulf(div, div), x), y)
    result_div = arith.select(_compare("ONE", div, zero), nearest, tiny)
    by_zero = _compare("UEQ", y, zero)
    quotient = arith.select(by_zero, arith.divf(x, y), result_div)
    return quotient, arith.select(by_zero, mod, result_mod)


def numpy_floor_divide_float(ty: Type, a: Any, b: Any) -> Any | None:
    """Numba's np.floor_divide: ``floor(a / b)``."""
    return mlir.math.floor(mlir.arith.divf(a, b)) if kind(ty) == "float" else None


def numpy_remainder_float(ty: Type, a: Any, b: Any) -> Any | None:
    """Numba's np.remainder: fmod moved to the divisor's sign."""
    arith = mlir.arith
    if kind(ty) != "float":
        return None
    zero = constant(ty, 0.0)
    rem = arith.remf(a, b)
    differ = arith.xori(_compare("OLT", b, zero), _compare("OLT", rem, zero))
    fix = arith.andi(_compare("ONE", rem, zero), differ)
    return arith.addf(rem, arith.select(fix, b, zero))


def fmod(ty: Type, a: Any, b: Any) -> Any | None:
    """np.fmod.  Numba computes the UNSIGNED remainder of integers, and 0 for a zero
    divisor; that is kept."""
    arith = mlir.arith
    if kind(ty) == "float":
        return arith.remf(a, b)
    if kind(ty) != "int":
        return None
    bad = arith.cmpi(arith.CmpIPredicate.eq, b, constant(ty, 0))
    remainder = arith.remui(a, arith.select(bad, constant(ty, 1), b))
    return arith.select(bad, constant(ty, 0), remainder)


def by_kind(integer: Any, floating: Any) -> Any:
    """A kernel that takes ``integer`` for integers and ``floating`` for floats."""
    return lambda ty, a, b: (integer if kind(ty) == "int" else floating)(ty, a, b)


floor_divide = by_kind(floor_divide_int, numpy_floor_divide_float)
remainder = by_kind(remainder_int, numpy_remainder_float)
