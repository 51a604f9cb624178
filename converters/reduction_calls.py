"""NumPy's reductions as calls that we type ourselves: which ones, and what they return.

``cumsum``, ``cumprod`` and ``diff`` along an axis are calls of this kind too.

Numba types few of them along an axis and none with ``keepdims``.  A call that is understood
becomes a call of an intrinsic of one array (`function_of`), which the import turns into
loops.  Where there is no import (a function with ``try``, say), the intrinsic compiles the
loops of `reduction_source`.  Intrinsics belong to this project alone: what plain Numba
makes of ``np.max`` does not change.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.core.extending import intrinsic
from numba.core.typing import signature
from numba.np import numpy_support

from numba_mlir.converters import reduction_source
from numba_mlir.converters.scalars import kind


@dataclass(frozen=True)
class ReductionCall:
    """One reduction.  ``axes`` as the user wrote them, None for all; ``dtype`` is NumPy's name
    of the type to compute in, None where it was not given.  ``place`` is "device" for arrays
    of a device, and "thread" in a ``prange`` loop there, which is one thread's."""

    kind: str
    axes: tuple[int, ...] | None = None
    keepdims: bool = False
    dtype: str | None = None
    ddof: float = 0
    place: str = ""

    def positions(self, rank: int) -> tuple[int, ...]:
        """The axes of an array of ``rank`` dimensions, sorted; np.exceptions.AxisError or
        ValueError, with NumPy's message, where they do not fit."""
        if self.axes is None:
            return tuple(range(rank))
        found = [np.lib.array_utils.normalize_axis_index(axis, rank) for axis in self.axes]
        if len(set(found)) < len(found):
            raise ValueError("duplicate value in 'axis'")
        return tuple(sorted(found))

    def problem(self, rank: int) -> tuple[type[Exception], str] | None:
        """What NumPy raises for this call on every array of ``rank`` dimensions."""
        try:
            self.positions(rank)
        except (ValueError, IndexError) as error:
            return type(error), str(error)
        return None


@dataclass(frozen=True)
class Plan:
    """A reduction of one array type: the axes that go and stay, the types of its numbers.

    ``number`` is the type of the running value, ``result`` that of each result.
    """

    call: ReductionCall
    array: Any
    reduced: tuple[int, ...]
    number: Any
    result: Any

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.array.ndim) if axis not in self.reduced)

    @property
    def rank(self) -> int:
        """The number of dimensions of the result."""
        if self.call.kind in ALONG:
            return self.array.ndim
        return self.array.ndim if self.call.keepdims else len(self.kept)

    @property
    def returned(self) -> Any:
        """The Numba type of the result: an array in C order, or a number."""
        return types.Array(self.result, self.rank, "C") if self.rank else self.result


#: running results along an axis, and the reduction whose numbers and types they have
SCANS = {"cumsum": "sum", "cumprod": "prod"}
DIFFERENCE = "diff"
#: functions that keep the axis they go along
ALONG = frozenset({*SCANS, DIFFERENCE})
#: identity of a reduction that has none: the name of the ufunc in NumPy's message
EXTREMA = {"max": "maximum", "min": "minimum"}
ARG = {"argmax": "argmax", "argmin": "argmin"}
#: kinds that combine numbers of the array's own type
_SAME_TYPE = frozenset({"max", "min", "ptp"})
#: reductions of a whole array that end early, or whose running value is a pair, in Numba
_NUMBAS_OWN = frozenset({"any", "all", "argmax", "argmin", "ptp"})


def plan(call: ReductionCall, array: Any) -> Plan | None:
    """The reduction of a Numba array type; None for what Numba has to judge itself."""
    if type(array) is not types.Array or array.ndim == 0 or array.dtype == types.float16:
        return None
    dtype = array.dtype
    if kind(dtype) is None or isinstance(dtype, types.Literal):
        return None
    if call.kind in ALONG and call.axes is None:  # of the elements one behind the other
        return None
    if call.kind in SCANS and call.place and array.ndim == 1:  # a chain is nothing for a device
        return None
    whole = call.axes is None and not call.keepdims
    if call.kind in ARG and call.axes is None:
        if call.place != "thread" or array.ndim != 1 or call.keepdims:
            return None
    elif call.kind in _NUMBAS_OWN and whole and not call.place:
        return None
    if kind(dtype) == "complex" and call.kind in (*_SAME_TYPE, *ARG):
        return None
    numbers = _numbers(call, dtype)
    if numbers is None:
        return None
    problem = call.problem(array.ndim)
    rank = array.ndim if call.axes is None else min(len(call.axes), array.ndim)
    reduced = tuple(range(rank)) if problem else call.positions(array.ndim)
    return Plan(call, array, reduced, *numbers)


