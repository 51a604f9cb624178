"""Sums along columns that join a loop over the rows of the same matrix.

``x.sum(axis=0)`` or ``A.T @ y`` is a loop over columns with one over rows inside.  Where
another loop goes over the rows of the same matrix, the matrix need not be read twice: the
sums are kept in an array of one row, to which every row is added:

    for j: sums[j] = 0
    for i in parallel: for j: sums[j] += a[i, j] * y[i]       (a sweep)
    for j: out[j] = f(sums[j])

`make_sweeps` makes this form, in which the second loop fuses with the other one.  Iterations
of a sweep write the same elements, so it does not run in parallel as it is: `split_sweeps`
cuts the rows into chunks, each with sums of its own, that are added to ``sums`` in order
behind the loop.  The chunks depend on the number of rows alone, and so does the result.

Taken are loops over one index with one loop inside, which adds up floating-point numbers in
any order (the flag ``reassoc``) and reads a matrix in C order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import allocate, for_loop, index, load_at, parallel_loop
from numba_mlir.passes.effects import is_pure_name
from numba_mlir.passes.jamming import can_jam, jammed_rows
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.legality import Loop
from numba_mlir.passes.products import Block, Sweep, row_loops
from numba_mlir.passes.sums import is_free_sum
from numba_mlir.passes.values import (
    ACCESSES,
    constant_int,
    defined_inside,
    definition,
    nested,
    operations,
    owner,
    strip_casts,
)

#: attribute of an array that holds the sums of a sweep
SUMS = "numba.sums"
#: chunks of rows at most, and rows of a chunk at least: adding up the chunks' sums is one
#: operation for so many rows
PARTS, ROWS = 64, 64


# -- finding -------------------------------------------------------------------------
@dataclasses.dataclass
class _Columns:
    """A loop over columns: what stands in front of its loop over rows, and behind it."""

    loop: Any
    before: list[Any]
    rows: Any
    behind: list[Any]
    matrix: Any


def make_sweeps(block: Any) -> list[Any]:
    """Take apart the loops over columns of ``block`` that can join one over rows.

    Returns the locations of those loops.
    """
    candidates = [op for op in operations(block) if op.name == "scf.parallel"]
    columns = [found for op in candidates if (found := _columns(op)) is not None]
    if not columns:
        return []
    about, keys = Block(block), Equalities()
    taken = {found.loop for found in columns}
    loops = [loop for loop in row_loops(block) if loop.op not in taken]
    chosen = [c for c in columns if any(_joins(c, loop, about, keys) for loop in loops)]
    locations = [found.loop.location for found in chosen]
    for found in chosen:
        with found.loop.location:
            _TakeApart(found).run()
    return locations


def _joins(columns: _Columns, loop: Sweep, about: Block, keys: Equalities) -> bool:
    if loop.matrix != columns.matrix:
        return False
    rank = len(loop.op.regions[0].blocks[0].arguments)
    lower, upper, step = (loop.op.operands[k * rank] for k in range(3))
    if len(loop.op.results) or constant_int(lower) != 0 or constant_int(step) != 1:
        return False
    if keys.key(upper) != keys.key(columns.rows.operands[1]):
        return False
    mine = Sweep(columns.loop, columns.matrix, by_rows=False)
    earlier = about.order.index(loop.op) < about.order.index(columns.loop)
    return about.together(*((loop, mine) if earlier else (mine, loop))) is not None


def _columns(loop: Any) -> _Columns | None:
    block = loop.regions[0].blocks[0]
    *body, _ = operations(block)
    rows = [op for op in body if op.name == "scf.for"]
    if len(loop.results) or len(rows) != 1 or len(list(block.arguments)) != 1:
        return None
    (row,) = rows
    place = body.index(row)
    before, behind = body[:place], body[place + 1 :]
    low, high, step, *_ = list(row.operands)
    if constant_int(low) != 0 or constant_int(step) != 1 or defined_inside(high, loop):
        return None
    if constant_int(loop.operands[0]) != 0 or constant_int(loop.operands[2]) != 1:
        return None
    if not all(map(_is_simple, before)) or not all(map(_is_simple, behind)):
        return None
    if any(op.name == "memref.store" for op in before) or not _only_adds(row):
        return None
    matrix = _matrix(row, block.arguments[0])
    return None if matrix is None else _Columns(loop, before, row, behind, matrix)


def _is_simple(op: Any) -> bool:
    if op.name in ("memref.load", "memref.store"):
        return True
    return not len(op.regions) and (is_pure_name(op.name) or op.name.startswith("numba.expr"))


def _only_adds(row: Any) -> bool:
    """Whether a loop does nothing but add up numbers in any order."""
    *body, last = operations(row.regions[0].blocks[0])
    if not all(_is_simple(op) and op.name != "memref.store" for op in body):
        return False
    carried = list(row.regions[0].blocks[0].arguments)[1:]
    return bool(carried) and all(map(is_free_sum, carried, last.operands))


def _matrix(row: Any, column: Any) -> Any | None:
    """The matrix in C order that a loop over rows reads; None where there is none."""
    iv = row.regions[0].blocks[0].arguments[0]
    for op in operations(row.regions[0].blocks[0]):
        if op.name == "memref.load" and op.operands[0].type.rank == 2:
            where = list(map(strip_casts, list(op.operands)[1:]))
            layout = op.operands[0].type.layout
            if where == [iv, column] and isinstance(layout, mlir.ir.AffineMapAttr):
                return op.operands[0]
    return None


# -- taking apart ----------------------------------------------------------------------
class _TakeApart:
    """One loop over columns becomes three, at its place."""

    def __init__(self, columns: _Columns) -> None:
        self._columns = columns
        self._loop = columns.loop
        self._low, self._width, self._one = list(self._loop.operands)
        self._old = self._loop.regions[0].blocks[0].arguments[0]
        self._inits = list(columns.rows.operands)[3:]

    def run(self) -> None:
        rows = self._columns.rows
        with mlir.ir.InsertionPoint(self._loop):
            self._sums = [_sums_array(self._width, init.type) for init in self._inits]
            for size, body in (
                (self._width, self._start),
                (rows.operands[1], self._sweep),
                (self._width, self._finish),
            ):
                parallel_loop((self._low, size, self._one), body)
        self._loop.erase()

    def _start(self, column: Any) -> None:
        values = self._cloned(self._columns.before, {self._old: column})
        for init, sums in zip(self._inits, self._sums, strict=True):
            _store(values.get(init, init), sums, column)

    def _sweep(self, row: Any) -> None:
        inner = self._columns.rows.regions[0].blocks[0]
        iv, *carried = list(inner.arguments)
        *body, last = operations(inner)

        def columns(column: Any) -> list[Any]:
            values = self._cloned(self._columns.before, {self._old: column, iv: row})
            for old, sums in zip(carried, self._sums, strict=True):
                values[old] = load_at(sums, column)
            self._cloned(body, values)
            for new, sums in zip(last.operands, self._sums, strict=True):
                _store(values[new], sums, column)
            return []

        for_loop((self._low, self._width, self._one), columns)

    def _finish(self, column: Any) -> None:
        values = self._cloned(self._columns.before, {self._old: column})
        for old, sums in zip(self._columns.rows.results, self._sums, strict=True):
            values[old] = load_at(sums, column)
        self._cloned(self._columns.behind, values)

    def _cloned(self, ops: Sequence[Any], values: dict[Any, Any]) -> dict[Any, Any]:
        """Clone ``ops`` here with ``values`` for what they use, to which results are added."""
        for op in ops:
            new = op.clone().operation
            for number, operand in enumerate(op.operands):
                if operand in values:
                    new.operands[number] = values[operand]
            values |= dict(zip(op.results, new.results, strict=True))
        return values


def _sums_array(size: Any, element: Any) -> Any:
    ir = mlir.ir
    kind = ir.MemRefType.get([ir.ShapedType.get_dynamic_size()], element)
    attributes = {
        SUMS: ir.UnitAttr.get(),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0]),
    }
    return ir.Operation.create("memref.alloc", [kind], [size], attributes).result


def _store(value: Any, array: Any, *where: Any) -> None:
    mlir.ir.Operation.create("memref.store", operands=[value, array, *where])


# -- chunks ------------------------------------------------------------------------------
def split_sweeps(module: Any, parallel: bool) -> bool:
    """Make loops that may run of all sweeps: over chunks of rows, or one row after the other.

    Whether there were any.
    """
    loops = [op for op in nested(module.operation) if op.name == "scf.parallel"]
    found = [(op, sums) for op in loops if (sums := _swept(op))]
    for op, sums in found:
        with op.location, mlir.ir.InsertionPoint(op):
            _Split(op, sums).run(parallel)
        op.erase()
    return bool(found)


def is_sweep(loop: Loop) -> bool:
    """Whether a loop has to do with an array of sums."""
    made = (owner(access.root.value) for access in loop.effects.accesses)
    return any(op is not None and SUMS in op.attributes for op in made)


def _swept(loop: Any) -> list[Any]:
    """The arrays of sums that a loop over rows adds to."""
    found: dict[Any, None] = {}
    iv = loop.regions[0].blocks[0].arguments[0]
    for op in nested(loop):
        if op.name == "memref.store":
            made = owner(op.operands[1])
            if made is not None and SUMS in made.attributes and strip_casts(op.operands[2]) != iv:
                found.setdefault(op.operands[1])
    return list(found)


class _Split:
    """One loop with sweeps, at the insertion point; ``sums`` are their arrays."""

    def __init__(self, loop: Any, sums: list[Any]) -> None:
        self._loop, self._sums = loop, sums
        self._block = loop.regions[0].blocks[0]
        self._low, self._high, self._one = list(loop.operands)
        self._widths = [definition(array).operands[0] for array in sums]

    def run(self, parallel: bool) -> None:
        if not parallel:
            self._rows(self._low, self._high)
            return
        arith = mlir.arith
        length = arith.maxui(arith.ceildivui(self._high, index(PARTS)), index(ROWS))
        count = arith.ceildivui(self._high, length)
        parts = [_part(count, *pair) for pair in zip(self._sums, self._widths, strict=True)]

        def chunk(number: Any) -> None:
            for part, width in zip(parts, self._widths, strict=True):
                _fill(part, width, number)
            self._use(parts, number)
            first = arith.muli(number, length)
            self._rows(first, arith.minui(arith.addi(first, length), self._high))

        parallel_loop((self._low, count, self._one), chunk)
        for part, sums, width in zip(parts, self._sums, self._widths, strict=True):
            self._together(part, sums, width, count)

    def _rows(self, low: Any, high: Any) -> None:
        """A plain loop with the body, which is moved; buffers of rows are made in front."""
        *body, _ = operations(self._block)
        iv = self._block.arguments[0]
        here = mlir.ir.InsertionPoint.current.block
        kept: list[Any] = []
        for op in body:
            outside = not any(defined_inside(value, self._loop) for value in op.operands)
            if op.name == "memref.alloc" and outside:
                here.append(op)
            else:
                kept.append(op)

        if can_jam(kept):
            low = jammed_rows(kept, iv, low, high)

        def rows(row: Any) -> list[Any]:
            iv.replace_all_uses_with(row)
            inner = mlir.ir.InsertionPoint.current.block
            for op in kept:
                inner.append(op)
            return []

        for_loop((low, high, self._one), rows)

    def _use(self, parts: list[Any], number: Any) -> None:
        """Let the body add to row ``number`` of the parts instead of to the sums."""
        rows = dict(zip(self._sums, parts, strict=True))
        for op in list(nested(self._loop)):
            first = ACCESSES.get(op.name)
            if first is None or op.operands[first] not in rows:
                continue
            *before, array, column = list(op.operands)
            with mlir.ir.InsertionPoint(op), op.location:
                if before:
                    _store(before[0], rows[array], number, column)
                else:
                    op.result.replace_all_uses_with(load_at(rows[array], number, column))
            op.erase()

    def _together(self, part: Any, sums: Any, width: Any, count: Any) -> None:
        """Add the chunks' sums to ``sums``, in order."""

        def column(j: Any) -> None:
            def step(chunk: Any, total: Any) -> list[Any]:
                return [mlir.arith.addf(total, load_at(part, chunk, j))]

            (total,) = for_loop((self._low, count, self._one), step, [load_at(sums, j)])
            _store(total, sums, j)

        parallel_loop((self._low, width, self._one), column)


def _part(count: Any, sums: Any, width: Any) -> Any:
    """An array of one row of sums for each chunk."""
    dynamic = mlir.ir.ShapedType.get_dynamic_size()
    return allocate([dynamic, dynamic], sums.type.element_type, [count, width])


def _fill(part: Any, width: Any, number: Any) -> None:
    """Set row ``number`` to what adding changes nothing, not even the sign of a zero."""
    element = part.type.element_type
    zero = mlir.arith.constant(element, mlir.ir.FloatAttr.get(element, -0.0))

    def column(j: Any) -> list[Any]:
        _store(zero, part, number, j)
        return []

    for_loop((index(0), width, index(1)), column)
