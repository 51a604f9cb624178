"""Fusion of parallel loops, and removal of the temporaries between them.

In every block of a function, nested regions included, the pass takes one loop after
the other as the head of a group and lets every later loop of the block join that

1. has the same number of indices, equal bounds (`keys`, with the assertions that
   dominate the group) and steps of one,
2. may run iteration by iteration next to each loop of the group (`legality`),
3. can be brought next to it (`motion`), and
4. is worth it: loops that both contain inner loops and have no array in common are
   fused only when no effectful operation stands between them, and loops that go through
   memory in different orders only when one needs what the other makes, and does not store
   it far apart (`orders`).

Loops of different numbers of indices fuse over the first of them ("rows") when one of them
reduces rows and they have an array in common (`rows_reason`); what is left of the others
becomes loops inside, which `rows` fuses in turn.

So loop 1 and loop 3 fuse when loop 2 is independent of one of them.  A group becomes one
``scf.parallel`` (`merge`), all reductions together.  Pairs of arrays that the caller may
have passed overlapping are tested at run time, the original loops being the else branch.
Then stores are forwarded to loads (`forwarding`) and arrays that nobody reads any more
are removed (`temporaries`).

Every group is an "applied" remark; the nearest loop that a group could not take is a
"missed" one with the reason.
"""

from __future__ import annotations

import dataclasses
import os.path
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult, Remark, source_lines
from numba_mlir.passes.effects import Effects, summarise
from numba_mlir.passes.forwarding import Forwarder
from numba_mlir.passes.halo import fuse_halos
from numba_mlir.passes.inlining import inline_producers
from numba_mlir.passes.interchange import interchange
from numba_mlir.passes.keys import ASSERT, Equalities, asserts_in, dominators
from numba_mlir.passes.legality import Guard, Loop, can_fuse
from numba_mlir.passes.merge import fuse, merge_equal_reductions
from numba_mlir.passes.motion import Plan, lift, plan
from numba_mlir.passes.orders import orders_differ
from numba_mlir.passes.picks import reduce_picks
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.reductions import has_reductions
from numba_mlir.passes.rows import contract, fuse_rows
from numba_mlir.passes.small_products import is_for_small
from numba_mlir.passes.sweeps import is_sweep, make_sweeps, split_sweeps
from numba_mlir.passes.temporaries import remove_unread, stored_allocations
from numba_mlir.passes.values import constant_int, has_inner_loop, operations
from numba_mlir.passes.versions import VERSIONS
from numba_mlir.passes.views import use_bases


@dataclasses.dataclass(frozen=True)
class Fusion(MLIRPass):
    """Fuse parallel loops of equal bounds.

    ``max_guards`` is the largest number of array pairs that one run-time test may
    compare; a loop that needs more stays by itself.  ``halo`` lets loops on neighbouring
    rows of temporary arrays run in blocks (`halo`) of at most ``block_bytes``.  ``sweeps``
    says how loops run in which sums along columns join a loop over rows (`sweeps`); without
    it there are none.
    ``interchange`` moves loops over ``range`` into the loops of the array statements inside.
    """

    max_guards: int = 16
    halo: bool = True
    block_bytes: int | None = None
    sweeps: Literal["parallel", "sequential"] | None = None
    interchange: bool = True

    name: ClassVar[str] = "fusion"

    @property
    def range_loops(self) -> bool:
        return self.interchange

    def run(self, module: Any) -> PassResult:
        """Fuse in every function of ``module``; unmodified when nothing was fused."""
        remarks: list[Remark] = []
        with module.context:
            for op in operations(module.body):
                if op.name == "func.func":
                    worker = _FunctionFusion(self)
                    worker.region(op.regions[0], [], guarded=True)
                    remarks += worker.remarks
            picked = reduce_picks(module) if self.sweeps is not None else []
            for found in picked:
                remarks.append(self.remark("applied", found.message, found.location))
            if picked:
                self._again(module)
            if self.sweeps is not None and split_sweeps(module, self.sweeps == "parallel"):
                self._again(module)
            for moved in interchange(module) if self.interchange else ():
                kind = "applied" if moved.done else "missed"
                remarks.append(self.remark(kind, moved.message, moved.location))
            for found in fuse_halos(module, self.block_bytes) if self.halo else ():
                remarks = [r for r in remarks if r.kind != "missed" or r.line not in found.lines]
                kind = "applied" if found.done else "missed"
                remarks.append(self.remark(kind, found.message, found.location))
            modified = any(remark.kind == "applied" for remark in remarks)
            if modified:
                mlir.run_pipeline(module.operation, "builtin.module(cse)")
        return PassResult(modified, tuple(remarks))

    def _again(self, module: Any) -> None:
        """Fuse what adds up the parts of sums with what uses the sums."""
        for op in operations(module.body):
            if op.name == "func.func":
                plain = dataclasses.replace(self, sweeps=None)
                _FunctionFusion(plain).region(op.regions[0], [], guarded=False)


