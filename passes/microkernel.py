"""One register tile of a contraction: its elements stay in registers along a block of terms.

sums = the elements                       from memory, or through a buffer where the tile
for terms:                                is not whole or its rows are not contiguous
    sums = f(sums, left, right)           left in all lanes, right as vectors
the elements = sums
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import panels
from numba_mlir.passes.blocked import Env, NestBuilder
from numba_mlir.passes.contractions import Contraction, rounded_once
from numba_mlir.passes.nests import Dim
from numba_mlir.passes.panels import Strided
from numba_mlir.passes.register_tiles import Tile
from numba_mlir.passes.scoped_loops import Span, carrying, either, loop
from numba_mlir.passes.strides import Reference, item_bytes, step
from numba_mlir.passes.values import owner


@dataclasses.dataclass(frozen=True)
class Operands:
    """Where the values of one term lie: an address, and the numbers to the next term."""

    address: Any
    per_term: Any


@dataclasses.dataclass(frozen=True)
class Place:
    """Rows and columns of a tile, and the iteration of the loops around it."""

    rows: Span
    columns: Span
    env: Env


class Microkernel:
    """Builds register tiles at the insertion point.

    ``buffer`` has room for a tile; ``contract``: a product that is added is not rounded.
    """

    def __init__(
        self, base: NestBuilder, one: Contraction, tile: Tile, buffer: Any, contract: bool
    ) -> None:
        self._base, self._one, self._tile = base, one, tile
        self._buffer, self._products = buffer, one.fused if contract else {}
        self._array = Strided(one.cell.memref)
        self._item = item_bytes(one.cell.memref)
        self._vector = mlir.ir.VectorType.get([tile.lanes], one.element)

    def build(self, place: Place, left: Operands, right: Operands, length: Any) -> None:
        """The tile, with fewer rows or columns of vectors where few are left of them."""
        arith, base, tile = mlir.arith, self._base, self._tile
        high, wide = (arith.subi(*reversed(span)) for span in (place.rows, place.columns))
        fits = self._fits(high, wide)
        operands = left, right, length

        def copied(out: bool) -> Sequence[Any]:
            self._copy(place, out)
            return ()

        def partial(rows: int, vectors: int) -> Callable[[], Sequence[Any]]:
            return lambda: self._partial(rows, vectors, *operands)

        def most(value: Any, limit: int) -> Any:
            return arith.cmpi(arith.CmpIPredicate.sle, value, base.constant(limit))

        def others() -> Sequence[Any]:
            return either(base, most(high, tile.few_rows), partial(tile.few_rows, tile.vectors),
                          lambda: self._whole(place, fits, *operands))  # fmt: skip

        either(base, fits, tuple, lambda: copied(out=False))
        either(base, most(wide, tile.lanes), partial(tile.rows, 1), others)
        either(base, fits, tuple, lambda: copied(out=True))

    def _fits(self, high: Any, wide: Any) -> Any:
        """An i1: the tile is whole, and its rows are contiguous."""
        arith, base, tile = mlir.arith, self._base, self._tile
        sizes = (high, tile.rows), (wide, tile.columns), (self._stride(self._one.columns), 1)
        return functools.reduce(arith.andi, (
            arith.cmpi(arith.CmpIPredicate.eq, size, base.constant(wanted))
            for size, wanted in sizes
        ))  # fmt: skip

    def _partial(
        self, rows: int, vectors: int, left: Operands, right: Operands, length: Any
    ) -> Sequence[Any]:
        """A tile of so many rows and vectors, in the buffer."""
        sums = self._terms(self._buffered(rows, vectors), vectors, left, right, length)
        self._store_buffered(sums, vectors)
        return ()

    def _whole(
        self, place: Place, fits: Any, left: Operands, right: Operands, length: Any
    ) -> Sequence[Any]:
        """A tile of all rows and vectors; in memory where it ``fits``."""
        arith, base, tile, one = mlir.arith, self._base, self._tile, self._one
        there = {**place.env, one.rows.iv: place.rows[0], one.columns.iv: place.columns[0]}
        corner = self._array.at([base.value(i, dict(there)) for i in one.cell.indices])
        row_stride = self._stride(one.rows)

        def addresses() -> list[Any]:
            lines = [panels.at(corner, arith.muli(row_stride, base.constant(row)), one.element)
                     for row in range(tile.rows)]  # fmt: skip
            steps = [base.constant(number * tile.lanes) for number in range(tile.vectors)]
            return [panels.at(line, distance, one.element) for line in lines for distance in steps]

        def loaded() -> Sequence[Any]:
            return [panels.load(address, self._vector, self._item) for address in addresses()]

        def stored() -> Sequence[Any]:
            for value, address in zip(sums, addresses(), strict=True):
                panels.store(value, address, self._item)
            return ()

        def buffered() -> Sequence[Any]:
            self._store_buffered(sums, tile.vectors)
            return ()

        kinds = [self._vector] * (tile.rows * tile.vectors)
        sums = either(base, fits, loaded, lambda: self._buffered(tile.rows, tile.vectors), kinds)
        sums = self._terms(sums, tile.vectors, left, right, length)
        return either(base, fits, stored, buffered)

    # -- elements --------------------------------------------------------------------
    def _stride(self, dim: Dim) -> Any:
        """The numbers between neighbours along ``dim``, one of whose subscripts it is."""
        memref, indices = self._one.cell.memref, self._one.cell.indices
        for index, stride in zip(indices, self._array.strides, strict=True):
            if step(Reference(memref, (index,), True), dim.iv) != "none":
                return stride
        raise AssertionError("a free loop stands in the subscripts")

    def _copy(self, place: Place, out: bool) -> None:
        """Elements of a tile to the buffer, or from there."""
        arith, base, one, ir = mlir.arith, self._base, self._one, mlir.ir
        with (
            loop(base, place.rows, plain=True) as row,
            loop(base, place.columns, plain=True) as column,
        ):
            line = arith.muli(arith.subi(row, place.rows[0]), base.constant(self._tile.columns))
            there = {**place.env, one.rows.iv: row, one.columns.iv: column}
            indices = [base.value(index, dict(there)) for index in one.cell.indices]
            number = arith.addi(line, arith.subi(column, place.columns[0]))
            ends = [(one.cell.memref, *indices), (self._buffer, number)]
            source, target = reversed(ends) if out else ends
            value = ir.Operation.create("memref.load", [one.element], list(source)).result
            ir.Operation.create("memref.store", [], [value, *target])

    def _in_buffer(self, number: int, vectors: int) -> list[Any]:
        row, column = divmod(number, vectors)
        place = row * self._tile.columns + column * self._tile.lanes
        return [self._buffer, self._base.constant(place)]

    def _buffered(self, rows: int, vectors: int) -> list[Any]:
        return [
            mlir.ir.Operation.create(
                "vector.load", [self._vector], self._in_buffer(number, vectors)
            ).result
            for number in range(rows * vectors)
        ]

    def _store_buffered(self, sums: Sequence[Any], vectors: int) -> None:
        for number, value in enumerate(sums):
            operands = [value, *self._in_buffer(number, vectors)]
            mlir.ir.Operation.create("vector.store", [], operands)

    # -- terms -----------------------------------------------------------------------
    def _terms(
        self, sums: Sequence[Any], vectors: int, left: Operands, right: Operands, length: Any
    ) -> list[Any]:
        """``vectors`` sums of each row, with all terms."""
        shared = {value: self._spread(self._base.value(value, {})) for value in self._one.shared}

        def body(term: Any, *carried: Any) -> Sequence[Any]:
            arith, element = mlir.arith, self._one.element
            places = [
                panels.at(side.address, arith.muli(term, side.per_term), element)
                for side in (left, right)
            ]
            columns = [self._right(places[1], number) for number in range(vectors)]
            new: list[Any] = []
            for row in range(len(sums) // vectors):
                mine = {**shared, **self._left(places[0], row)}
                for column in columns:
                    before = dict.fromkeys(self._one.before, carried[len(new)])
                    new.append(self._updated({**mine, **column, **before}))
            return new

        return carrying(self._base, length, sums, body)

    def _left(self, address: Any, row: int) -> dict[Any, Any]:
        """The left operands of a row, in all lanes."""
        base, one, found = self._base, self._one, {}
        for order, value in enumerate(one.left):
            place = base.constant(order * self._tile.rows + row)
            number = panels.at(address, place, one.element)
            found[value] = self._spread(panels.load(number, one.element, self._item))
        return found

    def _right(self, address: Any, number: int) -> dict[Any, Any]:
        """A vector of the right operands."""
        base, one, tile, found = self._base, self._one, self._tile, {}
        for order, value in enumerate(one.right):
            place = base.constant(order * tile.columns + number * tile.lanes)
            line = panels.at(address, place, one.element)
            found[value] = panels.load(line, self._vector, self._item)
        return found

    def _spread(self, number: Any) -> Any:
        """A number in all lanes."""
        return mlir.ir.Operation.create("vector.broadcast", [self._vector], [number]).result

    def _updated(self, values: dict[Any, Any]) -> Any:
        """The operations of the contraction on vectors."""
        for op in self._one.ops:
            value = self._fused(op, values)
            if value is None:
                operands = [values[operand] for operand in op.operands]
                attributes = {name: op.attributes[name] for name in op.attributes}
                made = mlir.ir.Operation.create(op.name, [self._vector], operands, attributes)
                value = made.result
            values[op.results[0]] = value
        return values[self._one.update]

    def _fused(self, op: Any, values: dict[Any, Any]) -> Any | None:
        """A sum or difference with a product, rounded once."""
        place = self._products.get(op)
        if place is None:
            return None
        product = owner(op.operands[place])
        assert product is not None
        factors = [values[factor] for factor in product.operands]
        return rounded_once("vector.fma", op, place, factors, values[op.operands[1 - place]])
