"""Tests of sizes inside loops, in a form that does not multiply the machine code.

LLVM makes a copy of a loop for each value of a condition that does not change inside it
(unswitching): ``select(n == 1, 0, i)`` with k different sizes means up to 2**k copies.

1. An outer index: ``i & m``, where ``m`` is computed once in front of the loop, 0 where n
   is 1 and all bits set elsewhere.  No copies, and one operation for each inner loop.
2. The innermost index, few sizes: as it is.  The copies are what vectorises the loop.
3. The innermost index, more than ``limit`` sizes: ``select(any of them == 1, min(i, n - 1),
   i)``.  Two copies; one of them is for the case that nothing is stretched.  (LLVM would
   turn ``select(c, i & m, i)`` into ``i & select(c, m, -1)``, and make no copy.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.shapes import tested_size, tests
from numba_mlir.passes.values import nested

#: tests of the innermost index that are left to LLVM, in a loop and in a loop of which
#: there is a version for equal sizes
LIMIT, SLOW_LIMIT = 3, 1


def mask_tests(function: Any, slow: Sequence[Any]) -> None:
    """Rewrite the tests of all loops in ``function``; ``slow`` are blocks of slow versions."""
    for loop in [op for op in nested(function) if op.name == "scf.parallel"]:
        _Loop(loop).rewrite(SLOW_LIMIT if loop.block in slow else LIMIT)


class _Loop:
    """The tests of one loop, and what is computed in front of it."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._innermost = list(loop.regions[0].blocks[0].arguments)[-1]
        self._tests = [select for select, _ in tests(loop)]
        self._masks: dict[Any, Any] = {}
        self._last: dict[Any, Any] = {}

    def rewrite(self, limit: int) -> None:
        inner = [select for select in self._tests if select.operands[2] == self._innermost]
        conditions = list(dict.fromkeys(select.operands[0] for select in inner))
        for select in self._tests:
            if select not in inner:
                _replace(select, self._masked(select))
        if len(conditions) > limit:
            any_ = self._any(conditions)
            for select in inner:
                _replace(select, self._bounded(select, any_))

    def _masked(self, select: Any) -> Any:
        """``i & m`` in front of ``select``."""
        condition, zero, iv = select.operands
        mask = self._masks.get(condition)
        if mask is None:
            with mlir.ir.InsertionPoint(self._loop), self._loop.location:
                ones = mlir.arith.constant(mlir.ir.IndexType.get(), -1)
                mask = self._masks[condition] = mlir.arith.select(condition, zero, ones)
        with mlir.ir.InsertionPoint(select), select.location:
            return mlir.arith.andi(iv, mask)

    def _bounded(self, select: Any, any_: Any) -> Any:
        """``select(any, min(i, n - 1), i)`` in front of ``select``."""
        condition, _, iv = select.operands
        last = self._last.get(condition)
        if last is None:
            with mlir.ir.InsertionPoint(self._loop), self._loop.location:
                one = mlir.arith.constant(mlir.ir.IndexType.get(), 1)
                last = mlir.arith.subi(tested_size(condition), one)
                self._last[condition] = last
        with mlir.ir.InsertionPoint(select), select.location:
            return mlir.arith.select(any_, mlir.arith.minui(iv, last), iv)

    def _any(self, conditions: Sequence[Any]) -> Any:
        first, *others = conditions
        with mlir.ir.InsertionPoint(self._loop), self._loop.location:
            for condition in others:
                first = mlir.arith.ori(first, condition)
        return first


def _replace(select: Any, value: Any) -> None:
    select.result.replace_all_uses_with(value)
    select.erase()
