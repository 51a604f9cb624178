"""Contractions in register tiles, their operands packed: machine code like that of BLAS.

Inside a kernel, which runs one box of a parallel loop, a nest with a
`contractions.Contraction` is cut into blocks (`packed_loops`) of register tiles (`microkernel`).

Each element is updated in the order of the program.  The product that is added to an
element is not rounded by itself (`contract`, fused multiply-add): results are within the
documented rounding, and the same for any number of threads.

Few rows run in loops along the columns instead (`few_rows`), which give the same results.
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
from numba_mlir.passes.few_rows import FewRows, along_columns
from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.nests import Dim, Nest, Refused, Statement, read_nest
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
#: sums of one column are those of the program, which goes along the terms
_LEAST_COLUMNS = 2
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
        self._few = self._few_rows(found)

    def _few_rows(self, found: list[Contraction]) -> FewRows | None:
        """The loops for few rows, where memory is as they want it."""
        if not all(map(along_columns, found)):
            return None
        fused = {op: place for one in found for op, place in one.fused.items()}
        return FewRows(self._nest, fused if self._contract else {})

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
        usable = functools.reduce(arith.andi, [*tests, *self._are_long()])
        few = None if self._few is None else self._pays(self._few)
        packs = usable if few is None else arith.select(few, _false(), usable)
        sizes = {one: self._bytes(one) for one in self._tiles}
        size = functools.reduce(arith.maxsi, (all_ for _, all_ in sizes.values()))
        memory = panels.take(arith.select(packs, size, base.constant(0)))
        branch = _branch(arith.andi(packs, panels.is_there(memory)))
        with base.scope(branch[0]):
            panel = panels.aligned(memory)
            self._in_tiles(panel, sizes)
            ir.Operation.create("scf.yield")
        panels.give_back(memory)
        with ir.InsertionPoint(branch[1]):
            end = ir.Operation.create("scf.yield")
        if self._few is not None:
            with ir.InsertionPoint(end):
                branch = _branch(arith.andi(usable, few))
            with self._few.scope(branch[0]):
                self._in_rows(self._few)
                ir.Operation.create("scf.yield")
            with ir.InsertionPoint(branch[1]):
                end = ir.Operation.create("scf.yield")
        op.move_before(end)

    def _in_tiles(self, panel: Any, sizes: dict[Contraction, tuple[Any, Any]]) -> None:
        base = self._base
        for statement, part in self._parts:
            if isinstance(part, Contraction):
                right = panels.at(panel, sizes[part][0], mlir.ir.IntegerType.get_signless(8))
                tile_ = self._tiles[part]
                PackedLoops(base, part, tile_, self._function, self._contract).build(panel, right)
            else:
                StatementBuilder(base, statement, part).level(0, [{}], {})

    def _in_rows(self, few: FewRows) -> None:
        for statement, part in self._parts:
            if isinstance(part, Contraction):
                few.contraction(part)
            else:
                StatementBuilder(few, statement, part).level(0, [{}], {})

    def _pays(self, few: FewRows) -> Any:
        """An i1: there are few rows."""
        return functools.reduce(mlir.arith.andi, map(few.pays, self._tiles))

    def _are_long(self) -> list[Any]:
        """Conditions on terms and columns; none on what may be a part for one box: what is
        computed does not depend on how a loop is cut into boxes."""
        tests: dict[Any, None] = {}
        for one in self._tiles:
            tests[self._at_least(self._span(one.terms), _LEAST_TERMS)] = None
            if one.columns not in self._nest.dims and one.statement.dims[-1] is one.terms:
                tests[self._at_least(self._span(one.columns), _LEAST_COLUMNS)] = None
        return list(tests)

    def _span(self, dim: Dim) -> Any:
        return self._base.span(*span_of(self._base, dim, {}))

    def _at_least(self, value: Any, least: int) -> Any:
        arith = mlir.arith
        return arith.cmpi(arith.CmpIPredicate.sge, value, self._base.constant(least))

    def _bytes(self, one: Contraction) -> tuple[Any, Any]:
        """Of the panels of rows, a multiple of cache lines, and of all panels."""
        arith, base, tile_ = mlir.arith, self._base, self._tiles[one]
        spans = [self._span(dim) for dim in (one.rows, one.columns, one.terms)]
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


def _false() -> Any:
    return mlir.arith.constant(mlir.ir.IntegerType.get_signless(1), 0)


def _branch(condition: Any) -> tuple[Any, Any]:
    """The blocks of a new ``scf.if`` and of its else branch."""
    made = mlir.ir.Operation.create("scf.if", operands=[condition], regions=2)
    then, other = (mlir.ir.Block.create_at_start(region) for region in made.regions)
    return then, other
