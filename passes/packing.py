"""Contractions in register tiles, their operands packed: machine code like that of BLAS.

Inside a kernel, which runs one box of a parallel loop, a nest with a
`contractions.Contraction` is cut into blocks (`packed_loops`) of register tiles (`microkernel`).

Each element is updated in the order of the program.  The product that is added to an
element is not rounded by itself (`contract`, fused multiply-add): results are within the
documented rounding, and the same for any number of threads.

Whatever else the nest has is done before or behind, as `tiling` does it.  The loops as they
were run where arrays overlap and where loops are too short, which is tested at run time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import panels
from numba_mlir.passes.blocked import NestBuilder, StatementBuilder
from numba_mlir.passes.blocking import Level, Plan, Planner
from numba_mlir.passes.contractions import Contraction, contraction
from numba_mlir.passes.dependences import check
from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.nests import Nest, Refused, Statement, read_nest
from numba_mlir.passes.packed_loops import PackedLoops
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.register_tiles import Tile, tile
from numba_mlir.passes.scoped_loops import span_of
from numba_mlir.passes.strides import item_bytes
from numba_mlir.passes.values import nested

#: pairs of arrays that one run-time test compares
_MAX_GUARDS = 16
#: with one term there is nothing to use again
_LEAST_TERMS = 2
Levels = tuple[Level, ...]


def pack(function: Any, bits: int, contract: bool) -> list[str]:
    """Rewrite the contractions of ``function``, for vectors of ``bits``; what was done.

    ``contract``: a product that is added need not be rounded by itself.
    """
    loops = [op for op in nested(function) if op.name == "scf.parallel" and op.parent == function]
    done = [_rewrite(op, function, bits, contract) for op in loops if not len(op.results)]
    return [message for message in done if message]


def _rewrite(op: Any, function: Any, bits: int, contract: bool) -> str:
    provenance = Provenance()
    try:
        nest = read_nest(op, provenance)
        guards = check(nest, provenance)
    except Refused:
        return ""
    found = [contraction(statement, nest) for statement in nest.statements]
    if not any(found) or len(guards) > _MAX_GUARDS:
        return ""
    panels.declare(function.parent)
    parts = [
        (s, _levels(nest, s, n) if one is None else one)
        for n, (s, one) in enumerate(zip(nest.statements, found, strict=True))
    ]
    with op.location, mlir.ir.InsertionPoint(op):
        made = _Packed(nest, parts, function, bits, contract)
        made.build([panels.are_disjoint(*guard) for guard in guards])
    return made.message()


def _levels(nest: Nest, statement: Statement, number: int) -> Levels:
    """The loops of another statement, as `tiling` has them where it has."""
    try:
        return Planner(nest, this_machine()).statement(statement, number)
    except Refused:
        return tuple(Level("point", dim, 1) for dim in statement.dims)


class _Packed:
    """The new form of a nest, beside the old one.

    ``parts`` are its statements with their loops, or as contractions.
    """

    def __init__(
        self,
        nest: Nest,
        parts: Sequence[tuple[Statement, Levels | Contraction]],
        function: Any,
        bits: int,
        contract: bool,
    ) -> None:
        self._nest, self._parts = nest, parts
        self._base = NestBuilder(nest, Plan({}, [], []))
        found = [one for _, one in parts if isinstance(one, Contraction)]
        self._tiles = {one: _tile(one, bits) for one in found}
        self._function, self._contract = function, contract

    def message(self) -> str:
        tiles = (
            f"operands packed for {tile_.rows} by {tile_.columns} numbers in registers, blocks of "
            f"{tile_.block_rows} by {tile_.block_columns} by {tile_.block_terms}"
            for tile_ in self._tiles.values()
        )
        return "; ".join(dict.fromkeys(tiles))

    def build(self, tests: list[Any]) -> None:
        """The new form where ``tests`` are true and loops are long enough, else the old one."""
        ir, arith, op, base = mlir.ir, mlir.arith, self._nest.op, self._base
        tests = [*tests, *self._are_long()]
        sizes = {one: self._bytes(one) for one in self._tiles}
        size = functools.reduce(arith.maxsi, (all_ for _, all_ in sizes.values()))
        if tests:
            size = arith.select(functools.reduce(arith.andi, tests), size, base.constant(0))
        memory = panels.take(size)
        fits = functools.reduce(arith.andi, [*tests, panels.is_there(memory)])
        branch = ir.Operation.create("scf.if", operands=[fits], regions=2)
        then, other = (ir.Block.create_at_start(region) for region in branch.regions)
        with ir.InsertionPoint(other):
            end = ir.Operation.create("scf.yield")
        with base.scope(then):
            panel = panels.aligned(memory)
            for statement, part in self._parts:
                if isinstance(part, Contraction):
                    right = panels.at(panel, sizes[part][0], ir.IntegerType.get_signless(8))
                    loops = PackedLoops(
                        base, part, self._tiles[part], self._function, self._contract
                    )
                    loops.build(panel, right)
                else:
                    StatementBuilder(base, statement, part).level(0, [{}], {})
            ir.Operation.create("scf.yield")
        panels.give_back(memory)
        op.move_before(end)

    def _are_long(self) -> list[Any]:
        """Conditions on the terms; none on rows and columns, which may be those of one box:
        what is computed does not depend on how a loop is cut into boxes."""
        base = self._base
        lengths = {base.span(*span_of(base, one.terms, {})): None for one in self._tiles}
        predicate = mlir.arith.CmpIPredicate.sge
        return [mlir.arith.cmpi(predicate, span, base.constant(_LEAST_TERMS)) for span in lengths]

    def _bytes(self, one: Contraction) -> tuple[Any, Any]:
        """Of the panels of rows, a multiple of cache lines, and of all panels."""
        arith, base, tile_ = mlir.arith, self._base, self._tiles[one]
        spans = [base.span(*span_of(base, dim, {})) for dim in (one.rows, one.columns, one.terms)]
        most = (tile_.block_rows, tile_.block_columns, tile_.block_terms)
        multiple = (tile_.rows, tile_.columns, 1)
        rows, columns, terms = (
            self._rounded(arith.minsi(span, base.constant(limit)), number)
            for span, limit, number in zip(spans, most, multiple, strict=True)
        )
        left = arith.muli(arith.muli(rows, terms), base.constant(tile_.item * len(one.left)))
        right = arith.muli(arith.muli(columns, terms), base.constant(tile_.item * len(one.right)))
        left = self._rounded(left, panels.ALIGNMENT)
        return left, arith.addi(left, right)

    def _rounded(self, value: Any, multiple: int) -> Any:
        number = self._base.constant(multiple)
        return mlir.arith.muli(mlir.arith.ceildivsi(value, number), number)


def _tile(one: Contraction, bits: int) -> Tile:
    item = item_bytes(one.cell.memref)
    return tile(this_machine(), bits, item, len(one.left), len(one.right))
