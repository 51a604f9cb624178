"""Loops for NumPy's reductions.

Along axes: a parallel loop over the axes that stay, with loops over the others inside and
one store behind them.  Of a whole array: one parallel loop with ``scf.reduce``.  Additions
and multiplications of floating-point numbers have the flag ``reassoc``, by which
`numba_mlir.passes.reductions` knows that it may choose the order.

The semantics are NumPy's: NaN wins in max, min, argmax and argmin, the first of equal
elements counts, and where there is no identity an empty selection is a ValueError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import (
    build,
    casts,
    comparisons,
    elementwise,
    kept,
    kernels,
    reduction_calls,
    reductions,
    scalars,
)
from numba_mlir.converters.elementwise import Operand
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.reduction_calls import Plan
from numba_mlir.converters.scalars import kind
from numba_mlir.converters.slots import Slot

#: gives the element at a position, as a number of the running value's type
Element = Callable[[Sequence[Any]], Any]
#: new running values from the old ones, the element and its position
Step = Callable[[Sequence[Any], Any, Sequence[Any]], list[Any]]

_REASSOC = {"sum": "arith.addf", "prod": "arith.mulf"}
_COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum",
            "any": "or", "all": "and"}  # fmt: skip


def emit(frame: Frame, plan: Plan, array: Slot, loc: Any) -> Slot:
    """The result of the reduction."""
    return _Emission(frame, plan, array, loc).result()


class _Emission:
    def __init__(self, frame: Frame, plan: Plan, array: Slot, loc: Any) -> None:
        self._frame, self._plan, self._loc = frame, plan, loc
        self._array = Operand.of(frame, array)
        self._number = plan.number

    def result(self) -> Slot:
        plan = self._plan
        self._check_not_empty()
        bounds = [self._array.sizes[axis] for axis in plan.kept]
        if not bounds:
            value = self._whole()
            if not plan.rank:
                return Slot(plan.result, value)
            target, slot = self._target()
            zero = self._frame.index_constant(0)
            build.op("memref.store", (value, target.slot.value, *[zero] * plan.rank))
            return slot
        target, slot = self._target()

        def body(ivs: Sequence[Any]) -> bool:
            value = self._one(ivs)
            build.op("memref.store", (value, target.slot.value, *self._where(ivs)))
            return True

        elementwise.loop(self._frame, bounds, body)
        return slot

    def _target(self) -> tuple[Operand, Slot]:
        one = self._frame.index_constant(1)
        sizes = self._spread([self._array.sizes[axis] for axis in self._plan.kept], one)
        return elementwise.fresh(self._frame, self._plan.returned, sizes, self._loc)

    def _where(self, ivs: Sequence[Any]) -> list[Any]:
        return self._spread(ivs, self._frame.index_constant(0))

    def _spread(self, kept: Sequence[Any], other: Any) -> list[Any]:
        """Values for the kept axes, with ``other`` for those that keepdims keeps."""
        if not self._plan.call.keepdims:
            return list(kept)
        values = [other] * self._plan.array.ndim
        for axis, value in zip(self._plan.kept, kept, strict=True):
            values[axis] = value
        return values

    def _check_not_empty(self) -> None:
        message = reduction_calls.no_identity(self._plan.call)
        if message is None:
            return
        product: Any = None
        for axis in self._plan.reduced:
            size = self._array.sizes[axis]
            product = size if product is None else mlir.arith.muli(product, size)
        number = build.index_cast(product, scalars.to_mlir(types.intp))
        check = reduction_calls.checker(message, self._loc.filename, self._loc.line)
        kept.check(self._frame, self._loc, check, (number, types.intp))

    # -- elements ----------------------------------------------------------------
    def _element(self, kept_ivs: Sequence[Any]) -> Element:
        """The element for the indices of the reduced axes."""
        plan = self._plan
        native = scalars.to_mlir(plan.array.dtype)

        def element(reduced: Sequence[Any]) -> Any:
            where: list[Any] = [None] * plan.array.ndim
            for axis, iv in (*zip(plan.kept, kept_ivs, strict=True),
                             *zip(plan.reduced, reduced, strict=True)):  # fmt: skip
                where[axis] = iv
            loaded = build.value("memref.load", (self._array.slot.value, *where), native)
            value = casts.cast(loaded, plan.array.dtype, self._number)
            assert value is not None
            return value

        return element

    # -- whole arrays --------------------------------------------------------------
    def _whole(self) -> Any:
        in_order = self._plan.call.place == "thread"
        return self._by_kind((), self._nest if in_order else self._parallel)

    def _one(self, ivs: Sequence[Any]) -> Any:
        return self._by_kind(ivs, self._nest)

    def _by_kind(self, ivs: Sequence[Any], loops: Any) -> Any:
        """The value of one result; ``loops(combination, number type, element)`` runs one."""
        name, element = self._plan.call.kind, self._element(ivs)
        if name in reduction_calls.ARG:
            return self._position(name, element)
        if name == "ptp":
            high = loops("max", self._number, element)
            return kernels.sub(self._number, high, loops("min", self._number, element))
        if name == "mean":
            return self._mean(loops, element)
        if name in ("var", "std"):
            return self._variance(loops, element)
        if name == "sum":
            return self._sum(loops, element)
        return loops(name, self._number, element)

    def _sum(self, loops: Any, element: Element) -> Any:
        """The sum; of complex numbers that of each part, which may be computed in any order."""
        if kind(self._number) != "complex":
            return loops("sum", self._number, element)
        real = self._number.underlying_float
        parts = [
            loops("sum", real, lambda ivs, part=part: part(element(ivs)))
            for part in (mlir.complex.re, mlir.complex.im)
        ]
        return mlir.complex.create_(scalars.to_mlir(self._number), *parts)

    def _mean(self, loops: Any, element: Element) -> Any:
        return _divide(self._number, self._sum(loops, element), self._count(self._number))

    def _variance(self, loops: Any, element: Element) -> Any:
        number, real = self._number, self._plan.result
        mean = self._mean(loops, element)

        def square(ivs: Sequence[Any]) -> Any:
            distance = kernels.sub(number, element(ivs), mean)
            if kind(number) != "complex":
                return mlir.arith.mulf(distance, distance)
            parts = mlir.complex.re(distance), mlir.complex.im(distance)
            return mlir.arith.addf(*(mlir.arith.mulf(part, part) for part in parts))

        total = loops("sum", real, square)
        count = mlir.arith.subf(self._count(real), scalars.constant(real, self._plan.call.ddof))
        count = mlir.arith.maximumf(count, scalars.constant(real, 0.0))
        variance = mlir.arith.divf(total, count)
        return mlir.math.sqrt(variance) if self._plan.call.kind == "std" else variance

    def _count(self, ty: Any) -> Any:
        """The number of elements that make one result, of type ``ty``."""
        product: Any = self._frame.index_constant(1)
        for axis in self._plan.reduced:
            product = mlir.arith.muli(product, self._array.sizes[axis])
        wide = build.index_cast(product, scalars.to_mlir(types.int64))
        value = casts.cast(wide, types.int64, ty)
        assert value is not None
        return value

    # -- loops ---------------------------------------------------------------------
    def _sizes(self) -> list[Any]:
        return [self._array.sizes[axis] for axis in self._plan.reduced]

    def _nest(self, name: str, ty: Any, element: Element) -> Any:
        """One loop in another, with the running value carried."""
        start = _start(name, ty)

        def step(running: Sequence[Any], value: Any, ivs: Sequence[Any]) -> list[Any]:
            return [_combined(name, ty, running[0], value)]

        return self._for(self._sizes(), [], [start], element, step)[0]

    def _for(
        self, sizes: list[Any], ivs: list[Any], start: list[Any], element: Element, step: Step,
        first: Any = None,
    ) -> list[Any]:  # fmt: skip
        """``scf.for`` over ``sizes``, the first of them outermost, from ``first`` on."""
        if not sizes:
            return step(start, element(ivs), ivs)
        frame = self._frame
        low = first if first is not None else frame.index_constant(0)

        def body(iv: Any, *running: Any) -> list[Any]:
            return self._for(sizes[1:], [*ivs, iv], list(running), element, step)

        return build.for_loop((low, sizes[0], frame.index_constant(1)), body, start)

    def _position(self, name: str, element: Element) -> Any:
        """argmax, argmin: of the first best element, or the first NaN."""
        ty, frame = self._number, self._frame
        better = operator.gt if name == "argmax" else operator.lt
        zero = frame.index_constant(0)
        start = [element([zero]), zero]

        def step(running: Sequence[Any], value: Any, ivs: Sequence[Any]) -> list[Any]:
            best, where = running
            replaces = comparisons.compare(better, ty, value, best)
            if kind(ty) == "float":
                nan = mlir.arith.andi(
                    comparisons.is_nan(ty, value),
                    kernels.invert(types.boolean, comparisons.is_nan(ty, best)),
                )
                replaces = mlir.arith.ori(replaces, nan)
            return [
                mlir.arith.select(replaces, value, best),
                mlir.arith.select(replaces, ivs[0], where),
            ]

        one = frame.index_constant(1)
        _, where = self._for(self._sizes(), [], start, element, step, first=one)
        return build.index_cast(where, scalars.to_mlir(types.intp))

    def _parallel(self, name: str, ty: Any, element: Element) -> Any:
        """One ``scf.parallel`` over the whole array, in the order of its memory."""
        ir, frame = mlir.ir, self._frame
        backwards = self._plan.array.layout == "F"
        bounds = self._sizes()[::-1] if backwards else self._sizes()
        rank = len(bounds)
        zero, one = frame.index_constant(0), frame.index_constant(1)
        start = _start(name, ty)
        made = build.op(
            "scf.parallel",
            [*[zero] * rank, *bounds, *[one] * rank, start],
            [start.type],
            {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([rank, rank, rank, 1])},
            regions=1,
        )
        location = ir.Location.name("parfor_index", ir.Location.current)
        kinds = [build.index_type()] * rank
        block = made.regions[0].blocks.append(*kinds, arg_locs=[location] * rank)
        with ir.InsertionPoint(block):
            ivs = list(block.arguments)
            value = element(ivs[::-1] if backwards else ivs)
            reduce = build.op("scf.reduce", [value], regions=1)
        here = ir.Location.current
        combiner = reduce.regions[0].blocks.append(value.type, value.type, arg_locs=[here, here])
        with ir.InsertionPoint(combiner):
            build.op("scf.reduce.return", [_combined(name, ty, *combiner.arguments)])
        return made.results[0]


def _start(name: str, ty: Any) -> Any:
    """The value that changes nothing."""
    number = reductions.neutral(_COMBINE[name], ty)
    return scalars.constant(ty, 1 if number is None else number)


def _combined(name: str, ty: Any, running: Any, value: Any) -> Any:
    if kind(ty) == "float" and name in _REASSOC:
        flags = mlir.ir.Attribute.parse("#arith.fastmath<reassoc>")
        return build.value(_REASSOC[name], (running, value), running.type, {"fastmath": flags})
    combined = reductions.combiner(_COMBINE[name], running, value, ty)
    assert combined is not None
    return combined


def _divide(ty: Any, total: Any, count: Any) -> Any:
    if kind(ty) == "float":
        return mlir.arith.divf(total, count)
    number = mlir.complex.re(count)  # a count has no imaginary part
    parts = (mlir.arith.divf(part(total), number) for part in (mlir.complex.re, mlir.complex.im))
    return mlir.complex.create_(total.type, *parts)
