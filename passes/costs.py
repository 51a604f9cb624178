"""What iterations of a statement cost: lines of cache, waiting additions, registers.

For each loop that may stand innermost, every access costs the part of a cache line that
one iteration brings in: nothing where it stays in place, ``item / line`` where it goes to
the next element, 1 where it goes far.  A loop whose order is fixed costs `CHAIN` more,
because floating-point additions then wait for each other and cannot be vectorised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

from numba_mlir.passes.dependences import ordered
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.nests import Dim, Statement
from numba_mlir.passes.strides import Layout, Reference, Step, item_bytes, step

#: cost of an iteration whose additions wait for those of the one before
CHAIN = 0.5
#: the most iterations of one loop that are unrolled into a body, where it is vectorised
MAX_JAM = 4
#: registers for the value at hand and for what is added to it
SCRATCH = 2
#: cost of reading a value that no register is left for: it lies in L1, unlike arrays
SPILL = 0.5


def references(statement: Statement, unknown: Layout = "C") -> list[Reference]:
    """All accesses of a statement, each once; ``unknown`` is assumed of layout "A"."""
    found = [
        Reference(load.operands[0], tuple(load.operands)[1:], False, unknown)
        for load in statement.slice.loads
    ]
    for event in statement.events:
        found.append(Reference(event.cell.memref, event.cell.indices, event.write, unknown))
    return list(dict.fromkeys(found))


def cost(statement: Statement, dim: Dim, machine: Machine, unknown: Layout = "C") -> float:
    """What one iteration costs when ``dim`` is innermost, in cache lines."""
    found = references(statement, unknown)
    read = {(r.memref, r.indices) for r in found if not r.write}
    total = 0.0
    for reference in found:
        # A line that is written without having been read is fetched for that.
        lines = 2 if reference.write and (reference.memref, reference.indices) not in read else 1
        where = step(reference, dim.iv)
        if where == "far":
            total += lines
        elif where == "next":
            total += lines * item_bytes(reference.memref) / machine.line
    return total + (CHAIN if is_chain(statement, dim) else 0)


def is_chain(statement: Statement, dim: Dim) -> bool:
    """Whether iterations of ``dim`` wait for a floating-point value of the one before."""
    written = [event.cell.memref for event in statement.events if event.write]
    exact = all("i" in str(memref.type.element_type)[:1] for memref in written)
    return dim in ordered(statement) and not exact


class Body:
    """A statement in some iterations of outer loops at once, ``best`` being innermost.

    ``jam`` says how many iterations of which loops.  An access that stays in place along
    one of these loops is shared by its iterations.
    """

    def __init__(self, statement: Statement, best: Dim, unknown: Layout = "C") -> None:
        self.best = best
        self._steps: list[tuple[Reference, Mapping[Dim, Step]]] = [
            (reference, {dim: step(reference, dim.iv) for dim in statement.dims})
            for reference in references(statement, unknown)
        ]

    def _copies(self, jam: Mapping[Dim, int], steps: Mapping[Dim, Step]) -> int:
        return math.prod(count for dim, count in jam.items() if steps[dim] != "none")

    def registers(self, jam: Mapping[Dim, int]) -> int:
        """Vector registers that the body keeps occupied.

        One for each value that stays the same along the innermost loop, and for each that
        is read along it.  Elements of a written array come one after the other.
        """
        written = {reference.memref for reference, _ in self._steps if reference.write}
        kept = [
            self._copies(jam, steps)
            for reference, steps in self._steps
            if not reference.write
            and (steps[self.best] == "none" or reference.memref not in written)
        ]
        return sum(kept) + SCRATCH

    def traffic(self, jam: Mapping[Dim, int], registers: int) -> float:
        """Reads and writes of memory for one iteration of all loops.

        Values for which there are not enough ``registers`` are read again each time.
        """
        moving = sum(
            self._copies(jam, steps) for _, steps in self._steps if steps[self.best] != "none"
        )
        spilled = max(self.registers(jam) - registers, 0)
        return (moving + SPILL * spilled) / math.prod(jam.values())

    def streams(self, jam: Mapping[Dim, int]) -> int:
        """Bytes that one iteration of the innermost loop goes through."""
        places = {
            (reference.memref, reference.indices): item_bytes(reference.memref)
            * self._copies(jam, steps)
            for reference, steps in self._steps
            if steps[self.best] != "none"
        }
        return sum(places.values())

    def best_jam(self, limits: Mapping[Dim, int], registers: int) -> dict[Dim, int]:
        """The jam with the least traffic, the smallest of equals.

        ``limits`` are the loops and the most iterations that may be taken of each; all
        counts are powers of two up to `MAX_JAM`.
        """
        counts = [
            [2**power for power in range(MAX_JAM.bit_length()) if 2**power <= limit]
            for limit in limits.values()
        ]
        jams = [dict(zip(limits, choice, strict=True)) for choice in itertools.product(*counts)]
        best = min(jams, key=lambda jam: (self.traffic(jam, registers), math.prod(jam.values())))
        return {dim: count for dim, count in best.items() if count > 1}
