"""Two versions of neighbouring loops: one for the case that no size is stretched.

Loops over the common shapes of different arrays have different bounds, so they cannot be
fused, although nearly always all sizes are equal.  Where equal sizes would make bounds
equal, neighbouring loops become

    scf.if %all sizes are equal { the loops with equal bounds and without tests }
    else { the loops as they were }

1. Operations between the loops that may go in front of them do (`runs`).
2. Two sizes belong together when a loop tests one of them against a bound that is the
   other, or when the bound is a common size of the other.
3. Arrays that only these loops use are allocated in both branches, so that fusion can
   remove them from the first.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.runs import runs
from numba_mlir.passes.shapes import broadcast_axis, sizes_of_axis, tested_size, tests
from numba_mlir.passes.values import (
    ancestor_in,
    constant_int,
    defined_inside,
    loop_indices,
    nested,
    operations,
    owner,
)

#: attribute of an ``scf.if`` made here
VERSIONS = "numba.versions"
_PARALLEL = "scf.parallel"


def make_versions(function: Any) -> list[Any]:
    """Make versions in all blocks of ``function``; the new ``scf.if`` operations."""
    blocks = [block for region in function.regions for block in region.blocks]
    return [made for block in blocks for run in runs(block, _is_loop) if (made := _version(run))]


def _is_loop(op: Any) -> bool:
    return op.name == _PARALLEL and not len(op.results)


class _Groups:
    """Sizes that are equal where nothing is stretched (union-find)."""

    def __init__(self, loops: list[Any]) -> None:
        self._parent: dict[Any, Any] = {}
        for outer in loops:
            for loop in _with_inner(outer):
                # sizes known in front of the loops
                for bound in bounds(loop):
                    if not defined_inside(bound, outer):
                        self._add(bound)
                for select, bound in tests(loop):
                    size = tested_size(select.operands[0])
                    if not (defined_inside(size, outer) or defined_inside(bound, outer)):
                        self._union(size, bound)

    def _add(self, size: Any) -> None:
        if size in self._parent:
            return
        self._parent[size] = size
        axis = broadcast_axis(size)
        if axis is not None:
            for leaf in sizes_of_axis(*axis):
                if constant_int(leaf) != 1:
                    self._union(leaf, size)

    def knows(self, size: Any) -> bool:
        return size in self._parent

    def have_both(self, size: Any, other: Any) -> bool:
        """Whether two sizes are known to be of one group."""
        return self.knows(size) and self.knows(other) and self.find(size) == self.find(other)

    def find(self, size: Any) -> Any:
        """What stands for the group of a size that is known."""
        while self._parent[size] != size:
            size = self._parent[size]
        return size

    def _union(self, left: Any, right: Any) -> None:
        self._add(left)
        self._add(right)
        left, right = self.find(left), self.find(right)
        if left != right:
            self._parent[left] = right

    def members(self) -> list[list[Any]]:
        """The groups, each without common sizes, which follow from the others."""
        groups: dict[Any, list[Any]] = {}
        for size in self._parent:
            if broadcast_axis(size) is None:
                groups.setdefault(self.find(size), []).append(size)
        return list(groups.values())

    def representatives(self) -> dict[Any, Any]:
        """For each group's root, the size that stands for all: a constant where there is one."""
        return {
            self.find(group[0]): next((s for s in group if constant_int(s) is not None), group[0])
            for group in self.members()
        }


def bounds(loop: Any) -> list[Any]:
    """The upper bounds of an ``scf.parallel`` or ``scf.for``."""
    rank = len(loop_indices(loop))
    return list(loop.operands)[rank : 2 * rank]


def _with_inner(loop: Any) -> list[Any]:
    """A loop and the plain ones inside it: reductions of rows."""
    return [loop, *(op for op in nested(loop) if op.name == "scf.for")]


def _version(run: list[Any]) -> Any | None:
    """Replace the loops of ``run`` by two versions where the first one has fewer bounds."""
    groups = _Groups(run)
    chosen = groups.representatives()
    before = {tuple(bounds(loop)) for loop in run}
    after = {tuple(groups.find(size) for size in bounds(loop)) for loop in run}
    if len(after) == len(before):
        return None
    with mlir.ir.InsertionPoint(run[0]), run[0].location:
        condition = _all_equal(groups)
        if condition is None:  # bounds that are equal by what is known already
            return None
        branch = _branch(condition, run)
    _move_allocations(branch)
    for op in operations(branch.regions[0].blocks[0]):
        _assume_equal(op, groups, chosen)
    return branch


def _all_equal(groups: _Groups) -> Any | None:
    """An i1: all sizes of each group are equal; None where no group has two."""
    arith = mlir.arith
    condition = None
    for first, *others in groups.members():
        for other in others:
            test = arith.cmpi(arith.CmpIPredicate.eq, other, first)
            condition = test if condition is None else arith.andi(condition, test)
    return condition


def _branch(condition: Any, run: list[Any]) -> Any:
    ir = mlir.ir
    attributes = {VERSIONS: ir.UnitAttr.get()}
    branch = ir.Operation.create("scf.if", operands=[condition], attributes=attributes, regions=2)
    first, second = (ir.Block.create_at_start(region) for region in branch.regions)
    with ir.InsertionPoint(first):
        for loop in run:
            loop.clone()
        ir.Operation.create("scf.yield")
    with ir.InsertionPoint(second):
        end = ir.Operation.create("scf.yield")
    for loop in run:
        loop.move_before(end)
    return branch


def _assume_equal(op: Any, groups: _Groups, chosen: dict[Any, Any]) -> None:
    """Drop the tests of a loop, and take the same value for equal sizes."""
    for one in _with_inner(op):
        if one.name in (_PARALLEL, "scf.for"):
            for select, bound in tests(one):
                size = tested_size(select.operands[0])
                if groups.have_both(size, bound):
                    select.result.replace_all_uses_with(select.operands[2])
        for number, size in enumerate(one.operands):
            if groups.knows(size):
                one.operands[number] = chosen[groups.find(size)]


def _move_allocations(branch: Any) -> None:
    """Allocate an array that only the two branches use in each of them."""
    blocks = [region.blocks[0] for region in branch.regions]
    used = dict.fromkeys(value for op in nested(branch) for value in op.operands)
    for value in used:
        op = owner(value)
        if op is None or op.name != "memref.alloc" or op.block != branch.block:
            continue
        places: list[list[tuple[Any, int]]] = [[] for _ in blocks]
        for use in value.uses:
            user = use.owner.operation
            inside = [ancestor_in(user, block) is not None for block in blocks]
            if not any(inside):
                break
            places[inside.index(True)].append((user, use.operand_number))
        else:
            _allocate_in(op, blocks, places)


def _allocate_in(op: Any, blocks: list[Any], places: list[list[tuple[Any, int]]]) -> None:
    for block, uses in zip(blocks, places, strict=True):
        with mlir.ir.InsertionPoint.at_block_begin(block):
            new = op.clone().operation
        for user, number in uses:
            user.operands[number] = new.result
    op.erase()
