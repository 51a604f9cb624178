"""Carried values that an iteration either keeps or replaces as a whole.

A group of carried values is a *selection* when each iteration is a sequence of steps

    if g and P(c, s): s = c          s: the group, c: new values, g: a condition

where ``c`` and ``g`` do not depend on any carried value, and P, the same in all steps, is
one of three rules:

``last``   P is always true.  The last step whose ``g`` holds wins.
``order``  P compares ``key(c)`` with ``key(s)`` by ``<``, ``<=``, ``>`` or ``>=``: smallest or
           largest, with the first (``<``, ``>``) or last (``<=``, ``>=``) of equal ones.
``once``   P asks about ``s`` alone (``where == -1``, ``not found``).  The first step wins;
           where P still holds of the new values, steps go on to replace them.

Parts of the iterations can then be executed on their own, each from the values before the
loop (``last``: from anything), and be put together in order by the step itself: the values of
a part replace those before it where the part replaced its own at all and P holds.

Why that is right.  ``once``: while P holds of ``s``, all that a part does is decided by its own
``c`` and ``g``; when P does not hold, nothing changes.  ``order``: a part that starts at an
earlier ``s0`` finds the best of its ``c`` among those better than ``s0``; the values before it
are ``s0`` or better.  A key of NaN before the loop is never replaced, by no part; a new key of
NaN is never better, so that it never becomes the key of ``s``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.carried import Dependences, choice_arms
from numba_mlir.passes.effects import is_pure_name
from numba_mlir.passes.rules import Recipe, Rule, alike, relation
from numba_mlir.passes.values import (
    constant_bool,
    constant_int,
    defined_inside,
    nested,
    operations,
    owner,
)

#: values of the group's members
Values = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values that depend on a condition."""

    condition: Any
    yes: Tree
    no: Tree


Tree = Values | Choice


@dataclasses.dataclass(frozen=True)
class Selection:
    """Carried values ``members`` (numbers); ``rule`` is None for the rule ``last``.

    ``flagged`` is the member whose choices tell whether an iteration replaced the values.
    """

    members: tuple[int, ...]
    rule: Rule | None
    flagged: int


class NotSelection(Exception):
    """The group is used in another way."""


def find_selection(
    deps: Dependences, members: tuple[int, ...], memory_is_constant: bool
) -> Selection | None:
    """The selection that the carried values ``members`` are, or None.

    ``memory_is_constant``: the loop writes to no array, so that keys may be loaded again.
    """
    steps = _Steps(deps, members, memory_is_constant)
    base = tuple(deps.arguments[number] for number in members)
    values = tuple(deps.yields[number] for number in members)
    try:
        steps.follow(values, base)
    except NotSelection:
        return None
    if steps.replaced and steps.rule is not None:
        return None
    if steps.rule is None and len(members) > 1:
        return None
    changed = [n for n, (v, b) in enumerate(zip(values, base, strict=True)) if v != b]
    telling = [n for n in changed if n not in steps.settled]
    if not telling and len(members) > 1:
        return None
    return Selection(members, steps.rule, members[(telling or changed)[0]])


