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
from numba_mlir.passes.values import constant_int

#: cost of an iteration whose additions wait for those of the one before
CHAIN = 0.5
#: cost of computing a function such as ``exp``
FUNCTION = 4
#: loops of constant bounds with at most so many iterations together become straight code
UNROLLED = 100
#: the most iterations of one loop that are unrolled into a body, where it is vectorised
MAX_JAM = 4
#: the same where no other loop is: terms of sums down columns
MAX_COLUMN_JAM = 8
#: registers for the value at hand and for what is added to it
SCRATCH = 2
#: cost of reading a value that no register is left for: it lies in L1, unlike arrays
SPILL = 0.5

#: operations that take longer than what waits for memory
_EXPENSIVE = frozenset(
    "math." + name
    for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin",
        "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "powf",
        "erf", "erfc", "cbrt", "fpowi", "ipowi",
    )
)  # fmt: skip


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
    total += FUNCTION * sum(op.name in _EXPENSIVE for op in statement.slice.ops)
    return total + (CHAIN if is_chain(statement, dim) else 0)


def is_chain(statement: Statement, dim: Dim) -> bool:
    """Whether iterations of ``dim`` wait for a floating-point value of the one before."""
    if dim not in ordered(statement):
        return False
    cells = [event.cell for event in statement.events if event.write]
    stays = [c for c in cells if step(Reference(c.memref, c.indices, True), dim.iv) == "none"]
    return any(not str(cell.memref.type.element_type).startswith("i") for cell in stays)


def is_expensive(statement: Statement) -> bool:
    """Whether it computes functions that take longer than memory."""
    return any(op.name in _EXPENSIVE for op in statement.slice.ops)


def unrolled(statement: Statement) -> tuple[Dim, ...]:
    """Its innermost loops that LLVM makes straight code of: of few iterations, all constant."""
    found: list[Dim] = []
    total = 1
    for dim in reversed(statement.dims):
        lower, upper = constant_int(dim.lower), constant_int(dim.upper)
        if dim.parallel or lower is None or upper is None:
            break
        total *= max(upper - lower, 1)
        if total > UNROLLED:
            break
        found.insert(0, dim)
    return tuple(found)


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

        ``limits`` are the loops and the most iterations that may be taken of each: these,
        or powers of two.
        """
        counts = [
            sorted({2**power for power in range(limit.bit_length())} | {limit})
            for limit in limits.values()
        ]
        jams = [dict(zip(limits, choice, strict=True)) for choice in itertools.product(*counts)]
        best = min(jams, key=lambda jam: (self.traffic(jam, registers), math.prod(jam.values())))
        return {dim: count for dim, count in best.items() if count > 1}
