"""Statements on whole arrays: array expressions, in-place operators, ufuncs, assignments.

Each becomes one loop over the common shape of its operands (:mod:`.elementwise`).  What is
written must not be read afterwards by another element: an operand that may overlap the
target without being the same array goes through ``numba.unaliased``.

A statement that has no such form is kept as it is, with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.core.typing.npydecl import NumpyRulesInplaceArrayOperator

from numba_mlir import mlir
from numba_mlir.converters import broadcasting, elementwise, trees, views
from numba_mlir.converters.casts import cast, is_true
from numba_mlir.converters.elementwise import Operand
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.converters.trees import Number


class Refused(Exception):
    """The statement stays as it is; the message says why."""


Reader = Callable[[Sequence[Any]], Number]


def _input(frame: Frame, env: Env, leaf: Any) -> Operand | Number:
    """A leaf of an expression: an array, or a number that is the same for all elements."""
    if isinstance(leaf, ir.Const):
        number = trees.constant(leaf.value)
        if number is None:
            raise Refused(f"the constant {leaf.value!r} is not a number")
        return number
    slot = frame.use(env, leaf.name)
    if isinstance(slot.type, types.Array):
        if not elementwise.has_elements(slot):
            raise Refused(f"arrays of type {slot.type} have no MLIR form")
        return Operand.of(frame, slot)
    number = frame.scalar(slot)
    if number is None:
        raise Refused(f"an operand of type {slot.type}")
    return number


def _array_of(item: Operand | Number) -> Operand | None:
    return item if isinstance(item, Operand) else None


def _reader(frame: Frame, item: Operand | Number, rank: int) -> Reader:
    """Gives the operand's element (or the number) for the indices of a loop."""
    if isinstance(item, Operand):
        return item.reader(frame, rank)
    return lambda ivs: item


def _apart(frame: Frame, item: Operand | Number, target: Operand) -> Operand | Number:
    """The operand such that writing the target does not change it."""
    if not isinstance(item, Operand) or item.slot.value == target.slot.value or not item.rank:
        return item
    kind = frame.type_attribute(item.slot.type)
    value = broadcasting.unaliased(item.slot.value, target.slot.value, kind)
    slot = Slot(item.slot.type, value, sizes=item.sizes)
    return Operand(slot, item.sizes)


# -- results -----------------------------------------------------------------------
def _new(
    frame: Frame,
    wanted: Any,
    items: Sequence[Operand | Number],
    order: tuple[int, ...],
    element: Callable[[Sequence[Number]], Any],
    loc: Any,
) -> Slot:
    """A new array of ``element(one element of each item)``."""
    if type(wanted) is not types.Array or wanted.ndim == 0:
        raise Refused(f"a result of type {wanted}")
    bounds = elementwise.common_sizes(frame, [_array_of(item) for item in items], order)
    if len(bounds) != wanted.ndim:
        raise Refused("the result has another number of dimensions than Numba expects")
    target, slot = elementwise.fresh(frame, wanted, bounds, loc)
    if not elementwise.has_elements(target.slot):
        raise Refused(f"arrays of type {wanted} have no MLIR form")
    _fill(frame, target, items, element)
    return slot


def _fill(
    frame: Frame,
    target: Operand,
    items: Sequence[Operand | Number],
    element: Callable[[Sequence[Number]], Any],
) -> None:
    dtype = target.slot.type.dtype
    readers = [_reader(frame, item, target.rank) for item in items]

    def value(ivs: Sequence[Any]) -> Any | None:
        number = element([read(ivs) for read in readers])
        return None if number is None else trees.as_dtype(number, dtype)

    backwards = target.slot.type.layout == "F"
    if not elementwise.fill(frame, target, value, backwards=backwards):
        raise Refused("an operation has no MLIR form")


