"""Accesses to parts of arrays become accesses to the arrays themselves.

A part of a contiguous array has run-time strides; the array's own last one is known, which
the vectoriser needs.  Where an element of a part is in its base says

1. the attribute ``window`` of a view: two numbers for each axis of the base, the view's axis
   (-1 for none) and what to add to its index;
2. ``numba.window(view, start, ...)`` with ``axes`` and ``steps``, for any start and step:
   the index is ``start + step * i``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import index
from numba_mlir.passes.values import ACCESSES, constant_int, nested, owner
from numba_mlir.passes.views import WINDOW, access_instead, view_base


def look_through_windows(function: Any) -> None:
    """Let all accesses in ``function`` use bases, and remove ``numba.window``."""
    for op in list(nested(function)):
        if op.name in ACCESSES:
            while (view := owner(op.operands[ACCESSES[op.name]])) is not None:
                if view.name != WINDOW and "window" not in view.attributes:
                    break
                op = _through(op, view)
    for op in list(nested(function)):
        if op.name == WINDOW:
            op.result.replace_all_uses_with(op.operands[0])
            op.erase()


def _through(op: Any, view: Any) -> Any:
    """The access ``op`` by the base of ``view``; replaces it."""
    inside = list(op.operands)[ACCESSES[op.name] + 1 :]
    with mlir.ir.InsertionPoint(op), op.location:
        base, indices = _parts(view, inside) if view.name == WINDOW else _constant(view, inside)
    return access_instead(op, base, indices)


def _constant(view: Any, inside: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The base of a view with the attribute ``window``, and the indices there."""
    where = list(view.attributes["window"])
    pairs = zip(where[::2], where[1::2], strict=True)
    indices = [
        index(offset) if axis < 0 else _plus(index(offset) if offset else None, inside[axis])
        for axis, offset in pairs
    ]
    return view.operands[view.attributes["view_of"].value], indices


def _parts(window: Any, inside: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The base of the view of a ``numba.window``, and the indices there."""
    view, *starts = window.operands
    axes, steps = (list(window.attributes[name]) for name in ("axes", "steps"))
    indices: list[Any] = []
    for start, axis, step in zip(starts, axes, steps, strict=True):
        if axis < 0:
            indices.append(start)
        elif step == 1:
            indices.append(_plus(None if constant_int(start) == 0 else start, inside[axis]))
        else:
            scaled = mlir.arith.muli(inside[axis], index(step))
            indices.append(mlir.arith.addi(start, scaled))
    base = view_base(view)
    assert base is not None
    return base, indices


def _plus(start: Any | None, iv: Any) -> Any:
    return iv if start is None else mlir.arith.addi(iv, start)