@dataclasses.dataclass(frozen=True)
class RowFusion(Fusion):
    """`Fusion` of array statements, for functions that reduce arrays; others wait."""

    halo: bool = False
    interchange: bool = False
    sweeps: Literal["parallel", "sequential"] | None = "parallel"

    name: ClassVar[str] = "row-fusion"

    def applies(self, module: Any) -> bool:
        return has_reductions(module)


@dataclasses.dataclass
class _Group:
    """Loops, first to last, that will become one; neighbours in their block.

    ``order`` are the operations of the block, ``facts`` the assertions that hold on
    entry to it, ``guards`` the pairs of arrays that must not overlap.
    """

    loops: list[Loop]
    guards: dict[Guard, None]
    order: list[Any]
    facts: list[Any]

    @property
    def ops(self) -> list[Any]:
        return [loop.op for loop in self.loops]

    def between(self, op: Any) -> list[Any]:
        """The operations from the last loop of the group to ``op``."""
        return self.order[self.order.index(self.loops[-1].op) + 1 : self.order.index(op)]

    def is_in_front(self, op: Any) -> bool:
        """Whether ``op`` stands in front of the group, where a loop that joined has moved it."""
        return self.order.index(op) < self.order.index(self.loops[0].op)

    def asserts_before(self) -> list[Any]:
        """The assertions that hold in front of the group."""
        before = self.order[: self.order.index(self.loops[0].op)]
        return self.facts + [op for op in before if op.name == ASSERT]

    def add(
        self, loop: Loop, above: list[Any], below: Sequence[Any], guards: dict[Guard, None]
    ) -> None:
        """Make ``loop`` the last of the group, with ``above`` and ``below`` around it."""
        first = self.loops[0].op
        for op in above:
            op.move_before(first)
        loop.op.move_after(self.loops[-1].op)
        start = self.order.index(first)
        self.loops.append(loop)
        moved = {*above, *self.ops, *below}
        rest = [op for op in self.order[start:] if op not in moved]
        self.order[start:] = [*above, *self.ops, *below, *rest]
        self.guards = guards


@dataclasses.dataclass
class _Fused:
    """A fused loop, the ``scf.if`` of its run-time test, and what to tell the user."""

    loop: Any
    branch: Any | None
    guards: tuple[Guard, ...]
    message: str
    location: Any


