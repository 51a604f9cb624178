"""The ``complex`` dialect, as Numba lowers its own complex type.

Forward, complex operators use ``complex.add/sub/mul/neg/abs/re/im/create`` (see
:mod:`.kernels`).  The operator ``/`` on complexes raises in Numba for a zero divisor under
either error model and stays opaque; np.divide does not raise.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir as llvm
from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import kernels, scalars
from numba_mlir.converters.comparisons import compare
from numba_mlir.converters.lowering import Emission
from numba_mlir.converters.registry import EMITTERS

Parts = tuple[Any, Any]

# ---- forward ----------------------------------------------------------------------


def divide(ty: types.Type, a: Any, b: Any) -> Any | None:
    """np.divide of floats or complexes (Smith's method, as Numba's); None for other types."""
    if scalars.kind(ty) != "complex":
        return kernels.divide_float(ty, a, b)
    arith, part = mlir.arith, ty.underlying_float
    (ar, ai), (br, bi) = ((mlir.complex.re(z), mlir.complex.im(z)) for z in (a, b))
    abs_r, abs_i = (_magnitude(part, x) for x in (br, bi))
    zero = scalars.constant(part, 0.0)
    is_zero = arith.andi(*(compare(operator.eq, part, x, zero) for x in (abs_r, abs_i)))
    at_zero = arith.divf(ar, abs_r), arith.divf(ai, abs_i)

    ratio, scale = _smith(part, br, bi)
    real = arith.addf(ar, arith.mulf(ai, ratio)), arith.subf(ai, arith.mulf(ar, ratio))
    by_real = [
        _select(is_zero, z, arith.mulf(x, scale)) for z, x in zip(at_zero, real, strict=True)
    ]

    ratio, scale = _smith(part, bi, br)
    imag = arith.addf(arith.mulf(ar, ratio), ai), arith.subf(arith.mulf(ai, ratio), ar)
    by_imag = [arith.mulf(x, scale) for x in imag]

    real_wins = compare(operator.ge, part, abs_r, abs_i)
    parts = (_select(real_wins, x, y) for x, y in zip(by_real, by_imag, strict=True))
    return mlir.complex.create_(a.type, *parts)


def _select(condition: Any, a: Any, b: Any) -> Any:
    return mlir.arith.select(condition, a, b)


def _smith(part: types.Type, larger: Any, smaller: Any) -> Parts:
    """``(smaller / larger, 1 / (larger + smaller * ratio))``."""
    arith = mlir.arith
    ratio = arith.divf(smaller, larger)
    denominator = arith.addf(larger, arith.mulf(smaller, ratio))
    return ratio, arith.divf(scalars.constant(part, 1.0), denominator)


def _magnitude(part: types.Type, x: Any) -> Any:
    """``0 - x if x < 0 else x``: keeps the sign of a zero, as Numba does here."""
    zero = scalars.constant(part, 0.0)
    return _select(compare(operator.lt, part, x, zero), mlir.arith.subf(zero, x), x)


# ---- backward ---------------------------------------------------------------------


def _parts(e: Emission, index: int) -> Parts:
    """Real and imaginary part of operand ``index``."""
    value = e.context.make_complex(e.builder, e.spec.operands[index], value=e.args[index])
    return value.real, value.imag


def _make(e: Emission, real: llvm.Value, imag: llvm.Value) -> llvm.Value:
    value = e.context.make_complex(e.builder, e.spec.result)
    value.real, value.imag = real, imag
    return value._getvalue()


def _part_wise(method: str) -> Any:
    """Add or subtract part by part."""

    def emit(e: Emission) -> llvm.Value:
        op = getattr(e.builder, method)
        pairs = zip(_parts(e, 0), _parts(e, 1), strict=True)
        return _make(e, *(op(a, b, flags=e.fastmath) for a, b in pairs))

    return emit


EMITTERS.add("complex.add", _part_wise("fadd"))
EMITTERS.add("complex.sub", _part_wise("fsub"))
EMITTERS.add("complex.create", lambda e: _make(e, *e.args))
EMITTERS.add("complex.re", lambda e: _parts(e, 0)[0])
EMITTERS.add("complex.im", lambda e: _parts(e, 0)[1])
EMITTERS.add("complex.abs", lambda e: e.libm("hypot", *_parts(e, 0)))
EMITTERS.add("complex.angle", lambda e: e.libm("atan2", *reversed(_parts(e, 0))))


@EMITTERS.rule("complex.neg")
def _neg(e: Emission) -> llvm.Value:
    return _make(e, *(e.builder.fneg(part, flags=e.fastmath) for part in _parts(e, 0)))


@EMITTERS.rule("complex.conj")
def _conj(e: Emission) -> llvm.Value:
    real, imag = _parts(e, 0)
    return _make(e, real, e.builder.fneg(imag, flags=e.fastmath))


@EMITTERS.rule("complex.mul")
def _mul(e: Emission) -> llvm.Value:
    """``(a + bi)(c + di) = (ac - bd) + (ad + bc)i``, as CPython before 3.14."""
    builder, flags = e.builder, e.fastmath
    (a, b), (c, d) = _parts(e, 0), _parts(e, 1)
    ac, bd, ad, bc = (builder.fmul(x, y, flags=flags) for x, y in ((a, c), (b, d), (a, d), (b, c)))
    return _make(e, builder.fsub(ac, bd, flags=flags), builder.fadd(ad, bc, flags=flags))


def _equality(method: str, op: str, join: str) -> Any:
    def emit(e: Emission) -> llvm.Value:
        compare = getattr(e.builder, method)
        pairs = zip(_parts(e, 0), _parts(e, 1), strict=True)
        return getattr(e.builder, join)(*(compare(op, a, b) for a, b in pairs))

    return emit


EMITTERS.add("complex.eq", _equality("fcmp_ordered", "==", "and_"))
EMITTERS.add("complex.neq", _equality("fcmp_unordered", "!=", "or_"))
