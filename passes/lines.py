"""Blocks of a loop that begin where a line of the cache does.

A vector that lies in two lines takes two accesses, and a store of one more.  NumPy's large arrays
begin 16 bytes behind a line, and so does each of their rows where a row is a whole number of
lines: of vectors of a line's size, each one lies in two.  Where the first block is
so much shorter that the next one begins with a line, so do all vectors from there on.
That takes arrays that all begin so, as large ones do: it is seen at run time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import address_of, index, size_of
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.strides import Reference, item_bytes, layout, moving_axes, step

#: a loop has to go through so many lines: its first iterations are not vectorised
LEAST = 32


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of arrays that a loop goes through, element by element."""

    per_line: int
    """elements in a line"""
    places: tuple[Any, ...]
    """each array's index along its rows"""
    behind: tuple[Any, ...]
    """how many elements behind the beginning of a line each array begins"""
    alike: Any
    """an i1: all rows of an array begin so"""

    def skipped(self, first: Sequence[Any], span: Any) -> Any:
        """The number of iterations to the next beginning of a line of all arrays.

        0 where there is none, and where it does not pay.  ``first`` is `places` in the first
        of ``span`` iterations.
        """
        arith, count = mlir.arith, index(self.per_line)
        sums = map(arith.addi, self.behind, first)
        passed, *others = [arith.remui(one, count) for one in sums]
        equal, least = arith.CmpIPredicate.eq, index(LEAST * self.per_line)
        tests = [self.alike, arith.cmpi(arith.CmpIPredicate.sge, span, least)]
        tests += [arith.cmpi(equal, other, passed) for other in others]
        left = arith.remui(arith.subi(count, passed), count)
        return arith.select(functools.reduce(arith.andi, tests), left, index(0))


def along(
    references: list[Reference], iv: Any, block: int, machine: Machine
) -> tuple[Reference, ...]:
    """What goes from one element to the next along ``iv``, where `Lines` can be told of it.

    () where one of the arrays is not contiguous or has elements of another size, where nothing
    is written, and where a ``block`` of iterations is no number of lines.
    """
    found = tuple(one for one in references if step(one, iv) == "next")
    items = {item_bytes(one.memref) for one in found}
    fits = len(items) == 1 and all(block * item % machine.line == 0 for item in items)
    known = all(layout(one.memref) != "A" for one in found)
    return found if fits and known and any(one.write for one in found) else ()


def lines(references: Sequence[Reference], iv: Any, machine: Machine) -> Lines:
    """Of what `along` found, at the insertion point, where its arrays are there."""
    arith = mlir.arith
    item = item_bytes(references[0].memref)
    count = machine.line // item
    places, lengths = {}, []
    for one in references:
        axis = moving_axes(one, iv)[0]
        places[one.memref, one.indices[axis]] = None
        if len(one.indices) > 1:
            lengths.append(size_of(one.memref, axis))
    behind = [arith.divui(address_of(memref), index(item)) for memref, _ in places]
    over = [arith.remui(length, index(count)) for length in dict.fromkeys(lengths)]
    whole = [arith.cmpi(arith.CmpIPredicate.eq, rest, index(0)) for rest in over]
    truth = arith.constant(mlir.ir.IntegerType.get_signless(1), 1)
    alike = functools.reduce(arith.andi, whole, truth)
    return Lines(count, tuple(place for _, place in places), tuple(behind), alike)
