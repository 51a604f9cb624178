"""Which loops on temporary arrays can run together in blocks of rows (see `halo`).

1. The last loop of a group takes producers of temporary arrays as long as all readers of
   these arrays are in the group.
2. A temporary is written at ``i + s`` and read at ``i + c`` along its first axis, with
   constants s and c and the first index i of the loop; other axes may be accessed anyhow.
3. Producers write temporaries only, and have no reductions and no loops inside.
4. What the last loop writes must not be what a producer reads: arrays that may overlap are
   compared at run time, the original loops being the other case.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from numba_mlir.passes.effects import Access, Effects, summarise
from numba_mlir.passes.halo_terms import assumed_term, for_unequal_sizes
from numba_mlir.passes.legality import Guard, Loop, Term
from numba_mlir.passes.motion import plan
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import (
    ACCESSES,
    ancestor_in,
    at_line,
    constant_int,
    defined_inside,
    describe,
    has_inner_loop,
    operations,
)

#: rows computed twice beyond which a group is left alone
MAX_HALO = 32


@dataclasses.dataclass(frozen=True)
class Temporary:
    """An array that one loop writes and others read, row by row.

    ``shift`` is s of the writer's row index i + s; ``reads`` has for each reading loop the
    least and the largest constant of its row indices.  ``is_moved``: an iteration of these
    needs what another iteration of the writer computes, perhaps of the same row.  All that holds
    where none of the conditions ``assumed`` does (`halo_terms`).
    """

    array: Any
    writer: Any
    shift: int
    reads: dict[Any, tuple[int, int]]
    is_moved: bool
    assumed: tuple[Any, ...] = ()


@dataclasses.dataclass
class Group:
    """Loops, in order, that run in blocks of the last one's first index.

    For the rows from lo up to hi, a loop has to run from ``lo + rows[op][0]`` up to
    ``hi + rows[op][1]``, as far as it has such iterations.
    """

    loops: list[Loop]
    temporaries: list[Temporary]
    rows: dict[Any, tuple[int, int]] = dataclasses.field(default_factory=dict)
    guards: dict[Guard, None] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows[self.last.op] = 0, 0
        for loop in reversed(self.loops[:-1]):
            needs = [self._needs(t) for t in self.temporaries if t.writer == loop.op]
            self.rows[loop.op] = min(low for low, _ in needs), max(high for _, high in needs)

    @property
    def assumed(self) -> dict[Any, None]:
        """Conditions that must not hold at run time."""
        return dict.fromkeys(c for temporary in self.temporaries for c in temporary.assumed)

    @property
    def last(self) -> Loop:
        return self.loops[-1]

    @property
    def halo(self) -> int:
        """How many rows more than a block has are computed for it, at most."""
        return max(high - low for low, high in self.rows.values())

    def _needs(self, temporary: Temporary) -> tuple[int, int]:
        """The rows of the writer's own index, relative to lo and hi."""
        lows, highs = [], []
        for reader, (least, largest) in temporary.reads.items():
            low, high = self.rows[reader]
            lows.append(low + least - temporary.shift)
            highs.append(high + largest - temporary.shift)
        return min(lows), max(highs)