class _FunctionFusion:
    """Fuses in one function.  Analyses are forgotten whenever operations are replaced."""

    def __init__(self, options: Fusion) -> None:
        self.remarks: list[Remark] = []
        self._options = options
        self._forget()

    def _forget(self) -> None:
        self._provenance = Provenance()
        self._effects: dict[Any, Effects] = {}
        self._loops: dict[Any, Loop] = {}

    def _loop(self, op: Any) -> Loop:
        found = self._loops.get(op)
        if found is None:
            found = self._loops[op] = Loop(op, self._summary(op))
        return found

    def _summary(self, op: Any) -> Effects:
        found = self._effects.get(op)
        if found is None:
            found = self._effects[op] = summarise(op, self._provenance)
        return found

    def region(self, region: Any, facts: list[Any], guarded: bool) -> None:
        """Fuse in all blocks of ``region``.

        ``facts`` are the assertions that hold on entry; ``guarded`` says whether
        run-time tests may be emitted here.
        """
        dominating = dominators(region)
        for block in region.blocks:
            known = [op for other in dominating[block] for op in asserts_in(other)]
            kept = len(self.remarks)
            self._block(block, facts + known, guarded)
            if is_for_small(block):
                self._forget_missed(kept)

    def _block(self, block: Any, facts: list[Any], guarded: bool) -> None:
        self._inline(block)
        fused = self._fuse_block(block, facts, guarded)
        for item in fused:
            self._finish(item)
        branches = {item.branch for item in fused if item.branch is not None}
        known = list(facts)
        for op in operations(block):
            if op.name == ASSERT:
                known.append(op)
            if op in branches:
                self._original_branch(op.regions[1], known)
            regions = list(op.regions)[: 1 if op in branches else None]
            for number, region in enumerate(regions):
                kept = len(self.remarks)
                self.region(region, known, guarded and op.name != "scf.parallel")
                if number and VERSIONS in op.attributes:
                    self._forget_missed(kept)

    def _forget_missed(self, kept: int) -> None:
        """Of the same loops for sizes that are stretched or small, what is missed says little."""
        self.remarks[kept:] = [r for r in self.remarks[kept:] if r.kind != "missed"]

    def _inline(self, block: Any) -> None:
        for item in inline_producers(block):
            message = f"{item.name} is computed where it is read"
            message += "; the temporary array is removed" if item.removed else ""
            self._report([item.location], message)
        if self._options.sweeps is not None:
            self._report(make_sweeps(block), "sums along columns are added up row by row")
        self._forget()

    def _report(self, locations: list[Any], message: str) -> None:
        for location in locations:
            self.remarks.append(self._options.remark("applied", message, location))

    def _original_branch(self, region: Any, facts: list[Any]) -> None:
        """Fuse what needs no run-time test among the loops that overlapping arrays get."""
        kept = len(self.remarks)
        self.region(region, facts, guarded=False)
        del self.remarks[kept:]

    def _fuse_block(self, block: Any, facts: list[Any], guarded: bool) -> list[_Fused]:
        fused: list[_Fused] = []
        heads: set[Any] = set()
        while True:
            order = operations(block)
            loops = [op for op in order if op.name == "scf.parallel"]
            head = next((op for op in loops if op not in heads), None)
            if head is None:
                return fused
            group = _Group([self._loop(head)], {}, order, facts)
            self._grow(group, loops[loops.index(head) + 1 :], guarded)
            if len(group.loops) > 1:
                # A loop that moved in front of a fused one may have taken that in.
                fused = [other for other in fused if other.loop not in group.ops]
                heads.difference_update(group.ops)
                item = self._emit(group)
                fused.append(item)
                head = item.loop if item.branch is None else item.branch
            heads.add(head)

    def _grow(self, group: _Group, candidates: list[Any], guarded: bool) -> None:
        """Let all ``candidates`` that can join the group, and move them to it."""
        equal = Equalities(group.facts + [op for op in group.order if op.name == ASSERT])
        missed: tuple[Any, str] | None = None
        while True:
            rank, missed = group.loops[0].rank, None
            for op in candidates:
                if op in group.ops or group.is_in_front(op):
                    continue
                reason = self._fit(group, self._loop(op), equal, guarded)
                if reason is not None and missed is None:
                    missed = (op, reason)
            if group.loops[0].rank == rank:
                break  # else what did not fit before may fit the rows
        if missed is not None:
            self._report_missed(group, *missed)

    def _fit(self, group: _Group, loop: Loop, equal: Equalities, guarded: bool) -> str | None:
        """Let ``loop`` join, as a loop over rows where only these are common to both."""
        rank = min(group.loops[0].rank, loop.rank)
        before = group.loops
        members, loop = [member.at(rank) for member in before], loop.at(rank)
        reason = (
            rows_reason([*members, loop])
            or _sweep_reason([*members, loop])
            or _bounds_differ(members[0], loop, equal)
        )
        if reason is None:
            group.loops = members
            reason = self._join(group, loop, guarded)
        if reason is not None:
            group.loops = before
        return reason

    def _join(self, group: _Group, loop: Loop, guarded: bool) -> str | None:
        """Let ``loop`` join ``group`` and move it there; or the reason why it cannot."""
        guards: dict[Guard, None] = dict(group.guards)
        for member in group.loops:
            verdict = can_fuse(member, loop, self._provenance)
            if verdict.reason is not None:
                return verdict.reason
            guards |= {g: None for g in verdict.guards if g[::-1] not in guards}
        if guards and not guarded:
            return _overlap_text(guards, self._provenance, "may overlap, which is not tested here")
        if len(guards) > (limit := self._options.max_guards):
            return f"too many pairs of arrays may overlap ({len(guards)}, the limit is {limit})"
        between = group.between(loop.op)
        way = plan(group.ops, between, loop.op, self._summary, self._provenance)
        if way.reason is not None:
            return way.reason
        if self._not_worth_it(group, loop, between):
            return "both contain inner loops and they have no array in common"
        if any(orders_differ(member, loop) for member in group.loops):
            return "one goes along rows, one along columns"
        above = self._with_late_checks(group, loop, way)
        if above is None:
            return "that their sizes are equal is checked too late"
        group.add(loop, above, way.below, guards)
        return None

    def _with_late_checks(self, group: _Group, loop: Loop, way: Plan) -> list[Any] | None:
        """``way.above``, and checks from behind ``loop`` that its bounds' equality needs.

        None when the bounds are not known to be equal in front of the group even so.
        """
        above = list(way.above)
        holding = group.asserts_before() + [op for op in above if op.name == ASSERT]
        over = [*group.ops, *way.below, loop.op]
        for op in group.order[group.order.index(loop.op) :]:
            if _bounds_differ(group.loops[0], loop, Equalities(holding)) is None:
                return above
            if op is loop.op:
                continue
            if op.name == ASSERT and (lifted := self._lift(op, over)) is not None:
                above += lifted
                holding.append(op)
                over = [other for other in over if other not in lifted]
            else:
                over.append(op)
        return None

    def _lift(self, op: Any, over: list[Any]) -> list[Any] | None:
        return lift(op, over, self._summary, self._provenance)

    def _not_worth_it(self, group: _Group, loop: Loop, between: list[Any]) -> bool:
        if all(_is_harmless(self._summary(op)) for op in between):
            return False
        if not has_inner_loop(loop.op) or not any(has_inner_loop(op) for op in group.ops):
            return False
        mine = {access.root for access in loop.effects.accesses}
        return not any(access.root in mine for m in group.loops for access in m.effects.accesses)

    def _emit(self, group: _Group) -> _Fused:
        message = _fused_text([loop.op for loop in group.loops])
        location = group.loops[0].op.location
        guards = tuple(group.guards)
        if guards:
            message += f" where {_overlap_text(guards, self._provenance, 'do not overlap')}"
        loop, branch = fuse(group.loops, guards)
        self._forget()
        return _Fused(loop, branch, guards, message, location)

    def _finish(self, item: _Fused) -> None:
        """Forward stores and remove temporaries of a fused loop, and report it."""
        use_bases(item.loop)
        self._forward(item)
        if fuse_rows(item.loop.regions[0].blocks[0], item.guards):
            self._forward(item)
        arrays = stored_allocations(item.loop, self._provenance)
        names = remove_unread(arrays, item.branch)
        names += contract(item.loop)
        item.loop = merge_equal_reductions(item.loop)
        self._forget()
        message = item.message
        if names:
            message += f"; {_removed_text(names)}"
        self.remarks.append(self._options.remark("applied", message, item.location))

    def _forward(self, item: _Fused) -> None:
        self._forget()
        Forwarder(item.loop, self._provenance, item.guards).run()

    def _report_missed(self, group: _Group, op: Any, reason: str) -> None:
        if len(group.loops) == 1:
            message = f"{_lines_text([*group.ops, op])} were not fused: {reason}"
        else:
            message = f"{_lines_text([op])} was not fused with {_lines_text(group.ops)}: {reason}"
        self.remarks.append(self._options.remark("missed", message, op.location))


