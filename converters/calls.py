"""Calls: NumPy and math functions on numbers, allocation, sizes, Numba's size assertions."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba.core import types
from numba.core.typing.builtins import IndexValue
from numba.parfors import parfor
from numba.parfors.array_analysis import assert_equiv, wrap_index

from numba_mlir import mlir
from numba_mlir.converters import (
    arrays,
    build,
    loop_index,
    mathfuncs,
    recall,
    reduction_calls,
    reductions,
)
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import from_numbas_loops, hashable
from numba_mlir.converters.slots import MISSING, Env, Slot


def call(frame: Frame, env: Env, expr: Any, wanted: Any) -> Slot | None:
    """The result of a call that MLIR can express, else None."""
    callee = env.get(expr.func.name)
    function = MISSING if callee is None else callee.python
    if function is MISSING or not hashable(function) or expr.vararg is not None:
        return None
    args = [slot for arg in expr.args if (slot := env.get(arg.name)) is not None]
    if len(args) < len(expr.args):
        return None
    if function is np.empty:
        return _empty(frame, args, wanted)
    if function is np.empty_like and len(args) == 1:
        return _empty_like(frame, args[0], wanted)
    if expr.kws:
        return None
    own = recall.call(frame, function, args, expr)
    if own is not None:
        return own
    index = loop_index.call(frame, function, args)
    if index is not None:
        return index
    if function is wrap_index:
        return _slice_bound(frame, args)
    if function is assert_equiv:
        return _assert_equal(frame, args)
    if function in _EXTREME_VALUES:
        return _extreme_value(frame, _EXTREME_VALUES[function], wanted)
    if function in _NUMPY_EXTREMA and from_numbas_loops(expr):
        return _numpy_extremum(frame, expr, _NUMPY_EXTREMA[function], args)
    if function is len and len(args) == 1 and arrays.is_native(args[0]) and args[0].type.ndim:
        return arrays.size_slot(frame, args[0], 0)
    return _scalar_call(frame, expr, function, args)


#: Numba's start values of np.min and np.max
_EXTREME_VALUES = {parfor.get_type_max_value: "max", parfor.get_type_min_value: "min"}
_NUMPY_EXTREMA: dict[Any, str] = {max: "maximum", min: "minimum"}


def _numpy_extremum(frame: Frame, expr: Any, kind: str, args: list[Any]) -> Slot | None:
    """One step of np.max or np.min, which Numba writes with Python's max or min."""
    result = frame.calltypes[expr].return_type
    slots = [frame.coerce(arg, result) for arg in args]
    if len(slots) != 2 or any(slot is None for slot in slots):
        return None
    running, value = (slot for slot in slots if slot is not None)
    if running.python is not MISSING and running.python == reductions.neutral(kind, result):
        return value
    return Slot(result, reductions.combiner(kind, running.value, value.value, result))


def _extreme_value(frame: Frame, which: str, wanted: Any) -> Slot | None:
    """The largest or smallest value of a number's type (an infinity for floats)."""
    if isinstance(wanted, types.Float):
        number: Any = float("inf") if which == "max" else float("-inf")
    elif isinstance(wanted, types.Integer):
        number = wanted.maxval if which == "max" else wanted.minval
    else:
        return None
    return Slot(wanted, frame.constant(number, frame.mlir_type(wanted)), number)


#: functions of Numba's that raise for bad sizes and do nothing else
_CHECKERS = frozenset(
    {parfor.max_checker, parfor.min_checker, parfor.argmax_checker, parfor.argmin_checker}
)


def is_check(frame: Frame, env: Env, expr: Any) -> bool:
    """Whether a call only checks a number and may raise."""
    callee = env.get(expr.func.name)
    if callee is None or not hashable(callee.python):
        return False
    if callee.python not in _CHECKERS and not reduction_calls.is_checker(callee.python):
        return False
    return len(expr.args) == 1 and frame.scalar(env.get(expr.args[0].name)) is not None


def _scalar_call(frame: Frame, expr: Any, function: Any, args: list[Any]) -> Slot | None:
    numbers = [frame.scalar(arg) for arg in args]
    if any(number is None for number in numbers):
        return None
    sig = frame.calltypes[expr]
    values = [number[0] for number in numbers if number is not None]
    kinds = [number[1] for number in numbers if number is not None]
    value = mathfuncs.call(function, sig, values, kinds, error_model=frame.error_model)
    return None if value is None else Slot(sig.return_type, value)


