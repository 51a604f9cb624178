"""A quick look at a typed function: does it call functions that have vector versions?"""

from __future__ import annotations

import operator
from typing import Any

from numba.core import ir, types

from numba_mlir.converters import intrinsics, mathfuncs
from numba_mlir.converters.operands import hashable
from numba_mlir.passes import libm
from numba_mlir.roundtrip import vectormath


def calls_vector_functions(state: Any) -> bool:
    """Whether some statement of the function calls one."""
    for block in state.func_ir.blocks.values():
        for stmt in block.body:
            expr = stmt.value if isinstance(stmt, ir.Assign) else None
            if isinstance(expr, ir.Expr) and _has_versions(state, expr):
                return True
    return False


def _has_versions(state: Any, expr: Any) -> bool:
    sig = state.calltypes.get(expr) if expr.op in ("call", "binop", "inplace_binop") else None
    if sig is None or sig.return_type not in (types.float32, types.float64):
        return False
    name = _operation(state, expr)
    if name not in libm.FUNCTIONS:
        return False
    suffix = "f" if sig.return_type == types.float32 else ""
    return bool(vectormath.variants(libm.FUNCTIONS[name] + suffix))


def _operation(state: Any, expr: Any) -> str | None:
    """The operation of ``math`` that a call becomes; None for others."""
    if expr.op != "call":
        power = expr.fn in (operator.pow, operator.ipow)
        exponent = types.unliteral(state.typemap[expr.rhs.name])
        return "math.powf" if power and isinstance(exponent, types.Float) else None
    callee = state.typemap[expr.func.name]
    function = callee.typing_key if isinstance(callee, types.Function) else None
    if not hashable(function):
        return None
    spec = intrinsics.spec_of(function)
    return mathfuncs.operation_name(function) if spec is None else spec.name
