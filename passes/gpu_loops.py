"""Loops of a kernel: over the threads of a grid, and plain ones inside a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.values import nested, operations

#: makes the body at some indices, from old running values to new ones
Point = Callable[[list[Any], list[Any]], list[Any]]


class Refused(Exception):
    """Why a loop cannot be a kernel, for the user to read."""


# -- scf.parallel ------------------------------------------------------------------------
def segments(loop: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Lower bounds, upper bounds, steps and initial values of an ``scf.parallel``."""
    operands, groups = list(loop.operands), []
    for size in loop.attributes["operandSegmentSizes"]:
        groups.append(operands[:size])
        operands = operands[size:]
    return groups[0], groups[1], groups[2], groups[3]


def body_of(loop: Any) -> tuple[Any, list[Any], Any]:
    """The block of an ``scf.parallel``, its operations, and its ``scf.reduce``."""
    block = loop.regions[0].blocks[0]
    *body, reduce = operations(block)
    return block, body, reduce


def place_body(loop: Any) -> Point:
    """Moves the loop's body to where another loop needs it."""
    block, body, reduce = body_of(loop)

    def at(ivs: list[Any], running: list[Any]) -> list[Any]:
        for argument, iv in zip(block.arguments, ivs, strict=True):
            argument.replace_all_uses_with(iv)
        here = mlir.ir.InsertionPoint.current.block
        for op in body:
            here.append(op)
        new = list(reduce.operands)
        return [
            combined(region.blocks[0], old, value)
            for region, old, value in zip(reduce.regions, running, new, strict=True)
        ]

    return at


def combined(block: Any, left: Any, right: Any, outside: Mapping[Any, Any] | None = None) -> Any:
    """A copy of a combiner's operations for two values; ``outside`` replaces captured ones."""
    known = {**(outside or {}), **dict(zip(block.arguments, (left, right), strict=True))}
    *steps, last = operations(block)
    for op in steps:
        copy = copied(op, known)
        known.update(zip(op.results, copy.results, strict=True))
    return known.get(last.operands[0], last.operands[0])


def copied(op: Any, known: Mapping[Any, Any]) -> Any:
    """A copy of an operation at the insertion point, on the values that ``known`` gives."""
    copy = op.clone()
    for one in (copy, *nested(copy)):
        for number, value in enumerate(one.operands):
            if value in known:
                one.operands[number] = known[value]
    return copy


def sequential(loop: Any) -> None:
    """An inner ``scf.parallel`` becomes plain loops of the thread that runs it."""
    lower, upper, steps, initial = segments(loop)
    at = place_body(loop)

    def level(axis: int, ivs: list[Any], running: list[Any]) -> list[Any]:
        if axis == len(lower):
            return at(ivs, running)
        return building.for_loop(
            (lower[axis], upper[axis], steps[axis]),
            lambda iv, *r: level(axis + 1, [*ivs, iv], list(r)),
            running,
        )

    with mlir.ir.InsertionPoint(loop), loop.location:
        results = level(0, [], initial)
    for old, new in zip(loop.results, results, strict=True):
        old.replace_all_uses_with(new)
    loop.erase()


# -- sizes -----------------------------------------------------------------------------
def extent(low: Any, high: Any) -> Any:
    """The number of iterations between two bounds, never negative."""
    arith = mlir.arith
    return arith.maxsi(arith.subi(high, low), building.index(0))


def product(sizes: Sequence[Any]) -> Any:
    total = sizes[0]
    for size in sizes[1:]:
        total = mlir.arith.muli(total, size)
    return total


def unravel(number: Any, sizes: Sequence[Any]) -> list[Any]:
    """Indices in C order of item ``number`` of an array of ``sizes``."""
    arith = mlir.arith
    found: list[Any] = []
    for size in reversed(sizes[1:]):
        found.append(arith.remui(number, size))
        number = arith.divui(number, size)
    return [number, *reversed(found)]


# -- the threads' loops ------------------------------------------------------------------
@dataclass(frozen=True)
class Threads:
    """Where a thread stands: its number along x and y in the grid and how many there are (in
    grids of one layer), its number in the block, the block's number in the grid, and the
    width of blocks."""

    x: Any
    y: Any
    x_count: Any
    y_count: Any
    in_block: Any
    block: Any
    width: Any

    @classmethod
    def here(cls) -> Threads:
        """At the insertion point of a kernel."""
        gpu, add, mul = mlir.gpu, mlir.arith.addi, mlir.arith.muli
        x, y, z = gpu.Dimension.x, gpu.Dimension.y, gpu.Dimension.z
        width, height = gpu.block_dim(x), gpu.block_dim(y)
        tx, ty = gpu.thread_id(x), gpu.thread_id(y)
        bx, by = gpu.block_id(x), gpu.block_id(y)
        columns, rows = gpu.grid_dim(x), gpu.grid_dim(y)
        by = add(mul(gpu.block_id(z), rows), by)  # layers continue the blocks along y
        return cls(
            x=add(mul(bx, width), tx),
            y=add(mul(by, height), ty),
            x_count=mul(columns, width),
            y_count=mul(rows, height),
            in_block=add(mul(ty, width), tx),
            block=add(mul(by, columns), bx),
            width=width,
        )


