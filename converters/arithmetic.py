"""Python's operators on scalars, and the integer and float operations of ``arith``."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import build, kernels, powers
from numba_mlir.converters.casts import cast, cast_all
from numba_mlir.converters.comparisons import PREDICATES, compare, logical_not
from numba_mlir.converters.lowering import Emission
from numba_mlir.converters.registry import EMITTERS, Table
from numba_mlir.converters.scalars import constant, kind

Type = types.Type
Operator = Callable[..., Any]

# ---- forward ----------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """An operator with its operands, cast to the types of Numba's signature."""

    result: Type
    types: tuple[Type, ...]
    values: tuple[Any, ...]
    error_model: str

    def as_result(self) -> tuple[Any, ...] | None:
        """The operands cast to the result type; None where one cannot be."""
        return cast_all(self.values, self.types, [self.result] * len(self.types))


Rule = Callable[[Operation], Any]
BINARY: Table[Operator, Rule] = Table("binary operators")
UNARY: Table[Operator, Rule] = Table("unary operators")


def binary(
    fn: Operator, sig: Any, lhs: Any, lhs_ty: Type, rhs: Any, rhs_ty: Type, *, error_model: str
) -> Any | None:
    """``lhs <fn> rhs`` as Numba computes it for signature ``sig``.

    ``fn`` is a function of :mod:`operator`, in-place or not; ``error_model`` is
    ``"python"``, ``"numpy"``, or ``"checked"``: as NumPy's, but a division of integers by zero
    leaves the function (``pyir.leave_if``).  The result is an SSA value of
    ``sig.return_type``; None where the operation may raise or has no exact MLIR form.
    """
    rule = BINARY.get(fn)
    if rule is None:
        return None
    return _apply(rule, sig, (lhs, rhs), (lhs_ty, rhs_ty), error_model)


def unary(
    fn: Operator, sig: Any, value: Any, ty: Type, *, error_model: str = "python"
) -> Any | None:
    """``<fn> value``: neg, pos, invert, not_; None where there is no exact form."""
    rule = UNARY.get(fn)
    return None if rule is None else _apply(rule, sig, (value,), (ty,), error_model)


def _apply(
    rule: Rule, sig: Any, values: tuple[Any, ...], tys: tuple[Type, ...], error_model: str
) -> Any | None:
    inputs = tuple(map(types.unliteral, sig.args))
    result = types.unliteral(sig.return_type)
    if len(inputs) != len(values) or kind(result) is None:
        return None
    operands = cast_all(values, tys, inputs)
    if operands is None:
        return None
    return rule(Operation(result, inputs, operands, error_model))


def _on_result(kernel: Operator, may_raise: bool = False) -> Rule:
    """The rule that casts the operands to the result type and applies ``kernel``."""

    def rule(op: Operation) -> Any | None:
        operands = op.as_result()
        if operands is None:
            return None
        raises = may_raise and not is_safe_divisor(operands[1])
        if raises and op.error_model == "python":
            return None
        if raises and op.error_model == "checked" and kind(op.result) == "int":
            leave_at_zero(op.result, operands[1], ZERO_DIVISION)
        return kernel(op.result, *operands)

    return rule


def is_safe_divisor(value: Any) -> bool:
    """Whether a number is a constant other than 0 and -1: division by it never fails."""
    op = None if isinstance(value.owner, mlir.ir.Block) else value.owner.operation
    if op is None or op.name != "arith.constant":
        return False
    attribute = op.attributes["value"]
    known = isinstance(attribute, (mlir.ir.IntegerAttr, mlir.ir.FloatAttr))
    return known and attribute.value not in (0, -1)


def leave_at_zero(ty: Type, divisor: Any, raiser: str, **attributes: Any) -> None:
    """Have the function left for an exception where ``divisor`` is zero."""
    is_zero = compare(operator.eq, ty, divisor, constant(ty, 0))
    attributes["raiser"] = mlir.ir.FlatSymbolRefAttr.get(raiser)
    build.op("pyir.leave_if", [is_zero], (), attributes)


#: names of what raises ZeroDivisionError, for integers and for floating-point numbers
ZERO_DIVISION, FLOAT_ZERO_DIVISION = "zero_division", "float_zero_division"


def _on_operand(kernel: Operator) -> Rule:
    """The rule that applies ``kernel`` at the operand's width, then casts."""

    def rule(op: Operation) -> Any | None:
        (ty,), (value,) = op.types, op.values
        result = kernel(ty, value)
        return None if result is None else cast(result, ty, op.result)

    return rule


def _comparison(fn: Operator) -> Rule:
    def rule(op: Operation) -> Any | None:
        left, right = op.types
        return compare(fn, left, *op.values) if left == right else None

    return rule


def _python_floor_divide(ty: Type, a: Any, b: Any) -> Any:
    return kernels.python_divmod_float(ty, a, b)[0]


def _python_remainder(ty: Type, a: Any, b: Any) -> Any:
    return kernels.python_divmod_float(ty, a, b)[1]


def _power(op: Operation) -> Any | None:
    base, exponent = op.types
    if kind(exponent) == "int":
        value = cast(op.values[0], base, op.result)
        return powers.by_constant(op.result, value, op.values[1], exponent)
    if not base == exponent == op.result:
        return None
    of_kind = powers.square if kind(base) == "complex" else powers.float_power
    return of_kind(op.result, *op.values)