class GroupFinder:
    """Finds groups among the loops of one block; valid until its loops are replaced.

    ``refused`` are groups that `find` passed over, with the reasons.
    """

    def __init__(self, block: Any) -> None:
        self._block = block
        self.refused: list[tuple[Group, str]] = []
        self._assumes = not for_unequal_sizes(block)
        self._provenance = Provenance()
        self._effects: dict[Any, Effects] = {}
        self._loops = [op for op in operations(block) if op.name == "scf.parallel"]
        found = [self._temporary(array) for array in self._allocations()]
        self._temporaries = [temporary for temporary in found if temporary is not None]

    def find(self) -> Group | None:
        """The last group of the block that can be made, its loops brought together."""
        for op in reversed(self._loops):
            group = whole = self._group(op)
            reasons: list[str] = []
            while group is not None:
                reason = self._obstacle(group) or self._bring_together(group)
                if reason is None:
                    return group
                reasons.append(reason)
                group = _without_first(group)
            if whole is not None:
                self.refused.append((whole, reasons[0]))
        return None

    def _summary(self, op: Any) -> Effects:
        found = self._effects.get(op)
        if found is None:
            found = self._effects[op] = summarise(op, self._provenance)
        return found

    def _allocations(self) -> list[Any]:
        return [op.results[0] for op in operations(self._block) if op.name == "memref.alloc"]

    def _temporary(self, array: Any) -> Temporary | None:
        """What is known of ``array`` when only loops of this block access it, in rows."""
        writes: dict[Any, set[int]] = {}
        reads: dict[Any, set[int]] = {}
        where: set[tuple[Term, ...]] = set()
        assumed: dict[Any, None] = {}
        for use in array.uses:
            op = use.owner.operation
            if op.name == "memref.dim" or _is_unused(op):
                continue
            loop = ancestor_in(op, self._block)
            is_access = use.operand_number == ACCESSES.get(op.name)
            if loop is None or loop not in self._loops or not is_access:
                return None
            terms = self._terms(op, loop, assumed)
            if not terms or terms[0] is None or terms[0][0] != 0:
                return None
            if all(term is not None for term in terms):
                where.add(tuple(term for term in terms if term is not None))
            found = reads if op.name == "memref.load" else writes
            found.setdefault(loop, set()).add(terms[0][1])
        if len(writes) != 1:
            return None
        ((writer, shifts),) = writes.items()
        shifts |= reads.pop(writer, set())
        if len(shifts) != 1 or not reads:
            return None
        bounds = {loop: (min(some), max(some)) for loop, some in reads.items()}
        moved, conditions = len(where) > 1, tuple(assumed)
        if conditions and not self._assumes:
            return None
        return Temporary(array, writer, shifts.pop(), bounds, moved, conditions)

    def _terms(self, op: Any, loop: Any, assumed: dict[Any, None]) -> list[Term | None]:
        """The subscripts of an access by the indices of the loop around it."""
        known = Loop(loop, self._summary(loop))
        indices = list(op.operands)[ACCESSES[op.name] + 1 :]
        return [assumed_term(index, known, assumed) for index in indices]

    def _group(self, last: Any) -> Group | None:
        members = {last}
        temporaries: list[Temporary] = []
        for op in reversed(self._loops[: self._loops.index(last)]):
            mine = [t for t in self._temporaries if t.writer == op]
            if mine and all(reader in members for t in mine for reader in t.reads):
                if not self._writes_only(op, mine) or has_inner_loop(op):
                    continue
                members.add(op)
                temporaries += mine
        return _made(
            [Loop(op, self._summary(op)) for op in self._loops if op in members], temporaries
        )

    def _writes_only(self, op: Any, temporaries: list[Temporary]) -> bool:
        allowed = {self._provenance.root(temporary.array) for temporary in temporaries}
        return all(access.root in allowed for access in self._summary(op).writes())

    def _obstacle(self, group: Group) -> str | None:
        """Why the loops cannot run in blocks; their guards are found on the way."""
        if group.halo > MAX_HALO:
            return f"a block would need {group.halo} rows beyond it (the limit is {MAX_HALO})"
        if group.last.inits:
            return "the last one is a reduction, whose order would change"
        for loop in group.loops:
            if loop.effects.opaque:
                return f"{describe(loop.effects.opaque[0][0])} may have effects"
            if loop.inits or any(constant_int(step) != 1 for step in loop.steps):
                return f"the loop{at_line(loop.op)} is a reduction or has a step"
        own = {self._provenance.root(temporary.array) for temporary in group.temporaries}
        for loop in group.loops[:-1]:
            for access in loop.effects.accesses:
                if access.root not in own and not self._is_apart(access, loop, group):
                    return f"{access.root} is read{at_line(access.op)} and written by the last one"
        return None

    def _is_apart(self, read: Access, loop: Loop, group: Group) -> bool:
        """Whether what a producer reads is not written, if need be by a run-time test."""
        for write in group.last.effects.writes():
            if write.root is read.root:
                return False
            if self._provenance.may_alias(write.root, read.root, group.last.op):
                pair = read.root.value, write.root.value
                if defined_inside(pair[0], loop.op) or defined_inside(pair[1], group.last.op):
                    return False
                group.guards.setdefault(pair)
        return True

    def _bring_together(self, group: Group) -> str | None:
        """Move the loops next to each other; or why that cannot be done, and nothing moves."""
        order = operations(self._block)
        start = order.index(group.loops[0].op)
        above: list[Any] = []
        together = [group.loops[0].op]
        rest = order[start + 1 :]
        for loop in group.loops[1:]:
            number = rest.index(loop.op)
            way = plan(together, rest[:number], loop.op, self._summary, self._provenance)
            if way.reason is not None:
                return way.reason
            above += way.above
            together.append(loop.op)
            rest = [*way.below, *rest[number + 1 :]]
        for op in above:
            op.move_before(together[0])
        for before, op in itertools.pairwise(together):
            op.move_after(before)
        return None


def _made(loops: list[Loop], temporaries: list[Temporary]) -> Group | None:
    """The group of some loops; None where plain fusion of loops has to do."""
    moved = any(temporary.is_moved for temporary in temporaries)
    return Group(loops, temporaries) if moved else None


def _without_first(group: Group) -> Group | None:
    first, *loops = group.loops
    return _made(loops, [t for t in group.temporaries if t.writer != first.op])


def _is_unused(op: Any) -> bool:
    """Whether an operation is a kept expression that nobody uses."""
    unused = not any(True for result in op.results for _ in result.uses)
    return op.name.startswith("numba.expr") and unused
