"""Calls of functions of our own in typed Numba IR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba.core import ir
from numba.core.ir_utils import mk_unique_var


def typed_call(
    state: Any, scope: Any, loc: Any, function: Any, args: Sequence[Any], kinds: Any = None
) -> tuple[Any, list[Any]]:
    """A new variable, and the statements that give it the value of a call of ``function``.

    ``kinds`` are the Numba types that the arguments are taken as, by default their own.
    """
    context, typemap = state.typingctx, state.typemap
    context.refresh()
    state.targetctx.refresh()
    callee, result = (ir.Var(scope, mk_unique_var(name), loc) for name in ("$callee", "$result"))
    typemap[callee.name] = kind = context.resolve_value_type(function)
    if kinds is None:
        kinds = tuple(typemap[arg.name] for arg in args)
    call = ir.Expr.call(callee, tuple(args), (), loc)
    state.calltypes[call] = sig = kind.get_call_type(context, kinds, {})
    typemap[result.name] = sig.return_type
    holder = ir.Assign(ir.Global(callee.name, function, loc), callee, loc)
    return result, [holder, ir.Assign(call, result, loc)]