def rows_reason(loops: Sequence[Loop]) -> str | None:
    """Why loops of different numbers of indices should not become one over rows.

    It pays when an array of rows is reduced, so that what one row needs stays in the
    cache or in registers; a loop over several indices alone has more to share out
    among threads.
    """
    ranks = sorted({loop.full_rank for loop in loops})
    if len(ranks) == 1:
        return None
    dimensions = f"they have {ranks[0]} and {ranks[-1]} dimensions"
    rank = loops[0].rank
    longer = [loop for loop in loops if loop.full_rank > rank]
    if any(loop.inits for loop in longer):
        return f"{dimensions}, and one is a reduction of the whole array"
    if not any(loop.full_rank == rank and has_inner_loop(loop.op) for loop in loops):
        return dimensions
    *others, last = loops
    mine = {access.root for access in last.effects.accesses}
    if not any(access.root in mine for other in others for access in other.effects.accesses):
        return f"{dimensions}, and no array in common"
    return None


def _sweep_reason(loops: Sequence[Loop]) -> str | None:
    """Sweeps are cut into chunks of rows in another way than reductions of whole arrays."""
    if any(loop.inits for loop in loops) and any(is_sweep(loop) for loop in loops):
        return "one adds up along columns, and one is a reduction of the whole array"
    return None


