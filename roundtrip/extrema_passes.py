"""The largest and smallest complex number of an array, in functions with ``parallel=True``.

PreParforPass replaces ``np.max`` and the like by loops over ``max(a, b)``, which Numba does not
have for complex numbers: the function does not compile.  Here these calls go to a compiled
function of their own in front of it, which has Numba's sequential form (NumPy's order: by real,
then by imaginary parts).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numba
import numpy as np
from numba.core import ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions, find_callname, guard, mk_unique_var


@numba.njit
def complex_max(array: Any) -> Any:
    return np.max(array)


@numba.njit
def complex_min(array: Any) -> Any:
    return np.min(array)


_BY_NAME = {"max": complex_max, "amax": complex_max, "min": complex_min, "amin": complex_min}


@register_pass(mutates_CFG=False, analysis_only=False)
class ComplexExtrema(FunctionPass):
    """Calls of np.max and np.min of complex arrays become calls of `complex_max` and the like."""

    _name: ClassVar[str] = "mlir_complex_extrema"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        changed = False
        for block in state.func_ir.blocks.values():
            body: list[Any] = []
            for stmt in block.body:
                found = _complex_extremum(state, stmt)
                if found is not None:
                    body.append(_call(state, stmt, *found))
                    changed = True
                body.append(stmt)
            block.body = body
        if changed:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return changed


def _complex_extremum(state: Any, stmt: Any) -> tuple[Any, Any] | None:
    """The function of ours and the array's variable of such a call; None for others."""
    expr = stmt.value if isinstance(stmt, ir.Assign) else None
    if not isinstance(expr, ir.Expr) or expr.op != "call" or expr.kws or expr.vararg is not None:
        return None
    name = guard(find_callname, state.func_ir, expr, state.typemap)
    if name is None or name[0] not in _BY_NAME:
        return None
    is_method = isinstance(name[1], ir.Var)
    if not is_method and name[1] != "numpy":
        return None
    arguments = [name[1], *expr.args] if is_method else list(expr.args)
    if len(arguments) != 1:
        return None
    kind = state.typemap[arguments[0].name]
    is_complex = isinstance(kind, types.Array) and isinstance(kind.dtype, types.Complex)
    return (_BY_NAME[name[0]], arguments[0]) if is_complex else None


def _call(state: Any, stmt: Any, function: Any, array: Any) -> Any:
    """Let ``stmt`` call ``function(array)``; the statement that makes the callee's variable."""
    callee = ir.Var(array.scope, mk_unique_var("$extremum"), stmt.loc)
    kind = types.Dispatcher(function)
    state.typemap[callee.name] = kind
    sig = kind.get_call_type(state.typingctx, (state.typemap[array.name],), {})
    del state.calltypes[stmt.value]
    stmt.value = ir.Expr.call(callee, [array], (), stmt.loc)
    state.calltypes[stmt.value] = sig
    return ir.Assign(ir.Global(function.__name__, function, stmt.loc), callee, stmt.loc)
