"""The loops around the register tiles of a contraction, and the packing of its operands.

    for blocks of columns:                                      L3
      for blocks of terms:
        pack the operands of these columns and terms
        for blocks of rows:                                     L2
          pack the operands of these rows and terms
          for register tiles of columns, of rows:               L1, registers

Packed operands lie in memory in the order in which they are used, so that neither the strides
of an array nor the ways of a cache or the entries of the TLB matter.  What the operands
compute (``alpha * a[i, k]``) is computed once for each.

Few rows do not pay for the packing of columns: these are read where they are, if they are
elements that lie beside each other.  What is computed is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import panels
from numba_mlir.passes.blocked import Env, NestBuilder
from numba_mlir.passes.building import on_stack
from numba_mlir.passes.contractions import Contraction
from numba_mlir.passes.dependences import At, vector
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.microkernel import Microkernel, Operands, Place
from numba_mlir.passes.nests import Cell, Dim
from numba_mlir.passes.panels import Strided
from numba_mlir.passes.register_tiles import Tile
from numba_mlir.passes.scoped_loops import Span, blocks, either, loop, loops, span_of
from numba_mlir.passes.strides import Reference, step
from numba_mlir.passes.values import owner

#: terms that are packed at a time along memory: a cache line of the smallest numbers or two
_STRIP = 16


@dataclasses.dataclass(frozen=True)
class Side:
    """What depends on rows, or on columns: a loop, its values, and the register tile's size."""

    dim: Dim
    values: tuple[Any, ...]
    width: int


@dataclasses.dataclass(frozen=True)
class Read:
    """An element that is all that a side reads: ``term`` is the subscript that terms are."""

    memref: Any
    indices: tuple[Any, ...]
    column: int
    term: int


