"""Carried values that are seen only where no iteration ever changes them.

In

    for i in prange(n):
        if mode == 1:
            t = a[i]
        elif mode == 2:
            t = b[i]
        out[i] = t

an iteration sees ``t`` of the one before only where ``mode`` is neither, and then none changes
it.  The same holds for what a loop inside assigns, whose bounds are the same in all
iterations: it is seen only where that loop makes no trip.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.carried import Dependences, choice_arms
from numba_mlir.passes.effects import is_pure_name
from numba_mlir.passes.values import defined_inside, operations, owner


def use_values_before(loop: Any) -> None:
    """Let iterations use the value before the loop where it is all they can see."""
    deps = Dependences(loop)
    for number, argument in enumerate(deps.arguments):
        chain = _Chain(deps, argument)
        value = deps.yields[number]
        if value != argument and chain.keeps(value) and chain.is_private(value):
            argument.replace_all_uses_with(loop.operands[3 + number])


class _Chain:
    """The choices by which a carried value goes on to the next iteration unchanged."""

    def __init__(self, deps: Dependences, argument: Any) -> None:
        self._deps, self._argument = deps, argument
        (self._number,) = deps.of(argument)
        self._values: list[Any] = [argument]
        #: operations that may use values of the chain, and terminators that hand them on
        self._users: set[Any] = set()

    def keeps(self, value: Any) -> bool:
        """Whether ``value`` is either new or, under conditions that are the same in all
        iterations, the value so far."""
        if value == self._argument or self._number not in self._deps.of(value):
            return True
        op = owner(value)
        arms = choice_arms(value)
        if op is None:
            return False
        if arms is not None:
            condition, *sides = arms
            if self._varies(condition) or not all(map(self.keeps, sides)):
                return False
            self._users.update(operations(region.blocks[0])[-1] for region in op.regions)
        elif op.name == "scf.for":
            number = mlir.ir.OpResult(value).result_number
            block = op.regions[0].blocks[0]
            inner, end = block.arguments[1 + number], operations(block)[-1].operands[number]
            if any(map(self._varies, list(op.operands)[:3])) or list(inner.uses):
                return False
            if self._number in self._deps.of(end) or not self.keeps(op.operands[3 + number]):
                return False
        else:
            return False
        self._users.add(op)
        self._values.append(value)
        return True

    def is_private(self, last: Any) -> bool:
        """Whether nothing but the chain uses its values, up to ``last``."""
        return all(
            use.owner.operation in self._users
            for value in self._values
            if value != last
            for use in value.uses
        )

    def _varies(self, value: Any) -> bool:
        """Whether ``value`` may differ from one iteration to another."""
        if not defined_inside(value, self._deps.loop):
            return False
        op = owner(value)
        if op is None or len(op.regions) or not is_pure_name(op.name):
            return True
        return any(map(self._varies, op.operands))
