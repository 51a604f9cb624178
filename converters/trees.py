"""One element of an array expression: operators and ufuncs on numbers, typed as Numba types them.

Numba computes array expressions with its own scalar operators (an int32 sum is an int64
inside the expression) under the "numpy" error model; only ``/`` and
the order of complex numbers are ufuncs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numba.core import ir, types
from numba.core.typing import npydecl

from numba_mlir import mlir
from numba_mlir.converters import arithmetic, casts, kept, mathfuncs, scalars
from numba_mlir.converters.frame import Frame

#: an MLIR value and its Numba type
Number = tuple[Any, Any]
#: gives the element, or the number, that a leaf of the tree stands for
Leaf = Callable[[Any], "Number | None"]


def leaves(tree: Any) -> list[Any]:
    """Variables and constants of a tree, left to right, each as often as it occurs."""
    if isinstance(tree, tuple):
        return [leaf for arg in tree[1] for leaf in leaves(arg)]
    return [tree]


def functions(tree: Any) -> list[Any]:
    """The ufuncs and operators of a tree."""
    if not isinstance(tree, tuple):
        return []
    return [tree[0], *(found for arg in tree[1] for found in functions(arg))]


def order(tree: Any) -> tuple[int, ...]:
    """How the leaves are combined: see ``numba.broadcast``."""
    steps: list[int] = []
    count = 0

    def visit(node: Any) -> None:
        nonlocal count
        if not isinstance(node, tuple):
            steps.append(count)
            count += 1
            return
        for arg in node[1]:
            visit(arg)
        if len(node[1]) > 1:
            steps.append(-len(node[1]))

    visit(tree)
    return tuple(steps)


#: complex numbers have it as elements of arrays only: real parts, then imaginary ones
_ORDER = frozenset({operator.lt, operator.le, operator.gt, operator.ge})


def evaluate(frame: Frame, tree: Any, leaf: Leaf, loc: Any) -> Number | None:
    """The value of a tree for one element; None where a node has no form at all."""
    if isinstance(tree, ir.Const):
        return constant(tree.value)
    if not isinstance(tree, tuple):
        return leaf(tree)
    op, args = tree
    numbers: list[Number] = []
    for arg in args:
        number = evaluate(frame, arg, leaf, loc)
        if number is None:
            return None
        numbers.append(number)
    is_complex = any(isinstance(kind, types.Complex) for _, kind in numbers)
    if op is operator.truediv or (is_complex and op in _ORDER):
        op = getattr(np, npydecl.NumpyRulesArrayOperator._op_map[op])
    if op in npydecl.supported_array_operators:
        return _operator(frame, op, numbers, loc)
    return ufunc(frame, op, numbers, loc)


def constant(value: Any) -> Number | None:
    """A Python number as Numba types it."""
    kind: Any = {bool: types.boolean, float: types.float64, complex: types.complex128}.get(
        type(value)
    )
    if type(value) is int:
        kind = types.int64 if -(2**63) <= value < 2**63 else types.uint64
    return None if kind is None else (scalars.constant(kind, value), kind)


def _operator(frame: Frame, op: Any, numbers: Sequence[Number], loc: Any) -> Number | None:
    kinds = tuple(kind for _, kind in numbers)
    sig = frame.typingctx.resolve_function_type(op, kinds, {})
    if sig is None or scalars.to_mlir(sig.return_type) is None:
        return None
    if len(numbers) == 1:
        value = arithmetic.unary(op, sig, *numbers[0], error_model="numpy")
    else:
        value = arithmetic.binary(op, sig, *numbers[0], *numbers[1], error_model="numpy")
    if value is None:
        return _called(frame, _as_function(op), numbers, loc)
    return value, types.unliteral(sig.return_type)


@functools.cache
def _as_function(op: Any) -> Any:
    """A compiled function that is the operator under the "numpy" error model."""

    def unary(a: Any) -> Any:
        return op(a)

    def binary(a: Any, b: Any) -> Any:
        return op(a, b)

    is_unary = op in (operator.pos, operator.neg, operator.invert)
    return njit(error_model="numpy")(unary if is_unary else binary)


def ufunc(
    frame: Frame, function: Any, numbers: Sequence[Number], loc: Any, result: Any = None
) -> Number | None:
    """One element of a ufunc (also of Numba's); ``result`` is the dtype of its output array."""
    if isinstance(function, np.ufunc):
        kinds = tuple(kind for _, kind in numbers)
        sig = _signature(frame, function, kinds)
        if sig is None or scalars.to_mlir(sig.return_type) is None:
            return None
        wanted = sig if result is None else sig.replace(return_type=result)
        values = [value for value, _ in numbers]
        value = mathfuncs.call(function, wanted, values, kinds, error_model="numpy")
        if value is not None:
            return value, types.unliteral(wanted.return_type)
    return _called(frame, function, numbers, loc)


def _called(frame: Frame, function: Any, numbers: Sequence[Number], loc: Any) -> Number | None:
    """A kept call of a global function."""
    sig = _signature(frame, function, tuple(kind for _, kind in numbers))
    if sig is None or scalars.to_mlir(sig.return_type) is None:
        return None
    value = kept.call(frame, loc, function, sig, numbers)
    return None if value is None else (value, types.unliteral(sig.return_type))


def _signature(frame: Frame, function: Any, kinds: tuple[Any, ...]) -> Any:
    numba_type = frame.typingctx.resolve_value_type(function)
    return numba_type.get_call_type(frame.typingctx, kinds, {})


def as_dtype(number: Number, dtype: Any) -> Any | None:
    """The value as an array of ``dtype`` stores it; of a complex number the real part."""
    value, kind = number
    if scalars.kind(kind) == "complex" and scalars.kind(dtype) not in ("complex", "bool"):
        return casts.cast(mlir.complex.re(value), kind.underlying_float, dtype)
    return casts.cast(value, kind, dtype)