def _numbers(call: ReductionCall, dtype: Any) -> tuple[Any, Any] | None:
    """The types of the running value and of the result."""
    given = None if call.dtype is None else numpy_support.from_dtype(np.dtype(call.dtype))
    if given is not None and (kind(given) is None or given == types.float16):
        return None
    if call.kind in ("any", "all"):
        return types.boolean, types.boolean
    if call.kind in ARG:
        return dtype, types.intp
    if call.kind == DIFFERENCE:
        return dtype, dtype
    if call.kind in _SAME_TYPE:
        if call.kind == "ptp" and kind(dtype) == "bool":
            return None
        return dtype, dtype
    if given is not None:
        return _given(call, dtype, given)
    if SCANS.get(call.kind, call.kind) in ("sum", "prod"):
        ty = _widened(dtype)
        return ty, ty
    inexact = dtype if kind(dtype) in ("float", "complex") else types.float64
    if call.kind == "mean":
        return inexact, inexact
    if call.axes is None and not call.keepdims:  # as Numba has it, which NumPy has not
        return (types.complex128 if kind(dtype) == "complex" else types.float64), types.float64
    return inexact, inexact.underlying_float if kind(inexact) == "complex" else inexact


def _given(call: ReductionCall, dtype: Any, given: Any) -> tuple[Any, Any] | None:
    """With dtype=: NumPy computes in that type."""
    if kind(dtype) == "complex" and kind(given) != "complex":
        return None
    if SCANS.get(call.kind, call.kind) in ("sum", "prod"):
        return (given, given) if kind(given) != "bool" else None
    if kind(given) not in ("float", "complex"):
        return None
    if call.kind != "mean" and kind(given) == "complex":
        return given, given.underlying_float
    return given, given


def _widened(dtype: Any) -> Any:
    """What NumPy adds up numbers of ``dtype`` in."""
    if kind(dtype) == "bool":
        return types.int64
    if kind(dtype) == "int" and dtype.bitwidth < 64:
        return types.int64 if dtype.signed else types.uint64
    return dtype


def no_identity(call: ReductionCall) -> str | None:
    """The message of the ValueError for an empty selection; None where there is a result."""
    if call.kind in ARG:
        return f"attempt to get {call.kind} of an empty sequence"
    name = EXTREMA.get("max" if call.kind == "ptp" else call.kind)
    return name and f"zero-size array to reduction operation {name} which has no identity"


@functools.cache
def checker(message: str, filename: str, line: int, error: type[Exception] = ValueError) -> Any:
    """An intrinsic of a number that raises ``error``, at the user's line, where it is 0."""

    def definition(typingctx: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            is_zero = builder.icmp_signed("==", args[0], args[0].type(0))
            with builder.if_then(is_zero, likely=False):
                where = context.fndesc.qualname if context.fndesc is not None else None
                context.call_conv.return_user_exc(
                    builder, error, (message,), loc=ir.Loc(filename, line), func_name=where
                )
            return context.get_dummy_value()

        return signature(types.none, types.intp), codegen

    definition.__name__ = definition.__qualname__ = "mlir_check_not_zero"
    made = intrinsic(definition)
    _CHECKERS.add(made)
    return made


_CHECKERS: set[Any] = set()


def is_checker(function: Any) -> bool:
    """Whether ``function`` is an intrinsic of `checker`."""
    return function in _CHECKERS


@functools.cache
def function_of(call: ReductionCall) -> Any:
    """An intrinsic of one array that computes ``call``."""

    def definition(typingctx: Any, array: Any) -> Any:
        found = plan(call, array)
        if found is None:
            return None
        return signature(found.returned, array), functools.partial(_lower, found)

    definition.__name__ = definition.__qualname__ = f"mlir_{call.kind}"
    made = intrinsic(definition)
    _CALLS[made] = call
    return made


#: intrinsic -> what it computes
_CALLS: dict[Any, ReductionCall] = {}


def call_of(function: Any) -> ReductionCall | None:
    """The reduction that an intrinsic of `function_of` computes; None for anything else."""
    return _CALLS.get(function)


def _lower(found: Plan, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    problem = found.call.problem(found.array.ndim)
    if problem is not None:
        error, message = problem
        context.call_conv.return_user_exc(builder, error, (message,))
        # code behind the exception is never run but has to have a value and a block
        builder.position_at_end(builder.append_basic_block("unreachable"))
        return context.get_constant_null(sig.return_type)
    implementation = reduction_source.function(
        found.call, found.array.ndim, found.reduced, found.number, found.result,
        no_identity(found.call),
    )  # fmt: skip
    return context.compile_internal(builder, implementation, sig, args)
