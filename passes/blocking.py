"""The cache model: which loop goes innermost, what is cut into blocks, what is unrolled.

All of it is a function of the strides of a statement's accesses (`costs`), the sizes of
elements, and the caches and registers of the `Machine`; docs/tiling.md has the table.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from numba_mlir.passes.base import location_name
from numba_mlir.passes.costs import (
    MAX_COLUMN_JAM,
    MAX_JAM,
    Body,
    cost,
    is_chain,
    is_expensive,
    references,
    unrolled,
)
from numba_mlir.passes.dependences import ordered
from numba_mlir.passes.lines import along
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.nests import Dim, Nest, Refused, Statement
from numba_mlir.passes.strides import Layout, Reference, item_bytes, layout, step
from numba_mlir.passes.values import at_line, constant_int, defined_inside

#: independent chains of additions that keep a core busy
CHAINS = 8
#: a body with more operations than this is not unrolled
MAX_OPS = 24
#: iterations of an ordered loop in a block: enough to use what was loaded for the block
ORDERED_TILE = 32
#: blocks of a parallel index for each core, so that all are busy to the end
PIECES_PER_CORE = 4
#: a new order has to be this much better
WORTH = 0.8
Kind = Literal["tile", "point"]


@dataclasses.dataclass(frozen=True)
class Level:
    """A loop over blocks of ``size`` iterations, or over ``size`` iterations at once."""

    kind: Kind
    dim: Dim
    size: int


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a parallel index is cut: ``fixed``, or `Plan.pieces` blocks of ``least`` to ``most``.

    ``long``: few blocks, as many for each core, instead.
    """

    least: int
    most: int
    multiple: int = 1
    fixed: int | None = None
    long: bool = False


@dataclasses.dataclass(frozen=True)
class Crossing:
    """Reads that go far along the loop ``best`` and to the next element along ``other``."""

    reads: tuple[Reference, ...]
    best: Dim
    other: Dim
    machine: Machine
    meeting: tuple[Level, ...] = ()
    """the loops where rows meet in the cache (`pitches`); () for those of all others"""


@dataclasses.dataclass(frozen=True)
class Aligned:
    """Blocks of a loop begin with a line of what ``references`` go through along it."""

    references: tuple[Reference, ...]
    machine: Machine


@dataclasses.dataclass
class Plan:
    """The new form of a nest; ``gains`` say why, empty when there is nothing to gain."""

    blocks: dict[Dim, Blocks]
    levels: list[tuple[Level, ...]]
    gains: list[str]
    permuted: tuple[Dim, ...] | None = None
    pieces: int = 1
    """about how many blocks a parallel index is cut into, where they may be large enough"""
    cores: int = 1
    least: dict[tuple[Dim, ...], int] = dataclasses.field(default_factory=dict)
    """iterations of loops together from which on it pays"""
    crossings: dict[int, Crossing] = dataclasses.field(default_factory=dict)
    """by number of the statement"""
    aligned: dict[Dim, Aligned] = dataclasses.field(default_factory=dict)
    strided: tuple[Any, ...] = ()
    """arrays that are assumed to lie in the order ``order``, which has to be tested"""
    order: Layout = "C"


def names(dim: Dim) -> str:
    """What the user calls an index."""
    name = location_name(dim.iv.location) or ""
    return name.split(".")[0].lstrip("$") or "an index"


def plan_nest(nest: Nest, machine: Machine, sizes: tuple[int, ...] = ()) -> Plan:
    """The plan for a nest; arrays of any strides are taken to lie in C order, or all in
    Fortran order where there is nothing to gain otherwise."""
    plan = Planner(nest, machine, sizes).plan()
    strided = tuple(
        memref
        for memref in dict.fromkeys(r.memref for s in nest.statements for r in references(s))
        if len(memref.type.shape) > 1
        and layout(memref) == "A"
        and not defined_inside(memref, nest.op)
    )
    if not strided or sizes:
        return plan
    if not plan.gains:
        plan = Planner(nest, machine, sizes, "F").plan()
        plan.order = "F"
    plan.strided = strided
    return plan


