"""Statements that the import makes itself, for what has no MLIR form.

They are kept like the function's own statements (``numba.exprN``); the types of their
variables and their signatures stand in the side table, since the compilation knows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba.core import ir, types
from numba.core.extending import intrinsic
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing import signature

from numba_mlir import dialect, mlir
from numba_mlir.converters import build
from numba_mlir.converters.frame import TYPE, Frame

#: an MLIR value and the Numba type of the variable that holds it
Typed = tuple[Any, Any]


class Kept:
    """Makes one statement: variables for its operands first, then the statement."""

    def __init__(self, frame: Frame, loc: Any) -> None:
        self._frame, self._loc = frame, loc
        self._scope = ir.Scope(None, loc)
        self._types: dict[str, Any] = {}
        self._values: list[Any] = []

    def var(self, operand: Typed) -> Any:
        """A variable that stands for an operand."""
        name = f"$kept.{len(self._values)}"
        self._types[name] = operand[1]
        self._values.append(operand[0])
        return ir.Var(self._scope, name, self._loc)

    def perform(self, value: Any, sig: Any) -> None:
        """``numba.check`` for an expression of which only the exception counts."""
        target = ir.Var(self._scope, "$kept", self._loc)
        types_ = {**self._types, "$kept": sig.return_type}
        stmt = ir.Assign(value, target, self._loc)
        handle = self._frame.table.add_made(stmt, tuple(self._types), types_, sig)
        ir_ = mlir.ir
        attributes = {
            "stmt": ir_.IntegerAttr.get(ir_.IntegerType.get_signless(64), handle),
            "text": ir_.StringAttr.get(str(value)[:120].split("\n")[0]),
        }
        build.op("numba.check", self._values, (), attributes)

    def assign(self, value: Any, numba_type: Any, sig: Any = None, **flags: Any) -> Any:
        """``numba.exprN`` for ``new variable = value``, and its result."""
        frame = self._frame
        target = ir.Var(self._scope, "$kept", self._loc)
        types_ = {**self._types, "$kept": numba_type}
        stmt = ir.Assign(value, target, self._loc)
        handle = frame.table.add_made(stmt, tuple(self._types), types_, sig)
        ir_ = mlir.ir
        attributes = {
            "stmt": ir_.IntegerAttr.get(ir_.IntegerType.get_signless(64), handle),
            "text": ir_.StringAttr.get(str(value)[:120].split("\n")[0]),
            TYPE: frame.type_attribute(numba_type),
        }
        for name, flag in flags.items():
            attributes[name] = (
                ir_.UnitAttr.get()
                if flag is True
                else ir_.IntegerAttr.get(ir_.IntegerType.get_signless(64), flag)
            )
        name = f"numba.expr{len(self._values)}"
        return build.value(name, self._values, frame.mlir_type(numba_type), attributes)


def call(frame: Frame, loc: Any, function: Any, sig: Any, args: Sequence[Typed]) -> Any | None:
    """``function(*args)`` of a global function and numbers; None with too many of them."""
    if len(args) >= dialect.MAX_EXPR_OPERANDS:
        return None
    numba_type = frame.typingctx.resolve_value_type(function)
    name = getattr(function, "__name__", "function")
    held = Kept(frame, loc).assign(ir.Global(name, function, loc), numba_type, remat=True)
    kept = Kept(frame, loc)
    callee = kept.var((held, numba_type))
    expr = ir.Expr.call(callee, [kept.var(arg) for arg in args], (), loc)
    return kept.assign(expr, sig.return_type, sig)


def check(frame: Frame, loc: Any, function: Any, arg: Typed) -> None:
    """``numba.check`` for ``function(arg)`` of a global function that may raise."""
    frame.typingctx.refresh()  # which makes new intrinsics known
    numba_type = frame.typingctx.resolve_value_type(function)
    sig = numba_type.get_call_type(frame.typingctx, (arg[1],), {})
    name = getattr(function, "__name__", "function")
    held = Kept(frame, loc).assign(ir.Global(name, function, loc), numba_type, remat=True)
    kept = Kept(frame, loc)
    callee = kept.var((held, numba_type))
    kept.perform(ir.Expr.call(callee, [kept.var(arg)], (), loc), sig)


def view(frame: Frame, loc: Any, array: Typed, index: Typed, numba_type: Any, sig: Any) -> Any:
    """``array[index]``, a view."""
    kept = Kept(frame, loc)
    expr = ir.Expr.getitem(kept.var(array), kept.var(index), loc)
    return kept.assign(expr, numba_type, sig, view_of=0)


def transpose(frame: Frame, loc: Any, array: Typed, numba_type: Any) -> Any:
    """``array.T``"""
    kept = Kept(frame, loc)
    return kept.assign(ir.Expr.getattr(kept.var(array), "T", loc), numba_type, view_of=0)


@intrinsic
def fortran_vector(typingctx: Any, array: Any) -> Any:
    """The same array of one dimension with the type of one in Fortran order.

    Numba gives columns of arrays in Fortran order that type, and has no cast to it.
    """
    if not isinstance(array, types.Array) or array.ndim != 1 or not array.is_contig:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return signature(array.copy(layout="F"), array), codegen


def as_fortran_vector(frame: Frame, loc: Any, array: Typed) -> Any:
    """``fortran_vector(array)``, a view."""
    frame.typingctx.refresh()  # which makes new intrinsics known
    numba_type = frame.typingctx.resolve_value_type(fortran_vector)
    function = ir.Global("fortran_vector", fortran_vector, loc)
    held = Kept(frame, loc).assign(function, numba_type, remat=True)
    sig = numba_type.get_call_type(frame.typingctx, (array[1],), {})
    kept = Kept(frame, loc)
    expr = ir.Expr.call(kept.var((held, numba_type)), [kept.var(array)], (), loc)
    unknown = {dialect.UNKNOWN_VIEW: True}
    return kept.assign(expr, sig.return_type, sig, view_of=1, **unknown)


def as_type(frame: Frame, loc: Any, array: Typed, numba_type: Any) -> Any:
    """The same array as a variable of a less exact array type holds it."""
    kept = Kept(frame, loc)
    return kept.assign(ir.Expr.cast(kept.var(array), loc), numba_type, view_of=0)
