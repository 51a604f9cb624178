"""Removal of arrays that nobody reads any more, once their loads are forwarded.

A fresh allocation goes, with its stores, when all its uses are stores into it.  Before,
sizes read from it are replaced by the operands it was made with, and kept expressions
on it that nobody uses are dropped.  Under a run-time test the allocation is needed by
the original loops only: it moves into their branch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.keys import dimension
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import (
    ancestor_in,
    constant_int,
    definition,
    nested,
    owner,
    variable_name,
)


def stored_allocations(loop: Any, provenance: Provenance) -> list[Any]:
    """The results of ``memref.alloc`` that are written inside ``loop``, in order."""
    found: dict[Any, None] = {}
    for op in nested(loop):
        if op.name == "memref.store":
            array = provenance.root(op.operands[1]).value
            definer = owner(array)
            if definer is not None and definer.name == "memref.alloc":
                found.setdefault(array)
    return list(found)


def remove_unread(allocations: Iterable[Any], branch: Any | None = None) -> list[str | None]:
    """Remove those ``allocations`` that nobody reads.

    Returns the names of the user's variables that held them, None for Numba's own.

    ``branch`` is the ``scf.if`` of a run-time test around the fused loop: an array that
    only its else branch reads is allocated there.
    """
    removed: list[str | None] = []
    for array in allocations:
        replace_sizes(array)
        _drop_unused_expressions(array)
        name = variable_name(array)
        if _remove(array) or (branch is not None and _sink(array, branch)):
            removed.append(name)
    return removed


def replace_sizes(array: Any) -> None:
    """Replace ``memref.dim`` of a fresh array by the sizes that it was made with."""
    for op in _users(array):
        axis = constant_int(op.operands[1]) if op.name == "memref.dim" else None
        size = None if axis is None else dimension(array, axis)
        if size is None:
            continue
        if isinstance(size, int):
            with mlir.ir.InsertionPoint(op), op.location:
                size = mlir.arith.constant(op.result.type, size)
        op.result.replace_all_uses_with(size)
        op.erase()


def _drop_unused_expressions(array: Any) -> None:
    for op in _users(array):
        is_expression = op.name.startswith("numba.expr") or op.name == "memref.dim"
        if is_expression and not any(list(result.uses) for result in op.results):
            op.erase()


def _users(array: Any) -> list[Any]:
    return list({use.owner.operation: None for use in array.uses})


def _is_store_into(op: Any, array: Any) -> bool:
    return op.name == "memref.store" and op.operands[1] == array


def _remove(array: Any) -> bool:
    users = _users(array)
    if not all(_is_store_into(op, array) for op in users):
        return False
    for op in users:
        op.erase()
    definition(array).erase()
    return True


def _sink(array: Any, branch: Any) -> bool:
    """Move an array's allocation into the else branch when only that reads it."""
    fused, original = (region.blocks[0] for region in branch.regions)
    inside = {op: ancestor_in(op, fused) is not None for op in _users(array)}
    if not all(within or ancestor_in(op, original) is not None for op, within in inside.items()):
        return False
    stores = [op for op, within in inside.items() if within]
    if not all(_is_store_into(op, array) for op in stores):
        return False
    for op in stores:
        op.erase()
    definition(array).move_before(original.operations[0].operation)
    return True
