"""Quotients of functions that became part of a loop (`numba_mlir.roundtrip.call_inline`)."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from llvmlite import ir as llvm
from numba.core import types
from numba.core.extending import intrinsic
from numba.core.typing import signature

from numba_mlir import mlir
from numba_mlir.converters import arithmetic, casts
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Slot

MESSAGE = "division by zero"


@intrinsic
def quotient(typingctx: Any, x: Any, y: Any) -> Any:
    """``x / y`` of real numbers as NumPy has it, whatever the error model."""
    sig = _signature(typingctx, x, y)
    return None if sig is None else (sig, _quotient)


def _signature(typingctx: Any, x: Any, y: Any) -> Any:
    sig = typingctx.resolve_function_type(operator.truediv, (x, y), {})
    if sig is None or not isinstance(sig.return_type, types.Float):
        return None
    return signature(sig.return_type, *sig.args)


def _quotient(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fdiv(*_operands(context, builder, sig, args))


def _operands(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Any, ...]:
    pairs = zip(args, sig.args, strict=True)
    return tuple(context.cast(builder, *pair, sig.return_type) for pair in pairs)


@intrinsic
def divide(typingctx: Any, x: Any, y: Any) -> Any:
    """``x / y`` of real numbers; ZeroDivisionError for y == 0, whatever the error model."""
    sig = _signature(typingctx, x, y)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = _operands(context, builder, sig, args)
        is_zero = builder.fcmp_ordered("==", right, llvm.Constant(right.type, 0.0))
        with builder.if_then(is_zero, likely=False):
            context.call_conv.return_user_exc(builder, ZeroDivisionError, (MESSAGE,))
        return builder.fdiv(left, right)

    return None if sig is None else (sig, codegen)


def emit(frame: Frame, function: Any, args: Sequence[Slot], expr: Any) -> Slot | None:
    """A call of `quotient`, or of `divide` in the body of a user's parallel loop.

    The exception of the latter is raised behind the loops.  None elsewhere: the call stays.
    """
    numbers = [frame.scalar(arg) for arg in args]
    checks = function is divide
    if (checks and frame.error_model != "checked") or any(number is None for number in numbers):
        return None
    kind = frame.calltypes[expr].return_type
    left, right = (casts.cast(*number, kind) for number in numbers if number is not None)
    if left is None or right is None:
        return None
    if checks and not arithmetic.is_safe_divisor(right):
        late = mlir.ir.UnitAttr.get()
        arithmetic.leave_at_zero(kind, right, arithmetic.FLOAT_ZERO_DIVISION, late=late)
    return Slot(kind, mlir.arith.divf(left, right))
