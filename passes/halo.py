"""Stencils of temporary arrays: producers and consumers in blocks of rows.

    t[i, :] = f(a)           for all rows i
    out[i, :] = g(t[i, :], t[i + 1, :], t[i + 2, :])

cannot run row by row in one loop, because iteration i of the second loop needs what other
iterations of the first one compute.  Here both run in blocks of rows of the last loop:

    for each block, in parallel
        t' = empty(rows of the block and 2 more)
        t'[...] = f(a)       for the rows of the block and 2 more
        out[i, :] = g(t')    for the rows of the block

so that ``t'`` stays in the cache and ``t`` is never made.  The rows at the edges of blocks
(the halo) are computed by both neighbours; each value is computed as before, so that results
stay the same to the last bit.  `halo_groups` says which loops can do so.

The cost rule: a block has as many rows as fit half of the second-level cache, but at most a
64th of all, so that threads are done at about the same time, and at least 4 for each row of
the halo (16 where a producer calls functions such as exp), so that at most a fourth (a
sixteenth) is computed twice.  What is saved is writing and reading the temporary in memory.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.base import source_lines
from numba_mlir.passes.building import allocate, index, nest, parallel_loops
from numba_mlir.passes.halo_groups import Group, GroupFinder
from numba_mlir.passes.halo_terms import assume
from numba_mlir.passes.legality import Loop
from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.merge import all_disjoint, origins
from numba_mlir.passes.temporaries import remove_unread
from numba_mlir.passes.values import ACCESSES, definition, display_name, nested, operations, owner

#: how many blocks there are at least, where rows allow
BLOCKS = 64
#: least number of rows of a block for each row of the halo, and where functions are called
LEAST, LEAST_WITH_CALLS = 4, 16
_CHEAP_MATH = frozenset({"math.absf", "math.absi", "math.sqrt", "math.fma", "math.copysign"})


@dataclasses.dataclass(frozen=True)
class Halo:
    """Loops that became one over blocks of rows, or could not: what to tell the user.

    ``lines`` are those of the loops.
    """

    message: str
    location: Any
    lines: frozenset[int]
    done: bool


def fuse_halos(module: Any, cache: int | None = None) -> list[Halo]:
    """Let loops on temporary arrays run in blocks of rows, all over ``module``.

    ``cache`` is the number of bytes that the rows of a block may take: half of the
    second-level cache of this machine where it is None.
    """
    cache = this_machine().l2 // 2 if cache is None else cache
    found: list[Halo] = []
    for block in list(_blocks(module.operation)):
        finder = GroupFinder(block)
        while (group := finder.find()) is not None:
            found.append(_described(group))
            _Blocks(group, cache).make()
            finder = GroupFinder(block)
        found += [_described(group, reason) for group, reason in finder.refused]
    return found


def _blocks(op: Any) -> Iterator[Any]:
    """All blocks outside parallel loops, apart from those for arrays that overlap."""
    for region in list(op.regions)[: 1 if _tests_overlap(op) else None]:
        for block in region.blocks:
            yield block
            for child in operations(block):
                if child.name != "scf.parallel":
                    yield from _blocks(child)


def _tests_overlap(op: Any) -> bool:
    condition = owner(op.operands[0]) if op.name == "scf.if" else None
    while condition is not None and condition.name == "arith.andi":
        condition = owner(condition.operands[0])
    return condition is not None and condition.name == "numba.disjoint"


def _described(group: Group, reason: str | None = None) -> Halo:
    places = [place.line for loop in group.loops for place in source_lines(loop.op.location)]
    lines = frozenset(places)
    where = f" of line{'s' if len(lines) > 1 else ''} {', '.join(map(str, sorted(lines)))}"
    loops = f"{len(group.loops)} loops{where if lines else ''}"
    if reason is not None:
        message = f"{loops} do not run together in blocks of rows: {reason}"
        return Halo(message, group.last.op.location, lines, done=False)
    names = ", ".join(sorted({display_name(t.array) for t in group.temporaries}))
    message = (
        f"{loops} run together in blocks of rows; of {names} there are only the rows of a block"
    )
    if group.halo:
        message += f" and {group.halo} more"
    cases = ["arrays overlap"] if group.guards else []
    cases += ["a size is 1"] if group.assumed else []
    if cases:
        message += f"; where {' or '.join(cases)} they run one after the other"
    return Halo(message, group.last.op.location, lines, done=True)


class _Blocks:
    """Replaces the loops of a group, which stand next to each other, by one over blocks."""

    def __init__(self, group: Group, cache: int) -> None:
        self._group, self._cache = group, cache
        self._buffers: dict[Any, Any] = {}

    def make(self) -> None:
        ir, group = mlir.ir, self._group
        branch = None
        location = ir.Location.fused([loop.op.location for loop in group.loops])
        with location, ir.InsertionPoint(group.loops[0].op):
            condition = self._condition()
            if condition is not None:
                branch = ir.Operation.create("scf.if", operands=[condition], regions=2)
                fused, original = (ir.Block.create_at_start(r) for r in branch.regions)
                with ir.InsertionPoint(original):
                    for loop in group.loops:
                        loop.op.clone()
                    ir.Operation.create("scf.yield")
                for loop in group.loops:
                    assume(loop, group.assumed)
                with ir.InsertionPoint(fused):
                    self._parallel()
                    ir.Operation.create("scf.yield")
            else:
                self._parallel()
        for loop in group.loops:
            loop.op.erase()
        remove_unread([temporary.array for temporary in group.temporaries], branch)

    def _condition(self) -> Any | None:
        """What is tested at run time, an i1; None where nothing has to be."""
        ir, group = mlir.ir, self._group
        found = [all_disjoint(tuple(group.guards))] if group.guards else []
        if group.assumed:
            bit = ir.IntegerType.get_signless(1)
            true = mlir.arith.constant(bit, ir.BoolAttr.get(True))
            found += [mlir.arith.xori(condition, true) for condition in group.assumed]
        return functools.reduce(mlir.arith.andi, found) if found else None

    def _parallel(self) -> None:
        arith, last = mlir.arith, self._group.last
        lower, upper = last.lower[0], last.upper[0]
        span = arith.maxsi(arith.subi(upper, lower), index(0))
        rows = self._rows(span)
        count = arith.ceildivui(span, rows)
        attributes = origins([loop.op for loop in self._group.loops])

        def blocks(number: Any) -> None:
            low = arith.addi(lower, arith.muli(number, rows))
            high = arith.minsi(arith.addi(low, rows), upper)
            for loop in self._group.loops:
                self._loop(loop, low, high)

        parallel_loops([(index(0), count, index(1))], blocks, attributes)

    # -- the cost rule -----------------------------------------------------------------
    def _rows(self, span: Any) -> Any:
        """The number of rows of a block."""
        arith = mlir.arith
        for_each = LEAST_WITH_CALLS if any(map(_calls, self._group.loops[:-1])) else LEAST
        least = index(for_each * max(self._group.halo, 1))
        sizes = [_row_bytes(temporary.array) for temporary in self._group.temporaries]
        size = functools.reduce(arith.addi, sizes)
        fitting = arith.divui(index(self._cache), arith.maxui(size, index(1)))
        share = arith.ceildivui(span, index(BLOCKS))
        return arith.maxui(arith.minui(fitting, share), least)

    # -- loops -------------------------------------------------------------------------
    def _loop(self, loop: Loop, low: Any, high: Any) -> None:
        """``loop`` for the rows from ``low`` up to ``high`` of the last loop."""
        arith = mlir.arith
        before, behind = self._group.rows[loop.op]
        if loop is not self._group.last:
            first, end = _plus(low, before), _plus(high, behind)
            self._allocate(loop, first, arith.subi(end, first))
            low, high = arith.maxsi(first, loop.lower[0]), arith.minsi(end, loop.upper[0])
        *moved, _ = operations(loop.op.regions[0].blocks[0])
        accesses = [op for op in _accesses(loop) if op.operands[ACCESSES[op.name]] in self._buffers]
        nest([(low, high, index(1)), *loop.at(1).inner_bounds()], loop.op, moved)
        for op in accesses:
            self._use_buffer(op)

    def _allocate(self, loop: Loop, first: Any, rows: Any) -> None:
        """Buffers for what ``loop`` writes in its iterations from ``first`` on."""
        for temporary in self._group.temporaries:
            if temporary.writer == loop.op:
                type_ = temporary.array.type
                made = list(definition(temporary.array).operands)
                sizes = [rows, *made[type_.is_dynamic_dim(0) :]]
                shape = [mlir.ir.ShapedType.get_dynamic_size(), *list(type_.shape)[1:]]
                buffer = allocate(shape, type_.element_type, sizes)
                self._buffers[temporary.array] = buffer, _plus(first, temporary.shift)

    def _use_buffer(self, op: Any) -> None:
        """Let an access to a temporary use the block's buffer."""
        position = ACCESSES[op.name]
        array, row = op.operands[position], op.operands[position + 1]
        buffer, start = self._buffers[array]
        with mlir.ir.InsertionPoint(op), op.location:
            op.operands[position + 1] = mlir.arith.subi(row, start)
        op.operands[position] = buffer


def _plus(value: Any, number: int) -> Any:
    return mlir.arith.addi(value, index(number)) if number else value


def _accesses(loop: Loop) -> list[Any]:
    return [op for op in nested(loop.op) if op.name in ACCESSES]


def _calls(loop: Loop) -> bool:
    """Whether a loop's body has functions that take far longer than an addition."""
    names = {op.name for op in nested(loop.op)}
    return any(name.startswith("math.") and name not in _CHEAP_MATH for name in names)


def _row_bytes(array: Any) -> Any:
    """The bytes of a row, an index value."""
    type_ = array.type
    sizes = list(definition(array).operands)[type_.is_dynamic_dim(0) :]
    element = _element_bytes(type_.element_type)
    product = index(element)
    for axis in range(1, type_.rank):
        dynamic = type_.is_dynamic_dim(axis)
        size = sizes.pop(0) if dynamic else index(type_.get_dim_size(axis))
        product = mlir.arith.muli(product, size)
    return product


def _element_bytes(kind: Any) -> int:
    ir = mlir.ir
    if isinstance(kind, ir.ComplexType):
        return 2 * _element_bytes(kind.element_type)
    return max(kind.width // 8, 1)
