"""Calls that give arrays of known sizes, and arrays that nobody else has.

Both are facts beside a call that is kept as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from numba_mlir.converters import arrays, elementwise
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import hashable
from numba_mlir.converters.slots import MISSING, Env, Slot

#: functions of a shape, and of an array that has the shape
_OF_SHAPE = frozenset({np.empty, np.zeros, np.ones, np.full})
_LIKE = frozenset({np.empty_like, np.zeros_like, np.ones_like, np.full_like, np.copy})
_OTHERS = frozenset({np.arange, np.linspace, np.eye, np.identity, np.array})
#: methods of arrays
_COPIES = frozenset({"array.copy", "array.astype"})
_RESHAPE = "array.reshape"


def is_fresh(frame: Frame, env: Env, expr: Any) -> bool:
    """Whether a call returns an array that shares memory with no other."""
    function = _function(env, expr)
    return function in _OF_SHAPE | _LIKE | _OTHERS or _method(frame, expr) in _COPIES


def sizes(frame: Frame, env: Env, expr: Any, rank: int) -> tuple[Any, ...] | None:
    """The sizes of the array that a call returns, None for those that are not known."""
    found = _sizes(frame, env, expr)
    return found if found is not None and len(found) == rank else None


def _sizes(frame: Frame, env: Env, expr: Any) -> tuple[Any, ...] | None:
    function, method = _function(env, expr), _method(frame, expr)
    first = env.get(expr.args[0].name) if expr.args else None
    if function in _OF_SHAPE:
        members = arrays.subscripts_of(first)
        return None if members is None else tuple(frame.size(member) for member in members)
    if function in _LIKE and first is not None and arrays.is_native(first):
        return elementwise.sizes(frame, first)
    if method in _COPIES:
        return frame.use(env, expr.func.name).sizes  # its owner's
    if method == _RESHAPE:
        shape = arrays.subscripts_of(first) if len(expr.args) == 1 else None
        members = shape or [env.get(arg.name) for arg in expr.args]
        return tuple(_literal_size(frame, member) for member in members)
    return None


def _function(env: Env, expr: Any) -> Any:
    callee = env.get(expr.func.name)
    return callee.python if callee is not None and hashable(callee.python) else MISSING


def _method(frame: Frame, expr: Any) -> str | None:
    """The key of a method of an array, such as "array.copy"."""
    callee = frame.type_of(expr.func.name)
    if not isinstance(callee, types.BoundFunction) or not isinstance(callee.this, types.Array):
        return None
    return callee.typing_key if isinstance(callee.typing_key, str) else None


def _literal_size(frame: Frame, slot: Slot | None) -> Any | None:
    if slot is None or not isinstance(slot.type, types.IntegerLiteral):
        return None
    number = slot.type.literal_value
    return frame.index_constant(number) if number >= 0 else None
