"""May two parallel loops of equal bounds run as one?

Running iteration p of the first loop next to iteration p of the second is right when no
iteration of one communicates with a *different* iteration of the other:

1. The second uses no reduction result of the first.
2. For every array written in one and accessed in the other, each pair of accesses with
   a write uses the same SSA array, and for every loop index there is one position at
   which both have exactly that index plus the same constant: equal elements are then
   touched by equal iterations only.
3. Arrays that may overlap without being the same need a run-time test; `Verdict.guards`
   names the pairs.
4. At most one of the two has opaque statements, and these cannot reach what the other
   accesses.

Refused, with a reason that names lines and arrays: shifted reads of a written array; a
store that lacks a loop index (a race or an accumulation in memory); two views of one
array, of which one is written (Numba compiles a loop's body as if its arrays never
overlapped); indices that are not known to be non-negative.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from numba_mlir.passes.effects import Access, Effects, summarise
from numba_mlir.passes.keys import Equalities, Key
from numba_mlir.passes.provenance import Provenance, Root
from numba_mlir.passes.values import (
    at_line,
    constant_int,
    defined_inside,
    describe,
    display_name,
    loop_indices,
    nested,
    owner,
    strip_casts,
)

#: a loop index (its position) plus a constant
Term = tuple[int, int]
#: a loop index times a constant, not 0, plus a value from outside the loop: the index's
#: position, the constant, the key of the value
Scaled = tuple[int, int, Key]

#: names that messages give to loop indices
_INDEX_NAMES = "ijkl"

#: two arrays that must have no byte in common
Guard = tuple[Any, Any]


#: an access and its index vector as functions of the loop's indices (None: any element)
IndexedAccess = tuple[Access, tuple[Term | Scaled | None, ...] | None]


@dataclasses.dataclass
class RootUse:
    """How a loop uses the memory of one root; equal accesses appear once."""

    reads: list[IndexedAccess] = dataclasses.field(default_factory=list)
    writes: list[IndexedAccess] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Loop:
    """An ``scf.parallel`` or ``scf.for`` with what legality needs to know about it.

    With ``depth`` only that many of its indices count, as if the others were those of
    loops inside.
    """

    op: Any
    effects: Effects
    depth: int | None = None

    @classmethod
    def of(cls, op: Any, provenance: Provenance) -> Loop:
        return cls(op, summarise(op, provenance))

    def at(self, depth: int) -> Loop:
        """The same loop with the first ``depth`` indices."""
        return self if depth == self.rank else Loop(self.op, self.effects, depth)

    @functools.cached_property
    def full_rank(self) -> int:
        """How many indices the operation has."""
        return len(loop_indices(self.op))

    @functools.cached_property
    def ivs(self) -> list[Any]:
        return loop_indices(self.op)[: self.rank]

    @functools.cached_property
    def rank(self) -> int:
        return self.full_rank if self.depth is None else self.depth

    @functools.cached_property
    def _operands(self) -> list[Any]:
        return list(self.op.operands)

    def _segment(self, number: int) -> list[Any]:
        start = number * self.full_rank
        return self._operands[start : start + self.rank]

    def inner_bounds(self) -> list[tuple[Any, Any, Any]]:
        """Lower bound, upper bound and step of the indices that do not count."""
        full = self.full_rank
        segments = (self._operands[i * full + self.rank : (i + 1) * full] for i in range(3))
        return list(zip(*segments, strict=True))

    @property
    def lower(self) -> list[Any]:
        return self._segment(0)

    @property
    def upper(self) -> list[Any]:
        return self._segment(1)

    @property
    def steps(self) -> list[Any]:
        return self._segment(2)

    @property
    def inits(self) -> list[Any]:
        return self._operands[3 * self.full_rank :]

    @functools.cached_property
    def by_root(self) -> dict[Root, RootUse]:
        """The accesses of the loop, grouped by the memory that they may touch."""
        groups: dict[Root, RootUse] = {}
        seen: set[Any] = set()
        ivs, lower = self.ivs, self.lower
        for access in self.effects.accesses:
            terms = None
            if access.indices is not None:
                terms = tuple(
                    index_term(index, ivs, lower) or self._scaled(index) for index in access.indices
                )
            key = (access.memref, terms, access.write)
            if key not in seen:
                seen.add(key)
                use = groups.setdefault(access.root, RootUse())
                (use.writes if access.write else use.reads).append((access, terms))
        return groups

    def _scaled(self, index: Any) -> Scaled | None:
        """``start + step * i`` with a start from outside the loop and a constant step."""
        op = owner(strip_casts(index))
        if op is None or op.name != "arith.addi":
            return None
        for start, moving in (tuple(op.operands), tuple(op.operands)[::-1]):
            term = _multiple(moving, self.ivs)
            if term is not None and not defined_inside(start, self.op):
                return *term, Equalities().key(start)
        return None


def _multiple(index: Any, ivs: list[Any]) -> tuple[int, int] | None:
    """The position of one of ``ivs`` and what it is multiplied by."""
    index, factor = strip_casts(index), 1
    op = owner(index)
    if op is not None and op.name == "arith.muli":
        number = constant_int(strip_casts(op.operands[1]))
        index, factor = strip_casts(op.operands[0]), number or 0
    return (ivs.index(index), factor) if index in ivs and factor else None


def index_term(index: Any, ivs: list[Any], lower: list[Any]) -> Term | None:
    """``index`` as one of ``ivs`` plus a constant, or None.

    Looks through casts, additions of constants, and ``numba.wrap_index`` where the
    loop's lower bound shows that there is nothing to wrap.
    """
    index = strip_casts(index)
    if index in ivs:
        return ivs.index(index), 0
    op = owner(index)
    if op is None or op.name not in ("arith.addi", "arith.subi", "numba.wrap_index"):
        return None
    if op.name == "numba.wrap_index":
        term = index_term(op.operands[0], ivs, lower)
        return term if term is not None and _is_non_negative(term, lower) else None
    left, right = (strip_casts(operand) for operand in op.operands)
    if op.name == "arith.addi" and constant_int(left) is not None:
        left, right = right, left
    constant, term = constant_int(right), index_term(left, ivs, lower)
    if constant is None or term is None:
        return None
    return term[0], term[1] + (constant if op.name == "arith.addi" else -constant)


def _is_non_negative(term: Term, lower: list[Any]) -> bool:
    start = constant_int(lower[term[0]])
    return start is not None and start + term[1] >= 0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether two loops may be fused; ``reason`` is None when they may.

    ``guards`` are the pairs of arrays that must be disjoint at run time.
    """

    reason: str | None = None
    guards: tuple[Guard, ...] = ()

    def __bool__(self) -> bool:
        return self.reason is None