class Planner:
    """Plans one nest for one machine; ``sizes`` are the user's, outermost loop first.

    ``unknown`` is the order that is assumed of arrays of layout "A".
    """

    def __init__(
        self,
        nest: Nest,
        machine: Machine,
        sizes: tuple[int, ...] = (),
        unknown: Layout = "C",
    ) -> None:
        self.nest = nest
        self.unknown: Layout = unknown
        self.machine = machine
        self.sizes = sizes
        self.fixed = {dim for outer in nest.outer.values() for dim in outer}
        """loops that others' bounds depend on: they stay outside and whole"""
        self.blocks: dict[Dim, Blocks] = {}
        self.gains: dict[str, None] = {}
        self.least: dict[tuple[Dim, ...], int] = {}
        self.crossings: dict[int, Crossing] = {}
        self.aligned: dict[Dim, Aligned] = {}

    def plan(self) -> Plan:
        simple = all(set(s.dims) == set(self.nest.dims) for s in self.nest.statements)
        if simple and not self.sizes:
            return self._parallel_only()
        for dim in (d for s in self.nest.statements for d in unrolled(s) if not self.sizes):
            raise Refused(f"the loop{at_line(dim.op)} has so few iterations that LLVM unrolls it")
        levels = [self.statement(s, n) for n, s in enumerate(self.nest.statements)]
        return self._made(levels)

    def _made(self, levels: list[tuple[Level, ...]]) -> Plan:
        cores = self.machine.cores
        pieces = PIECES_PER_CORE * cores
        gains = list(self.gains)
        return Plan(self.blocks, levels, gains, None, pieces, cores, self.least, self.crossings,
                    self.aligned)  # fmt: skip

    def _references(self, statement: Statement) -> list[Reference]:
        return references(statement, self.unknown)

    def _cost(self, statement: Statement, dim: Dim) -> float:
        return cost(statement, dim, self.machine, self.unknown)

    def _body(self, statement: Statement, best: Dim) -> Body:
        return Body(statement, best, self.unknown)

    # -- only parallel indices ---------------------------------------------------------
    def _parallel_only(self) -> Plan:
        dims = self.nest.dims
        nothing = Plan({}, [], [])
        if len(dims) < 2:
            return nothing
        costs = {dim: self._total(dim) for dim in dims}
        best = min(dims, key=lambda d: (costs[d], -dims.index(d)))
        other = self._crossing(self.nest.statements, best, list(dims))
        if other is not None:
            levels = [
                self._transposition(s, n, best, other) for n, s in enumerate(self.nest.statements)
            ]
            return self._made(levels)
        if best is dims[-1] or costs[best] > WORTH * costs[dims[-1]]:
            return nothing
        order = sorted(dims, key=lambda d: -costs[d])
        order = [d for d in order if d is not best] + [best]
        gain = f"index {names(best)} innermost, along which the arrays are contiguous"
        return Plan({}, [], [gain], tuple(order))

    def _total(self, dim: Dim) -> float:
        return sum(self._cost(s, dim) for s in self.nest.statements)

    def _crossing(self, statements: list[Statement], best: Dim, dims: list[Dim]) -> Dim | None:
        """The loop along which an access goes to the next element that goes far along ``best``.

        None where memory is not what takes the time.
        """
        if any(is_expensive(statement) for statement in statements):
            return None
        moves = [r for s in statements for r in self._references(s) if step(r, best.iv) == "far"]
        found = [d for d in dims if d is not best and any(step(r, d.iv) == "next" for r in moves)]
        return found[-1] if found else None

    def _transposition(
        self, statement: Statement, number: int, best: Dim, other: Dim
    ) -> tuple[Level, ...]:
        """What is fetched along one index is used up along the other.

        The lines that the innermost loop fetches take a quarter of L1.  That pays where
        they would not stay in L2 until their next elements are used.  Where rows meet in L1
        (`pitches`), it holds the lines of a few rows only: these are read side by side.
        """
        items = {r: item_bytes(r.memref) for r in self._references(statement)}
        line = max(self.machine.line // max(items.values()), 1)
        size = max(self.machine.l1 // 4 // self.machine.line // line, 1) * line
        self._need(statement, best, other)
        tiles: dict[Dim, int] = {}
        for dim in (best, other):
            if dim.parallel and dim in self.nest.dims:
                self._want(dim, Blocks(4 * line, size, line))
            else:
                tiles[dim] = size
        self._gain(f"blocks of {size} by {size} over {names(other)} and {names(best)}")
        count = self._at_once(statement, line)
        before = [d for d in statement.dims if d not in (best, other)]
        meeting = self._levels([*before, best, other], {best: count}, tiles) if count else ()
        self._verify(meeting, ())
        reads = tuple(r for r in self._references(statement) if step(r, best.iv) == "far"
                      and not defined_inside(r.memref, self.nest.op))  # fmt: skip
        if reads:
            self.crossings[number] = Crossing(reads, best, other, self.machine, meeting)
        order = [d for d in statement.dims if d is not best] + [best]
        return self._levels(order, {}, tiles)

    def _at_once(self, statement: Statement, line: int) -> int:
        """How many rows are read side by side where rows meet in the cache: as many as L1
        can hold there.  0 where elements are so large that lines have fewer of them: too
        little is read twice then."""
        count = 1 << self.machine.ways.bit_length() - 1
        return count if count <= line and self._is_short(statement) else 0

    # -- statements with inner loops -----------------------------------------------------
    def statement(self, statement: Statement, number: int) -> tuple[Level, ...]:
        dims = statement.dims
        kept = ordered(statement)
        movable = [d for d in dims if d not in self.fixed]
        best = self._innermost(statement, kept)
        other = None if kept or self.sizes else self._crossing([statement], best, movable)
        if other is not None and best in movable:
            levels = self._transposition(statement, number, best, other)
            self._verify(levels, kept)
            return levels
        order = [d for d in dims if d is not best] + [best]
        jam = self._jam(statement, best, kept)
        if best is not dims[-1]:
            self._gain(f"index {names(best)} innermost, along which the arrays are contiguous")
        jammed = [f"{count} of {names(d)}" for d, count in jam.items()]
        if jammed:
            self._gain(f"unrolled {' by '.join(jammed)}")
        tiles = self._tiles(statement, best, jam, kept)
        if best in tiles:
            self._align(statement, best, tiles[best])
        for dim in self.nest.dims:
            if dim not in self.fixed:
                if dim is best and not tiles and not self.sizes:
                    self._want(dim, self._long_blocks(statement))
                else:
                    self._cut(dim, dim is best, jam.get(dim, 1))
        levels = self._levels(order, jam, tiles)
        self._verify(levels, kept)
        return levels

    def _innermost(self, statement: Statement, kept: tuple[Dim, ...]) -> Dim:
        """The cheapest loop, where it is cheaper than the last one, else the last one."""
        dims = statement.dims
        last = dims[-1]
        allowed = [
            dim
            for dim in dims
            if dim not in self.fixed
            and (dim not in kept or dim is kept[-1])
            and self._may_end(dim, dims)
        ]
        if not allowed:
            return last
        best = min(allowed, key=lambda d: (self._cost(statement, d), -dims.index(d)))
        return best if self._cost(statement, best) <= WORTH * self._cost(statement, last) else last

    def _need(self, statement: Statement, along: Dim, other: Dim) -> None:
        """Have the new form run only where what goes far along a loop does not fit L2, as
        far as the number of iterations is known in front of the nest."""
        if self.nest.outer[along] or self.nest.outer[other]:
            return
        moves = (r for r in self._references(statement) if step(r, along.iv) == "far")
        far = sum(item_bytes(memref) for memref in {r.memref for r in moves})
        self.least[along, other] = self.machine.l2 // max(far, 1)

    def _is_expensive(self) -> bool:
        return any(is_expensive(statement) for statement in self.nest.statements)

    def _verify(self, levels: tuple[Level, ...], kept: tuple[Dim, ...]) -> None:
        """The rules of `dependences` once more, on the result."""
        points = [level.dim for level in levels if level.kind == "point"]
        if tuple(dim for dim in points if dim in kept) != kept:
            raise Refused("its loops depend on each other in more than one way")
        cut = [level.dim for level in levels if level.kind == "tile" and level.dim in kept]
        if any(dim is not kept[0] for dim in cut):
            raise Refused("its loops depend on each other in more than one way")
        for position, level in enumerate(levels):
            before = {other.dim for other in levels[:position] if other.kind == "point"}
            if not {d for d in self.nest.outer[level.dim] if d in points} <= before:
                raise Refused("the bounds of a loop are computed inside another one")

    def _may_end(self, dim: Dim, dims: tuple[Dim, ...]) -> bool:
        """Whether ``dim`` can be innermost: no loop's bounds are computed inside it."""
        return all(dim not in self.nest.outer[other] for other in dims)

    def _gain(self, text: str) -> None:
        self.gains[text] = None

    def _jam(self, statement: Statement, best: Dim, kept: tuple[Dim, ...]) -> dict[Dim, int]:
        if not self._is_short(statement):
            return {}
        free = [d for d in statement.dims if d is not best and d not in kept]
        free = [d for d in free if d not in self.fixed]
        if best in kept:
            pays = free and is_chain(statement, best) and not self._is_expensive()
            return {free[-1]: CHAINS} if pays else {}
        limits: dict[Dim, int] = {}
        reused = [(self._reuse(statement, d, best), d) for d in free]
        reused = [pair for pair in reused if pair[0]]
        if reused and kept:
            limits[max(reused, key=lambda pair: pair[0])[1]] = MAX_JAM
        inner = [d for d in kept if d not in self.fixed]
        if inner and inner[-1] is kept[-1]:
            down = not limits and self._is_down(statement, best, inner[-1])
            limits[inner[-1]] = _at_most(MAX_COLUMN_JAM if down else MAX_JAM, inner[-1])
        found = self._body(statement, best).best_jam(limits, self.machine.registers)
        return {d: found[d] for d in statement.dims if d in found}

    def _is_short(self, statement: Statement) -> bool:
        """Whether its body may be unrolled."""
        ops = statement.slice.ops
        return len(ops) <= MAX_OPS and not (is_expensive(statement) or any(o.regions for o in ops))

    def _is_down(self, statement: Statement, best: Dim, dim: Dim) -> bool:
        """Whether iterations of ``dim`` read other rows of all that is read along ``best``."""
        reads = [r for r in self._references(statement) if not r.write]
        along = [r for r in reads if step(r, best.iv) != "none" and step(r, dim.iv) != "none"]
        return bool(along) and all(step(r, dim.iv) == "far" for r in along)

    def _reuse(self, statement: Statement, dim: Dim, best: Dim) -> int:
        """How many reads along ``best`` are the same for all iterations of ``dim``."""
        return sum(
            step(r, dim.iv) == "none" and step(r, best.iv) != "none"
            for r in self._references(statement)
            if not r.write
        )

    def _tiles(
        self, statement: Statement, best: Dim, jam: dict[Dim, int], kept: tuple[Dim, ...]
    ) -> dict[Dim, int]:
        """Blocks of sequential loops; the parallel ones go to ``self.blocks``."""
        tiles: dict[Dim, int] = {}
        if self.sizes:
            return self._given(statement, kept)
        panel = [
            r
            for r in self._references(statement)
            if kept and step(r, best.iv) != "none" and step(r, kept[-1].iv) != "none"
        ]
        shared = [d for d in jam if d not in kept]
        if panel and shared and best not in kept:
            first = kept[0]
            if first is kept[-1] and first not in self.fixed:
                tiles[first] = ORDERED_TILE
            if not best.parallel:
                block = sum(item_bytes(r.memref) for r in panel) * ORDERED_TILE
                room = self.machine.l2 // 4 // block
                room = min(
                    room, self.machine.l1 * 3 // 4 // self._body(statement, best).streams(jam)
                )
                tiles[best] = max(room // 16 * 16, 64)
        for dim, size in tiles.items():
            self._gain(f"blocks of {size} over {names(dim)}")
        return tiles

    def _align(self, statement: Statement, best: Dim, size: int) -> None:
        """Have blocks of ``size`` iterations begin with a line of the cache."""
        found = along(self._references(statement), best.iv, size, self.machine)
        if found and not any(defined_inside(one.memref, self.nest.op) for one in found):
            self.aligned.setdefault(best, Aligned(found, self.machine))

    def _cut(self, dim: Dim, innermost: bool, jam: int) -> None:
        """Cut a parallel index as this statement wants it, or as an earlier one wanted more."""
        if innermost:
            wanted = Blocks(64, 512, 16)
        elif jam > 1:
            wanted = Blocks(2 * jam, 64, jam)
        else:
            return
        self._want(dim, wanted)

    def _long_blocks(self, statement: Statement) -> Blocks:
        """Blocks of an innermost loop through whose arrays it goes once: long stretches of
        memory, of which what is summed into takes half of L1."""
        item = max(item_bytes(reference.memref) for reference in self._references(statement))
        return Blocks(64, max(self.machine.l1 // 2 // item, 64), 16, long=True)

    def _want(self, dim: Dim, wanted: Blocks) -> None:
        old = self.blocks.get(dim, wanted)
        if old.fixed is not None:
            return
        least, most = max(old.least, wanted.least), max(old.most, wanted.most)
        multiple = max(old.multiple, wanted.multiple)
        self.blocks[dim] = Blocks(least, most, multiple, long=old.long and wanted.long)

    def _given(self, statement: Statement, kept: tuple[Dim, ...]) -> dict[Dim, int]:
        """The user's sizes, for the loops that may be cut."""
        tiles: dict[Dim, int] = {}
        for dim, size in zip(statement.dims, self.sizes or (), strict=False):
            if dim in self.fixed or (dim in kept and dim is not kept[0]):
                continue
            if dim in self.nest.dims:
                self.blocks[dim] = Blocks(size, size, fixed=size)
            else:
                tiles[dim] = size
            self._gain(f"blocks of {size} over {names(dim)}")
        return tiles

    def _levels(
        self, order: list[Dim], jam: dict[Dim, int], tiles: dict[Dim, int]
    ) -> tuple[Level, ...]:
        outside = [d for d in order if d in self.fixed]
        inside = [d for d in order if d not in self.fixed]
        levels = [Level("point", d, 1) for d in outside]
        levels += [Level("tile", d, tiles[d]) for d in inside if d in tiles]
        levels += [Level("point", d, jam.get(d, 1)) for d in inside]
        return tuple(levels)


def _at_most(count: int, dim: Dim) -> int:
    """``count``, or the number of iterations where that is a smaller constant."""
    lower, upper = constant_int(dim.lower), constant_int(dim.upper)
    if lower is None or upper is None:
        return count
    return max(min(count, upper - lower), 1)
