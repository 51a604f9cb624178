"""Reductions along another axis than the last: rows outside, columns inside.

``sum(axis=0)`` is a parallel loop over columns with a loop over rows inside, which reads
memory in long strides.  Here it becomes a parallel loop over blocks of columns:

    for each block in parallel:
        for j in the block: sum[j] = 0                      (a buffer of the block's width)
        for i over the rows: for j in the block: sum[j] += a[i, j]
        for j in the block: out[j] = sum[j]

so that neighbours in memory follow each other and LLVM makes vectors of columns.  The order
in which each result is added up stays the same, so the width of a block changes no result:
it is `WIDTH`, or less where that would leave threads without work.

Taken are parallel loops without reductions of their own whose body has loops (over rows)
and simple operations in turn, where loads in those loops have the last parallel index as
their last subscript.  Left alone are bodies with operations of unknown effect, and loops
that also read along the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import ON_STACK, allocate, for_loop, index
from numba_mlir.passes.effects import is_pure_name
from numba_mlir.passes.values import (
    ancestor_in,
    constant_int,
    defined_inside,
    nested,
    operations,
    owner,
    strip_casts,
)

#: columns of one block at most (8 KiB of float64, a part of the first cache), and at least
WIDTH, LEAST = 1024, 256
#: blocks are a multiple of this many columns: a cache line of all dtypes from 4 bytes on
_LINE = 16
_MEMORY = frozenset({"memref.load", "memref.store"})


def interchange(module: Any, pieces: int = 1) -> bool:
    """Do so with all such loops of ``module``; whether there were any.

    ``pieces`` is the number of blocks that the threads want at least.
    """
    wanted = [op for op in nested(module.operation) if op.name == "scf.parallel" and _wanted(op)]
    for op in wanted:
        with op.location, mlir.ir.InsertionPoint(op):
            _Interchange(op, pieces).run()
    return bool(wanted)


def _wanted(loop: Any) -> bool:
    block = loop.regions[0].blocks[0]
    column = list(block.arguments)[-1]
    rows = [op for op in operations(block) if op.name == "scf.for"]
    if len(loop.results) or not rows or not _steps_are_one(loop):
        return False
    for op in operations(block)[:-1]:
        if op.name != "scf.for" and not (_is_simple(op) or op.name in _MEMORY):
            return False
    return all(_is_along_rows(row, column) for row in rows)


def _steps_are_one(loop: Any) -> bool:
    rank = len(loop.regions[0].blocks[0].arguments)
    return all(constant_int(step) == 1 for step in list(loop.operands)[2 * rank : 3 * rank])


def _is_simple(op: Any) -> bool:
    return not len(op.regions) and (is_pure_name(op.name) or op.name.startswith("numba.expr"))


def _perfect(row: Any) -> list[Any]:
    """``row`` and the loops inside that are its whole body and only pass its values on."""
    nest = [row]
    while True:
        block = nest[-1].regions[0].blocks[0]
        inner, *rest = operations(block)
        if inner.name != "scf.for" or len(rest) != 1:
            return nest
        if list(inner.operands)[3:] != list(block.arguments)[1:]:
            return nest
        if list(rest[0].operands) != list(inner.results):
            return nest
        nest.append(inner)


def _is_along_rows(row: Any, column: Any) -> bool:
    """Whether a loop over rows reads elements next to each other for neighbouring columns."""
    nest = _perfect(row)
    row_ivs = [loop.regions[0].blocks[0].arguments[0] for loop in nest]
    bounds = [value for loop in nest for value in list(loop.operands)[:3]]
    if any(defined_inside(value, row.parent) for value in bounds):
        return False
    found = False
    for op in operations(nest[-1].regions[0].blocks[0])[:-1]:
        if op.name != "memref.load":
            if not _is_simple(op):
                return False
            continue
        *_, last = [None, *(_moving(index, row) for index in list(op.operands)[1:])]
        if last in row_ivs:
            return False
        in_c_order = isinstance(op.operands[0].type.layout, mlir.ir.AffineMapAttr)
        found |= last == column and in_c_order
    return found


def _moving(index: Any, row: Any) -> Any:
    """An index without the test or factor by which sizes of 1 are stretched (`masks`)."""
    index = strip_casts(index)
    op = owner(index)
    if op is None or op.name not in ("arith.select", "arith.andi", "arith.muli"):
        return index
    *fixed, moving = list(op.operands)
    if op.name != "arith.select" and defined_inside(fixed[0], row.parent):
        fixed, moving = [moving], fixed[0]
    if any(defined_inside(value, row.parent) for value in fixed):
        return index
    return _moving(moving, row)


@dataclasses.dataclass
class _Segment:
    """Operations in front of a loop over rows, and that loop (None at the end)."""

    plain: list[Any]
    row: Any | None


class _Interchange:
    """One parallel loop, at the insertion point."""

    def __init__(self, loop: Any, pieces: int) -> None:
        self._loop, self._pieces = loop, pieces
        self._block = loop.regions[0].blocks[0]
        *self._outer, self._column = list(self._block.arguments)
        self._segments = [_Segment([], None)]
        for op in operations(self._block)[:-1]:
            last = self._segments[-1]
            if op.name == "scf.for":
                last.row = op
                self._segments.append(_Segment([], None))
            else:
                last.plain.append(op)
        #: values that live longer than one segment, and where they are kept
        self._buffers: dict[Any, Any] = {}

    def run(self) -> None:
        ir, arith = mlir.ir, mlir.arith
        rank = len(self._outer) + 1
        operands = list(self._loop.operands)
        lower, upper, steps = operands[:rank], operands[rank : 2 * rank], operands[2 * rank :]
        low, high = lower[-1], upper[-1]
        zero = index(0)
        extent = arith.maxsi(arith.subi(high, low), zero)
        width = self._width(extent)
        bounds = [*lower[:-1], zero, *upper[:-1], arith.ceildivui(extent, width), *steps]
        attributes = {name: self._loop.attributes[name] for name in self._loop.attributes}
        made = ir.Operation.create("scf.parallel", [], bounds, attributes, regions=1)
        arguments = [*self._outer, self._column]
        places = [argument.location for argument in arguments]
        block = ir.Block.create_at_start(made.regions[0], [a.type for a in arguments], places)
        for old, new in zip(self._outer, block.arguments, strict=False):
            old.replace_all_uses_with(new)
        with ir.InsertionPoint(block):
            self._first = arith.addi(low, arith.muli(block.arguments[rank - 1], width))
            self._last = arith.minsi(arith.addi(self._first, width), high)
            for value in self._long_lived():
                self._buffers[value] = buffer = allocate([WIDTH], value.type)
                buffer.owner.attributes[ON_STACK] = ir.UnitAttr.get()
            for segment in self._segments:
                self._plain(segment)
                if segment.row is not None:
                    self._rows(segment.row)
            ir.Operation.create("scf.reduce")
        self._loop.erase()

    def _width(self, extent: Any) -> Any:
        arith = mlir.arith
        if self._pieces == 1:
            return index(WIDTH)
        wanted = arith.ceildivui(extent, index(self._pieces * _LINE))
        wanted = arith.muli(wanted, index(_LINE))
        return arith.minui(arith.maxui(wanted, index(LEAST)), index(WIDTH))

    def _long_lived(self) -> list[Any]:
        """Results of loops over rows, and what several segments use."""
        found: list[Any] = []
        for segment in self._segments:
            for op in segment.plain:
                for result in op.results:
                    users = (use.owner.operation for use in result.uses)
                    tops = {ancestor_in(user, self._block) for user in users}
                    if not tops <= set(segment.plain):
                        found.append(result)
            found += [] if segment.row is None else list(segment.row.results)
        return found

    def _plain(self, segment: _Segment) -> None:
        """A loop over the columns for the operations, and for the start of the rows."""
        row = segment.row
        starts = [] if row is None else list(row.operands)[3:]
        results = [] if row is None else list(row.results)
        if not segment.plain and not starts:
            return

        def body(column: Any) -> None:
            own = {result for op in segment.plain for result in op.results}
            self._moved(segment.plain, column, own)
            for value in own & self._buffers.keys():
                self._store(value, value, column)
            for result, start in zip(results, starts, strict=True):
                local = start if start in own else self._local(start, column)
                self._store(local, result, column)

        self._columns(body)

    def _rows(self, row: Any) -> None:
        """The loops over rows, with one over the columns inside."""
        nest = _perfect(row)
        inner = nest[-1].regions[0].blocks[0]
        *ops, last = operations(inner)

        def body(column: Any) -> None:
            for argument, result in zip(list(inner.arguments)[1:], row.results, strict=True):
                argument.replace_all_uses_with(self._load(result, column))
            own = {result for op in ops for result in op.results}
            values = list(last.operands)
            self._moved(ops, column, own)
            for value, result in zip(values, row.results, strict=True):
                self._store(value, result, column)

        def level(depth: int) -> None:
            if depth == len(nest):
                self._columns(body)
                return
            loop = nest[depth]

            def inside(iv: Any) -> list[Any]:
                loop.regions[0].blocks[0].arguments[0].replace_all_uses_with(iv)
                level(depth + 1)
                return []

            low, high, step, *_ = list(loop.operands)
            for_loop((low, high, step), inside)

        level(0)

    def _columns(self, body: Callable[[Any], None]) -> None:
        def inside(column: Any) -> list[Any]:
            body(column)
            return []

        for_loop((self._first, self._last, index(1)), inside)

    def _moved(self, ops: list[Any], column: Any, own: set[Any]) -> None:
        """Move operations here; their operands become those of this column."""
        here = mlir.ir.InsertionPoint.current.block
        local: dict[Any, Any] = {}
        for op in ops:
            for number, value in enumerate(op.operands):
                if value not in own:
                    if value not in local:
                        local[value] = self._local(value, column)
                    op.operands[number] = local[value]
            here.append(op)

    def _local(self, value: Any, column: Any) -> Any:
        if value == self._column:
            return column
        return self._load(value, column) if value in self._buffers else value

    def _load(self, value: Any, column: Any) -> Any:
        operands = [self._buffers[value], self._place(column)]
        return mlir.ir.Operation.create("memref.load", [value.type], operands).results[0]

    def _store(self, value: Any, kept: Any, column: Any) -> None:
        operands = [value, self._buffers[kept], self._place(column)]
        mlir.ir.Operation.create("memref.store", operands=operands)

    def _place(self, column: Any) -> Any:
        return mlir.arith.subi(column, self._first)
