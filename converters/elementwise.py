"""Loops over the common shape of several arrays.

An operand of fewer dimensions lacks the first ones.  Where one of its sizes is 1 it is
read at index 0, whatever the loop's index is: ``select(size == 1, 0, i)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import arrays, broadcasting, build, kept, scalars
from numba_mlir.converters.broadcasting import Rule
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Slot
from numba_mlir.converters.trees import Number

#: gives the value of one element from the indices of the loop
Body = Callable[[Sequence[Any]], "Any | None"]


def has_elements(slot: Slot | None) -> bool:
    """Whether the slot is an array whose elements MLIR can compute with."""
    return slot is not None and arrays.is_native(slot) and slot.type.dtype != types.float16


@dataclass(frozen=True)
class Operand:
    """An array to be read element by element; ``sizes`` are index values."""

    slot: Slot
    sizes: tuple[Any, ...]

    @classmethod
    def of(cls, frame: Frame, slot: Slot) -> Operand:
        return cls(slot, sizes(frame, slot))

    @property
    def rank(self) -> int:
        return len(self.sizes)

    def reader(self, frame: Frame, rank: int) -> Callable[[Sequence[Any]], Number]:
        """Prepares the tests in front of a loop of ``rank`` indices.

        The result is called inside it and loads the element for the loop's indices.  The
        element of an array of no dimensions is loaded in front of the loop: Numba's kernels
        get such arrays as numbers.
        """
        if not self.rank:
            element = self.at(())
            return lambda ivs: element
        one, index = frame.index_constant(1), build.index_type()
        equal = mlir.arith.CmpIPredicate.eq
        single = [mlir.arith.cmpi(equal, size, one) for size in self.sizes]

        def read(ivs: Sequence[Any]) -> Number:
            zero = frame.index_constant(0)
            where = []
            for test, iv in zip(single, _last(ivs, self.rank, zero), strict=True):
                where.append(build.value("arith.select", (test, zero, iv), index))
            return self.at(where)

        return read

    def at(self, where: Sequence[Any]) -> Number:
        """The element at a position."""
        dtype = self.slot.type.dtype
        native = scalars.to_mlir(dtype)
        return build.value("memref.load", (self.slot.value, *where), native), dtype


def _last(ivs: Sequence[Any], rank: int, zero: Any) -> list[Any]:
    """The indices for an array of ``rank`` dimensions (0 for those that the loop lacks)."""
    extra = max(rank - len(ivs), 0)
    return [zero] * extra + list(ivs[len(ivs) - (rank - extra) :])


def sizes(frame: Frame, slot: Slot) -> tuple[Any, ...]:
    """The sizes of an array, as far as known what it was made with."""
    known = slot.sizes or (None,) * slot.type.ndim
    return tuple(
        arrays.dim(frame, slot, axis) if size is None else size for axis, size in enumerate(known)
    )


def common_sizes(
    frame: Frame, operands: Sequence[Operand | None], order: tuple[int, ...]
) -> list[Any]:
    """The common shape of the operands (None: a number), checked at run time."""
    arrays_ = [operand for operand in operands if operand is not None]
    if len(arrays_) == 1:
        return list(arrays_[0].sizes)
    rule = Rule("operands", tuple(0 if o is None else o.rank for o in operands), order)
    return broadcasting.emit(rule, [size for o in arrays_ for size in o.sizes])


def check_fits(
    kind: str, operands: Sequence[Operand | None], target: Operand, order: tuple[int, ...] = ()
) -> None:
    """Check that the operands (None: a number) can be stretched to the target's shape."""
    arrays_ = [operand for operand in operands if operand is not None and operand.rank]
    if not arrays_:
        return
    everything = [*operands, target]
    ranks = tuple(0 if o is None else o.rank for o in everything)
    all_sizes = [size for o in (*arrays_, target) for size in o.sizes]
    broadcasting.emit(Rule(kind, ranks, order), all_sizes)


def loop(
    frame: Frame,
    bounds: Sequence[Any],
    body: Callable[[Sequence[Any]], bool],
    lower: Sequence[Any] | None = None,
) -> bool:
    """``scf.parallel`` over all indices from ``lower`` (zeros) to ``bounds``, not included.

    Without bounds the body itself.

    ``body`` says whether it could be built; the caller erases what was built if not.
    """
    if not bounds:
        return body([])
    ir = mlir.ir
    rank = len(bounds)
    zero, one = frame.index_constant(0), frame.index_constant(1)
    made = build.op(
        "scf.parallel",
        [*(lower or [zero] * rank), *bounds, *[one] * rank],
        (),
        {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([rank, rank, rank, 0])},
        regions=1,
    )
    name = ir.Location.name("parfor_index", ir.Location.current)
    block = made.regions[0].blocks.append(*[build.index_type()] * rank, arg_locs=[name] * rank)
    with ir.InsertionPoint(block):
        done = body(list(block.arguments))
        build.op("scf.reduce")
    return done


def fill(frame: Frame, target: Operand, value: Body, *, backwards: bool = False) -> bool:
    """Store ``value`` of every index into ``target``; False when it cannot be computed.

    ``backwards`` runs over the last index outermost, for arrays whose first index is the
    one next to each other in memory.
    """

    def body(ivs: Sequence[Any]) -> bool:
        indices = list(reversed(ivs)) if backwards else list(ivs)
        element = value(indices)
        if element is None:
            return False
        build.op("memref.store", (element, target.slot.value, *indices))
        return True

    bounds = list(reversed(target.sizes)) if backwards else list(target.sizes)
    return loop(frame, bounds, body)


def fresh(frame: Frame, numba_type: Any, bounds: Sequence[Any], loc: Any) -> tuple[Operand, Slot]:
    """A new array: what to write into, and the slot of the variable that will hold it.

    Of an F-ordered array the first is F-ordered as well.
    """
    bounds = tuple(bounds)
    if numba_type.layout == "F":
        base_type = numba_type.copy(layout="C", readonly=False)
        base = arrays.allocate(frame, list(reversed(bounds)), base_type)
        if len(bounds) == 1:
            value = kept.as_fortran_vector(frame, loc, (base.value, base_type))
        else:
            value = kept.transpose(frame, loc, (base.value, base_type), numba_type)
        slot = Slot(numba_type, value, sizes=bounds)
        return Operand(slot, bounds), slot
    new_type = numba_type.copy(layout="C", readonly=False)
    slot = arrays.allocate(frame, list(bounds), new_type)
    slot = Slot(new_type, slot.value, sizes=bounds)
    target = Operand(slot, bounds)
    if new_type != numba_type:
        value = kept.as_type(frame, loc, (slot.value, new_type), numba_type)
        slot = Slot(numba_type, value, sizes=bounds)
    return target, slot
