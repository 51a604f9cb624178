"""Views with the axes of an array in another order, or with axes of size 1 more or fewer.

``a.T``, ``np.transpose``, ``np.expand_dims``, and ``reshape`` and ``ravel`` where the sizes
other than 1 stay the same ones (``s.reshape(-1, 1)``).  Such a view is kept, with the
attribute ``window`` that says where its elements are in the array (`views.window`), so that
loops access the array itself.  None of these calls can raise in the forms that are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import arrays, elementwise
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import hashable, names_read
from numba_mlir.converters.slots import MISSING, Env, Slot
from numba_mlir.dialect import UNKNOWN_VIEW

#: the number of the array's axis behind each axis of a view, None for one of size 1
Axes = Sequence["int | None"]


@dataclass(frozen=True)
class _Call:
    """A call on an array: the name of its variable, its slot, and the other arguments."""

    name: str
    array: Slot
    args: Sequence[Slot | None]


def convert(frame: Frame, env: Env, stmt: Any) -> bool:
    """Keep ``x = <such a view>`` with what is known about it; False for anything else."""
    found = _recognised(frame, env, stmt.value)
    if found is None:
        return False
    kind, name, array, axes = found
    names = names_read(stmt)
    uses = names if name in names else (*names, name)
    target = stmt.target.name
    view_of = uses.index(name)
    frame.opaque(env, stmt, uses, (target,), pure=True, view_of=view_of)
    made = frame.use(env, target)
    window = [0] * (2 * array.type.ndim)
    window[::2] = [axes.index(axis) if axis in axes else -1 for axis in range(array.type.ndim)]
    operation = made.value.owner.operation
    if kind not in _NUMBA_KNOWS:
        operation.attributes[UNKNOWN_VIEW] = mlir.ir.UnitAttr.get()
    if operation.name == f"numba.expr{len(uses)}":
        operation.attributes["window"] = mlir.ir.DenseI64ArrayAttr.get(window)
    before, one = elementwise.sizes(frame, array), frame.index_constant(1)
    known = tuple(one if axis is None else before[axis] for axis in axes)
    env[target] = Slot(made.type, made.value, sizes=known)
    return True


def _recognised(frame: Frame, env: Env, expr: Any) -> tuple[str, str, Slot, Axes] | None:
    """Which view it is, the array's variable and slot, and where its axes come from."""
    if expr.op == "getattr":
        array = env.get(expr.value.name)
        if expr.attr != "T" or not arrays.is_native(array):
            return None
        return "transpose", expr.value.name, array, range(array.type.ndim)[::-1]
    if expr.op != "call" or expr.kws or expr.vararg is not None:
        return None
    method = _method(frame, env, expr)
    found = method or _function(frame, env, expr)
    if found is None:
        return None
    kind, call = found
    axes = _RULES[kind](frame, call)
    return None if axes is None else (kind, call.name, call.array, axes)


def _method(frame: Frame, env: Env, expr: Any) -> tuple[str, _Call] | None:
    callee = frame.type_of(expr.func.name)
    if not isinstance(callee, types.BoundFunction) or not isinstance(callee.this, types.Array):
        return None
    kind = str(callee.typing_key).removeprefix("array.")
    made = frame.use(env, expr.func.name).value.owner
    if kind not in _RULES or isinstance(made, mlir.ir.Block):
        return None
    if "stmt" not in made.operation.attributes:
        return None
    record = frame.table.statements[made.operation.attributes["stmt"].value]
    array = env.get(record.uses[0]) if len(record.uses) == 1 else None
    if not arrays.is_native(array) or array.value != made.operation.operands[0]:
        return None
    return kind, _Call(record.uses[0], array, [env.get(arg.name) for arg in expr.args])


def _function(frame: Frame, env: Env, expr: Any) -> tuple[str, _Call] | None:
    callee = env.get(expr.func.name)
    function = MISSING if callee is None else callee.python
    kind = _FUNCTIONS.get(function) if hashable(function) else None
    array = env.get(expr.args[0].name) if expr.args else None
    if kind is None or not arrays.is_native(array):
        return None
    return kind, _Call(expr.args[0].name, array, [env.get(arg.name) for arg in expr.args[1:]])


# -- which axes ------------------------------------------------------------------------
def _transpose(frame: Frame, call: _Call) -> Axes | None:
    rank = call.array.type.ndim
    if not call.args:
        return range(rank)[::-1]
    axes = [_integer(member) for member in _members(call.args) or ()]
    if not all(axis is not None and -rank <= axis < rank for axis in axes):
        return None
    found = [axis % rank for axis in axes if axis is not None]
    return found if sorted(found) == list(range(rank)) else None


def _expand_dims(frame: Frame, call: _Call) -> Axes | None:
    rank = call.array.type.ndim + 1
    axis = _integer(call.args[0]) if len(call.args) == 1 else None
    if axis is None or not -rank <= axis < rank:
        return None
    axes: list[int | None] = list(range(rank - 1))
    axes.insert(axis % rank, None)
    return axes


def _ravel(frame: Frame, call: _Call) -> Axes | None:
    return None if call.args else _kept_in_order(frame, call.array, [-1])


def _reshape(frame: Frame, call: _Call) -> Axes | None:
    members = _members(call.args)
    if members is None:
        return None
    wanted = [_integer(member) for member in members]
    sizes = [
        frame.size(member) if number is None else number
        for member, number in zip(members, wanted, strict=True)
    ]
    return _kept_in_order(frame, call.array, sizes)


def _kept_in_order(frame: Frame, array: Slot, wanted: Sequence[Any]) -> Axes | None:
    """The axes behind a new shape: the same sizes in the same order, apart from ones.

    ``wanted`` are numbers, -1 among them at most once, or index values.
    """
    if array.type.layout != "C" or not _cannot_raise(wanted):
        return None
    before = elementwise.sizes(frame, array)
    rest = [axis for axis, size in enumerate(before) if arrays.constant_size(size) != 1]
    axes: list[int | None] = []
    for size in wanted:
        if isinstance(size, int) and size == 1:
            axes.append(None)
        elif rest and (
            size == -1 if isinstance(size, int) else arrays.same_size(size, before[rest[0]])
        ):
            axes.append(rest.pop(0))
        else:
            return None
    return None if rest else axes


def _cannot_raise(wanted: Sequence[Any]) -> bool:
    """Whether a size that is left to NumPy (-1) can be found for arrays without elements too."""
    others = [size for size in wanted if not (isinstance(size, int) and size == -1)]
    if len(others) == len(wanted):
        return True
    return len(others) == len(wanted) - 1 and all(isinstance(n, int) and n == 1 for n in others)


def _members(args: Sequence[Slot | None]) -> Sequence[Slot | None] | None:
    """The integers that are given one by one or as a tuple."""
    return arrays.subscripts_of(args[0]) if len(args) == 1 else args


def _integer(slot: Slot | None) -> int | None:
    if slot is None:
        return None
    if isinstance(slot.type, types.IntegerLiteral):
        return slot.type.literal_value
    return slot.python if type(slot.python) is int else None


_RULES: dict[str, Any] = {
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "ravel": _ravel,
    "reshape": _reshape,
}
#: views that share memory with the array in Numba's analysis of aliases as well
_NUMBA_KNOWS = frozenset({"transpose", "ravel", "reshape"})
_FUNCTIONS: dict[Any, str] = {
    np.transpose: "transpose",
    np.expand_dims: "expand_dims",
    np.ravel: "ravel",
    np.reshape: "reshape",
}
