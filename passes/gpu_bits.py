"""float64 numbers as their bits: to float32 and back by integer arithmetic alone.

Rounding is to nearest, ties to even; subnormal numbers, infinities and NaN are kept (of a
NaN what float32 has room for, and it is quiet).  The format is that of IEEE 754.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir

#: bits of the mantissas, and how the exponents' biases differ
_WIDE, _NARROW, _BIASES = 52, 23, 1023 - 127
_DROPPED = _WIDE - _NARROW
_INFINITY, _QUIET = 0x7F800000, 0x00400000


def narrowed(bits: Any) -> Any:
    """The float32 nearest to the float64 whose ``bits`` are an i64."""
    arith, less = mlir.arith, mlir.arith.CmpIPredicate
    exponent = _and(_shift(bits, _WIDE), 0x7FF)
    fraction = _and(bits, (1 << _WIDE) - 1)
    new = arith.subi(exponent, _i64(_BIASES))  # of a normal float32: 1 to 254
    normal = arith.cmpi(less.sgt, new, _i64(0))
    # A subnormal result has fewer bits; none at all is 54 places away.
    away = arith.minsi(arith.subi(_i64(_DROPPED + 1), new), _i64(_WIDE + 2))
    away = arith.select(normal, _i64(_DROPPED), away)
    whole = arith.ori(fraction, _i64(1 << _WIDE))
    kept = arith.shrui(whole, away)
    rest = arith.subi(whole, arith.shli(kept, away))
    half = arith.shli(_i64(1), arith.subi(away, _i64(1)))
    tie_up = arith.andi(arith.cmpi(less.eq, rest, half), _is_odd(kept))
    up = arith.ori(arith.cmpi(less.ugt, rest, half), tie_up)
    kept = arith.addi(kept, arith.extui(bits.type, up))
    above = arith.shli(arith.subi(new, _i64(1)), _i64(_NARROW))
    finite = arith.addi(kept, arith.select(normal, above, _i64(0)))
    finite = arith.minsi(finite, _i64(_INFINITY))
    nan = arith.ori(_shift(fraction, _DROPPED), _i64(_INFINITY | _QUIET))
    is_nan = arith.cmpi(less.ne, fraction, _i64(0))
    special = arith.select(is_nan, nan, _i64(_INFINITY))
    is_special = arith.cmpi(less.eq, exponent, _i64(0x7FF))
    magnitude = arith.select(is_special, special, finite)
    sign = arith.shli(_shift(bits, 63), _i64(31))
    word = mlir.ir.IntegerType.get_signless(32)
    return arith.bitcast(mlir.ir.F32Type.get(), arith.trunci(word, arith.ori(sign, magnitude)))


def widened(value: Any) -> Any:
    """The bits, an i64, of the float64 that is equal to a float32."""
    arith, less, ir = mlir.arith, mlir.arith.CmpIPredicate, mlir.ir
    word, long = ir.IntegerType.get_signless(32), ir.IntegerType.get_signless(64)
    bits = arith.extui(long, arith.bitcast(word, value))
    exponent = _and(_shift(bits, _NARROW), 0xFF)
    fraction = _and(bits, (1 << _NARROW) - 1)
    # A subnormal number is its fraction times 2 ** -149: float32 has the fraction as a number.
    number = arith.uitofp(ir.F32Type.get(), arith.trunci(word, fraction))
    scaled = arith.extui(long, arith.bitcast(word, number))
    small = arith.cmpi(less.eq, exponent, _i64(0))
    is_zero = arith.andi(small, arith.cmpi(less.eq, fraction, _i64(0)))
    low = arith.addi(_shift(scaled, _NARROW), _i64(1023 - 127 - 149))
    new = arith.select(small, low, arith.addi(exponent, _i64(_BIASES)))
    new = arith.select(arith.cmpi(less.eq, exponent, _i64(0xFF)), _i64(0x7FF), new)
    new = arith.select(is_zero, _i64(0), new)
    kept = arith.select(small, _and(scaled, (1 << _NARROW) - 1), fraction)
    magnitude = arith.ori(arith.shli(new, _i64(_WIDE)), arith.shli(kept, _i64(_DROPPED)))
    sign = arith.shli(_shift(bits, 31), _i64(63))
    return arith.ori(sign, magnitude)


def _i64(number: int) -> Any:
    return mlir.arith.constant(mlir.ir.IntegerType.get_signless(64), number)


def _shift(bits: Any, places: int) -> Any:
    return mlir.arith.shrui(bits, _i64(places))


def _and(bits: Any, mask: int) -> Any:
    return mlir.arith.andi(bits, _i64(mask))


def _is_odd(bits: Any) -> Any:
    return mlir.arith.trunci(mlir.ir.IntegerType.get_signless(1), bits)
