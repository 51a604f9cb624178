"""Rows that stay in registers: each element is loaded once and stored once.

`gpu_rows` gives a row to a block of threads, whose inner loops then follow each other over
the same elements.  Where a row has few elements for each thread, those loops are unrolled
here: what an earlier one loaded or stored is still there for the next ones, and a store
that a later one overwrites is not made.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building, gpu_rows
from numba_mlir.passes.gpu_loops import body_of, copied
from numba_mlir.passes.gpu_reduce import Block
from numba_mlir.passes.values import nested, operations

#: threads of a block at least and at most; powers of two
NARROW, WIDE = 32, 512
#: bytes of one array's elements that a thread keeps, and how many they are at most
_KEPT, _ELEMENTS = 64, 16
#: operations of a body at most, for all elements of a thread
_OPERATIONS = 800
#: attribute of stores whose element is stored again
_OVERWRITTEN = "numba.overwritten"


def elements(loop: Any) -> int:
    """How many elements of a row a thread has; 0 where the loops do not fit.

    ``loop`` is one for which `gpu_rows.applies`.
    """
    inner = _inner(loop)
    accesses = [op for op in nested(loop) if op.name in ("memref.load", "memref.store")]
    size = max(_bytes(op) for op in accesses)
    count = max(min(_KEPT // size, _ELEMENTS), 1)
    body = sum(len(operations(op.regions[0].blocks[0])) for op in inner)
    alike = {tuple(op.operands)[:3] for op in inner}
    steps = {_constant(op.operands[2]) for op in inner}
    fits = count > 1 and body * count <= _OPERATIONS and len(alike) == 1 and steps == {1}
    return count if fits else 0


def shortest(count: int) -> int:
    """The smallest number of elements of rows of which a thread has ``count`` elements."""
    return count * NARROW // 2


def _inner(loop: Any) -> list[Any]:
    return [op for op in body_of(loop)[1] if op.name == "scf.for"]


def _constant(value: Any) -> int | None:
    op = value.owner
    if isinstance(op, mlir.ir.Block) or op.operation.name != "arith.constant":
        return None
    return mlir.ir.IntegerAttr(op.operation.attributes["value"]).value


def _bytes(access: Any) -> int:
    number = access.results[0] if access.name == "memref.load" else access.operands[0]
    text = str(number.type)
    if text.startswith("complex<"):
        return 8 if "f32" in text else 16
    return 8 if text == "index" else max(int(text.lstrip("if")) // 8, 1)


def over_blocks(loop: Any, block: Block, name: str) -> None:
    """As `gpu_rows.over_blocks`, for rows that are not empty and have at most `elements`
    for each thread."""
    row = _Row(block, elements(loop))
    _mark_overwritten(_inner(loop))
    gpu_rows.over_blocks(loop, name, row.run, one_each=True)


def _key(access: Any) -> tuple[Any, ...]:
    """An array and the indices in front of the last one."""
    return tuple(access.operands)[0 if access.name == "memref.load" else 1 : -1]


def _mark_overwritten(inner: list[Any]) -> None:
    """Mark stores whose element a later loop stores again."""
    later: set[Any] = set()
    for loop in reversed(inner):
        stores = [op for op in operations(loop.regions[0].blocks[0]) if op.name == "memref.store"]
        for op in reversed(stores):
            if _key(op) in later:
                op.attributes[_OVERWRITTEN] = mlir.ir.UnitAttr.get()
            later.add(_key(op))


@dataclass
class _Row:
    """The row of a block: where each thread's elements are, and what is known of them."""

    block: Block
    count: int
    places: list[tuple[Any, Any]] = field(default_factory=list)
    known: dict[tuple[Any, ...], list[Any]] = field(default_factory=dict)

    def run(self, inner: Any, name: str) -> list[Any]:
        """What replaces an inner loop; returns its results."""
        if not self.places:
            self._find_places(inner)
        block = inner.regions[0].blocks[0]
        *body, _ = operations(block)
        found = gpu_rows.steps(inner) or []
        combines = [gpu_rows.combination(one.op) for one in found]
        totals = gpu_rows.starts(inner)
        outside = list(totals)
        body = [op for op in body if all(op != one.op for one in found)]
        values = self._values(block, body)
        for mine, (_, inside) in zip(values, self.places, strict=True):
            for place, (one, combine) in enumerate(zip(found, combines, strict=True)):
                value = mine.get(one.contribution, one.contribution)
                if inside is not None:
                    value = mlir.arith.select(inside, value, outside[place])
                totals[place] = combine(totals[place], value)
        return gpu_rows.together(self.block, combines, totals, list(inner.operands)[3:], name)

    def _find_places(self, inner: Any) -> None:
        """The elements of this thread, and whether they are inside the row (None: always).

        Blocks are as narrow as the row allows, so that the first half is inside.  Where others
        are not, their place is that of the row's last element.  Places in the row are
        numbers of 32 bits: 64 would take twice the registers.
        """
        arith, ir = mlir.arith, mlir.ir
        word, index = ir.IntegerType.get_signless(32), ir.IndexType.get()
        low, high = inner.operands[0], inner.operands[1]
        size = arith.index_cast(word, arith.subi(high, low))
        last = arith.subi(size, arith.constant(word, 1))
        at = arith.index_cast(word, self.block.threads.in_block)
        width = arith.index_cast(word, self.block.size)
        for number in range(self.count):
            inside, place = None, at
            if number >= self.count // 2:
                inside = arith.cmpi(arith.CmpIPredicate.ult, at, size)
                place = arith.minui(at, last)
            self.places.append((arith.addi(low, arith.index_castui(index, place)), inside))
            at = arith.addi(at, width)

    def _values(self, block: Any, body: list[Any]) -> list[dict[Any, Any]]:
        """The body for each element, one operation for all elements at a time, so that loads
        are under way together: value in the loop -> value, for each element."""
        maps = [{block.arguments[0]: place} for place, _ in self.places]
        for op in body:
            along = op.name in ("memref.load", "memref.store")
            along = along and op.operands[len(op.operands) - 1] == block.arguments[0]
            if op.name == "memref.store":
                self._store(op, maps, along)
            elif along and _key(op) in self.known:
                for values, value in zip(maps, self.known[_key(op)], strict=True):
                    values[op.results[0]] = value
            else:
                for values in maps:
                    copy = copied(op, values)
                    values.update(zip(op.results, copy.results, strict=True))
                if along:
                    self.known[_key(op)] = [values[op.results[0]] for values in maps]
        return maps

    def _store(self, op: Any, maps: list[dict[Any, Any]], along: bool) -> None:
        if along:
            stored = op.operands[0]
            self.known[_key(op)] = [values.get(stored, stored) for values in maps]
        if _OVERWRITTEN in op.attributes:
            return
        for values, (_, inside) in zip(maps, self.places, strict=True):
            with contextlib.nullcontext() if inside is None else building.only(inside):
                copied(op, values)
