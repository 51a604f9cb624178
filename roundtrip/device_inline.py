"""Compiled functions that a function on a device calls become part of it.

A kernel cannot call Numba's compiled code, and a callee's arrays would be taken for arrays
of the host.  So every callee that could be compiled for the types at hand is inlined.
"""

from __future__ import annotations

import inspect
from typing import Any

from numba.core import ir
from numba.core.compiler_machinery import register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.ir_utils import resolve_func_from_module
from numba.core.untyped_passes import InlineInlinables

from numba_mlir.errors import UnsupportedConstruct

#: calls that are inlined into one function at most; recursion has more
LIMIT = 200


@register_pass(mutates_CFG=True, analysis_only=False)
class DeviceInline(InlineInlinables):
    """Numba's pass, for functions without the option ``inline`` as well.

    Left are those that were compiled for given signatures (whose casts would be lost) and
    generators; calls with arrays that are left are refused at the end.
    """

    _name = "mlir_device_inline"

    def run_pass(self, state: Any) -> bool:
        self._count(state, -self._count(state, 0))
        return super().run_pass(state)

    def _count(self, state: Any, more: int) -> int:
        number = state.metadata.get("mlir_inlined", 0) + more
        state.metadata["mlir_inlined"] = number
        return number

    def _do_work(
        self, state: Any, work_list: Any, block: Any, i: int, expr: Any, inline_worker: Any
    ) -> bool:
        callee = _callee(state.func_ir, expr)
        if callee is None:
            return False
        if self._count(state, 1) > LIMIT:
            raise UnsupportedConstruct(
                f"more than {LIMIT} calls to inline on a device: {callee.py_func.__name__!r} "
                "may call itself",
                expr.loc,
            )
        _, _, _, blocks = inline_worker.inline_function(state.func_ir, block, i, callee.py_func)
        work_list.extend(blocks)
        return True


def _callee(func_ir: Any, expr: Any) -> Any:
    """The dispatcher that a call calls, where it can be inlined; None for anything else."""
    try:
        definition = func_ir.get_definition(expr.func)
    except KeyError:
        return None
    if isinstance(definition, ir.Expr):
        if definition.op != "getattr":
            return None
        found = resolve_func_from_module(func_ir, definition)
    else:
        found = getattr(definition, "value", None)
    if not isinstance(found, Dispatcher) or not found._can_compile:
        return None
    return None if inspect.isgeneratorfunction(found.py_func) else found