def can_fuse(first: Loop, second: Loop, provenance: Provenance) -> Verdict:
    """Whether ``first`` and ``second``, in this order, may become one loop.

    Bounds are the caller's business; the two loops must have equally many indices.
    """
    if first.op in second.effects.uses:
        return Verdict(_uses_result(first, second))
    reason = _opaque_conflict(first, second, provenance)
    if reason is not None:
        return Verdict(reason)
    guards: dict[Guard, None] = {}
    for left, mine in first.by_root.items():
        for right, theirs in second.by_root.items():
            if not (mine.writes or theirs.writes):
                continue
            reason = None
            if left is right:
                reason = _shared_conflict(mine, theirs, first.rank)
            elif provenance.may_alias(left, right, second.op):
                reason = _overlap_conflict(first, mine, second, theirs, guards)
            if reason is not None:
                return Verdict(reason)
    return Verdict(guards=tuple(guards))


def _pairs(first: RootUse, second: RootUse) -> Iterator[tuple[IndexedAccess, IndexedAccess]]:
    """All pairs of accesses of which at least one is a write."""
    for a in first.writes:
        for b in (*second.writes, *second.reads):
            yield a, b
    for a in first.reads:
        for b in second.writes:
            yield a, b


def _shared_conflict(first: RootUse, second: RootUse, rank: int) -> str | None:
    """Why two loops' accesses to one array may be to one element in different iterations."""
    for a, b in _pairs(first, second):
        if a[0].memref != b[0].memref:
            return f"{_describe(b)} and {_describe(a)} are different views of one array"
        if not _same_iteration(a[1], b[1], rank):
            return f"{_describe(b)} and {_describe(a)} may be one element in different iterations"
    return None


