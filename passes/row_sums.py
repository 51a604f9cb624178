"""Sums of several rows at once, where each has to be added up in its order.

    for i in parallel:                        for i in parallel, by 4:
        s = 0                                     for j: s0 += a[i, j]; s1 += a[i + 1, j]; ...
        for j: s += a[i, j]                       for r in range(4):
        for j: out[i, j] = a[i, j] / s                for j: out[i + r, j] = a[i + r, j] / s[r]

An addition waits for the one before, three or four cycles; four rows need no more time than
one, and every row is added up in the order that the program says.  It is done where the lanes of
vectors (:mod:`.lanes`) are not: rows do not lie side by side in memory.

1. Loops that carry floating-point numbers and store nothing, with the same bounds in each row,
   become one loop (`_is_chain`).  What is computed in front of the last of them is computed for
   each row.
2. What is stored there, other loops and branches, and all that stands behind the last of them,
   there is once, in a loop over the rows.  Numbers that it needs wait on the stack.
3. Of the last rows there may be fewer: the last one is added up several times then.
4. Refused: loops around that give results, operations that are no loads, stores, arithmetic, loops
   or branches, and calls of functions, which `distribute` makes vectors of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.building import (
    clone,
    clone_all,
    for_loop,
    index,
    load_at,
    on_stack,
    with_last,
)
from numba_mlir.passes.values import ACCESSES, defined_inside, nested, operations, owner

#: rows at once: as many as an addition has cycles
ROWS = 4
_FLOATS = ("f32", "f64")
_ON_STACK = frozenset({*_FLOATS, "i1", "i32", "i64", "index"})
_PURE = ("memref.dim", "numba.wrap_index")
_STRUCTURE = ("scf.for", "scf.while", "scf.condition", "scf.if", "scf.yield", "scf.execute_region",
              "cf.br", "cf.cond_br")  # fmt: skip


class Refused(Exception):
    """The loop stays as it is."""


def interleave(function: Any) -> None:
    """Cut the parallel loops of ``function`` that have chains of additions in their rows."""
    for loop in operations(function.regions[0].blocks[0]):
        if loop.name == "scf.parallel" and not len(loop.results):
            try:
                rows = _Rows(loop, function)
            except Refused:
                continue
            with loop.location, mlir.ir.InsertionPoint(loop):
                rows.run()


def _is_simple(op: Any) -> bool:
    if op.name in libm.FUNCTIONS:
        return False
    return op.name in (*ACCESSES, *_PURE, *_STRUCTURE) or op.name.startswith(("arith.", "math."))


def _is_chain(op: Any) -> bool:
    """Whether a loop without loops inside carries floating-point numbers in their order."""
    if op.name != "scf.for" or not any(str(r.type) in _FLOATS for r in op.results):
        return False
    inside = operations(op.regions[0].blocks[0])
    return all(
        not len(one.regions) and one.name != "memref.store" and "reassoc" not in _flags(one)
        for one in inside
    )


def _flags(op: Any) -> str:
    return str(op.attributes["fastmath"]) if "fastmath" in op.attributes else ""


class _Rows:
    """A parallel loop whose last index is cut into groups of rows; Refused where it is not."""

    def __init__(self, loop: Any, function: Any) -> None:
        self._loop, self._function = loop, function
        self._block = loop.regions[0].blocks[0]
        body = [op for op in operations(self._block) if op.name != "scf.reduce"]
        self._made = {result for op in body for result in op.results}
        self._iv = list(self._block.arguments)[-1]
        if not all(_is_simple(op) for op in nested(loop) if op.name != "scf.reduce"):
            raise Refused
        chains = [number for number, op in enumerate(body) if self._is_common(op)]
        if not chains:
            raise Refused
        self._chains = [body[number] for number in chains]
        behind = chains[-1] + 1
        self._front, self._behind = body[:behind], body[behind:]
        handed = self._needed(self._behind)
        for op in filter(self._is_once, self._front):
            handed += [*self._needed([op]), *op.results]
        if any(str(value.type) not in _ON_STACK for value in handed):
            raise Refused
        self._values: list[dict[Any, Any]] = []
        """for each row what stands for values of the loop"""

    def _is_once(self, op: Any) -> bool:
        """Whether there is one copy of an operation in front, in a loop over the rows."""
        return op not in self._chains and (op.name == "memref.store" or len(op.regions) > 0)

    def _needed(self, ops: list[Any]) -> list[Any]:
        """Numbers of a row that operations in a loop over the rows use."""
        used = dict.fromkeys(v for op in ops for one in (op, *nested(op)) for v in one.operands)
        own = {result for op in ops for result in op.results}
        return [v for v in used if v in self._made - own and self._varies(v)]

    def _is_common(self, op: Any) -> bool:
        """Whether a loop is a chain with the same bounds in each row, which read along a row."""
        if not _is_chain(op) or any(map(self._varies, list(op.operands)[:3])):
            return False
        loads = [one for one in nested(op) if one.name == "memref.load"]
        rows = [one for one in loads if any(map(self._varies, list(one.operands)[1:]))]
        return bool(rows)

    def _varies(self, value: Any) -> bool:
        """Whether a value may differ between the rows."""
        if value == self._iv:
            return True
        op = owner(value)
        if op is None or not defined_inside(value, self._loop):
            return False  # an index of this loop or of one inside
        return bool(op.regions) or op.name == "memref.load" or any(map(self._varies, op.operands))

    # -- the new loop ---------------------------------------------------------------------
    def run(self) -> None:
        loop, rank = self._loop, len(self._block.arguments)
        low, high = loop.operands[rank - 1], loop.operands[2 * rank - 1]
        with_last(loop, (low, high, index(ROWS)), lambda *ivs: self._rows(ivs, high))
        loop.erase()

    def _rows(self, ivs: tuple[Any, ...], high: Any) -> None:
        arith, first = mlir.arith, ivs[-1]
        count = arith.minsi(arith.subi(high, first), index(ROWS))
        last = arith.subi(count, index(1))
        places = [arith.minsi(index(number), last) for number in range(ROWS)]
        known = dict(zip(self._block.arguments, ivs, strict=True))
        self._values = [{**known, self._iv: arith.addi(first, place)} for place in places]
        for op in self._front:
            with op.location:
                if op in self._chains:
                    self._chain(op)
                elif self._is_once(op):
                    cells = self._row_by_row([op], op.results, first, count)
                    for place, values in zip(places, self._values, strict=True):
                        found = [load_at(cell, place) for cell in cells]
                        values.update(zip(op.results, found, strict=True))
                else:
                    self._each(lambda values, op=op: clone(op, values).results, op.results)
        self._row_by_row(self._behind, (), first, count)

    def _each(self, made: Callable[[dict[Any, Any]], Iterable[Any]], results: Any) -> None:
        for values in self._values:
            values.update(zip(results, made(values), strict=True))

    def _chain(self, op: Any) -> None:
        """One loop for all rows."""
        body = op.regions[0].blocks[0]
        bounds, initial = list(op.operands)[:3], list(op.operands)[3:]
        old_iv, *old = list(body.arguments)
        *inside, last = operations(body)
        first = self._values[0]
        start = [values.get(one, one) for values in self._values for one in initial]

        def several(iv: Any, *carried: Any) -> list[Any]:
            for row, values in enumerate(self._values):
                mine = carried[row * len(old) : (row + 1) * len(old)]
                values.update(zip((old_iv, *old), (iv, *mine), strict=True))
            for inner in inside:
                self._each(lambda values, one=inner: clone(one, values).results, inner.results)
            return [values.get(one, one) for values in self._values for one in last.operands]

        results = for_loop(tuple(first.get(one, one) for one in bounds), several, start)
        for row, values in enumerate(self._values):
            mine = results[row * len(old) : (row + 1) * len(old)]
            values.update(zip(op.results, mine, strict=True))

    def _row_by_row(self, ops: list[Any], results: Any, first: Any, count: Any) -> list[Any]:
        """A copy of operations in a loop over the rows; where their ``results`` are."""
        needed = self._needed(ops)
        given, found = ([self._cells(v.type) for v in values] for values in (needed, results))
        for value, cell in zip(needed, given, strict=True):
            for row, values in enumerate(self._values):
                _store(values[value], cell, index(row))

        def one(row: Any) -> tuple[()]:
            values = {**self._values[0], self._iv: mlir.arith.addi(first, row)}
            values.update(zip(needed, [load_at(cell, row) for cell in given], strict=True))
            clone_all(ops, values)
            for value, cell in zip(results, found, strict=True):
                _store(values[value], cell, row)
            return ()

        for_loop((index(0), count, index(1)), one)
        return found

    def _cells(self, kind: Any) -> Any:
        """A number of each row on the stack."""
        return on_stack(ROWS, kind, self._function)


def _store(value: Any, cells: Any, row: Any) -> None:
    mlir.ir.Operation.create("memref.store", operands=[value, cells, row])
