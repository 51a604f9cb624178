"""The rules by which an iteration replaces values: how to ask them again for whole parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to compute a value from the members of a group.

    ``member`` is a member's position, ``value`` a value from outside the loop; else an
    operation (``op`` names what to clone, its operands are recipes).
    """

    member: int | None = None
    value: Any = None
    op: Any = None
    operands: tuple[Recipe, ...] = ()

    def build(self, members: Sequence[Any]) -> Any:
        if self.member is not None:
            return members[self.member]
        if self.op is None:
            return self.value
        operands = [operand.build(members) for operand in self.operands]
        attributes = dict(self.op.attributes.items())
        made = mlir.ir.Operation.create(
            self.op.name, [r.type for r in self.op.results], operands, attributes
        )
        return made.results[0]

    def same(self, other: Recipe) -> bool:
        if self.member is not None or self.op is None:
            return self.member == other.member and self.value == other.value
        return (
            other.op is not None
            and alike(self.op, other.op)
            and all(a.same(b) for a, b in zip(self.operands, other.operands, strict=True))
        )


@dataclasses.dataclass(frozen=True)
class Rule:
    """P.  ``order``: the operation ``compare`` of ``key`` of new and old values, the new ones
    at the left when ``new_first``.  ``once``: ``key`` is P itself, or its opposite."""

    kind: str
    key: Recipe
    compare: Any = None
    new_first: bool = True
    positive: bool = True

    def same(self, other: Rule) -> bool:
        if (self.kind, self.positive) != (other.kind, other.positive):
            return False
        if not self.key.same(other.key):
            return False
        return self.kind == "once" or _direction(self) == _direction(other)

    @property
    def strict(self) -> bool:
        """Whether equal keys are not better."""
        return self.kind == "order" and _direction(self) in ("lt", "gt")

    def holds(self, new: Sequence[Any], old: Sequence[Any]) -> Any:
        """P(new, old), an ``i1``."""
        if self.kind == "once":
            found = self.key.build(old)
            return found if self.positive else _opposite(found)
        keys = [self.key.build(new), self.key.build(old)]
        ends = keys if self.new_first else keys[::-1]
        attributes = dict(self.compare.attributes.items())
        kinds = [result.type for result in self.compare.results]
        found = mlir.ir.Operation.create(self.compare.name, kinds, ends, attributes).results[0]
        return found if self.positive else _opposite(found)


def _opposite(value: Any) -> Any:
    return mlir.arith.xori(value, mlir.arith.constant(value.type, mlir.ir.BoolAttr.get(True)))


#: predicates of arith.cmpf and arith.cmpi -> relation
_FLOAT = {4: "lt", 5: "le", 2: "gt", 3: "ge"}
_INTEGER = {2: "lt", 3: "le", 4: "gt", 5: "ge", 6: "lt", 7: "le", 8: "gt", 9: "ge"}
_SWAPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}
_NEGATED = {"lt": "ge", "ge": "lt", "le": "gt", "gt": "le"}


def relation(op: Any) -> str | None:
    """What a comparison of two numbers asks: "lt", "le", "gt" or "ge"; None for others."""
    table = {"arith.cmpf": _FLOAT, "arith.cmpi": _INTEGER}.get(op.name)
    return None if table is None else table.get(op.attributes["predicate"].value)


def _direction(rule: Rule) -> str | None:
    """What ``key(new) ? key(old)`` has to be for the new values to be taken."""
    found = relation(rule.compare)
    if found is None:
        return None
    if not rule.new_first:
        found = _SWAPPED[found]
    return found if rule.positive else _NEGATED[found]


def alike(one: Any, other: Any) -> bool:
    """Same operation on other operands."""
    if one.name != other.name or len(one.operands) != len(other.operands):
        return False
    kinds = [r.type for r in one.results] == [r.type for r in other.results]
    return kinds and str(one.attributes) == str(other.attributes)
