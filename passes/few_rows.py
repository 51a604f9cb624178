"""Contractions of one or two rows as loops along the columns.

A register tile of one row goes down narrow columns of the right operand and uses each number
once: neither packing nor the tile pays.  Here the right operand is read as it lies, `TERMS`
rows of it at a time:

    for rows:
      for terms:
        for columns:                        LLVM makes vectors of it
          c[i, j] = f(f(c[i, j], x(i, k), y(k, j)), x(i, k + 1), y(k + 1, j)) ...

What is computed is the same as in register tiles, to the last bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.blocked import NestBuilder, StatementBuilder
from numba_mlir.passes.blocking import Level, Plan
from numba_mlir.passes.building import LOOP_ANNOTATION
from numba_mlir.passes.contractions import Contraction, rounded_once
from numba_mlir.passes.nests import Dim, Nest
from numba_mlir.passes.scoped_loops import span_of
from numba_mlir.passes.strides import Reference, step
from numba_mlir.passes.values import owner

#: terms side by side: what stays in place is read and written once for them
TERMS = 8
#: rows that take less time here than in register tiles.  Measured (Zen 4, 300 to 1000 columns and
#: terms): a tile of any rows takes as long as 2.3 rows here
MOST_ROWS = 2
#: the terms are side by side already, and more of the loop would be more code to compile
_NOT_UNROLLED = "#llvm.loop_annotation<unroll = <disable = true>, interleave = <count = 1 : i32>>"


def along_columns(one: Contraction) -> bool:
    """Whether what changes along the columns lies in memory in their order."""
    loads = [tuple(op.operands) for op in one.statement.slice.loads]
    cells = [*loads, (one.cell.memref, *one.cell.indices)]
    references = [Reference(memref, tuple(indices), False) for memref, *indices in cells]
    return all(step(r, one.columns.iv) in ("next", "none") for r in references)


class FewRows(NestBuilder):
    """Builds contractions at the insertion point, ``fused`` sums with their product rounded
    once (`Contraction.fused`)."""

    def __init__(self, nest: Nest, fused: dict[Any, int]) -> None:
        super().__init__(nest, Plan({}, [], []))
        self._fused = fused

    def pays(self, one: Contraction) -> Any:
        """An i1: there are few rows."""
        rows = self.span(*span_of(self, one.rows, {}))
        predicate = mlir.arith.CmpIPredicate.sle
        return mlir.arith.cmpi(predicate, rows, self.constant(MOST_ROWS))

    def contraction(self, one: Contraction) -> None:
        order = (*one.outside, one.rows, one.terms, one.columns)
        levels = tuple(Level("point", dim, TERMS if dim is one.terms else 1) for dim in order)
        _AlongColumns(self, one.statement, levels).level(0, [{}], {})

    def _clone(self, op: Any, operands: list[Any]) -> list[Any]:
        place = self._fused.get(op)
        if place is None:
            return super()._clone(op, operands)
        product = owner(operands[place])
        assert product is not None
        factors = list(product.operands)
        return [rounded_once("math.fma", op, place, factors, operands[1 - place])]


class _AlongColumns(StatementBuilder):
    """The loops, of which LLVM makes vectors of the innermost and no more than that."""

    @contextlib.contextmanager
    def _loop(self, dim: Dim, start: Any, stop: Any, by: Any) -> Iterator[Any]:
        with super()._loop(dim, start, stop, by) as iv:
            if dim is self.levels[-1].dim:
                attributes = iv.owner.owner.attributes
                attributes[LOOP_ANNOTATION] = mlir.ir.Attribute.parse(_NOT_UNROLLED)
            yield iv