def several(
    threads: Threads, lower: Sequence[Any], upper: Sequence[Any], points: Sequence[Point],
    last: Point,
) -> None:  # fmt: skip
    """As `once`, with as many bodies a thread as there are ``points``: a block's width apart
    for one index, in neighbouring rows for two.

    Where all of them are inside they stand in a row, so that their loads do not wait for
    each other; else ``last`` is each in turn.
    """
    ir, arith = mlir.ir, mlir.arith
    less, count = arith.CmpIPredicate.slt, building.index(len(points))
    if len(lower) == 1:
        start = arith.muli(arith.subi(threads.x, threads.in_block), count)
        first, step = arith.addi(start, threads.in_block), mlir.gpu.block_dim(mlir.gpu.Dimension.x)
    else:
        first, step = arith.muli(threads.y, count), building.index(1)
    low = arith.addi(lower[0], first)
    columns = [arith.addi(bound, threads.x) for bound in lower[1:]]

    def body(at: Point, number: Any) -> None:
        at([arith.addi(low, arith.muli(number, step)), *columns], [])

    def is_inside(number: Any) -> Any:
        inside = arith.cmpi(less, arith.addi(low, arith.muli(number, step)), upper[0])
        for column, bound in zip(columns, upper[1:], strict=True):
            inside = arith.andi(inside, arith.cmpi(less, column, bound))
        return inside

    whole = is_inside(building.index(len(points) - 1))
    branch = ir.Operation.create("scf.if", operands=[whole], regions=2)
    with ir.InsertionPoint(branch.regions[0].blocks.append()):
        for number, at in enumerate(points):
            body(at, building.index(number))
        ir.Operation.create("scf.yield")
    with ir.InsertionPoint(branch.regions[1].blocks.append()):

        def single(number: Any) -> list[Any]:
            guard = ir.Operation.create("scf.if", operands=[is_inside(number)], regions=2)
            with ir.InsertionPoint(guard.regions[0].blocks.append()):
                body(last, number)
                ir.Operation.create("scf.yield")
            return []

        building.for_loop((building.index(0), count, building.index(1)), single)
        ir.Operation.create("scf.yield")


def several_together(
    bounds: tuple[Any, Any, Any], start: list[Any], points: Sequence[Point], last: Point
) -> list[Any]:
    """A loop of which each iteration makes as many bodies as there are ``points``, so that
    their loads do not wait for each other, and a loop for what is left."""
    arith = mlir.arith
    low, high, step = bounds
    stride = arith.muli(step, building.index(len(points)))
    most = arith.subi(high, arith.subi(stride, step))

    def together(iv: Any, *running: Any) -> list[Any]:
        values = list(running)
        for number, at in enumerate(points):
            shift = arith.muli(step, building.index(number))
            values = at([arith.addi(iv, shift)], values)
        return values

    values = building.for_loop((low, most, stride), together, start)
    rounds = arith.ceildivui(extent(low, most), stride)
    rest = arith.addi(low, arith.muli(rounds, stride))
    return building.for_loop((rest, high, step), lambda iv, *r: last([iv], list(r)), values)


def once(threads: Threads, lower: Sequence[Any], upper: Sequence[Any], at: Point) -> None:
    """The body for the one index of each thread, in a grid that covers all indices.

    The last index goes along x, so that neighbouring threads touch neighbouring elements
    of C ordered arrays; all others together along y.
    """
    ir, arith = mlir.ir, mlir.arith
    less = arith.CmpIPredicate.slt
    column = arith.addi(lower[-1], threads.x)
    inside = arith.cmpi(less, column, upper[-1])
    sizes = [extent(low, high) for low, high in zip(lower[:-1], upper[:-1], strict=True)]
    if sizes:
        inside = arith.andi(inside, arith.cmpi(less, threads.y, product(sizes)))
    branch = ir.Operation.create("scf.if", operands=[inside], regions=2)
    with ir.InsertionPoint(branch.regions[0].blocks.append()):
        leading = unravel(threads.y, sizes) if sizes else []
        shifted = [arith.addi(low, i) for low, i in zip(lower[:-1], leading, strict=True)]
        at([*shifted, column], [])
        ir.Operation.create("scf.yield")


def over_threads(
    threads: Threads, lower: Sequence[Any], upper: Sequence[Any], start: list[Any], at: Point
) -> list[Any]:
    """Loops in which the threads together visit every index once; ``at`` makes the body.

    As `once`, and right for every launch geometry of one layer.
    """
    arith = mlir.arith

    def columns(leading: list[Any], running: list[Any]) -> list[Any]:
        bounds = (arith.addi(lower[-1], threads.x), upper[-1], threads.x_count)
        return building.for_loop(bounds, lambda iv, *r: at([*leading, iv], list(r)), running)

    if len(lower) == 1:
        return columns([], start)
    sizes = [extent(low, high) for low, high in zip(lower[:-1], upper[:-1], strict=True)]

    def row(number: Any, *running: Any) -> list[Any]:
        leading = unravel(number, sizes)
        shifted = [arith.addi(low, i) for low, i in zip(lower[:-1], leading, strict=True)]
        return columns(shifted, list(running))

    return building.for_loop((threads.y, product(sizes), threads.y_count), row, start)
