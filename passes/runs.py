"""Operations of a block that are brought together: runs of neighbouring loops, for example.

What stands between them goes in front of the run where it may: checks of shapes (never in
front of what the caller can see being written), allocations, pure operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir.passes.effects import Effects, summarise
from numba_mlir.passes.motion import obstacle_to
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import operations


def runs(block: Any, belongs: Callable[[Any], bool]) -> list[list[Any]]:
    """The runs of two or more operations of ``block`` for which ``belongs`` is true."""
    return _Runs(block, belongs).found()


class _Runs:
    """Finds neighbouring operations of a block, and brings them together."""

    def __init__(self, block: Any, belongs: Callable[[Any], bool]) -> None:
        self._block, self._belongs = block, belongs
        self._provenance = Provenance()
        self._effects: dict[Any, Effects] = {}

    def found(self) -> list[list[Any]]:
        found: list[list[Any]] = []
        run: list[Any] = []
        *body, _ = operations(self._block)
        for op in body:
            if self._belongs(op):
                run.append(op)
            elif run and self._goes_in_front(op, run):
                op.move_before(run[0])
            elif run:
                found.append(run)
                run = []
        return [run for run in (*found, run) if len(run) > 1]

    def _goes_in_front(self, op: Any, run: list[Any]) -> bool:
        moving = self._summary(op)
        if len(op.regions) or moving.writes() or moving.opaque:
            return False
        if moving.checks and any(self._is_seen(other, op) for other in run):
            return False
        return all(obstacle_to(self._summary(x), moving, self._provenance) is None for x in run)

    def _is_seen(self, other: Any, at: Any) -> bool:
        """Whether the caller can see what an operation writes."""
        writes = self._summary(other).writes()
        return any(self._provenance.captured(access.root, at) for access in writes)

    def _summary(self, op: Any) -> Effects:
        found = self._effects.get(op)
        if found is None:
            found = self._effects[op] = summarise(op, self._provenance)
        return found