def _bounds_differ(first: Loop, second: Loop, equal: Equalities) -> str | None:
    for loop in (first, second):
        if any(constant_int(step) != 1 for step in loop.steps):
            return "a step is not one"
    if equal.equal(first.lower, second.lower) and equal.equal(first.upper, second.upper):
        return None
    return "their bounds differ, or are not known to be equal"


def _is_harmless(effects: Effects) -> bool:
    return not (effects.accesses or effects.opaque)


def _lines_text(ops: list[Any]) -> str:
    """ "the loops of lines 4, 5 and 6", or "3 loops of line 4"."""
    places = list(dict.fromkeys(line for op in ops for line in source_lines(op.location)))
    if not places:
        return "a loop" if len(ops) == 1 else f"{len(ops)} loops"
    lines = [
        str(place.line)
        if place.file == places[0].file
        else f"{os.path.basename(place.file)}:{place.line}"
        for place in places
    ]
    if len(lines) == 1:
        count = "the loop" if len(ops) == 1 else f"{len(ops)} loops"
        return f"{count} of line {lines[0]}"
    *most, last = lines
    return f"the loops of lines {', '.join(most)} and {last}"


def _removed_text(names: list[str | None]) -> str:
    """ "temporary arrays removed: c, d and 2 without a name"."""
    named = [name for name in names if name is not None]
    if len(names) > len(named):
        named.append(f"{len(names) - len(named)} without a name")
    text = ", ".join(named) if len(named) <= 2 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"temporary array{'s' if len(names) > 1 else ''} removed: {text}"


def _fused_text(ops: list[Any]) -> str:
    return f"fused {_lines_text(ops)} into one"


def _overlap_text(guards: Iterable[Guard], provenance: Provenance, verb: str) -> str:
    """ "a and b, a and c do not overlap"."""
    pairs = [
        " and ".join(provenance.root(memref).name_of(memref) for memref in guard)
        for guard in guards
    ]
    return f"{', '.join(dict.fromkeys(pairs))} {verb}"
