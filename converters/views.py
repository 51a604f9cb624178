"""Views by basic indexing: which elements, and what is known of their sizes.

Known sizes are index values of the array that is indexed, so that two views with the same
bounds (``a[1:]`` and ``b[:-1]`` of equally long arrays) get the same sizes.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters import arrays, build, elementwise, kept, windows
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import MISSING, Env, Slot
from numba_mlir.converters.windows import Place

#: one subscript: a Numba type, and the Python object where it is a constant; else `Bounds`
#: of a slice, the slot of an integer, MISSING where nothing is known
Subscript = tuple[Any, Any]

_NONE = types.none


def subscripts(frame: Frame, env: Env, node: Any) -> tuple[Slot, list[Subscript]] | None:
    """The index of a (static) getitem or setitem: its variable's slot and its members.

    None when the index is not one variable whose members are known.
    """
    static = isinstance(node, ir.StaticSetItem) or (
        isinstance(node, ir.Expr) and node.op == "static_getitem"
    )
    # Numba makes some static subscripts without a variable for the index
    variable = getattr(node, "_kws", vars(node)).get("index_var" if static else "index")
    if variable is None:
        return None
    slot = frame.use(env, variable.name)
    members = list(slot.type) if isinstance(slot.type, types.BaseTuple) else [slot.type]
    if static:
        constants = node.index if isinstance(node.index, tuple) else (node.index,)
    elif slot.elements is not None:
        constants = tuple(map(_known, slot.elements))
    else:
        constants = (_known(slot),) if len(members) == 1 else (MISSING,) * len(members)
    if len(constants) != len(members):
        return None
    return slot, list(zip(members, constants, strict=True))


def _known(slot: Slot) -> Any:
    if slot.bounds is not None:
        return slot.bounds
    if slot.python is MISSING and isinstance(slot.type, types.Integer):
        return slot
    return slot.python


def is_basic(members: Sequence[Subscript]) -> bool:
    """Whether the subscripts select a view, and not a copy of some elements."""
    return all(isinstance(kind, arrays.BASIC) for kind, _ in members)


def expanded(members: Sequence[Subscript], rank: int) -> list[Subscript]:
    """One subscript for each dimension (and each None), as NumPy fills up what is missing."""
    full: Subscript = (types.slice2_type, slice(None))
    consumed = sum(
        not isinstance(kind, (types.NoneType, types.EllipsisType)) for kind, _ in members
    )
    missing = [full] * (rank - consumed)
    found: list[Subscript] = []
    seen = False
    for member in members:
        if isinstance(member[0], types.EllipsisType):
            found += missing
            seen = True
        else:
            found.append(member)
    return found if seen else found + missing


def sizes(frame: Frame, array: Slot, members: Sequence[Subscript]) -> tuple[Any, ...]:
    """The sizes of a view, None for those that are not known."""
    known: list[Any] = []
    axis = 0
    before = elementwise.sizes(frame, array)
    for kind, constant in expanded(members, array.type.ndim):
        if isinstance(kind, types.NoneType):
            known.append(frame.index_constant(1))
            continue
        if isinstance(kind, types.SliceType):
            known.append(_slice_size(frame, before[axis], constant))
        axis += 1
    return tuple(known)


def _slice_size(frame: Frame, size: Any, part: Any) -> Any | None:
    """The length of ``part`` of something of length ``size``; None where it is not known."""
    bounds = windows.Bounds.of(part)
    if bounds is None:
        return None
    start, stop = bounds.start or 0, bounds.stop
    if not isinstance(start, int) or isinstance(stop, Slot):
        return windows.extent(frame, size, bounds)[1]
    if bounds.step < 0 or start < 0 or (stop is not None and stop >= 0):
        return windows.extent(frame, size, bounds)[1]
    return windows.every(_rest(frame, size, start - (stop or 0)), bounds.step)


def _rest(frame: Frame, size: Any, less: int) -> Any:
    """What is left of ``size`` elements without ``less`` of them."""
    if less == 0:
        return size
    index = build.index_type()
    rest = build.value("arith.subi", (size, frame.index_constant(less)), index)
    return build.value("arith.maxsi", (rest, frame.index_constant(0)), index)


def is_everything(array: Slot, members: Sequence[Subscript]) -> bool:
    """Whether the subscripts select the whole array as it is."""
    return all(
        isinstance(kind, types.SliceType)
        and isinstance(part, slice)
        and part in (slice(None), slice(None, None, 1), slice(0, None), slice(0, None, 1))
        for kind, part in expanded(members, array.type.ndim)
    )


def window(members: Sequence[Subscript], rank: int) -> list[int] | None:
    """Where element (i, j, ...) of a view is in its base; None where that is not so simple.

    Two numbers for each dimension of the base: the number of the view's index, or -1, and
    what to add to it.
    """
    found: list[int] = []
    axis = 0
    for kind, part in expanded(members, rank):
        if isinstance(kind, types.SliceType):
            if not isinstance(part, slice) or part.step not in (None, 1) or (part.start or 0) < 0:
                return None
            found += [axis, part.start or 0]
        elif isinstance(kind, types.Integer):
            if not isinstance(part, int) or part < 0:
                return None
            found += [-1, part]
        axis += not isinstance(kind, types.Integer)
    return found


def _places(frame: Frame, array: Slot, members: Sequence[Subscript]) -> list[Place] | None:
    """Where the elements of a view are in its base; None where that is not known."""
    places: list[Place] = []
    axis = 0
    before = elementwise.sizes(frame, array)
    for kind, part in expanded(members, array.type.ndim):
        if isinstance(kind, types.NoneType):
            axis += 1
            continue
        place = _place(frame, kind, part, before[len(places)], axis)
        if place is None:
            return None
        places.append(place)
        axis += place.axis >= 0
    return places


def _place(frame: Frame, kind: Any, part: Any, size: Any, axis: int) -> Place | None:
    if not isinstance(kind, types.SliceType):
        where = windows.position(frame, part, size)
        return None if where is None else Place(-1, where)
    bounds = windows.Bounds.of(part)
    if bounds is None:
        return None
    return Place(axis, windows.extent(frame, size, bounds)[0], bounds.step)


def known(frame: Frame, array: Slot, index: Slot, members: Sequence[Subscript], view: Slot) -> Slot:
    """The slot of a kept view with what is known about it."""
    where = window(members, array.type.ndim)
    if where is not None:
        attribute = mlir.ir.DenseI64ArrayAttr.get(where)
        view.value.owner.operation.attributes["window"] = attribute
    elif (places := _places(frame, array, members)) is not None:
        view = view.with_type(view.type, windows.emit(view.value, places))
    return Slot(
        view.type,
        view.value,
        sizes=sizes(frame, array, members),
        view=(array.value, index.value),
    )


def select(frame: Frame, array: Slot, index: Slot, members: Sequence[Subscript], loc: Any) -> Slot:
    """``array[index]``; the array itself where everything is selected.

    The result of an index that selects one element is an array of no dimensions.
    """
    if is_everything(array, members):
        return array
    sig = frame.typingctx.resolve_function_type(operator.getitem, (array.type, index.type), {})
    if sig is None or not isinstance(sig.return_type, types.Array):
        return array.with_type(types.none, None)
    view_type = sig.return_type
    value = kept.view(
        frame, loc, (array.value, array.type), (index.value, index.type), view_type, sig
    )
    return known(frame, array, index, members, Slot(view_type, value))
