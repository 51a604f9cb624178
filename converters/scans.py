"""Loops for NumPy's running sums and products along an axis, and for differences along one.

``cumsum`` and ``cumprod`` add up in NumPy's order: every element is combined with the result
in front of it.  Along the last axis rows run in parallel, with the running value in a register.
Along another one blocks of neighbours run in parallel, row by row, so that memory is read as it
lies and the additions of a row do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.converters import build, casts, elementwise, kernels, scalars
from numba_mlir.converters.elementwise import Operand
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.reduction_calls import DIFFERENCE, SCANS, Plan
from numba_mlir.converters.reductions import combiner
from numba_mlir.converters.scalars import kind
from numba_mlir.converters.slots import Slot

#: neighbours that go through the rows together: long stretches of memory that stay in L1 from
#: one row to the next
BLOCK = 1024
_COMBINE = {"sum": "add", "prod": "mul"}


def emit(frame: Frame, plan: Plan, array: Slot, loc: Any) -> Slot:
    """The array that the call returns."""
    source = Operand.of(frame, array)
    (axis,) = plan.reduced
    sizes = list(source.sizes)
    if plan.call.kind == DIFFERENCE:
        one = frame.index_constant(1)
        positive = mlir.arith.maxsi(sizes[axis], one)
        sizes[axis] = mlir.arith.subi(positive, one)
    target, slot = elementwise.fresh(frame, plan.returned, sizes, loc)
    emission = _Emission(frame, plan, source, target, axis)
    if plan.call.kind == DIFFERENCE:
        elementwise.fill(frame, target, emission.difference)
    elif axis == plan.array.ndim - 1 or plan.call.place:
        elementwise.loop(frame, [sizes[one] for one in plan.kept], emission.row)
    else:
        emission.blocks()
    return slot


class _Emission:
    def __init__(
        self, frame: Frame, plan: Plan, source: Operand, target: Operand, axis: int
    ) -> None:
        self._frame, self._plan = frame, plan
        self._source, self._target = source, target
        self._axis, self._number = axis, plan.number
        self._zero, self._one = frame.index_constant(0), frame.index_constant(1)

    def _load(self, where: Sequence[Any]) -> Any:
        value, dtype = self._source.at(where)
        found = casts.cast(value, dtype, self._number)
        assert found is not None
        return found

    def _store(self, value: Any, where: Sequence[Any]) -> None:
        build.op("memref.store", (value, self._target.slot.value, *where))

    def _combined(self, before: Any, value: Any) -> Any:
        name = _COMBINE[SCANS[self._plan.call.kind]]
        found = combiner(name, before, value, self._number)
        assert found is not None
        return found

    def _at(self, others: Sequence[Any], place: Any) -> list[Any]:
        """The position of an element: ``place`` along the axis, ``others`` along the rest."""
        where = list(others)
        where.insert(self._axis, place)
        return where

    def difference(self, ivs: Sequence[Any]) -> Any:
        """An element minus the one in front of it; of truth values, whether they differ."""
        ahead = list(ivs)
        ahead[self._axis] = mlir.arith.addi(ivs[self._axis], self._one)
        later, earlier = self._load(ahead), self._load(ivs)
        if kind(self._number) == "bool":
            return mlir.arith.xori(later, earlier)
        return kernels.sub(self._number, later, earlier)

    def row(self, ivs: Sequence[Any]) -> bool:
        """One row, the running value being carried; the first element stays as it is."""
        start = scalars.constant(self._number, 0)

        def step(place: Any, running: Any) -> list[Any]:
            where = self._at(ivs, place)
            value = self._load(where)
            first = mlir.arith.cmpi(mlir.arith.CmpIPredicate.eq, place, self._zero)
            value = mlir.arith.select(first, value, self._combined(running, value))
            self._store(value, where)
            return [value]

        self._for(self._zero, self._source.sizes[self._axis], step, [start])
        return True

    def blocks(self) -> None:
        """All rows, in blocks of neighbours along the last axis."""
        arith, frame = mlir.arith, self._frame
        *outer, length = [self._target.sizes[one] for one in self._plan.kept]
        count = self._target.sizes[self._axis]
        block = frame.index_constant(BLOCK)

        def body(ivs: Sequence[Any]) -> bool:
            *others, number = ivs
            low = arith.muli(number, block)
            high = arith.minsi(arith.addi(low, block), length)

            def first(place: Any) -> list[Any]:
                return self._along(low, high, lambda iv: self._copy([*others, iv], place))

            def later(place: Any) -> list[Any]:
                return self._along(low, high, lambda iv: self._add([*others, iv], place))

            self._for(self._zero, arith.minsi(count, self._one), first)
            self._for(self._one, count, later)
            return True

        elementwise.loop(frame, [*outer, arith.ceildivsi(length, block)], body)

    def _along(self, low: Any, high: Any, one: Any) -> list[Any]:
        def step(iv: Any) -> list[Any]:
            one(iv)
            return []

        self._for(low, high, step)
        return []

    def _copy(self, others: Sequence[Any], place: Any) -> None:
        where = self._at(others, place)
        self._store(self._load(where), where)

    def _add(self, others: Sequence[Any], place: Any) -> None:
        """The result in front of an element and the element."""
        target, native = self._target.slot.value, scalars.to_mlir(self._plan.result)
        where = self._at(others, place)
        earlier = self._at(others, mlir.arith.subi(place, self._one))
        before = build.value("memref.load", (target, *earlier), native)
        self._store(self._combined(before, self._load(where)), where)

    def _for(self, low: Any, high: Any, step: Any, start: Sequence[Any] = ()) -> None:
        """``scf.for``; ``step(iv, *carried)`` builds the body and gives what is carried on."""
        build.for_loop((low, high, self._one), step, start)