# -- array expressions ----------------------------------------------------------------
def array_expression(frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
    """``x = <tree of operators and ufuncs>``"""
    tree = stmt.value.expr
    leaves = trees.leaves(tree)
    items = [_input(frame, env, leaf) for leaf in leaves]

    def element(numbers: Sequence[Number]) -> Number | None:
        following = iter(numbers)
        return trees.evaluate(frame, _without_constants(tree), lambda _: next(following), stmt.loc)

    return _new(frame, wanted, items, trees.order(tree), element, stmt.loc)


def outer(frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
    """``np.outer(a, b)`` of two arrays of one dimension"""
    expr = stmt.value
    if expr.kws or expr.vararg is not None or len(expr.args) != 2:
        raise Refused("np.outer with other arguments than two arrays")
    items = [_input(frame, env, arg) for arg in expr.args]
    vectors = [item for item in items if isinstance(item, Operand) and item.rank == 1]
    if len(vectors) != 2 or type(wanted) is not types.Array or wanted.ndim != 2:
        raise Refused("np.outer of something else than arrays of one dimension")
    target, slot = elementwise.fresh(frame, wanted, [v.sizes[0] for v in vectors], stmt.loc)

    def value(ivs: Sequence[Any]) -> Any | None:
        numbers = [vector.at([iv]) for vector, iv in zip(vectors, ivs, strict=True)]
        number = trees.ufunc(frame, np.multiply, numbers, stmt.loc)
        return None if number is None else trees.as_dtype(number, wanted.dtype)

    if not elementwise.fill(frame, target, value, backwards=wanted.layout == "F"):
        raise Refused("an operation has no MLIR form")
    return slot


def _without_constants(tree: Any) -> Any:
    """The tree with every leaf replaced, so that all are asked for in order."""
    if isinstance(tree, tuple):
        return tree[0], [_without_constants(arg) for arg in tree[1]]
    return None


# -- in place --------------------------------------------------------------------------
def inplace(frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
    """``a += x`` of an array: the ufunc with ``a`` as its output."""
    expr = stmt.value
    name = NumpyRulesInplaceArrayOperator._op_map.get(expr.fn)
    if name is None:
        raise Refused(f"{getattr(expr.fn, '__name__', expr.fn)} of an array")
    target = frame.use(env, expr.lhs.name)
    return _into(frame, env, getattr(np, name), [expr.lhs, expr.rhs], target, wanted, stmt.loc)


def ufunc_call(frame: Frame, env: Env, stmt: Any, function: Any, wanted: Any) -> Slot:
    """``np.add(a, b, out)``"""
    expr = stmt.value
    args = list(expr.args)
    if (
        expr.vararg is not None
        or function.nout != 1
        or len(args) + len(expr.kws) != function.nin + 1
    ):
        raise Refused("a ufunc called with other arguments than its inputs and one output")
    if expr.kws:
        ((name, output),) = expr.kws
        if name != "out":
            raise Refused(f"a ufunc with the argument {name!r}")
        args.append(output)
    *inputs, output = args
    target = frame.use(env, output.name)
    return _into(frame, env, function, inputs, target, wanted, stmt.loc)


def _into(
    frame: Frame,
    env: Env,
    function: Any,
    inputs: Sequence[Any],
    slot: Slot,
    wanted: Any,
    loc: Any,
) -> Slot:
    if not elementwise.has_elements(slot) or not slot.type.mutable:
        raise Refused(f"an output of type {slot.type}")
    if slot.type != wanted:
        raise Refused("the result has another type than the output")
    target = Operand.of(frame, slot)
    items = [_input(frame, env, name) for name in inputs]
    count = len(items)
    order = (*range(count), count, -count - 1)
    elementwise.check_fits("output", [_array_of(item) for item in items], target, order)
    items = [_apart(frame, item, target) for item in items]

    def element(numbers: Sequence[Number]) -> Number | None:
        return trees.ufunc(frame, function, numbers, loc, slot.type.dtype)

    _fill(frame, target, items, element)
    return slot


# -- assignments -------------------------------------------------------------------------
def assignment(frame: Frame, env: Env, stmt: Any) -> None:
    """``a[...] = x`` where the index selects a view."""
    array = frame.use(env, stmt.target.name)
    if not elementwise.has_elements(array) or not array.type.mutable:
        raise Refused(f"a target of type {array.type}")
    found = views.subscripts(frame, env, stmt)
    if found is None or not views.is_basic(found[1]):
        raise Refused("an index other than integers, slices, None and an ellipsis")
    index, members = found
    source = frame.use(env, stmt.value.name)
    if source.view is not None and source.view == (array.value, index.value):
        return  # a[i] op= x: what was computed in place is stored onto itself
    item = _input(frame, env, stmt.value)
    view = views.select(frame, array, index, members, stmt.loc)
    if not isinstance(view.type, types.Array):
        raise Refused("")  # one element: no loop is missed
    if not elementwise.has_elements(view):
        raise Refused(f"a part of type {view.type}")
    target = Operand.of(frame, view)
    elementwise.check_fits("input", [_array_of(item)], target)
    item = _apart(frame, item, target)
    _fill(frame, target, [item], lambda numbers: numbers[0])


# -- choices ---------------------------------------------------------------------------
def where(frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
    """``np.where(condition, x, y)``"""
    items = [_input(frame, env, arg) for arg in stmt.value.args]
    if len(items) != 3 or not isinstance(wanted, types.Array):
        raise Refused("np.where with other arguments than a condition and two values")

    def element(numbers: Sequence[Number]) -> Number | None:
        condition, *values = numbers
        choices = [cast(*value, wanted.dtype) for value in values]
        if any(choice is None for choice in choices):
            return None
        return mlir.arith.select(is_true(*condition), *choices), wanted.dtype

    return _new(frame, wanted, items, (0, 1, 2, -3), element, stmt.loc)


def clip(frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
    """``np.clip(a, low, high[, out])``, where a bound may be None"""
    expr = stmt.value
    args = dict(zip(("a", "a_min", "a_max", "out"), expr.args, strict=False)) | dict(expr.kws)
    if not {"a", "a_min", "a_max"} <= args.keys() <= {"a", "a_min", "a_max", "out"}:
        raise Refused("np.clip with other arguments than an array, two bounds and out")
    bounds = [(np.maximum, args["a_min"]), (np.minimum, args["a_max"])]
    bounds = [(fn, var) for fn, var in bounds if not _is_none(frame.use(env, var.name))]
    if not bounds:
        raise Refused("np.clip without a bound")
    items = [_input(frame, env, var) for var in (args["a"], *(var for _, var in bounds))]

    def element(numbers: Sequence[Number]) -> Number | None:
        value, *limits = numbers
        for (function, _), limit in zip(bounds, limits, strict=True):
            both = trees.ufunc(frame, function, [value, limit], stmt.loc)
            if both is None:
                return None
            value = both
        return value

    order = (*range(len(items)), -len(items))
    output = frame.use(env, args["out"].name) if "out" in args else None
    if output is None or _is_none(output):
        return _new(frame, wanted, items, order, element, stmt.loc)
    if not elementwise.has_elements(output) or not output.type.mutable or output.type != wanted:
        raise Refused(f"an output of type {output.type}")
    target = Operand.of(frame, output)
    order = (*range(len(items) + 1), -len(items) - 1)
    elementwise.check_fits("output", [_array_of(item) for item in items], target, order)
    _fill(frame, target, [_apart(frame, item, target) for item in items], element)
    return output


def _is_none(slot: Slot) -> bool:
    return isinstance(slot.type, (types.NoneType, types.Omitted))
