"""May blocks of the arrays run through all trips of a loop, one after the other?

See `interchange`: iterations of different index must not meet in an element of a written
array, whatever their trips, and what a trip computes with numbers must not come from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.legality import Loop, RootUse, can_fuse
from numba_mlir.passes.provenance import Provenance, Root
from numba_mlir.passes.trips import Refused, Trip, assume
from numba_mlir.passes.values import at_line, constant_int, defined_inside, describe

#: the most pairs of arrays that are compared at run time
MAX_GUARDS = 16


class Legality:
    """Whether blocks of the parallel loops of ``trip`` are independent through all trips."""

    def __init__(self, trip: Trip, equal: Equalities, provenance: Provenance) -> None:
        self._trip, self._equal, self._provenance = trip, equal, provenance

    def loops(self) -> list[Loop]:
        """The parallel loops with as many indices as can be blocked; raises `Refused`."""
        ops = self._trip.parallel
        for op in ops:
            if len(op.results):
                raise Refused(f"{describe(op)} reduces an array to a number")
        found = [Loop.of(op, self._provenance) for op in ops]
        for loop in found:
            if loop.effects.opaque:
                raise Refused(f"{describe(loop.effects.opaque[0][0])} may have effects")
        rank = min(loop.full_rank for loop in found)
        reason: str | None = None
        for depth in range(rank, 0, -1):
            members = [loop.at(depth) for loop in found]
            reason = self._dependence(members, depth) or self._bounds(members)
            if reason is None:
                self._numbers(members)
                return members
        raise Refused(reason or "its loops have no index")

    def _dependence(self, loops: Sequence[Loop], depth: int) -> str | None:
        """Why iterations of different index may meet in an element; fills the guards."""
        written = {access.root: None for loop in loops for access in loop.effects.writes()}
        for root in written:
            uses = [loop.by_root[root] for loop in loops if root in loop.by_root]
            if not _is_pinned(uses, depth):
                return self._reason(loops, root)
        guards: dict[tuple[Any, Any], None] = {}
        for root in written:
            for loop in loops:
                for other in loop.by_root:
                    if other is not root and self._provenance.may_alias(root, other, loop.op):
                        guards.setdefault(self._guard(root, other))
        return self._limited(guards)

    def _limited(self, guards: dict[tuple[Any, Any], None]) -> str | None:
        for guard in guards:
            if guard[::-1] not in self._trip.guards:
                self._trip.guards.setdefault(guard)
        self._outside()
        if len(self._trip.guards) > MAX_GUARDS:
            return f"too many pairs of arrays may overlap ({len(self._trip.guards)})"
        return None

    def _outside(self) -> None:
        """Compare arrays from outside the loop: the bases of those that are made in it."""
        for left, right in list(self._trip.guards):
            del self._trip.guards[left, right]
            roots = self._provenance.root(left), self._provenance.root(right)
            if not self._provenance.may_alias(*roots, self._trip.loop):
                continue
            if roots[0] is roots[1]:
                raise Refused(f"{roots[0]} is read while it is written, at other places")
            self._trip.guards.setdefault(self._guard(*roots))

    def _guard(self, left: Root, right: Root) -> tuple[Any, Any]:
        for root in (left, right):
            if defined_inside(root.value, self._trip.loop):
                raise Refused(f"{root} may overlap others and is made anew in each trip")
        return left.value, right.value

    def _reason(self, loops: Sequence[Loop], root: Root) -> str:
        """Which accesses may meet, as far as the test for two loops tells."""
        for number, first in enumerate(loops):
            for second in loops[number:]:
                reason = can_fuse(first, second, self._provenance).reason
                if reason is not None:
                    return reason
        return f"elements of {root} may be written and read in different iterations"

    def _bounds(self, loops: Sequence[Loop]) -> str | None:
        first = loops[0]
        for loop in loops:
            if any(constant_int(one) != 1 for one in loop.steps):
                return "a step is not one"
            for bound in (*loop.lower, *loop.upper):
                if defined_inside(bound, self._trip.loop):
                    return f"the bounds of {describe(loop.op)} may differ from trip to trip"
            if not self._equal.equal(first.lower, loop.lower):
                return "its loops begin at different indices"
            for upper, other in zip(first.upper, loop.upper, strict=True):
                keys = self._equal.key(upper), self._equal.key(other)
                if keys[0] != keys[1] and not all(key[0] == "dim" for key in keys):
                    return "the bounds of its loops differ, or are not known to be equal"
                assume(self._trip, self._equal, upper, other)
        return None

    def _numbers(self, loops: Sequence[Loop]) -> None:
        """What is read outside of the parallel loops must not be what these write."""
        written = {access.root: None for loop in loops for access in loop.effects.writes()}
        read = [(load.operands[0], f" read{at_line(load)}") for load in self._trip.loads]
        read += [(before, "") for before, _ in self._trip.begun]
        for array, where in read:
            root = self._provenance.root(array)
            for other in written:
                if other is root:
                    raise Refused(f"elements of {root}{where} are written in other iterations")
                if self._provenance.may_alias(root, other, self._trip.loop):
                    self._trip.guards.setdefault(self._guard(other, root))
        reason = self._limited({})
        if reason is not None:
            raise Refused(reason)


def _is_pinned(uses: Sequence[RootUse], depth: int) -> bool:
    """Whether all accesses are to one array, and have each of ``depth`` indices at one place."""
    accesses = [pair for use in uses for pair in (*use.reads, *use.writes)]
    first, terms = accesses[0]
    if any(access.memref != first.memref or found is None for access, found in accesses):
        return False
    pinned: set[int] = set()
    for place, term in enumerate(terms or ()):
        same = all(found is not None and found[place] == term for _, found in accesses)
        if same and term is not None and len(term) == 2:
            pinned.add(term[0])
    return len(pinned) == depth
