"""Bringing two loops of a block next to each other without changing what is seen.

`plan` decides for every operation between them whether it goes in front of the first
loop or behind the second; nothing moves before the whole plan is known to work.

Two operations may change places when neither uses the other's results and

1. they have no array in common, overlapping roots included, that one of them writes;
2. not both are opaque or may raise;
3. an opaque one cannot touch an array of the other.  An opaque statement of a block is
   taken to touch everything but fresh arrays that nobody else knows yet;
4. what comes to stand in front of something that may raise writes nothing that the
   caller can see, and, if it accesses arrays, is a loop that provably stays within them:
   what raises may be there to prevent a wrong access.  A check of sizes may move in
   front of stores (raising earlier); other checks may not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from numba_mlir.passes.effects import SIZE_CHECKS, Effects
from numba_mlir.passes.legality import Loop, in_bounds
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import at_line, describe, display_name


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where the operations between two loops go, in their order; or why it cannot be."""

    above: tuple[Any, ...] = ()
    below: tuple[Any, ...] = ()
    reason: str | None = None


Summaries = Callable[[Any], Effects]


def plan(
    group: Sequence[Any],
    between: Sequence[Any],
    second: Any,
    summaries: Summaries,
    provenance: Provenance,
) -> Plan:
    """How to free the way between the last loop of ``group`` and ``second``.

    ``group`` are neighbouring loops, ``between`` the operations from there to
    ``second``, all in one block.
    """
    needed = _needed(second, between, summaries)
    above: list[Any] = []
    below: list[Any] = []
    over = list(group)
    for op in between:
        obstacle = _first_obstacle(over, summaries(op), summaries, provenance)
        if obstacle is None:
            above.append(op)
            continue
        if op in needed:
            return Plan(reason=_needed_reason(op, second, obstacle))
        if (reason := obstacle_to(summaries(op), summaries(second), provenance)) is not None:
            return Plan(reason=reason)
        below.append(op)
        over.append(op)
    return Plan(tuple(above), tuple(below))


def lift(
    op: Any, over: Sequence[Any], summaries: Summaries, provenance: Provenance
) -> list[Any] | None:
    """The operations to move in front of ``over``, in order, so that ``op`` stands there.

    ``over`` are all operations before ``op`` that it shall pass; those that it uses, and
    ``op`` itself, are the answer.  None when one of them may not pass.
    """
    needed = _needed(op, over, summaries)
    lifted: list[Any] = []
    staying: list[Any] = []
    for other in (*over, op):
        if other is not op and other not in needed:
            staying.append(other)
        elif _first_obstacle(staying, summaries(other), summaries, provenance) is None:
            lifted.append(other)
        else:
            return None
    return lifted


def _needed(second: Any, between: Sequence[Any], summaries: Summaries) -> set[Any]:
    """The operations of ``between`` that ``second`` uses, directly or not."""
    needed: set[Any] = set()
    wanted = set(summaries(second).uses)
    for op in reversed(between):
        if op in wanted:
            needed.add(op)
            wanted |= summaries(op).uses
    return needed


def _first_obstacle(
    over: Sequence[Any], moving: Effects, summaries: Summaries, provenance: Provenance
) -> str | None:
    if moving.is_pure and moving.uses.isdisjoint(over):
        return None
    for op in over:
        reason = obstacle_to(summaries(op), moving, provenance)
        if reason is not None:
            return reason
    return None


def _needed_reason(op: Any, second: Any, obstacle: str) -> str:
    what = display_name(op.results[0]) if len(op.results) else describe(op)
    return f"{what}, which the loop{at_line(second)} needs, cannot be computed earlier: {obstacle}"


def obstacle_to(first: Effects, second: Effects, provenance: Provenance) -> str | None:
    """Why ``second``, which comes later, may not move in front of ``first``; None if it may."""
    if first.op in second.uses:
        return f"{describe(second.op)} uses the result of {describe(first.op)}"
    if first.is_pure or second.is_pure:
        return None
    return (
        _opaque_obstacle(first, second, second.op, provenance)
        or _opaque_obstacle(second, first, second.op, provenance)
        or _raise_obstacle(first, second, provenance)
        or _memory_obstacle(first, second, provenance)
    )


def _opaque_obstacle(
    opaque: Effects, other: Effects, at: Any, provenance: Provenance
) -> str | None:
    for op, reach in opaque.opaque:
        if other.opaque or other.checks:
            return f"{describe(op)} may have effects"
        for access in other.accesses:
            hidden = access.root.kind == "fresh" and not provenance.captured(access.root, at)
            if not hidden or provenance.touches(reach, access.root, at):
                return f"{describe(op)} may access {access.root}"
    return None


def _raise_obstacle(first: Effects, second: Effects, provenance: Provenance) -> str | None:
    """What is seen when ``first`` or ``second`` raises must stay the same."""
    if first.checks and second.checks:
        return f"{describe(first.op)} and {describe(second.op)} may raise"
    if any(check.name not in SIZE_CHECKS for check in second.checks):
        for access in first.writes():
            if provenance.captured(access.root, second.op):
                return f"{describe(second.op)} may raise after {access.root} is written"
    if not (first.checks or first.opaque):
        return None
    for access in second.writes():
        if provenance.captured(access.root, second.op):
            return f"{describe(first.op)} may raise before {access.root} is written"
    if not _never_out_of_bounds(second):
        return f"{describe(first.op)} must come before {describe(second.op)}"
    return None


def _never_out_of_bounds(effects: Effects) -> bool:
    if not effects.accesses:
        return True
    return effects.op.name == "scf.parallel" and in_bounds(Loop(effects.op, effects))


def _memory_obstacle(first: Effects, second: Effects, provenance: Provenance) -> str | None:
    for a in first.accesses:
        for b in second.accesses:
            if (a.write or b.write) and provenance.may_alias(a.root, b.root, second.op):
                one, other = ("written", "read") if a.write else ("read", "written")
                if a.write and b.write:
                    other = "written"
                return f"{a.root} is {one}{at_line(a.op)} and {b.root} {other}{at_line(b.op)}"
    return None
