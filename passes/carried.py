"""Which values of a loop's body depend on what the loop carries from iteration to iteration.

The dependences are those of data and of control.  What goes through memory counts as an
effect: a store, or a statement of unknown effect, that depends on a carried value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.effects import is_pure_name
from numba_mlir.passes.values import nested, operations, owner

#: numbers of carried values
Numbers = frozenset[int]
#: conditions that are known to hold (or not) where a value is used
Facts = dict[Any, bool]

_NONE: Numbers = frozenset()
#: operations inside which one looks for effects
_STRUCTURE = frozenset({"scf.if", "scf.for", "scf.while", "scf.parallel", "scf.execute_region"})
_ENDS = frozenset({"scf.yield", "scf.condition", "scf.reduce", "scf.reduce.return"})
#: how far `Dependences.under` looks back from one value
_DEPTH = 64


class Dependences:
    """Answers for one ``scf.for``, valid until its operations change."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.block = loop.regions[0].blocks[0]
        self.iv, *self.arguments = list(self.block.arguments)
        self._known: dict[Any, Numbers] = {
            argument: frozenset({number}) for number, argument in enumerate(self.arguments)
        }
        self._inside(self.block)

    @property
    def yields(self) -> list[Any]:
        return list(operations(self.block)[-1].operands)

    def of(self, value: Any) -> Numbers:
        """The carried values that ``value`` depends on; none for a value from outside."""
        return self._known.get(value, _NONE)

    def copy(self, value: Any, other: Any) -> None:
        """``other`` stands for ``value`` from now on."""
        if value in self._known:
            self._known[other] = self._known[value]

    # -- all values, front to back ---------------------------------------------
    def _inside(self, block: Any) -> None:
        for op in operations(block):
            self._operation(op)

    def _operation(self, op: Any) -> None:
        if op.name == "scf.if":
            self._if(op)
        elif op.name == "scf.for":
            self._for(op)
        elif len(op.regions):
            self._region(op)
        else:
            self._set(op.results, self._union(op.operands))

    def _set(self, values: Any, numbers: Numbers) -> None:
        if numbers:
            for value in values:
                self._known[value] = self.of(value) | numbers

    def _union(self, values: Any) -> Numbers:
        return _NONE.union(*(self.of(value) for value in values))

    def _if(self, op: Any) -> None:
        condition = self.of(op.operands[0])
        for region in op.regions:
            for block in region.blocks:
                self._inside(block)
                for result, value in zip(op.results, operations(block)[-1].operands, strict=True):
                    self._set([result], condition | self.of(value))

    def _for(self, op: Any) -> None:
        block = op.regions[0].blocks[0]
        _, *inner = block.arguments
        bounds = self._union(list(op.operands)[:3])
        self._set(block.arguments, bounds)
        ends: list[Any] = list(op.operands)[3:]
        while True:  # once more for each step that a dependence takes from one value to another
            before = [self.of(argument) for argument in inner]
            for argument, value in zip(inner, ends, strict=True):
                self._set([argument], self.of(value))
            self._inside(block)
            ends = list(operations(block)[-1].operands)
            for argument, value in zip(inner, ends, strict=True):
                self._set([argument], self.of(value))
            if before == [self.of(argument) for argument in inner]:
                break
        for result, argument in zip(op.results, inner, strict=True):
            self._set([result], self.of(argument) | bounds)

    def _region(self, op: Any) -> None:
        """Any other operation with regions: each value inside depends on all that is used."""
        used = self._union(op.operands)
        for child in nested(op):
            used |= self._union(child.operands)
        self._set(op.results, used)
        for region in op.regions:
            for block in region.blocks:
                self._set(block.arguments, used)
                self._inside(block)

    # -- effects -----------------------------------------------------------------
    def effects(self) -> Iterator[tuple[Any, Numbers]]:
        """Operations of the body that do more than compute, with what they depend on."""
        for op in nested(self.loop):
            if not is_effect(op):
                continue
            numbers = self._union(op.operands) | self._control(op)
            yield op, self._exactly(op) if numbers else numbers

    def _control(self, op: Any) -> Numbers:
        numbers = _NONE
        while (op := op.parent) is not None and op != self.loop:
            numbers |= self._decides(op)
        return numbers

    def _decides(self, op: Any) -> Numbers:
        """What it depends on whether, and how often, the regions of ``op`` are executed."""
        if op.name == "scf.if":
            return self.of(op.operands[0])
        if op.name == "scf.for":
            return self._union(list(op.operands)[:3])
        if op.name == "scf.parallel":
            return self._union(op.operands)
        return self._union(value for child in nested(op) for value in child.operands)

    def _exactly(self, op: Any) -> Numbers:
        """As far as the conditions around ``op`` leave it open which values reach it."""
        facts: Facts = {}
        around, numbers = op, _NONE
        while (parent := around.parent) is not None and parent != self.loop:
            if parent.name == "scf.if":
                facts[parent.operands[0]] = around.block == parent.regions[0].blocks[0]
            else:
                numbers |= self._decides(parent)
            around = parent
        for condition in list(facts):
            others = {c: truth for c, truth in facts.items() if c != condition}
            numbers |= self.under(condition, others)
        return numbers.union(*(self.under(value, facts) for value in op.operands))

    def under(self, value: Any, facts: Facts, depth: int = _DEPTH) -> Numbers:
        """`of`, where only those choices are possible that agree with ``facts``."""
        op = owner(value)
        if not self.of(value) or op is None or not depth:
            return self.of(value)
        arms = choice_arms(value)
        if arms is not None:
            condition, yes, no = arms
            if condition in facts:
                return self.under(yes if facts[condition] else no, facts, depth - 1)
            both = (condition, yes, no)
            return _NONE.union(*(self.under(v, facts, depth - 1) for v in both))
        if len(op.regions):
            return self.of(value)
        return _NONE.union(*(self.under(v, facts, depth - 1) for v in op.operands))


def choice_arms(value: Any) -> tuple[Any, Any, Any] | None:
    """(condition, value if true, value if false) of the result of a choice, else None."""
    op = owner(value)
    if op is None:
        return None
    if op.name == "arith.select":
        condition, yes, no = op.operands
        return condition, yes, no
    if op.name == "scf.if":
        number = mlir.ir.OpResult(value).result_number
        yes, no = (operations(region.blocks[0])[-1].operands[number] for region in op.regions)
        return op.operands[0], yes, no
    return None


def is_effect(op: Any) -> bool:
    """Whether an operation does more than compute its results (its regions left aside)."""
    name = op.name
    if name in _STRUCTURE or name in _ENDS or name.startswith("numba.expr"):
        return False
    return not (is_pure_name(name) or name == "memref.load")
