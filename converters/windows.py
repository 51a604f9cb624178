"""Where the elements of a part of an array are, for bounds and steps of any kind.

Part ``[i, j]`` of an array is element ``[start + step * i, ...]`` of the array itself.  Starts
and lengths are index values: constants, or computed by Python's rules for slices from
bounds that are known at run time only.  Steps are constants.

``numba.window(view, start, start, ...)`` is the view, with the attributes ``axes`` (for each
axis of the array the number of the view's axis, or -1 for one that has an integer) and
``steps``.  Loops access the array itself because its strides are known better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import build
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import MISSING, Slot

WINDOW = "numba.window"


@dataclass(frozen=True)
class Bounds:
    """A slice with a constant step, which is not 0."""

    start: int | Slot | None
    stop: int | Slot | None
    step: int

    @classmethod
    def of(cls, part: Any) -> Bounds | None:
        """The bounds of a Python slice of integers or of a `Bounds`; None for others."""
        if isinstance(part, Bounds) or not isinstance(part, slice):
            return part if isinstance(part, Bounds) else None
        step = 1 if part.step is None else part.step
        numbers = (part.start, part.stop, step)
        if not all(number is None or type(number) is int for number in numbers) or step == 0:
            return None
        return cls(part.start, part.stop, step)

    @classmethod
    def from_slots(cls, parts: Sequence[Slot | None]) -> Bounds | None:
        """Of the arguments of ``slice``; None where they are not integers."""
        found = [_bound(part) for part in parts]
        if MISSING in found or not 1 <= len(found) <= 3:
            return None
        start, stop, step = (None, *found, None) if len(found) == 1 else (*found, None)[:3]
        step = 1 if step is None else step
        return cls(start, stop, step) if isinstance(step, int) and step else None


def _bound(slot: Any) -> Any:
    """A number, a variable that holds one, None for None, MISSING for anything else."""
    if not isinstance(slot, Slot):
        return MISSING
    if isinstance(slot.type, (types.NoneType, types.Omitted)):
        return None if isinstance(slot.type, types.NoneType) else MISSING
    if isinstance(slot.type, types.IntegerLiteral):
        return slot.type.literal_value
    if type(slot.python) is int:
        return slot.python
    return slot if isinstance(slot.type, types.Integer) else MISSING


@dataclass(frozen=True)
class Place:
    """Along one axis of an array: the view's axis (-1: none), the first index, the step."""

    axis: int
    start: Any
    step: int = 1


def extent(frame: Frame, size: Any, bounds: Bounds) -> tuple[Any, Any]:
    """The first index and the length (index values) of a part of something ``size`` long."""
    zero, one = frame.index_constant(0), frame.index_constant(1)
    if bounds.step > 0:
        low, high, ends = zero, size, (zero, size)
    else:
        last = mlir.arith.subi(size, one)
        low, high, ends = frame.index_constant(-1), last, (last, frame.index_constant(-1))
    start, stop = (
        end if bound is None else _clamped(frame, _wrapped(frame, bound, size), low, high)
        for bound, end in zip((bounds.start, bounds.stop), ends, strict=True)
    )
    first, behind = (start, stop) if bounds.step > 0 else (stop, start)
    span = mlir.arith.maxsi(mlir.arith.subi(behind, first), zero)
    return start, every(span, abs(bounds.step))


def every(span: Any, step: int) -> Any:
    """How many of ``span`` elements are taken when only every ``step``-th one is."""
    return span if step == 1 else mlir.arith.ceildivsi(span, build.index_constant(step))


def position(frame: Frame, number: Any, size: Any) -> Any | None:
    """An integer subscript as an index value; None for anything else."""
    known = number if type(number) is int else _bound(number)
    return None if known is MISSING or known is None else _wrapped(frame, known, size)


def _wrapped(frame: Frame, bound: int | Slot, size: Any) -> Any:
    """A bound that counts from the end where it is negative."""
    if isinstance(bound, int):
        number = frame.index_constant(bound)
        return number if bound >= 0 else mlir.arith.addi(size, number)
    number = frame.size(bound)
    if bound.index is not None or not bound.type.signed:
        return number
    arith = mlir.arith
    negative = arith.cmpi(arith.CmpIPredicate.slt, number, frame.index_constant(0))
    return arith.select(negative, arith.addi(number, size), number)


def _clamped(frame: Frame, number: Any, low: Any, high: Any) -> Any:
    return mlir.arith.minsi(mlir.arith.maxsi(number, low), high)


def emit(view: Any, places: Sequence[Place]) -> Any:
    """``numba.window`` of a view."""
    ir = mlir.ir
    attributes = {
        "axes": ir.DenseI64ArrayAttr.get([place.axis for place in places]),
        "steps": ir.DenseI64ArrayAttr.get([place.step for place in places]),
    }
    operands = (view, *(place.start for place in places))
    return build.value(WINDOW, operands, view.type, attributes)
