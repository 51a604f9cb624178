"""The parallel loop over blocks in which all trips of a loop run: its size and its code.

See `interchange`; docs/fusion.md has the cost rule in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import for_loop, index, nest, parallel_loops
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.legality import Loop
from numba_mlir.passes.libm import FUNCTIONS
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.merge import origins
from numba_mlir.passes.strides import Reference, item_bytes, step
from numba_mlir.passes.trip_arrays import sizes
from numba_mlir.passes.trips import Refused, Trip, outside_parallel
from numba_mlir.passes.values import constant_int, defined_inside, display_name, operations, owner

#: how many blocks there are at least along the first index, where there are elements enough
BLOCKS = 64
#: least number of elements of a block, and where a trip calls functions such as exp
LEAST, LEAST_WITH_CALLS = 512, 4096


# -- the cost rule ----------------------------------------------------------------------------
def block_elements(trip: Trip, loops: Sequence[Loop], machine: Machine) -> int:
    """About how many elements a block shall have; raises `Refused` where nothing is gained."""
    kept = moving = size = 0
    strided = False
    inner = [op for op in outside_parallel(trip.loop) if op.name == "scf.for"]
    counters = [op.regions[0].blocks[0].arguments[0] for op in (trip.loop, *inner)]
    for (memref, indices), (written, loop) in _streams(loops).items():
        reference = Reference(memref, indices, written)
        item = width = item_bytes(memref)
        if loop.rank == loop.full_rank and step(reference, loop.ivs[-1]) == "far":
            strided, width = True, machine.line
        size += width
        if not _depends_on_trip(memref, indices, trip, loop):
            kept += (1 + written) * width
        elif any(step(reference, iv) == "next" for iv in counters):
            # A line that one trip brings in has what the next ones need.
            kept, moving = kept + width - item, moving + item
        else:
            moving += (1 + written) * width
    if 2 * kept < moving:
        raise Refused("each trip goes through other elements")
    calls = any(op.name in FUNCTIONS for op in outside_parallel(trip.loop))
    room = machine.l2 // 2 if strided else machine.l1 * 3 // 4
    return max(room // max(size, 1), LEAST_WITH_CALLS if calls else LEAST)


def _streams(loops: Sequence[Loop]) -> dict[tuple[Any, tuple[Any, ...]], tuple[bool, Loop]]:
    """What the loops go through: arrays and indices, and whether an access is a write."""
    found: dict[tuple[Any, tuple[Any, ...]], tuple[bool, Loop]] = {}
    for loop in loops:
        for access in loop.effects.accesses:
            if access.indices is None or not any(
                defined_inside(value, loop.op) for value in access.indices
            ):
                continue
            key = access.memref, access.indices
            written, _ = found.get(key, (False, loop))
            found[key] = written or access.write, loop
    return found


def _depends_on_trip(memref: Any, indices: Sequence[Any], trip: Trip, loop: Loop) -> bool:
    """Whether an access goes to other elements in another trip."""
    todo, seen = [memref, *indices], set[Any]()
    while todo:
        value = todo.pop()
        if value in seen or not defined_inside(value, trip.loop):
            continue
        seen.add(value)
        if not defined_inside(value, loop.op):
            return True  # what is the same in each trip stands in front of the loop
        op = owner(value)
        todo += [] if op is None else op.operands
    return False


# -- building ------------------------------------------------------------------------------------
def run_in_blocks(trip: Trip, loops: Sequence[Loop], elements: int, equal: Equalities) -> None:
    """Put a parallel loop over blocks around ``trip.loop``, at the insertion point."""
    arith = mlir.arith
    first = loops[0]
    rank = first.rank
    extents = [
        arith.maxsi(arith.subi(high, low), index(0))
        for low, high in zip(first.lower, first.upper, strict=True)
    ]
    pins = {array: _axes(array, loops, equal) for _, array in trip.begun}
    inner = [
        (low, high)
        for low, high, _ in first.inner_bounds()
        if not (defined_inside(low, trip.loop) or defined_inside(high, trip.loop))
    ]
    sizes = _block_sizes(extents, inner, elements)
    counts = [arith.ceildivui(e, s) for e, s in zip(extents, sizes, strict=True)]

    def block(*numbers: Any) -> None:
        bounds: list[tuple[Any, Any, Any]] = []
        for axis in range(rank):
            low = arith.addi(first.lower[axis], arith.muli(numbers[axis], sizes[axis]))
            high = arith.minsi(arith.addi(low, sizes[axis]), first.upper[axis])
            bounds.append((low, high, index(1)))
        for before, array in trip.begun:
            _begin(before, array, bounds, pins[array])
        mlir.ir.InsertionPoint.current.block.append(trip.loop)
        for loop in loops:
            *moved, _ = operations(loop.op.regions[0].blocks[0])
            with mlir.ir.InsertionPoint(loop.op), loop.op.location:
                nest([*bounds, *loop.inner_bounds()], loop.op, moved)
            loop.op.erase()

    attributes = origins([loop.op for loop in loops])
    parallel_loops([(index(0), count, index(1)) for count in counts], block, attributes)


def _axes(array: Any, loops: Sequence[Loop], equal: Equalities) -> list[int]:
    """The axes of ``array`` that the blocked indices go along, from end to end."""
    uses = [use for loop in loops for root, use in loop.by_root.items() if root.value == array]
    places = [terms or () for use in uses for _, terms in (*use.reads, *use.writes)]
    found: dict[int, int] = {}
    for terms in places:
        plain = {t[0]: axis for axis, t in enumerate(terms) if t and t[1:] == (0,)}
        found = {k: a for k, a in plain.items() if not found or found.get(k) == a}
    first = loops[0]
    for number, (low, high) in enumerate(zip(first.lower, first.upper, strict=True)):
        whole = number in found and equal.key(high) == equal.key(sizes(array)[found[number]])
        if not whole or constant_int(low) != 0:
            raise Refused(f"{display_name(array)} is not gone through from end to end")
    return [found[number] for number in range(first.rank)]


def _begin(
    before: Any, array: Any, bounds: Sequence[tuple[Any, Any, Any]], axes: list[int]
) -> None:
    """Copy the elements of one block of ``before`` to ``array``."""
    ir = mlir.ir
    whole = [(index(0), size, index(1)) for size in sizes(array)]
    for axis, bound in zip(axes, bounds, strict=True):
        whole[axis] = bound

    def level(ivs: list[Any]) -> list[Any]:
        if len(ivs) < len(whole):
            for_loop(whole[len(ivs)], lambda iv: level([*ivs, iv]))
        else:
            kind = array.type.element_type
            value = ir.Operation.create("memref.load", [kind], [before, *ivs]).result
            ir.Operation.create("memref.store", operands=[value, array, *ivs])
        return []

    level([])


def _block_sizes(
    extents: Sequence[Any], inner: Sequence[tuple[Any, Any]], elements: int
) -> list[Any]:
    """Iterations of a block along each index: about ``elements`` together, last indices first.

    ``inner`` are the bounds of what is not blocked.
    """
    arith = mlir.arith
    room = index(elements)
    for low, high in inner:
        room = arith.divui(room, arith.maxsi(arith.subi(high, low), index(1)))
    sizes: list[Any] = []
    for extent in reversed(extents):
        whole = arith.maxui(extent, index(1))
        size = arith.minui(arith.maxui(room, index(1)), whole)
        room = arith.divui(room, size)
        sizes.insert(0, size)
    if len(sizes) == 1:
        share = arith.maxui(arith.ceildivui(extents[0], index(BLOCKS)), index(1))
        sizes[0] = arith.minui(sizes[0], arith.maxui(share, index(LEAST)))
    return sizes