class PackedLoops:
    """Builds one contraction at the insertion point, with the bounds of its nest."""

    def __init__(
        self, base: NestBuilder, one: Contraction, tile: Tile, function: Any, contract: bool
    ) -> None:
        self._base, self._one, self._tile = base, one, tile
        self._rows = Side(one.rows, one.left, tile.rows)
        self._columns = Side(one.columns, one.right, tile.columns)
        buffer = on_stack(tile.rows * tile.columns, one.element, function)
        self._microkernel = Microkernel(base, one, tile, buffer, contract)
        self._read = _plain_read(one)

    def build(self, left: Any, right: Any) -> None:
        """``left`` and ``right`` are addresses for the panels of rows and of columns."""
        base, one, tile = self._base, self._one, self._tile
        rows, columns, terms = (span_of(base, d, {}) for d in (one.rows, one.columns, one.terms))
        strided = None if self._read is None else Strided(self._read.memref)
        direct = None if strided is None else self._is_direct(rows, strided)
        with (
            loops(base, one.outside, {}) as env,
            blocks(base, columns, tile.block_columns) as wide,
            blocks(base, terms, tile.block_terms) as deep,
        ):
            self._pack(self._columns, right, self._packed(wide, direct), wide, deep, env)
            with blocks(base, rows, tile.block_rows) as high:
                self._pack(self._rows, left, high, high, deep, env)
                length = mlir.arith.subi(*reversed(deep))
                with blocks(base, wide, tile.columns) as few:
                    packed = self._panel(self._columns, right, few[0], wide, length)
                    columns_at = self._chosen(packed, direct, strided, few, deep, env)
                    with blocks(base, high, tile.rows) as some:
                        rows_at = self._panel(self._rows, left, some[0], high, length)
                        place = Place(some, few, env)
                        self._microkernel.build(place, rows_at, columns_at, length)

    # -- columns that are not packed ---------------------------------------------------
    def _is_direct(self, rows: Span, strided: Strided) -> Any:
        """An i1: the columns are read where they are."""
        arith, base, read = mlir.arith, self._base, self._read
        assert read is not None
        few = base.constant(self._tile.few_panels * self._tile.rows)
        is_few = arith.cmpi(arith.CmpIPredicate.sle, arith.subi(*reversed(rows)), few)
        one = base.constant(1)
        equal = arith.CmpIPredicate.eq
        return arith.andi(is_few, arith.cmpi(equal, strided.strides[read.column], one))

    def _packed(self, wide: Span, direct: Any | None) -> Span:
        """The columns of a block that are packed: all, or those that are no whole tile."""
        if direct is None:
            return wide
        arith, width = mlir.arith, self._base.constant(self._tile.columns)
        rest = arith.remui(arith.subi(wide[1], wide[0]), width)
        return arith.select(direct, arith.subi(wide[1], rest), wide[0]), wide[1]

    def _chosen(
        self,
        packed: Operands,
        direct: Any | None,
        strided: Strided | None,
        columns: Span,
        terms: Span,
        env: Env,
    ) -> Operands:
        """The panel of a tile of columns, or the columns themselves."""
        read = self._read
        if direct is None or read is None or strided is None:
            return packed
        arith, base, one = mlir.arith, self._base, self._one
        wide, width = arith.subi(*reversed(columns)), base.constant(self._tile.columns)
        whole = arith.andi(direct, arith.cmpi(arith.CmpIPredicate.eq, wide, width))
        there = {**env, one.columns.iv: columns[0], one.terms.iv: terms[0]}
        address = strided.at([base.value(index, dict(there)) for index in read.indices])
        return Operands(
            arith.select(whole, address, packed.address),
            arith.select(whole, strided.strides[read.term], packed.per_term),
        )

    # -- panels ----------------------------------------------------------------------
    def _panel(self, side: Side, panel: Any, first: Any, block: Span, length: Any) -> Operands:
        """The panel of a register tile whose rows or columns begin at ``first``."""
        arith, base = mlir.arith, self._base
        count = base.constant(len(side.values))
        done = arith.muli(arith.muli(arith.subi(first, block[0]), length), count)
        per_term = base.constant(side.width * len(side.values))
        return Operands(panels.at(panel, done, self._one.element), per_term)

    def _pack(self, side: Side, panel: Any, span: Span, block: Span, terms: Span, env: Env) -> None:
        """Compute the values of ``side`` for ``span``, part of ``block``, and terms.

        Where fewer than a register tile are left, the last one is there several times.
        """
        arith, base = mlir.arith, self._base
        length = arith.subi(*reversed(terms))
        last = arith.subi(block[1], base.constant(1))
        with loop(base, span, side.width) as first:
            address = self._panel(side, panel, first, block, length).address
            behind = arith.addi(first, base.constant(side.width))
            whole = arith.cmpi(arith.CmpIPredicate.sle, behind, block[1])

            def filled(most: Any | None) -> Sequence[Any]:
                self._fill(side, address, first, terms, most, env)
                return ()

            either(base, whole, lambda: filled(None), lambda: filled(last))

    def _fill(
        self, side: Side, panel: Any, first: Any, terms: Span, most: Any | None, env: Env
    ) -> None:
        base = self._base
        neighbours = base.constant(0), base.constant(side.width)

        def one(term: Any, number: Any) -> None:
            self._store(side, panel, first, (term, terms[0]), number, most, env)

        if self._lies_along_terms(side):
            with (
                blocks(base, terms, _STRIP) as strip,
                loop(base, neighbours, plain=True) as number,
                loop(base, strip, plain=True) as term,
            ):
                one(term, number)
            return
        # the one loop that LLVM makes vectors of: whole rows, contiguous in memory
        plain = most is not None
        with (
            loop(base, terms, plain=True) as term,
            loop(base, neighbours, plain=plain) as number,
        ):
            one(term, number)

    def _store(
        self,
        side: Side,
        panel: Any,
        first: Any,
        term: Span,
        number: Any,
        most: Any | None,
        env: Env,
    ) -> None:
        """The values of one neighbour and term; ``term`` is it and the first one."""
        arith, base, item = mlir.arith, self._base, self._tile.item
        place = arith.addi(first, number)
        place = place if most is None else arith.minsi(place, most)
        there = {**env, side.dim.iv: place, self._one.terms.iv: term[0]}
        width = base.constant(side.width * len(side.values))
        line = arith.addi(arith.muli(arith.subi(*term), width), number)
        for order, value in enumerate(side.values):
            to = arith.addi(line, base.constant(order * side.width))
            address = panels.at(panel, to, self._one.element)
            panels.store(base.value(value, dict(there)), address, item)

    def _lies_along_terms(self, side: Side) -> bool:
        """Whether memory is contiguous along the terms, rather than along rows or columns."""
        loads = self._one.statement.slice.loads
        reads = [Reference(op.operands[0], tuple(op.operands)[1:], False) for op in loads]
        mine = [read for read in reads if step(read, side.dim.iv) != "none"]
        return bool(mine) and all(step(read, self._one.terms.iv) == "next" for read in mine)


def _plain_read(one: Contraction) -> Read | None:
    """The element that the columns read, where they do nothing else."""
    op = owner(one.right[0])
    if len(one.right) > 1 or op is None or op.name != "memref.load":
        return None
    memref, *indices = op.operands
    keys, dims = Equalities(), (one.columns, one.terms, *one.outside)
    places = vector(Cell(memref, tuple(indices)), dims, keys)
    stands = [
        [number for number, place in enumerate(places) if isinstance(place, At) and place.dim is d]
        for d in (one.columns, one.terms)
    ]
    moving = [
        sum(step(Reference(memref, (index,), False), d.iv) != "none" for index in indices)
        for d in (one.columns, one.terms)
    ]
    if [len(found) for found in stands] != [1, 1] or moving != [1, 1]:
        return None
    return Read(memref, tuple(indices), stands[0][0], stands[1][0])