def _negate(op: Operation) -> Any | None:
    if op.types == (types.boolean,):
        return _on_result(kernels.negate)(op)
    return _on_operand(kernels.negate)(op)


_floor_divide = kernels.by_kind(kernels.floor_divide_int, _python_floor_divide)
_remainder = kernels.by_kind(kernels.remainder_int, _python_remainder)

for _fn, _inplace, _rule in (
    (operator.add, operator.iadd, _on_result(kernels.add)),
    (operator.sub, operator.isub, _on_result(kernels.sub)),
    (operator.mul, operator.imul, _on_result(kernels.mul)),
    (operator.truediv, operator.itruediv, _on_result(kernels.divide_float, may_raise=True)),
    (operator.floordiv, operator.ifloordiv, _on_result(_floor_divide, may_raise=True)),
    (operator.mod, operator.imod, _on_result(_remainder, may_raise=True)),
    (operator.pow, operator.ipow, _power),
    (operator.lshift, operator.ilshift, _on_result(kernels.shift_left)),
    (operator.rshift, operator.irshift, _on_result(kernels.shift_right)),
    (operator.and_, operator.iand, _on_result(kernels.bit_and)),
    (operator.or_, operator.ior, _on_result(kernels.bit_or)),
    (operator.xor, operator.ixor, _on_result(kernels.bit_xor)),
):
    BINARY.add(_fn, _rule)
    BINARY.add(_inplace, _rule)

BINARY.update({fn: _comparison(fn) for fn in PREDICATES})
UNARY.update(
    {
        operator.neg: _negate,
        operator.pos: _on_operand(kernels.positive),
        operator.invert: _on_operand(kernels.invert),
        operator.not_: lambda op: logical_not(op.types[0], op.values[0]),
    }
)

# ---- backward ---------------------------------------------------------------------


def _integer(method: str) -> Callable[[Emission], llvm.Value]:
    def emit(e: Emission) -> llvm.Value:
        flags = e.spec.attribute("overflowFlags", ())
        if e.spec.attribute("isExact"):
            flags = (*flags, "exact")
        return getattr(e.builder, method)(*e.args, flags=flags)

    return emit


def _plain(method: str) -> Callable[[Emission], llvm.Value]:
    return lambda e: getattr(e.builder, method)(*e.args)


def _floating(method: str) -> Callable[[Emission], llvm.Value]:
    return lambda e: getattr(e.builder, method)(*e.args, flags=e.fastmath)


_INTEGER = {"add": "add", "sub": "sub", "mul": "mul", "shl": "shl"}
_DIVISION = {"divs": "sdiv", "divu": "udiv", "shrs": "ashr", "shru": "lshr"}
_REMAINDER = {"rems": "srem", "remu": "urem"}
_LOGIC = {"and": "and_", "or": "or_", "xor": "xor"}

for _name, _method in (_INTEGER | _DIVISION).items():
    EMITTERS.add(f"arith.{_name}i", _integer(_method))
    EMITTERS.add(f"index.{_name}", _integer(_method))
for _name, _method in (_REMAINDER | _LOGIC).items():
    EMITTERS.add(f"arith.{_name}i", _plain(_method))
    EMITTERS.add(f"index.{_name}", _plain(_method))
for _name in ("add", "sub", "mul", "div", "rem"):
    EMITTERS.add(f"arith.{_name}f", _floating(f"f{_name}"))


@EMITTERS.rule("arith.negf")
def _negf(e: Emission) -> llvm.Value:
    return e.builder.fneg(e.args[0], flags=e.fastmath)


def _rounded_division(up: bool) -> Callable[[Emission], llvm.Value]:
    """Signed division towards plus (``up``) or minus infinity."""

    def emit(e: Emission) -> llvm.Value:
        builder, (a, b) = e.builder, e.args
        quotient, remainder = builder.sdiv(a, b), builder.srem(a, b)
        inexact = builder.icmp_signed("!=", remainder, remainder.type(0))
        sign = builder.xor(remainder, b)
        moved = builder.icmp_signed(">=" if up else "<", sign, sign.type(0))
        step = builder.zext(builder.and_(inexact, moved), a.type)
        return (builder.add if up else builder.sub)(quotient, step)

    return emit


@EMITTERS.rule("arith.ceildivui", "index.ceildivu")
def _ceildivui(e: Emission) -> llvm.Value:
    builder, (a, b) = e.builder, e.args
    inexact = builder.icmp_unsigned("!=", builder.urem(a, b), a.type(0))
    return builder.add(builder.udiv(a, b), builder.zext(inexact, a.type))


EMITTERS.update(
    {
        "arith.ceildivsi": _rounded_division(up=True),
        "index.ceildivs": _rounded_division(up=True),
        "arith.floordivsi": _rounded_division(up=False),
        "index.floordivs": _rounded_division(up=False),
    }
)


@EMITTERS.rule("numba.wrap_index")
def _wrap_index(e: Emission) -> llvm.Value:
    """``i + n if i < 0 else i`` of an int64 and an index."""
    builder, (i, n) = e.builder, e.args
    return builder.select(builder.icmp_signed("<", i, i.type(0)), builder.add(i, n), i)
