"""Elements that a mask picks are reduced where they are, without a copy of them.

``v = a[m]`` makes an array of the elements, one by one, and loops over ``v`` read that:

    v = pick(a, m)                              count = sum over i of m[i]
    sum over i < size(v) of f(v[i])     ->      sum over i of (m[i] ? f(a[i]) : neutral)

The loops on the right go over all elements, several at once, and fuse with what made the
mask, so that neither ``v`` nor ``m`` has to be in memory.  The copy goes away when

1. nobody but such loops uses ``v``, except for its size, which becomes ``count``;
2. a loop only reduces, and computes each term from ``v[i]`` and values from outside, by cheap
   operations (`LIMIT`) that cannot trap: they run for the other elements as well;
3. nothing writes ``a`` or ``m`` between the copy and a loop, on any way through the function;
4. there are no more than `LOOPS` of them: each goes through all of ``a`` and ``m``.

That ``a`` has as many elements as ``m`` is checked in front of the copy (`converters.picks`).

For modules whose reductions are NumPy's: they start at the value that changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.dialect import HIDDEN, PICKED
from numba_mlir.passes.building import index, load_at, reduction, size_of
from numba_mlir.passes.effects import STATEMENT, is_pure_name, may_trap, summarise
from numba_mlir.passes.inlining import LIMIT, cost
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import (
    ancestor_in_region,
    constant_int,
    display_name,
    nested,
    operations,
    strip_casts,
)

#: the most loops over the elements of one pick
LOOPS = 4


@dataclasses.dataclass(frozen=True)
class Reduced:
    """What was done, for the user: the names of mask and array, and where."""

    message: str
    location: Any


def reduce_picks(module: Any) -> list[Reduced]:
    """Do so in all functions of ``module``."""
    done: list[Reduced] = []
    for op in nested(module.operation):
        if op.name == STATEMENT and PICKED in op.attributes:
            pick = _Pick(op)
            if pick.is_understood():
                done.append(pick.reduce())
    return done


class _Pick:
    """One copy of picked elements, and what uses it."""

    def __init__(self, op: Any) -> None:
        self.op = op
        self.array, self.mask = op.operands
        users = list({use.owner.operation: None for use in op.result.uses})
        self.sizes = [user for user in users if user.name == "memref.dim"]
        self.loads = [user for user in users if user.name == "memref.load"]
        self._others = len(users) > len(self.sizes) + len(self.loads)
        self.loops = list(dict.fromkeys(load.parent for load in self.loads))

    # -- may it be done? ------------------------------------------------------------
    def is_understood(self) -> bool:
        if self._others or len(self.loops) > LOOPS:
            return False
        return all(map(self._is_reduction, self.loops)) and not self._is_overwritten()

    def _is_reduction(self, loop: Any) -> bool:
        """Whether ``loop`` goes over the elements, each by itself, and only reduces."""
        if loop.name != "scf.parallel" or not len(loop.results):
            return False
        low, high, step, *_ = loop.operands
        (*body, _), (iv, *others) = operations(_body(loop)), _body(loop).arguments
        keys = Equalities()
        return (
            not others
            and constant_int(low) == 0
            and constant_int(step) == 1
            and keys.key(high) == keys.size_key(self.op.result, 0)
            and all(self._is_term(op, iv) for op in body)
            and sum(map(cost, body)) <= LIMIT
        )

    def _is_term(self, op: Any, iv: Any) -> bool:
        if op.name == "memref.load":
            return op in self.loads and strip_casts(op.operands[1]) == iv
        return is_pure_name(op.name) and not may_trap(op) and not len(op.regions)

    def _is_overwritten(self) -> bool:
        """Whether array or mask may be written between the copy and a loop."""
        provenance = Provenance()
        roots = [provenance.root(self.array), provenance.root(self.mask)]
        region = self.op.block.region
        tops = [ancestor_in_region(loop, region) for loop in self.loops]
        if any(top is None for top in tops):
            return True
        between = dict.fromkeys(op for top in tops for op in _between(self.op, top))
        between |= dict.fromkeys(top for top in tops if top not in self.loops)
        for effects in (summarise(op, provenance) for op in between):
            for root in roots:
                if any(provenance.may_alias(a.root, root, effects.op) for a in effects.writes()):
                    return True
                if any(provenance.touches(reach, root, op) for op, reach in effects.opaque):
                    return True
        return False

    # -- doing it ---------------------------------------------------------------------
    def reduce(self) -> Reduced:
        array, mask = display_name(self.array), display_name(self.mask)
        message = f"the elements of {array} that {mask} picks are reduced without a copy of them"
        done = Reduced(message, self.op.location)
        with mlir.ir.InsertionPoint(self.op), self.op.location:
            size = size_of(self.mask, 0)
            for loop in self.loops:
                self._over_all(loop, size)
            if any(True for op in self.sizes for _ in op.result.uses):
                count = self._count(size)
                for op in self.sizes:
                    op.result.replace_all_uses_with(count)
        for op in (*self.sizes, self.op):
            op.erase()
        return done

    def _over_all(self, loop: Any, size: Any) -> None:
        loop.operands[1] = size
        (iv,) = _body(loop).arguments
        *_, last = operations(_body(loop))
        for load in self.loads:
            if load.parent == loop:
                load.operands[0] = self.array
        start = [_hidden(value) for value in list(loop.operands)[3:]]
        with mlir.ir.InsertionPoint(last), loop.location:
            picked = load_at(self.mask, iv)
            for number, neutral in enumerate(start):
                term = last.operands[number]
                last.operands[number] = mlir.arith.select(picked, term, neutral)

    def _count(self, size: Any) -> Any:
        wide = mlir.ir.IntegerType.get_signless(64)
        found = reduction(
            (index(0), size, index(1)),
            lambda iv: mlir.arith.extui(wide, load_at(self.mask, iv)),
            mlir.arith.addi,
            mlir.arith.constant(wide, 0),
        )
        return mlir.arith.index_cast(mlir.ir.IndexType.get(), found)


def _hidden(neutral: Any) -> Any:
    """The same number.  LLVM would make a branch of ``max(x, m ? y : -inf)`` with a constant,
    and no vectors."""
    if not isinstance(neutral.type, mlir.ir.FloatType):
        return neutral
    return mlir.ir.Operation.create(HIDDEN, [neutral.type], [neutral]).result


def _body(loop: Any) -> Any:
    return loop.regions[0].blocks[0]


def _between(first: Any, last: Any) -> list[Any]:
    """The operations of a region that may run behind ``first`` and in front of ``last``, which
    no way through the region reaches but behind ``first``."""
    home, goal = first.block, last.block
    ops = operations(home)
    behind = ops[ops.index(first) + 1 :]
    if goal == home:
        return behind[: behind.index(last)]
    later = _reached(home.successors, home, lambda block: block.successors)
    earlier = _reached(goal.predecessors, home, lambda block: block.predecessors)
    found = [op for block in later & earlier for op in operations(block)]
    if goal not in earlier:  # else it comes again, with everything in it
        ops = operations(goal)
        found += ops[: ops.index(last)]
    return [*behind, *found]


def _reached(blocks: Any, end: Any, step: Callable[[Any], Any]) -> set[Any]:
    """``blocks`` and all that can be reached by steps, ``end`` and what is behind it left out."""
    found: set[Any] = set()
    todo = list(blocks)
    while todo:
        block = todo.pop()
        if block != end and block not in found:
            found.add(block)
            todo += step(block)
    return found