def _overlap_conflict(
    first: Loop, mine: RootUse, second: Loop, theirs: RootUse, guards: dict[Guard, None]
) -> str | None:
    """Add to ``guards`` the pairs that must be disjoint; or why they cannot be tested."""
    for (a, _), (b, _) in _pairs(mine, theirs):
        left, right = _guarded(a, first), _guarded(b, second)
        if left is None or right is None:
            return f"{a.root} and {b.root} may overlap"
        guards[left, right] = None
    return None


def in_bounds(loop: Loop) -> bool:
    """Whether no access of ``loop`` can be out of bounds, judged by the loop alone.

    Known for arrays that are indexed by loop indices which run up to the array's size.
    """
    keys = Equalities()
    for use in loop.by_root.values():
        for access, terms in (*use.reads, *use.writes):
            if terms is None:
                return False
            for axis, term in enumerate(terms):
                if term is None or len(term) != 2:
                    return False
                if not _term_in_bounds(term, access.memref, axis, loop, keys):
                    return False
    return True


def _term_in_bounds(term: Term, array: Any, axis: int, loop: Loop, keys: Equalities) -> bool:
    if term[1] > 0 or not _is_non_negative(term, loop.lower):
        return False
    return keys.key(loop.upper[term[0]]) == keys.size_key(array, axis)


def _same_iteration(
    left: tuple[Term | Scaled | None, ...] | None,
    right: tuple[Term | Scaled | None, ...] | None,
    rank: int,
) -> bool:
    """Whether equal elements imply equal iterations of the loops."""
    if left is None or right is None:
        return False
    shared = {a[0] for a, b in zip(left, right, strict=True) if a is not None and a == b}
    return len(shared) == rank


def _guarded(access: Access, loop: Loop) -> Any | None:
    """The array to test at run time: the accessed one, or its base, from outside the loop."""
    for memref in (access.memref, access.root.value):
        if not defined_inside(memref, loop.op):
            return memref
    return None


def _opaque_conflict(first: Loop, second: Loop, provenance: Provenance) -> str | None:
    if first.effects.opaque and second.effects.opaque:
        op, _ = second.effects.opaque[0]
        return f"both loops contain statements with effects, such as {describe(op)}"
    for one, other in ((first, second), (second, first)):
        for op, reach in one.effects.opaque:
            for root in other.by_root:
                if provenance.touches(reach, root, second.op):
                    return f"{describe(op)} may access {root}"
    return None


def _uses_result(first: Loop, second: Loop) -> str:
    results = set(first.op.results)
    for op in (second.op, *nested(second.op)):
        for value in op.operands:
            if value in results:
                name = display_name(value)
                return (
                    f"{name} is the result of the loop{at_line(first.op)} and is used{at_line(op)}"
                )
    raise AssertionError("the second loop uses no result of the first")


def _describe(indexed: IndexedAccess) -> str:
    access = indexed[0]
    verb = "written" if access.write else "read"
    return f"{_element(indexed)} {verb}{at_line(access.op)}"


def _element(indexed: IndexedAccess) -> str:
    access, terms = indexed
    name = access.root.name_of(access.memref)
    if terms is None:
        return name
    return f"{name}[{', '.join(_term_text(term) for term in terms)}]"


def _term_text(term: Term | Scaled | None) -> str:
    if term is None or len(term) != 2:
        return "..."
    position, constant = term
    name = _INDEX_NAMES[position] if position < len(_INDEX_NAMES) else f"i{position}"
    return f"{name}{constant:+d}" if constant else name