class _Steps:
    """Follows the new values of one group back to the old ones."""

    def __init__(self, deps: Dependences, members: tuple[int, ...], memory: bool) -> None:
        self.deps, self.members, self.memory = deps, frozenset(members), memory
        self.rule: Rule | None = None
        #: whether some step replaces the values whatever they are
        self.replaced = False
        #: positions of members that get a constant where they keep their value
        self.settled: set[int] = set()
        self._order = {op: number for number, op in enumerate(nested(deps.loop))}

    def depends(self, value: Any) -> bool:
        return bool(self.deps.of(value))

    def follow(self, tree: Tree, base: Values) -> None:
        """Raises NotSelection unless ``tree`` is made from ``base`` by steps."""
        if isinstance(tree, Choice):
            self._choice(tree, base)
            return
        if tree == base:
            return
        if not any(map(self.depends, tree)):
            self.replaced = True
            return
        latest = self._latest(tree, base)
        if latest.name == "scf.for":
            self._loop(latest, tree, base)
        else:
            self._choice(self._split(tree, _condition(latest)), base)

    def _latest(self, tree: Values, base: Values) -> Any:
        """The last of the operations that choose between values of ``tree``."""
        found = [
            owner(value)
            for value, old in zip(tree, base, strict=True)
            if value != old and self.depends(value)
        ]
        if not found or any(op is None for op in found):
            raise NotSelection
        latest: Any = max(found, key=lambda op: self._order.get(op, -1))
        if latest.name not in ("scf.if", "arith.select", "scf.for"):
            raise NotSelection
        return latest

    def _split(self, tree: Values, condition: Any) -> Choice:
        arms = [choice_arms(value) for value in tree]
        mine = [arm is not None and arm[0] == condition for arm in arms]
        yes, no = (
            tuple(
                arm[side] if take and arm is not None else
                self._constant(side == 1) if value == condition else value
                for value, arm, take in zip(tree, arms, mine, strict=True)
            )
            for side in (1, 2)
        )  # fmt: skip
        return Choice(condition, yes, no)

    def _constant(self, truth: bool) -> Any:
        """A constant in front of the loop, for comparisons; nothing will use it."""
        ir, loop = mlir.ir, self.deps.loop
        with ir.InsertionPoint(loop), loop.location:
            boolean = ir.IntegerType.get_signless(1)
            return mlir.arith.constant(boolean, ir.BoolAttr.get(truth))

    def _loop(self, op: Any, tree: Values, base: Values) -> None:
        """A loop inside: its steps, and those in front of it."""
        if any(self.depends(value) for value in list(op.operands)[:3]):
            raise NotSelection
        block = op.regions[0].blocks[0]
        ends = operations(block)[-1].operands
        numbers = [
            mlir.ir.OpResult(value).result_number if owner(value) == op else None for value in tree
        ]
        inner_base = tuple(
            value if n is None else block.arguments[1 + n]
            for n, value in zip(numbers, tree, strict=True)
        )
        inner = tuple(
            value if n is None else ends[n] for n, value in zip(numbers, tree, strict=True)
        )
        before = tuple(
            value if n is None else op.operands[3 + n]
            for n, value in zip(numbers, tree, strict=True)
        )
        self.follow(inner, inner_base)
        self.follow(before, base)

    # -- conditions ----------------------------------------------------------------
    def _choice(self, tree: Choice, base: Values) -> None:
        simple = self._simplified(tree)
        if not isinstance(simple, Choice):
            self.follow(simple, base)
        elif not self.depends(simple.condition):
            self.follow(simple.yes, base)
            self.follow(simple.no, base)
        else:
            self.follow(self._step(simple), base)

    def _simplified(self, tree: Choice) -> Tree:
        """Conditions that are built from others become choices between them."""
        condition, yes, no = tree.condition, tree.yes, tree.no
        constant = constant_bool(condition)
        if constant is not None:
            return yes if constant else no
        op = owner(condition)
        if op is None or not self.depends(condition):
            return tree
        arms = choice_arms(condition)
        if arms is not None:
            return Choice(arms[0], Choice(arms[1], yes, no), Choice(arms[2], yes, no))
        if op.name in ("arith.andi", "arith.ori"):
            first, second = sorted(op.operands, key=self.depends)
            if op.name == "arith.andi":
                return Choice(first, Choice(second, yes, no), no)
            return Choice(first, yes, Choice(second, yes, no))
        if op.name == "arith.xori" and constant_bool(op.operands[1]):
            return Choice(op.operands[0], no, yes)
        return tree

    # -- one step --------------------------------------------------------------------
    def _step(self, tree: Choice) -> Values:
        """Check ``tree``, whose condition depends on the group; returns the values before."""
        simple = self._simplified(tree)
        if simple is not tree:
            if not isinstance(simple, Choice):
                raise NotSelection
            if not self.depends(simple.condition):
                return self._both(simple)
            return self._step(simple)
        condition = tree.condition
        for new, old, positive in ((tree.yes, tree.no, True), (tree.no, tree.yes, False)):
            if isinstance(old, Choice):
                continue
            kept = self._settled(old, condition, not positive)
            if self._is_rule(condition, new, kept, positive):
                return kept
        raise NotSelection

    def _both(self, tree: Choice) -> Values:
        """A choice by a free condition between two trees that must start from the same values."""
        found: list[Values] = []
        for side in (tree.yes, tree.no):
            found.append(self._step(side) if isinstance(side, Choice) else side)
        if found[0] != found[1]:
            raise NotSelection
        return found[0]

    def _settled(self, values: Values, condition: Any, truth: bool) -> Values:
        """Where a condition is itself a member, a constant of its value is that member."""
        return tuple(
            condition if value.type == condition.type and constant_bool(value) is truth else value
            for value in values
        )

    def _is_rule(self, condition: Any, new: Tree, old: Values, positive: bool) -> bool:
        """Whether the step from ``old`` to ``new``, where ``condition`` is ``positive``, follows
        the same rule as all others."""
        try:
            news = list(self._leaves(new, old, (condition, positive)))
        except NotSelection:
            return False
        if not news or any(self.depends(value) for leaf in news for value in leaf):
            return False
        rule = self._ordered(condition, news, old, positive) or self._once(condition, old, positive)
        if rule is None or (self.rule is not None and not self.rule.same(rule)):
            return False
        self.rule = rule
        return True

    def _leaves(self, tree: Tree, old: Values, known: tuple[Any, bool]) -> Iterator[Values]:
        """The values that a step may take, by conditions that are free of carried values."""
        if isinstance(tree, tuple):
            if self._is_old(tree, old, known):
                return
            split = [v for v, o in zip(tree, old, strict=True) if v != o and self.depends(v)]
            if not split:
                yield tree
                return
            latest = self._latest(tree, old)
            if latest.name == "scf.for":
                raise NotSelection
            tree = self._split(tree, _condition(latest))
        simple = self._simplified(tree)
        if not isinstance(simple, Choice):
            yield from self._leaves(simple, old, known)
            return
        if self.depends(simple.condition):
            raise NotSelection
        yield from self._leaves(simple.yes, old, known)
        yield from self._leaves(simple.no, old, known)

    def _is_old(self, tree: Values, old: Values, known: tuple[Any, bool]) -> bool:
        if self._settled(tree, *known) != old:
            return False
        self.settled |= {n for n, (v, o) in enumerate(zip(tree, old, strict=True)) if v != o}
        return True

    def _ordered(
        self, condition: Any, news: list[Values], old: Values, positive: bool
    ) -> Rule | None:
        op = owner(condition)
        if op is None or relation(op) is None:
            return None
        if not positive and op.name == "arith.cmpf":
            return None  # with a NaN neither a < b nor a >= b
        left, right = op.operands
        if self.depends(left) == self.depends(right):
            return None
        new_first = self.depends(right)
        key, candidate = (right, left) if new_first else (left, right)
        recipe = self._recipe(key, old)
        if recipe is None:
            return None
        if not all(self._matches(key, candidate, old, new) for new in news):
            return None
        return Rule("order", recipe, op, new_first, positive)

    def _once(self, condition: Any, old: Values, positive: bool) -> Rule | None:
        recipe = self._recipe(condition, old)
        return None if recipe is None else Rule("once", recipe, positive=positive)

    def _recipe(self, value: Any, old: Values) -> Recipe | None:
        """``value`` as a function of the members and of values from outside the loop."""
        if value in old:
            return Recipe(member=old.index(value))
        if not defined_inside(value, self.deps.loop):
            return Recipe(value=value)
        op = owner(value)
        if op is None or not self._again(op):
            return None
        constant = op.name == "arith.constant"
        operands = [self._recipe(operand, old) for operand in op.operands]
        if None in operands or not (constant or len(operands)):
            return None
        return Recipe(op=op, operands=tuple(operands))  # type: ignore[arg-type]

    def _again(self, op: Any) -> bool:
        """Whether an operation may be executed again behind the loop."""
        if len(op.regions) or len(op.results) != 1:
            return False
        if op.name == "memref.load":
            return self.memory
        return is_pure_name(op.name) and op.name != "memref.alloc"

    def _matches(self, key: Any, candidate: Any, old: Values, new: Values) -> bool:
        """Whether ``candidate`` is what ``key`` is with ``new`` in place of ``old``."""
        if key in old:
            return bool(new[old.index(key)] == candidate)
        if not self.depends(key):
            return bool(key == candidate)
        one, other = owner(key), owner(candidate)
        if one is None or other is None or not alike(one, other):
            return one is not None and self._unwrapped(one, candidate, old, new)
        pairs = zip(one.operands, other.operands, strict=True)
        return all(self._matches(k, c, old, new) for k, c in pairs)

    def _unwrapped(self, op: Any, candidate: Any, old: Values, new: Values) -> bool:
        """An index that may be negative, against one of a loop, which never is."""
        if op.name != "numba.wrap_index" or op.operands[0] not in old:
            return False
        value = owner(new[old.index(op.operands[0])])
        if value is None or value.name != "arith.index_cast" or value.operands[0] != candidate:
            return False
        return owner(candidate) is None and _counts_up(candidate)


def _counts_up(iv: Any) -> bool:
    """Whether a block argument is the index of a loop that starts at 0 or above."""
    loop = iv.owner.owner.operation
    if loop.name not in ("scf.for", "scf.parallel") or iv.arg_number:
        return False
    start = constant_int(loop.operands[0])
    return start is not None and start >= 0


def _condition(op: Any) -> Any:
    return op.operands[0]
