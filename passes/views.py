"""Arrays that are views of others, and views that are the whole array again.

``a[:]`` is a value of its own in Numba's IR, but element i of it is element i of ``a``.
An expression is such a whole view when it has the unit attribute ``whole``, or when it
indexes its base with nothing but ``:`` and ``...`` and has its base's type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import ACCESSES, is_ref, nested, owner

#: a view, with where its elements are in its base (`windows`)
WINDOW = "numba.window"
#: operations whose result shares the memory of their first operand
VIEW_OPS = frozenset(
    "memref." + name
    for name in (
        "cast", "subview", "reinterpret_cast", "expand_shape", "collapse_shape", "transpose",
        "view", "memory_space_cast",
    )
) | {WINDOW}  # fmt: skip

_SLICE = "Function(<class 'slice'>)"
_ELLIPSIS = "ellipsis"
_NONE = "none"


def view_base(value: Any) -> Any | None:
    """The memref that ``value`` is a view of, or None when it is no view."""
    op = owner(value)
    if op is None:
        return None
    if op.name in VIEW_OPS:
        return op.operands[0]
    if op.name.startswith("numba.expr") and "view_of" in op.attributes:
        return op.operands[op.attributes["view_of"].value]
    return None


def whole_base(value: Any) -> Any:
    """The array that ``value`` is the whole of: itself, or the base of whole views."""
    while (base := view_base(value)) is not None and _is_whole(owner(value), base):
        value = base
    return value


def use_bases(loop: Any) -> None:
    """Let all accesses inside ``loop`` use arrays themselves instead of whole views."""
    for op in nested(loop):
        position = 0 if op.name == "memref.dim" else ACCESSES.get(op.name)
        if position is not None:
            base = whole_base(op.operands[position])
            if base != op.operands[position]:
                op.operands[position] = base


def access_instead(op: Any, array: Any, indices: Sequence[Any]) -> Any:
    """The access ``op`` at ``indices`` of another array; replaces it."""
    operands = list(op.operands)[: ACCESSES[op.name]]
    kinds = [result.type for result in op.results]
    with mlir.ir.InsertionPoint(op), op.location:
        new = mlir.ir.Operation.create(op.name, kinds, [*operands, array, *indices])
    for old, result in zip(op.results, new.results, strict=True):
        old.replace_all_uses_with(result)
    op.erase()
    return new


def axes_of_view(value: Any) -> list[Any | None] | None:
    """Which elements of its base a view such as ``x[:, k]`` is; None for any other value.

    For each axis of the base None where the view has it in full, else the integer at which
    it is indexed (a 64-bit one, to which Python's rule for negative subscripts applies).
    """
    op, base = owner(value), view_base(value)
    if op is None or base is None or op.name in VIEW_OPS or len(op.operands) != 2:
        return None
    index = op.operands[1]
    if op.operands[0] != base or base.type.rank == value.type.rank:
        return None
    members = [index] if str(index.type) == "i64" else _tuple_members(index)
    found = [_axis(member) for member in members]
    if not members or len(found) > base.type.rank or any(axis is False for axis in found):
        return None
    found += [None] * (base.type.rank - len(found))
    return found if sum(axis is None for axis in found) == value.type.rank else None


def _tuple_members(index: Any) -> list[Any]:
    op = owner(index)
    is_tuple = _key(index).startswith(("UniTuple(", "Tuple("))
    return list(op.operands) if op is not None and is_tuple else []


def _axis(member: Any) -> Any | bool | None:
    """None for ``:``, an integer for itself, False for anything else."""
    if str(member.type) == "i64":
        return member
    return None if _key(member) != _ELLIPSIS and _takes_everything(member) else False


def _is_whole(op: Any, base: Any) -> bool:
    if op.results[0].type != base.type:
        return False
    if "whole" in op.attributes:
        return True
    operands = list(op.operands)
    is_getitem = len(operands) == 2 and operands[0] == base and is_ref(operands[1])
    return is_getitem and _takes_everything(operands[1])


def _takes_everything(index: Any) -> bool:
    """Whether an index is ``:``, ``...``, or a tuple of these."""
    if _key(index) == _ELLIPSIS:
        return True
    op = owner(index)
    if op is None or not op.name.startswith("numba.expr") or not len(op.operands):
        return False
    keys = [_key(operand) for operand in op.operands]
    if keys[0] == _SLICE:
        return len(keys) > 2 and all(key == _NONE for key in keys[1:])
    is_tuple = _key(index).startswith(("UniTuple(", "Tuple("))
    return is_tuple and all(_takes_everything(member) for member in op.operands)


def _key(value: Any) -> str:
    """The Numba type that a ``!numba.ref`` names; "" for other types."""
    return str(value.type).removeprefix('!numba.ref<"').removesuffix('">') if is_ref(value) else ""
