"""Products of small matrices stay calls: which form runs is decided at run time.

A matrix that lies in a cache is read a second time for almost nothing, and BLAS is faster
than loops there.  So a block with products that could become loops is cut in four:

    ^block:                                   what stands in front
      %rows * %columns > %limit ? ^loops : ^calls
    ^loops:   copies of a run of operations, in which the products become loops
    ^calls:   the run as it was
    ^behind(results):                         the rest

1. The run has the products and all loops next to them that have an array in common with
   them or with each other: what could be fused still can.
2. An array that only the run uses is made in both branches, so that fusion can remove it.
3. Where something stands between the products that cannot move, and where a loop of the
   program goes over the rows of the matrix too, nothing is tested: the products are loops.

The limit in bytes: the loops save a pass over the matrix, which counts as soon as it fills a
part of the second-level cache.  Where the later product needs what the earlier one makes, a
row has to be complete before it is read again, and that pays in larger matrices only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import clone, index, size_of
from numba_mlir.passes.effects import summarise
from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.runs import runs
from numba_mlir.passes.strides import item_bytes
from numba_mlir.passes.values import ancestor_in, operations, owner
from numba_mlir.passes.versions import VERSIONS

#: attribute of a branch made here
LARGE = "numba.large"
#: of at most so many rows the sums along columns are too large for a cache; in rows of at most
#: so many columns a loop over columns costs more to begin than to run
ROWS, COLUMNS = 15, 31


@dataclasses.dataclass(frozen=True)
class Group:
    """Products (operations) that read one matrix together.

    ``dependent``: one needs the result of another.  ``lonely``: no loop of the program
    goes over rows of the matrix too.
    """

    matrix: Any
    products: tuple[Any, ...]
    dependent: bool
    lonely: bool

    @property
    def limit(self) -> int:
        """Bytes of the largest matrix for which calls are faster than loops."""
        return this_machine().l2 // (1 if self.dependent else 4)


def separate_small(block: Any, groups: Sequence[Group]) -> list[tuple[Any, int | None]]:
    """Make branches for small and large matrices; the products that shall become loops.

    These are copies in the branches for large matrices, with the limit in bytes, and what
    stands in no branch, with None.
    """
    # By equality, not in sets: the hash of an operation changes with its operands.
    products = [op for group in groups for op in group.products]
    found: list[tuple[Any, int | None]] = []
    cut: list[Any] = []
    for run in reversed(runs(block, lambda op: op.name == "scf.parallel" or op in products)):
        inside = [group for group in groups if all(op in run for op in group.products)]
        members = [op for group in inside for op in group.products]
        others = any(op in products and op not in members for op in run)
        if inside and not others and all(group.lonely for group in inside):
            copies = _Cut(block, _related(run, members)).run(inside, members)
            found += [(op, min(group.limit for group in inside)) for op in copies]
            cut += members
    return [*((op, None) for op in products if op not in cut), *found]


def calls_where_stretched(function: Any) -> None:
    """Use the calls too where loops have versions and sizes are not all equal.

        ^loops:  %equal ? ^fast : ^calls          ^fast: the version for equal sizes

    The other version is as rare as it is slow: it is not kept a second time.
    """
    for block in list(function.regions[0].blocks):
        last = operations(block)[-1]
        if LARGE in last.attributes:
            loops, calls = last.successors
            _take_apart(loops, calls)


def is_for_small(block: Any) -> bool:
    """Whether a block has the calls, and with them copies of the loops beside."""
    branches = [operations(other)[-1] for other in block.predecessors]
    return any(LARGE in op.attributes and op.successors[1] == block for op in branches)


def _take_apart(loops: Any, calls: Any) -> None:
    *body, last = operations(loops)
    versions = [op for op in body if VERSIONS in op.attributes]
    front = _needed([branch.operands[0] for branch in versions], body)
    if not versions or not all(_is_pure(op) for op in front):
        return
    fast = loops.create_after()
    for op in (*body, last):
        if op in versions:
            for inner in operations(op.regions[0].blocks[0])[:-1]:
                fast.append(inner)
        elif op not in front:
            fast.append(op)
    with mlir.ir.InsertionPoint(loops), versions[0].location:
        equal = functools.reduce(mlir.arith.andi, (branch.operands[0] for branch in versions))
        mlir.cf.CondBranchOp(equal, [], [], fast, calls)
    for branch in versions:
        branch.erase()


def _needed(values: list[Any], body: list[Any]) -> list[Any]:
    """The operations of ``body`` that ``values`` are computed by."""
    wanted: list[Any] = list(map(owner, values))
    found: list[Any] = []
    for op in reversed(body):
        if op in wanted:
            found.append(op)
            wanted += map(owner, op.operands)
    return found


def _is_pure(op: Any) -> bool:
    return not len(op.regions) and summarise(op, Provenance()).is_pure


def _related(run: list[Any], products: list[Any]) -> list[Any]:
    """The part of ``run`` with all that has an array in common with the products, or with
    what has."""
    provenance = Provenance()
    arrays = {op: {a.root for a in summarise(op, provenance).accesses} for op in run}
    for op in products:
        arrays[op] |= set(map(provenance.root, op.results))
    found = set(products)
    while True:
        common = set[Any]().union(*(arrays[op] for op in found))
        more = {op for op in run if op not in found and arrays[op] & common}
        if not more:
            break
        found |= more
    places = [place for place, op in enumerate(run) if op in found]
    return run[places[0] : places[-1] + 1]


class _Cut:
    """Cuts ``block`` at ``run``, neighbouring operations of it."""

    def __init__(self, block: Any, run: list[Any]) -> None:
        self._block = block
        before = operations(block)[: operations(block).index(run[0])]
        inside = set(run)
        self._first = run[0]
        self._ops = [*(op for op in before if self._is_only_used_in(op, inside)), *run]
        self._behind = operations(block)[operations(block).index(run[-1]) + 1 :]

    def _is_only_used_in(self, op: Any, inside: set[Any]) -> bool:
        if op.name != "memref.alloc":
            return False
        users = (use.owner.operation for use in op.result.uses)
        return all(ancestor_in(user, self._block) in inside for user in users)

    def run(self, groups: Sequence[Group], products: list[Any]) -> list[Any]:
        """Make the branches; the copies of ``products``."""
        with mlir.ir.InsertionPoint(self._first), self._first.location:
            condition = functools.reduce(mlir.arith.ori, map(_is_large, groups))
        results, uses = self._escaping()
        places = [result.location for result in results]
        kinds = [result.type for result in results]
        loops = self._block.create_after()
        calls = loops.create_after()
        behind = calls.create_after(*kinds, arg_locs=places)
        for op in self._behind:
            behind.append(op)
        for value, (user, number) in uses:
            user.operands[number] = behind.arguments[results.index(value)]
        copies = self._fill(condition, (loops, calls, behind), results)
        return [copy for op, copy in zip(self._ops, copies, strict=True) if op in products]

    def _escaping(self) -> tuple[list[Any], list[tuple[Any, tuple[Any, int]]]]:
        """Results of the run that are used elsewhere, and where each is."""
        inside = set(self._ops)
        uses = [
            (result, (use.owner.operation, use.operand_number))
            for op in self._ops
            for result in op.results
            for use in result.uses
            if ancestor_in(use.owner.operation, self._block) not in inside
        ]
        return list(dict.fromkeys(value for value, _ in uses)), uses

    def _fill(self, condition: Any, blocks: tuple[Any, Any, Any], results: list[Any]) -> list[Any]:
        loops, calls, behind = blocks
        copies: list[Any] = []
        values: dict[Any, Any] = {}
        with self._first.location:
            with mlir.ir.InsertionPoint(self._block):
                branch = mlir.cf.CondBranchOp(condition, [], [], loops, calls)
                branch.operation.attributes[LARGE] = mlir.ir.UnitAttr.get()
            with mlir.ir.InsertionPoint(loops):
                for op in self._ops:
                    copies.append(clone(op, values))
                    values |= dict(zip(op.results, copies[-1].results, strict=True))
                mlir.cf.BranchOp([values[result] for result in results], behind)
            for op in self._ops:
                calls.append(op)
            with mlir.ir.InsertionPoint(calls):
                mlir.cf.BranchOp(results, behind)
        return copies


def _is_large(group: Group) -> Any:
    """An i1: the matrix is so large that loops are faster."""
    arith = mlir.arith
    rows, columns = (size_of(group.matrix, axis) for axis in range(2))
    limit = group.limit // item_bytes(group.matrix)
    tests = (
        arith.cmpi(arith.CmpIPredicate.ugt, value, index(number))
        for value, number in ((arith.muli(rows, columns), limit), (rows, ROWS), (columns, COLUMNS))
    )
    return functools.reduce(arith.andi, tests)
