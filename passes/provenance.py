"""Where an array's memory comes from, who else may see it, and what may overlap.

========== ===============================================================
root       the memory of
========== ===============================================================
fresh      a ``memref.alloc``: overlaps nothing that existed before it
argument   an array argument: the caller may have passed overlapping arrays
unknown    anything else: results of opaque statements, block arguments,
           items of tuples; overlaps whatever escaped before
========== ===============================================================

A view (``numba.exprN`` with ``view_of``, and MLIR's own view operations) has the root
of its base, and so has ``numba.unaliased``, which may be its base.  A statement with the
unit attribute ``fresh`` returns an array that nobody else has: it counts as an allocation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from numba_mlir.passes.values import (
    ADDRESS,
    ancestor_in,
    definition,
    display_name,
    is_memref,
    is_ref,
    is_scalar,
    owner,
    variable_name,
)
from numba_mlir.passes.views import view_base

#: the first operand, or a copy of it where it overlaps the second
UNALIASED = "numba.unaliased"
#: operations that use an array without letting it escape
_HARMLESS = frozenset(
    {"memref.load", "memref.store", "memref.dim", "numba.disjoint", "numba.column_major", ADDRESS}
)


@dataclasses.dataclass(frozen=True, eq=False)
class Root:
    """The allocation, argument or unknown value that a memref's memory belongs to.

    One `Provenance` makes one Root for each: compared by identity.
    """

    kind: Literal["fresh", "argument", "unknown"]
    value: Any

    def __str__(self) -> str:
        return display_name(self.value)

    def name_of(self, memref: Any) -> str:
        """What to call one of this root's memrefs: its own name, else the root's."""
        return variable_name(memref) or str(self)


@dataclasses.dataclass(frozen=True)
class Reach:
    """Memory that can be reached from some values: roots, and perhaps anything escaped."""

    roots: frozenset[Root] = frozenset()
    anything: bool = False

    def __or__(self, other: Reach) -> Reach:
        return Reach(self.roots | other.roots, self.anything or other.anything)


class Provenance:
    """Answers about the arrays of one function, valid until its operations change."""

    def __init__(self) -> None:
        self._roots: dict[Any, Root] = {}
        self._captures: dict[Root, list[Any]] = {}

    def root(self, memref: Any) -> Root:
        found = self._roots.get(memref)
        if found is None:
            found = self._roots[memref] = self._trace(memref)
        return found

    def _trace(self, memref: Any) -> Root:
        base = view_base(memref)
        if base is not None:
            return self.root(base)
        op = owner(memref)
        if op is not None and op.name == UNALIASED:  # itself or a copy that nobody else has
            return self.root(op.operands[0])
        if op is not None:
            is_fresh = op.name == "memref.alloc" or "fresh" in op.attributes
            return Root("fresh" if is_fresh else "unknown", memref)
        parent = memref.owner.owner
        is_entry = memref.owner == parent.operation.regions[0].blocks[0]
        is_argument = parent.operation.name == "func.func" and is_entry
        return Root("argument" if is_argument else "unknown", memref)

    def captured(self, root: Root, at: Any) -> bool:
        """Whether a fresh array may be known to others when ``at`` begins.

        True for other roots.  An array that is only returned is not captured before.
        """
        if root.kind != "fresh":
            return True
        captures = self._captures.get(root)
        if captures is None:
            captures = self._captures[root] = list(_captures(root.value))
        if not captures:
            return False
        block = definition(root.value).block
        point = ancestor_in(at, block)
        if point is None:
            return True
        inside = (ancestor_in(capture, block) for capture in captures)
        return any(c is not None and not point.is_before_in_block(c) for c in inside)

    def may_alias(self, left: Root, right: Root, at: Any) -> bool:
        """Whether two roots may share memory when ``at`` executes."""
        if left is right:
            return True
        if "fresh" in (left.kind, right.kind):
            fresh, other = (left, right) if left.kind == "fresh" else (right, left)
            return other.kind == "unknown" and self.captured(fresh, at)
        return True

    def reach(self, values: Iterable[Any]) -> Reach:
        """What an opaque statement with these operands can read or write."""
        result = Reach()
        for value in values:
            result |= self._reach(value)
        return result

    def _reach(self, value: Any) -> Reach:
        if is_memref(value):
            return Reach(frozenset({self.root(value)}))
        if not is_ref(value):
            return Reach()
        op = owner(value)
        if op is None:
            return Reach(anything=True)
        if "remat" in op.attributes or op.name == "numba.undef":
            return Reach()
        if op.name.startswith("numba.expr") or op.name == "numba.box":
            return self.reach(op.operands)
        return Reach(anything=True)

    def touches(self, reach: Reach, root: Root, at: Any) -> bool:
        """Whether memory of ``root`` lies in ``reach``."""
        if reach.anything and self.captured(root, at):
            return True
        return any(self.may_alias(found, root, at) for found in reach.roots)


def _captures(memref: Any) -> Iterable[Any]:
    """The operations after which somebody else may know this memref or its views."""
    for use in memref.uses:
        op = use.owner.operation
        if op.name in _HARMLESS or op.name == "func.return":
            continue
        if op.name == UNALIASED:
            if use.operand_number == 0:
                yield from _captures(op.results[0])
            continue
        views = [result for result in op.results if view_base(result) is not None]
        if views and view_base(views[0]) == memref:
            yield from _captures(views[0])
        elif not op.name.startswith("numba.expr") or _keeps(op):
            yield op


def _keeps(op: Any) -> bool:
    """Whether an expression's result may hold on to an array (tuples; not shapes, new arrays)."""
    if "metadata" in op.attributes or "fresh" in op.attributes:
        return False
    return not all(is_scalar(result) for result in op.results)