def _empty(frame: Frame, args: list[Any], wanted: Any) -> Slot | None:
    """np.empty(shape[, dtype]): the typed result already says which dtype."""
    if not args or type(wanted) is not types.Array or wanted.layout != "C":
        return None
    if not wanted.mutable or arrays.array_type(wanted) is None:
        return None
    subscripts = arrays.subscripts_of(args[0])
    if subscripts is None or len(subscripts) != wanted.ndim:
        return None
    sizes = [frame.size(slot) for slot in subscripts]
    return None if any(size is None for size in sizes) else arrays.allocate(frame, sizes, wanted)


def _empty_like(frame: Frame, like: Any, wanted: Any) -> Slot | None:
    """np.empty_like(array), where the result is in C order as np.empty makes it."""
    if not arrays.is_native(like) or type(wanted) is not types.Array or wanted.layout != "C":
        return None
    if not wanted.mutable or arrays.array_type(wanted) is None or like.type.layout != "C":
        return None
    sizes = [arrays.dim(frame, like, axis) for axis in range(like.type.ndim)]
    return arrays.allocate(frame, sizes, wanted)


def _slice_bound(frame: Frame, args: list[Any]) -> Slot | None:
    """Numba's wrap_index(bound, size): a slice's bound, counted from the end where negative,
    and kept within 0 and size."""
    numbers = [frame.scalar(arg) for arg in args]
    if len(numbers) != 2 or any(n is None or n[1] != types.int64 for n in numbers):
        return None
    wide = frame.mlir_type(types.int64)
    bound, size = (number[0] for number in numbers if number is not None)
    zero = frame.constant(0, wide)
    less = mlir.ir.IntegerAttr.get(wide, mlir.arith.CmpIPredicate.slt)
    negative = build.value(
        "arith.cmpi", (bound, zero), mlir.ir.IntegerType.get_signless(1), {"predicate": less}
    )
    shifted = build.value("arith.addi", (bound, size), wide)
    wrapped = build.value("arith.select", (negative, shifted, bound), wide)
    above = build.value("arith.maxsi", (wrapped, zero), wide)
    return Slot(types.int64, build.value("arith.minsi", (above, size), wide))


def _assert_equal(frame: Frame, args: list[Any]) -> Slot | None:
    """assert_equiv(message, size, size, ...), where sizes are numbers or tuples of them."""
    message, *rest = args
    if not isinstance(message.type, types.StringLiteral):
        return None
    rows = [list(arg.elements) if arg.elements is not None else [arg] for arg in rest]
    if len({len(row) for row in rows}) != 1:
        return None
    columns = [[frame.size(slot) for slot in column] for column in zip(*rows, strict=True)]
    if any(size is None for column in columns for size in column):
        return None
    text = mlir.ir.StringAttr.get(message.type.literal_value)
    for column in columns:
        build.op("numba.assert_equal", column, (), {"message": text})
    return frame.undefined(types.none)


def is_pure_call(frame: Frame, env: Env, expr: Any) -> bool:
    """A call that is kept, of numbers to a number, known to have no effect."""
    callee = env.get(expr.func.name)
    if callee is None or callee.python is MISSING or expr.kws or expr.vararg is not None:
        return False
    if not hashable(callee.python):
        return False
    if callee.python in (slice, np.dtype):
        return True
    numbers = all(frame.scalar(env.get(arg.name)) is not None for arg in expr.args)
    sig = frame.calltypes.get(expr)
    if numbers and callee.python is IndexValue:
        return True
    if not numbers or sig is None or not _is_number(sig.return_type):
        return False
    return mathfuncs.is_pure(callee.python)


def is_number_operator(frame: Frame, env: Env, expr: Any) -> bool:
    """An operator on numbers with a number as result: it may raise and does nothing else."""
    sig = frame.calltypes.get(expr)
    if sig is None or not _is_number(sig.return_type):
        return False
    operands = [expr.value] if expr.op == "unary" else [expr.lhs, expr.rhs]
    return all(frame.scalar(env.get(v.name)) is not None for v in operands)


def operator_flags(frame: Frame, env: Env, expr: Any) -> dict[str, bool]:
    """Flags of an operator that is kept: ``pure``, or ``raises`` where it does nothing else.

    Under the "python" error model a division may raise, and integer powers always may.
    """
    if not is_number_operator(frame, env, expr):
        return {}
    fn = expr.immutable_fn if expr.op == "inplace_binop" else expr.fn
    pure = frame.error_model == "numpy" or fn in _NEVER_RAISE
    return {"pure": pure, "raises": not pure}


_NEVER_RAISE = frozenset(
    {operator.add, operator.sub, operator.mul, operator.neg, operator.pos, operator.invert}
    | {operator.not_, operator.and_, operator.or_, operator.xor}
    | {operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne}
)


def _is_number(numba_type: Any) -> bool:
    return isinstance(numba_type, (types.Number, types.Boolean))
