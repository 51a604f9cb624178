"""A parallel loop with its inner loops as statements over a space of loop indices.

`read_nest` takes an ``scf.parallel`` apart: every `Statement` has the loops around it and
its *events*, the reads and writes of written arrays in their order.  Everything else that
a statement computes follows from its events backwards: pure operations, and reads of
arrays that nobody writes in the nest.  A scalar that a loop carries becomes the array
element that it is stored to behind the loop:

    s = start                          x[i] = start
    for k: s = f(s, k)        is       for k: x[i] = f(x[i], k)
    x[i] = g(s)                        x[i] = g(x[i])

That needs a store of the very type and an array that the nest accesses nowhere else.
What does not fit raises `Refused` with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from numba_mlir.passes.effects import is_pure_name, may_trap
from numba_mlir.passes.provenance import Provenance, Root
from numba_mlir.passes.values import (
    ACCESSES,
    at_line,
    constant_int,
    describe,
    nested,
    operations,
    owner,
)
from numba_mlir.passes.views import whole_base

_LOOPS = frozenset({"scf.for", "scf.parallel"})


class Refused(Exception):
    """Why a nest stays as it is; ``str()`` is the reason."""


@dataclasses.dataclass(eq=False)
class Dim:
    """One loop index.  ``op`` is its loop; the step is one."""

    iv: Any
    lower: Any
    upper: Any
    op: Any
    parallel: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """An element of a written array: the array and its index values."""

    memref: Any
    indices: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Event:
    """A write of ``values[0]`` to a cell, or a read that gives all ``values``."""

    cell: Cell
    values: tuple[Any, ...]
    write: bool
    op: Any


@dataclasses.dataclass(eq=False)
class Statement:
    """Events in one iteration of ``dims`` (outermost first)."""

    dims: tuple[Dim, ...]
    events: list[Event]
    slice: Slice = dataclasses.field(default_factory=lambda: Slice())


@dataclasses.dataclass
class Slice:
    """What values need: operations, the reads among them, and loop indices."""

    ops: dict[Any, None] = dataclasses.field(default_factory=dict)
    loads: dict[Any, None] = dataclasses.field(default_factory=dict)
    ivs: dict[Any, None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class Nest:
    """An ``scf.parallel`` as statements; ``dims`` are its own indices."""

    op: Any
    dims: tuple[Dim, ...]
    statements: list[Statement]
    outer: dict[Dim, set[Dim]]
    """for each loop, the loops whose indices its bounds use"""


def read_nest(op: Any, provenance: Provenance) -> Nest:
    """The nest of an ``scf.parallel``; raises `Refused`."""
    return _Reader(op, provenance).read()


def loop_dims(op: Any) -> tuple[Dim, ...]:
    """The indices of an ``scf.for`` or ``scf.parallel``."""
    arguments = list(op.regions[0].blocks[0].arguments)
    operands = list(op.operands)
    parallel = op.name == "scf.parallel"
    rank = len(arguments) if parallel else 1
    lower, upper, steps = (operands[rank * i : rank * (i + 1)] for i in range(3))
    if any(constant_int(step) != 1 for step in steps):
        raise Refused(f"the step of the loop{at_line(op)} is not one")
    return tuple(
        Dim(iv, low, high, op, parallel)
        for iv, low, high in zip(arguments[:rank], lower, upper, strict=True)
    )


class _Reader:
    def __init__(self, op: Any, provenance: Provenance) -> None:
        self.op = op
        self.provenance = provenance
        self.inside: set[Any] = set()
        self.written: dict[Root, list[Any]] = {}
        self.accesses: dict[Root, int] = {}
        self.ivs: set[Any] = set()
        self.statements: list[Statement] = []
        self.homes: dict[Any, Any] = {}
        """store -> the loop result that it stores unchanged"""
        self._survey()

    def _survey(self) -> None:
        for op in (self.op, *nested(self.op)):
            if op is not self.op:
                self.inside |= set(op.results)
            for region in op.regions:
                for block in region.blocks:
                    self.inside |= set(block.arguments)
            position = ACCESSES.get(op.name)
            if position is not None:
                root = self.provenance.root(op.operands[position])
                self.accesses[root] = self.accesses.get(root, 0) + 1
                if position:
                    self.written.setdefault(root, []).append(op)

    def read(self) -> Nest:
        dims = self._enter(self.op)
        *_, last = operations(self.op.regions[0].blocks[0])
        if len(last.operands):
            raise Refused("it computes a reduction over its parallel index")
        self._block(self.op.regions[0].blocks[0], dims)
        if not self.statements:
            raise Refused("it writes no array")
        for statement in self.statements:
            statement.slice = self._slice_of(statement)
        return Nest(self.op, dims, self.statements, self._outer())

    def _enter(self, op: Any) -> tuple[Dim, ...]:
        dims = loop_dims(op)
        self.ivs |= {dim.iv for dim in dims}
        return dims

    # -- statements ----------------------------------------------------------------
    def _block(self, block: Any, dims: tuple[Dim, ...], events: list[Event] | None = None) -> None:
        events = [] if events is None else events
        for op in operations(block)[:-1]:
            if op.name in _LOOPS:
                self._flush(dims, events)
                events = self._loop(op, dims)
            else:
                self._operation(op, events)
        self._flush(dims, events)

    def _flush(self, dims: tuple[Dim, ...], events: list[Event]) -> None:
        if any(event.write for event in events):
            self.statements.append(Statement(dims, list(events)))

    def _operation(self, op: Any, events: list[Event]) -> None:
        if op.name == "memref.load":
            array, *indices = op.operands
            if self.provenance.root(array) in self.written:
                cell = Cell(whole_base(array), tuple(indices))
                events.append(Event(cell, (op.result,), False, op))
        elif op.name == "memref.store":
            value, array, *indices = op.operands
            if op not in self.homes or self.homes[op] != value:
                events.append(Event(Cell(whole_base(array), tuple(indices)), (value,), True, op))
        elif not self._is_lazy(op):
            raise Refused(f"it contains {describe(op)}, which is not understood here")

    def _is_lazy(self, op: Any) -> bool:
        """Whether an operation may be computed where, and only where, it is needed."""
        if op.name == "scf.if":
            return all(self._is_lazy_inside(child) for child in nested(op))
        return (is_pure_name(op.name) and op.name != "memref.alloc") or _is_expression(op)

    def _is_lazy_inside(self, op: Any) -> bool:
        if op.name == "memref.load":
            return self.provenance.root(op.operands[0]) not in self.written
        return op.name in ("scf.if", "scf.yield") or self._is_lazy(op)

    def _loop(self, op: Any, dims: tuple[Dim, ...]) -> list[Event]:
        """Read a loop; returns the reads of its results with which what follows begins."""
        inner = (*dims, *self._enter(op))
        block = op.regions[0].blocks[0]
        if op.name == "scf.parallel":
            if len(op.results):
                raise Refused(f"it computes a reduction{at_line(op)}")
            self._block(block, inner)
            return []
        cells = [self._home(op, result) for result in op.results]
        for cell, start in zip(cells, list(op.operands)[3:], strict=True):
            self.statements.append(Statement(dims, [Event(cell, (start,), True, op)]))
        self._carrying(op, inner, cells, [() for _ in cells])
        pairs = zip(cells, op.results, strict=True)
        return [Event(cell, (result,), False, op) for cell, result in pairs]

    def _carrying(
        self, op: Any, dims: tuple[Dim, ...], cells: list[Cell], bound: list[tuple[Any, ...]]
    ) -> None:
        """Read the body of a loop whose carried values live in ``cells``."""
        block = op.regions[0].blocks[0]
        arguments = list(block.arguments)[1:]
        yielded = list(operations(block)[-1].operands)
        bound = [(*known, argument) for known, argument in zip(bound, arguments, strict=True)]
        loops = [child for child in operations(block) if child.name in _LOOPS]
        if not cells:
            self._block(block, dims)
            return
        if loops:
            self._only_passes_on(op, block, loops, arguments, yielded)
            self._carrying(loops[0], (*dims, *self._enter(loops[0])), cells, bound)
            return
        reads = [Event(c, values, False, op) for c, values in zip(cells, bound, strict=True)]
        events: list[Event] = []
        for child in operations(block)[:-1]:
            self._operation(child, events)
        writes = [Event(c, (value,), True, op) for c, value in zip(cells, yielded, strict=True)]
        self.statements.append(Statement(dims, reads + events + writes))

    def _only_passes_on(
        self, op: Any, block: Any, loops: list[Any], arguments: list[Any], yielded: list[Any]
    ) -> None:
        """Refuse unless carried values go straight through the one loop inside."""
        inner = loops[0]
        direct = (
            len(loops) == 1
            and inner.name == "scf.for"
            and list(inner.operands)[3:] == arguments
            and list(inner.results) == yielded
        )
        if not direct:
            raise Refused(f"the loop{at_line(op)} carries a value past its inner loop")
        for child in operations(block)[:-1]:
            if child != inner and child.name != "memref.load" and not self._is_lazy(child):
                raise Refused(f"it contains {describe(child)}, which is not understood here")

    def _home(self, loop: Any, result: Any) -> Cell:
        """The array element that a loop's result is stored to behind the loop."""
        behind = operations(loop.block)
        for op in behind[behind.index(loop) + 1 :]:
            if op.name != "memref.store" or not self._depends(op.operands[0], result):
                continue
            array = op.operands[1]
            if array.type.element_type != result.type:
                raise Refused(f"the value stored{at_line(op)} is of another type than its sum")
            if self.accesses[self.provenance.root(array)] != 1:
                raise Refused(f"the array stored to{at_line(op)} is also accessed elsewhere")
            self.homes[op] = result
            return Cell(whole_base(array), tuple(op.operands)[2:])
        raise Refused(f"a result of the loop{at_line(loop)} is not stored behind it")

    def _depends(self, value: Any, wanted: Any) -> bool:
        if value == wanted:
            return True
        op = owner(value)
        if op is None or value not in self.inside or op.name in _LOOPS:
            return False
        return any(self._depends(operand, wanted) for operand in op.operands)

    # -- slices --------------------------------------------------------------------
    def _slice_of(self, statement: Statement) -> Slice:
        found = Slice()
        bound = {v for event in statement.events if not event.write for v in event.values}
        for event in statement.events:
            for value in (*event.cell.indices, *(event.values if event.write else ())):
                self._slice(value, bound, found)
        return found

    def _slice(self, value: Any, bound: set[Any], found: Slice) -> None:
        if value in bound or value not in self.inside:
            return
        op = owner(value)
        if op is None:
            if value not in self.ivs:
                raise Refused("a value is carried from one iteration to the next")
            found.ivs[value] = None
        elif op not in found.ops:
            found.ops[op] = None
            self._slice_op(op, bound, found)

    def _slice_op(self, op: Any, bound: set[Any], found: Slice) -> None:
        if op.name == "memref.load":
            if self.provenance.root(op.operands[0]) in self.written:
                raise Refused(f"an element read{at_line(op)} is used behind another loop")
            found.loads[op] = None
        elif op.name in _LOOPS or not self._is_lazy(op):
            raise Refused(f"a result of {describe(op)} is used behind it")
        elif _is_expression(op):
            raise Refused(f"it contains {describe(op)}, which is not understood here")
        for child in (op, *nested(op)):
            if child is not op and child.name == "memref.load":
                found.loads[child] = None
            for operand in child.operands:
                if not _is_defined_in(operand, op):
                    self._slice(operand, bound, found)

    def _outer(self) -> dict[Dim, set[Dim]]:
        dims = {dim.iv: dim for statement in self.statements for dim in statement.dims}
        outer: dict[Dim, set[Dim]] = {}
        for dim in dims.values():
            used = Slice()
            for bound in (dim.lower, dim.upper):
                self._slice(bound, set(), used)
            if used.loads:
                raise Refused(f"a bound of the loop{at_line(dim.op)} is read from an array")
            if any(may_trap(op) for op in used.ops):  # where the loop around it runs zero times
                raise Refused(f"a bound of the loop{at_line(dim.op)} may divide by zero")
            outer[dim] = {dims[iv] for iv in used.ivs}
        return outer


def _is_expression(op: Any) -> bool:
    """A kept expression: harmless where nobody uses it, such as ``a.shape``."""
    return op.name.startswith("numba.expr")


def _is_defined_in(value: Any, op: Any) -> bool:
    """Whether ``value`` is defined inside the regions of ``op``."""
    return any(value in results for results in _definitions(op))


def _definitions(op: Any) -> Iterator[list[Any]]:
    for child in nested(op):
        yield list(child.results)
    for inner in (op, *nested(op)):
        for region in inner.regions:
            for block in region.blocks:
                yield list(block.arguments)
