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
    parallel_loops,
)
from numba_mlir.passes.values import defined_inside, nested, operations, owner

#: rows at once: as many as an addition has cycles
ROWS = 4
_FLOATS = ("f32", "f64")
_ON_STACK = frozenset({*_FLOATS, "i1", "i32", "i64", "index"})
_ACCESSES = ("memref.load", "memref.store")
_PURE = ("memref.dim", "numba.wrap_index")
_STRUCTURE = ("scf.for", "scf.while", "scf.condition", "scf.if", "scf.yield", "scf.execute_region",
              "cf.br", "cf.cond_br")  # fmt: skip


class Refused(Exception):
    """The loop stays as it is."""


def interleave(function: Any) -> bool:
    """Cut the parallel loops of ``function`` that have chains of additions in their rows."""
    done = False
    for loop in operations(function.regions[0].blocks[0]):
        if loop.name == "scf.parallel" and not len(loop.results):
            try:
                rows = _Rows(loop, function)
            except Refused:
                continue
            with loop.location, mlir.ir.InsertionPoint(loop):
                rows.run()
            done = True
    return done


def _is_simple(op: Any) -> bool:
    if op.name in libm.FUNCTIONS:
        return False
    return op.name in (*_ACCESSES, *_PURE, *_STRUCTURE) or op.name.startswith(("arith.", "math."))


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
        self._body = [op for op in operations(self._block) if op.name != "scf.reduce"]
        self._made = {result for op in self._body for result in op.results}
        self._iv = list(self._block.arguments)[-1]
        if not all(_is_simple(op) for op in nested(loop) if op.name != "scf.reduce"):
            raise Refused
        self._chains = [number for number, op in enumerate(self._body) if self._is_common(op)]
        if not self._chains:
            raise Refused
        handed = [value for ops in self._sections() for value in self._handed(ops)]
        if any(str(value.type) not in _ON_STACK for value in handed):
            raise Refused
        self._values: list[dict[Any, Any]] = []
        """for each row what stands for values of the loop"""

    def _sections(self) -> list[list[Any]]:
        """What there is once, in loops over the rows."""
        behind = self._chains[-1] + 1
        found = [
            [op]
            for number, op in enumerate(self._body[:behind])
            if number not in self._chains and (op.name == "memref.store" or len(op.regions))
        ]
        return [*found, self._body[behind:]]

    def _handed(self, ops: list[Any]) -> list[Any]:
        """Numbers of a row that go into a section, and out of it."""
        return [*self._needed(ops), *self._given(ops)]

    def _needed(self, ops: list[Any]) -> list[Any]:
        used = dict.fromkeys(v for op in ops for one in (op, *nested(op)) for v in one.operands)
        own = {result for op in ops for result in op.results}
        return [v for v in used if v in self._made - own and self._varies(v)]

    def _given(self, ops: list[Any]) -> list[Any]:
        return [] if ops == self._body[self._chains[-1] + 1 :] else list(ops[0].results)

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
        operands = list(loop.operands)
        bounds = [(operands[n], operands[rank + n], operands[2 * rank + n]) for n in range(rank)]
        low, high, _ = bounds[-1]
        bounds[-1] = (low, high, index(ROWS))
        given = ("operandSegmentSizes",)
        attributes = {name: loop.attributes[name] for name in loop.attributes if name not in given}
        parallel_loops(bounds, lambda *ivs: self._rows(ivs, high), attributes)
        loop.erase()

    def _rows(self, ivs: tuple[Any, ...], high: Any) -> None:
        arith, first = mlir.arith, ivs[-1]
        count = arith.minsi(arith.subi(high, first), index(ROWS))
        last = arith.subi(count, index(1))
        places = [arith.minsi(index(number), last) for number in range(ROWS)]
        known = dict(zip(self._block.arguments, ivs, strict=True))
        self._values = [{**known, self._iv: arith.addi(first, place)} for place in places]
        *sections, behind = self._sections()
        for number, op in enumerate(self._body[: self._chains[-1] + 1]):
            with op.location:
                if number in self._chains:
                    self._chain(op)
                elif [op] in sections:
                    cells = self._row_by_row([op], first, count)
                    for place, values in zip(places, self._values, strict=True):
                        values.update({v: load_at(cell, place) for v, cell in cells.items()})
                else:
                    self._each(lambda values, op=op: clone(op, values).results, op.results)
        self._row_by_row(behind, first, count)

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

    def _row_by_row(self, ops: list[Any], first: Any, count: Any) -> dict[Any, Any]:
        """A copy of operations in a loop over the rows; where their results are."""
        needed, given = self._needed(ops), self._given(ops)
        cells = {value: self._cells(value.type) for value in (*needed, *given)}
        for value in needed:
            for row, values in enumerate(self._values):
                _store(values[value], cells[value], index(row))

        def one(row: Any) -> tuple[()]:
            values = {**self._values[0], self._iv: mlir.arith.addi(first, row)}
            values.update({value: load_at(cells[value], row) for value in needed})
            clone_all(ops, values)
            for value in given:
                _store(values[value], cells[value], row)
            return ()

        for_loop((index(0), count, index(1)), one)
        return {value: cells[value] for value in given}

    def _cells(self, kind: Any) -> Any:
        """A number of each row on the stack."""
        return on_stack(ROWS, kind, self._function)


def _store(value: Any, cells: Any, row: Any) -> None:
    mlir.ir.Operation.create("memref.store", operands=[value, cells, row])
