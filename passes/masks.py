"""Tests of sizes inside loops, in a form that does not multiply the machine code.

LLVM makes a copy of a loop for each value of a condition that does not change inside it
(unswitching): ``select(n == 1, 0, i)`` with k different sizes means up to 2**k copies, each
of them vectorised and unrolled.

1. An outer index: ``i & m``, where ``m`` is computed once in front of the loop: 0 where n
   is 1, all bits set elsewhere.  No copies, and one operation for each inner loop.
2. The innermost index and an array of one dimension in a loop of more: ``i * s``, where
   ``s`` is 0 where n is 1 and 1 elsewhere.  LLVM vectorises the loop for a step of 1, tests
   the step in front of it, and keeps the plain loop for the other case.
3. The innermost index and few sizes: as it is.  Each copy is vectorised, so that columns,
   whose last size is 1, are as fast as anything else.
4. The innermost index and more than ``limit`` sizes: as in case 2.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.shapes import tests

#: sizes of the innermost index that are left to LLVM, in a loop and in a loop of which
#: there is another version for equal sizes
LIMIT, SLOW_LIMIT = 3, 1


def mask_tests(loop: Any, limit: int = LIMIT) -> None:
    """Rewrite the tests of an ``scf.parallel`` that has been simplified."""
    *outer, innermost = loop.regions[0].blocks[0].arguments
    inner: list[Any] = []
    factors = _Factors(loop)
    for select, _ in tests(loop):
        if select.operands[2] != innermost:
            _replace(select, mlir.arith.andi, factors.of(select, -1))
        elif outer and _reads_vectors(select):
            _replace(select, mlir.arith.muli, factors.of(select, 1))
        else:
            inner.append(select)
    if len({select.operands[0] for select in inner}) > limit:
        for select in inner:
            _replace(select, mlir.arith.muli, factors.of(select, 1))


class _Factors:
    """``select(n == 1, 0, number)``, each computed once in front of the loop."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._made: dict[tuple[Any, int], Any] = {}

    def of(self, select: Any, number: int) -> Any:
        condition, zero, _ = select.operands
        found = self._made.get((condition, number))
        if found is None:
            with mlir.ir.InsertionPoint(self._loop), self._loop.location:
                other = mlir.arith.constant(mlir.ir.IndexType.get(), number)
                found = mlir.arith.select(condition, zero, other)
            self._made[condition, number] = found
        return found


def _reads_vectors(select: Any) -> bool:
    """Whether a test is for arrays of one dimension."""
    users = [use.owner.operation for use in select.result.uses]
    return all(op.name == "memref.load" and len(op.operands) == 2 for op in users)


def _replace(select: Any, operation: Any, factor: Any) -> None:
    with mlir.ir.InsertionPoint(select), select.location:
        select.result.replace_all_uses_with(operation(select.operands[2], factor))
    select.erase()
