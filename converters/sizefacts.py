"""What a comparison says about sizes where it holds: ``assert a.shape == b.shape``.

A variable that holds the result of ``==`` or ``!=`` between sizes, or tuples of them, knows
which pairs of sizes are equal when it is true (or false).  The block that is entered only
then begins with ``numba.assert_equal`` operations that are marked ``known``: facts for the
passes, and no code.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import build
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot

#: attribute of a ``numba.assert_equal`` that needs no test
KNOWN = "known"


@dataclass(frozen=True)
class Implied:
    """``pairs`` of ``index`` values that are equal where a truth value is ``when``."""

    when: bool
    pairs: tuple[tuple[Any, Any], ...]


def learn(frame: Frame, env: Env, stmt: Any) -> None:
    """Let the variable that ``stmt`` assigned know what it implies."""
    expr, slot = stmt.value, env.get(stmt.target.name)
    if slot is None or slot.implied is not None or not isinstance(slot.type, types.Boolean):
        return
    implied: Implied | None = None
    if expr.op == "binop" and expr.fn in (operator.eq, operator.ne):
        pairs = _equal_pairs(frame, env.get(expr.lhs.name), env.get(expr.rhs.name))
        implied = Implied(expr.fn is operator.eq, pairs) if pairs else None
    elif expr.op == "unary" and expr.fn is operator.not_:
        inner = _implied(env, expr.value)
        implied = None if inner is None else replace(inner, when=not inner.when)
    elif expr.op == "call" and len(expr.args) == 1:
        callee = env.get(expr.func.name)
        if callee is not None and callee.python is bool:
            implied = _implied(env, expr.args[0])
    if implied is not None:
        env[stmt.target.name] = replace(slot, implied=implied)


def tell(slot: Slot | None, block: Any, value: bool) -> None:
    """Begin ``block``, entered only where ``slot`` is ``value``, with what that implies."""
    implied: Implied | None = None if slot is None else slot.implied
    if implied is None or implied.when is not value:
        return
    ir = mlir.ir
    with ir.InsertionPoint.at_block_begin(block):
        for pair in implied.pairs:
            attributes = {KNOWN: ir.UnitAttr.get(), "message": ir.StringAttr.get("")}
            build.op("numba.assert_equal", pair, (), attributes)


def _implied(env: Env, var: Any) -> Implied | None:
    slot = env.get(var.name)
    return None if slot is None else slot.implied


def _equal_pairs(
    frame: Frame, left: Slot | None, right: Slot | None
) -> tuple[tuple[Any, Any], ...]:
    """Pairs of sizes that are equal where ``left == right`` holds; those that are known."""
    if left is None or right is None:
        return ()
    if left.elements is not None and right.elements is not None:
        if len(left.elements) != len(right.elements):
            return ()
        members = zip(left.elements, right.elements, strict=True)
        return tuple(pair for two in members for pair in _equal_pairs(frame, *two))
    if left.index is None and right.index is None:
        return ()
    first, second = _size(frame, left), _size(frame, right)
    return () if first is None or second is None else ((first, second),)


def _size(frame: Frame, slot: Slot) -> Any | None:
    """A number that is an index already, or a constant."""
    if slot.index is not None or isinstance(slot.type, types.IntegerLiteral):
        return frame.size(slot)
    if isinstance(slot.type, types.Integer) and isinstance(slot.python, int):
        return frame.index_constant(slot.python)
    return None
