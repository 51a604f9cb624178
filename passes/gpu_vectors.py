"""Reductions that load vectors: neighbouring elements by one instruction.

A thread takes a few neighbouring elements at a time, where all arrays that are read along
the loop begin at a multiple of a vector's bytes.  That is tested in the kernel; what is left,
or everything where the test fails, is loaded element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.gpu_loops import (
    Threads,
    body_of,
    extent,
    place_body,
    segments,
    several_together,
)
from numba_mlir.passes.values import defined_inside, owner

#: bytes that one instruction can load
_VECTOR = 16
#: vectors of each array that a thread loads before it combines anything
_VECTORS = 4
#: copies of the body at most, and operations in all of them together
_COPIES, _OPERATIONS = 32, 600
#: elements that a thread loads one by one before it combines them
TOGETHER = 4


def copies_for(loop: Any) -> tuple[int, int]:
    """How many bodies stand in a row: neighbours in a vector, and vectors.

    (1, 0) where nothing is read along the loop, or where the body is long or has branches.
    """
    body, loads = body_of(loop)[1], _along(loop)
    if not loads or any(len(op.regions) for op in body):
        return 1, 0
    width = _VECTOR // max(_bytes(op.results[0].type) for op in loads)
    vectors = min(_VECTORS, _COPIES // width)
    if width == 1 or width * vectors * len(body) > _OPERATIONS:
        return 1, 0
    return width, vectors


def reduced(
    make: Callable[[], Any], loop: Any, shape: tuple[int, int], start: list[Any], threads: Threads
) -> list[Any]:
    """The values of one thread of a loop over one index, which stores nothing.

    ``make`` gives a new copy of the loop each time; ``loop`` is one of them, and ``shape``
    is from `copies_for`.
    """
    arith = mlir.arith
    lower, upper, _, _ = segments(loop)
    low, high = lower[0], upper[0]
    width, vectors = shape
    if vectors:
        step = arith.muli(threads.x_count, building.index(width))
        stride = arith.muli(step, building.index(vectors))
        rounds = arith.divui(extent(low, high), stride)
        rounds = arith.select(_aligned(loop, width, low), rounds, building.index(0))
        first = arith.addi(low, arith.muli(threads.x, building.index(width)))
        copies = [[make() for _ in range(width)] for _ in range(vectors)]

        def together(number: Any, *running: Any) -> list[Any]:
            values, here = list(running), arith.addi(first, arith.muli(number, stride))
            starts = [arith.addi(here, arith.muli(step, building.index(n))) for n in range(vectors)]
            for where, group in zip(starts, copies, strict=True):
                _load_vectors(group, where)
            for where, group in zip(starts, copies, strict=True):
                for number, copy in enumerate(group):
                    iv = arith.addi(where, building.index(number))
                    values = place_body(copy)([iv], values)
            return values

        bounds = (building.index(0), rounds, building.index(1))
        start = building.for_loop(bounds, together, start)
        low = arith.addi(low, arith.muli(rounds, stride))
        for group in copies:
            for copy in group:
                copy.erase()
    singles = [make() for _ in range(TOGETHER)]
    points = [place_body(one) for one in (*singles, loop)]
    bounds = (arith.addi(low, threads.x), high, threads.x_count)
    results = several_together(bounds, start, points[:-1], points[-1])
    for one in singles:
        one.erase()
    return results


def _along(loop: Any) -> list[Any]:
    """Loads of flat contiguous arrays at the loop's own index, of numbers that vectors hold."""
    block, body, _ = body_of(loop)
    (iv,) = block.arguments
    return [
        op
        for op in body
        if op.name == "memref.load"
        and _is_contiguous(op.operands[0].type)
        and (op.operands[1] == iv or _stretched(op.operands[1], iv) is not None)
        and _bytes(op.results[0].type)
    ]


def _stretched(value: Any, iv: Any) -> Any:
    """The condition of ``0 if condition else iv``, known in front of the loop, which
    broadcasting makes of indices; None for anything else."""
    op = owner(value)
    if op is None or op.name != "arith.select" or op.operands[2] != iv:
        return None
    return None if defined_inside(op.operands[0], iv.owner.owner) else op.operands[0]


def _is_contiguous(type_: Any) -> bool:
    return type_.rank == 1 and isinstance(type_.layout, mlir.ir.AffineMapAttr)


def _bytes(type_: Any) -> int:
    """The size of a number that vectors hold; 0 for others."""
    return {"f32": 4, "f64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}.get(str(type_), 0)


def _aligned(loop: Any, width: int, low: Any) -> Any:
    """Whether every load is along the loop, and vectors of all arrays begin at multiples of
    their size from ``low`` on."""
    arith = mlir.arith
    truth = mlir.ir.IntegerType.get_signless(1)
    loads, (iv,) = _along(loop), body_of(loop)[0].arguments
    good = arith.constant(truth, 1)
    for array in dict.fromkeys(op.operands[0] for op in loads):
        size = _bytes(array.type.element_type)
        begin = arith.addi(building.address_of(array), arith.muli(low, building.index(size)))
        over = arith.andi(begin, building.index(width * size - 1))
        here = arith.cmpi(arith.CmpIPredicate.eq, over, building.index(0))
        good = arith.andi(good, here)
    conditions = (_stretched(op.operands[1], iv) for op in loads)
    for condition in dict.fromkeys(one for one in conditions if one is not None):
        good = arith.andi(good, arith.xori(condition, arith.constant(truth, 1)))
    return good


def _load_vectors(group: Sequence[Any], where: Any) -> None:
    """Load at ``where`` and behind it what the bodies of ``group`` load."""
    ir = mlir.ir
    loads = [_along(copy) for copy in group]
    for same in zip(*loads, strict=True):
        array, element = same[0].operands[0], same[0].results[0].type
        kind = ir.VectorType.get([len(group)], element)
        size = len(group) * _bytes(element)
        attributes = {"alignment": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), size)}
        vector = ir.Operation.create("vector.load", [kind], [array, where], attributes).results[0]
        for number, load in enumerate(same):
            position = {"static_position": ir.DenseI64ArrayAttr.get([number])}
            one = ir.Operation.create("vector.extract", [element], [vector], position)
            load.results[0].replace_all_uses_with(one.results[0])
            load.erase()
