"""When are two sizes or indices equal?  Structural keys and run-time equalities.

The key of an integer value looks through index casts, ``memref.dim`` of a fresh
allocation (its size operand), pure ``arith`` expressions and ``numba.broadcast``.
`Equalities` adds what ``numba.assert_equal`` operations establish; the caller says which
of them hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numba_mlir.passes.shapes import BROADCAST, reduced, sizes_of_axis
from numba_mlir.passes.values import constant_int, owner, strip_casts

Key = tuple[Any, ...]

#: nested expressions deeper than this are compared by identity
MAX_DEPTH = 8


class Equalities:
    """Equality classes of integer values under a set of ``numba.assert_equal``."""

    def __init__(self, asserts: Iterable[Any] = ()) -> None:
        self._parent: dict[Key, Key] = {}
        for op in asserts:
            self.add(op)

    def add(self, op: Any) -> None:
        """Take the sizes of one ``numba.assert_equal`` as equal."""
        first, *others = op.operands
        for other in others:
            self.unite(first, other)

    def unite(self, left: Any, right: Any) -> None:
        """Take two values as equal."""
        self._union(self.key(left), self.key(right))

    def key(self, value: Any, depth: int = 0) -> Key:
        """A hashable key; equal keys mean equal values at run time."""
        return self._find(self._raw_key(strip_casts(value), depth))

    def size_key(self, array: Any, axis: int) -> Key:
        """The key of ``array``'s size along ``axis``."""
        size = dimension(array, axis)
        if isinstance(size, int):
            return self._find(("constant", size))
        return self._find(("dim", array, axis)) if size is None else self.key(size)

    def equal(self, left: Iterable[Any], right: Iterable[Any]) -> bool:
        """Whether two lists of values are equal, element by element."""
        left, right = list(left), list(right)
        return len(left) == len(right) and all(
            a == b or self.key(a) == self.key(b) for a, b in zip(left, right, strict=True)
        )

    def _raw_key(self, value: Any, depth: int) -> Key:
        constant = constant_int(value)
        if constant is not None:
            return ("constant", constant)
        op = owner(value)
        if op is None or depth > MAX_DEPTH:
            return ("value", value)
        if op.name == "memref.dim":
            axis = constant_int(op.operands[1])
            return ("value", value) if axis is None else self.size_key(op.operands[0], axis)
        if op.name == BROADCAST:
            return self._common_key(op, value.result_number, depth)
        if _is_structural(op):
            operands = tuple(self.key(operand, depth + 1) for operand in op.operands)
            return (op.name, str(value.type), _attributes(op), *operands)
        return ("value", value)

    def _common_key(self, op: Any, axis: int, depth: int) -> Key:
        """Of a common size: the set of sizes that it is common to, or the one that it is."""
        leaves: set[Key] = set()
        for size in sizes_of_axis(op, axis):
            key = self.key(size, depth + 1)
            leaves |= key[1] if key[0] == "common" else {key}
        kept = reduced(leaves, lambda key: key[1] if key[0] == "constant" else None)
        return next(iter(kept)) if len(kept) == 1 else ("common", kept)

    def _find(self, key: Key) -> Key:
        while (parent := self._parent.get(key)) is not None:
            key = parent
        return key

    def _union(self, left: Key, right: Key) -> None:
        left, right = self._find(left), self._find(right)
        if left == right:
            return
        if left[0] == "constant":
            left, right = right, left
        self._parent[left] = right


def dimension(array: Any, axis: int) -> Any | int | None:
    """Size of ``array`` along ``axis``: a constant, a size operand, or None (unknown)."""
    type_ = array.type
    if not 0 <= axis < type_.rank:
        return None
    if not type_.is_dynamic_dim(axis):
        return int(type_.shape[axis])
    op = owner(array)
    if op is None or op.name != "memref.alloc":
        return None
    return op.operands[sum(type_.is_dynamic_dim(i) for i in range(axis))]


def _is_structural(op: Any) -> bool:
    """Whether equal operands and attributes make equal results."""
    if op.name == "numba.wrap_index":
        return True
    return op.name.startswith("arith.") and op.name != "arith.constant" and len(op.results) == 1


def _attributes(op: Any) -> str:
    return str({name: str(op.attributes[name]) for name in op.attributes})


def dominators(region: Any) -> dict[Any, set[Any]]:
    """For each block of ``region``, the blocks that strictly dominate it."""
    blocks = list(region.blocks)
    if len(blocks) <= 1:
        return {block: set() for block in blocks}
    everything = set(blocks)
    result = {block: set(everything) for block in blocks}
    result[blocks[0]] = {blocks[0]}
    predecessors = {block: list(block.predecessors) for block in blocks}
    changed = True
    while changed:
        changed = False
        for block in blocks[1:]:
            incoming = [result[p] for p in predecessors[block]]
            new = (set.intersection(*incoming) if incoming else set()) | {block}
            if new != result[block]:
                result[block], changed = new, True
    return {block: found - {block} for block, found in result.items()}


def asserts_in(block: Any) -> list[Any]:
    """The ``numba.assert_equal`` operations directly in ``block``, in order."""
    return [op.operation for op in block.operations if op.operation.name == ASSERT]


def is_known(op: Any) -> bool:
    """Whether ``op`` says that sizes are equal without testing it: a fact, and no code."""
    return op.name == ASSERT and "known" in op.attributes


ASSERT = "numba.assert_equal"

__all__ = ["ASSERT", "Equalities", "Key", "asserts_in", "dimension", "dominators", "is_known"]
