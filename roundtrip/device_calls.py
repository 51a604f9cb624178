"""What is left of a function on a device after the loops: single elements, and calls of
functions that the arrays' own library has.

Typed Numba IR → typed Numba IR; the functions are named in `FUNCTIONS` and `METHODS`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import ir, ir_utils, types

from numba_mlir.gpu import intrinsics

#: NumPy function -> name in `numba_mlir.gpu.runtime`
FUNCTIONS: dict[Any, str] = {
    np.dot: "matmul", operator.matmul: "matmul", np.copy: "copied", np.ravel: "flattened",
    np.ones_like: "ones", np.zeros_like: "zeros", np.full_like: "filled",
}  # fmt: skip
#: those that Numba would make a loop of
EARLY: dict[Any, str] = {np.argmax: "argmax", np.argmin: "argmin"}
EARLY_METHODS: dict[Any, str] = {
    (types.Array, "argmax"): "argmax", (types.Array, "argmin"): "argmin",
}  # fmt: skip
METHODS: dict[Any, str] = {
    "array.copy": "copied",
    "array.astype": "copied",
    "array.flatten": "flattened",
}


def rewrite(state: Any) -> None:
    """Replace the statements of ``state.func_ir`` that have a form on the device."""
    _Rewriter(state, FUNCTIONS, METHODS).run()


def rewrite_early(state: Any) -> None:
    """Replace the calls that Numba would make loops of, of which no kernel can be made."""
    _Rewriter(state, EARLY, EARLY_METHODS, calls_only=True).run()


class _Rewriter:
    def __init__(
        self,
        state: Any,
        functions: dict[Any, str],
        methods: dict[Any, str],
        calls_only: bool = False,
    ) -> None:
        self._state = state
        self._functions, self._methods = functions, methods
        self._calls_only = calls_only
        self._typemap, self._calltypes = state.typemap, state.calltypes
        self._out: list[Any] = []

    def run(self) -> None:
        for block in self._state.func_ir.blocks.values():
            self._out = []
            for stmt in block.body:
                if not self._replaced(block.scope, stmt):
                    self._out.append(stmt)
            block.body[:] = self._out
        self._state.typingctx.refresh()
        self._state.targetctx.refresh()

    def _replaced(self, scope: Any, stmt: Any) -> bool:
        if self._calls_only and getattr(getattr(stmt, "value", None), "op", "") != "call":
            return False
        if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
            return self._store(scope, stmt)
        if not isinstance(stmt, ir.Assign) or not isinstance(stmt.value, ir.Expr):
            return False
        expr = stmt.value
        if expr.op in ("getitem", "static_getitem"):
            return self._load(scope, stmt)
        if expr.op == "binop" and expr.fn is operator.matmul:
            return self._library(scope, stmt, "matmul", [expr.lhs, expr.rhs])
        if expr.op == "call":
            return self._call(scope, stmt)
        return False

    # -- elements ----------------------------------------------------------------------
    def _load(self, scope: Any, stmt: Any) -> bool:
        expr = stmt.value
        array = self._typemap[expr.value.name]
        if not isinstance(array, types.Array) or self._typemap[stmt.target.name] != array.dtype:
            return False
        index = self._index(scope, expr, array.ndim)
        if index is None:
            return False
        stmt.value = self._made(scope, intrinsics.read, [expr.value, index], stmt.loc)
        self._out.append(stmt)
        return True

    def _store(self, scope: Any, stmt: Any) -> bool:
        array = self._typemap[stmt.target.name]
        value = types.unliteral(self._typemap[stmt.value.name])
        if not isinstance(array, types.Array) or not isinstance(
            value, (types.Number, types.Boolean)
        ):
            return False
        index = self._index(scope, stmt, array.ndim)
        if index is None:
            return False
        call = self._made(scope, intrinsics.write, [stmt.target, index, stmt.value], stmt.loc)
        self._assign(scope, call, types.none, stmt.loc)
        return True

    def _index(self, scope: Any, node: Any, rank: int) -> Any:
        """A variable with a tuple of int64; None where the index selects more than a number."""
        static = isinstance(node, ir.StaticSetItem) or getattr(node, "op", "") == "static_getitem"
        if static:
            parts = node.index if isinstance(node.index, tuple) else (node.index,)
            if len(parts) != rank or not all(type(part) is int for part in parts):
                return None
            members = [self._assign(scope, ir.Const(n, node.loc), types.int64, node.loc)
                       for n in parts]  # fmt: skip
            return self._tuple(scope, members, node.loc)
        kind = self._typemap[node.index.name]
        if isinstance(kind, types.Integer):
            return self._tuple(scope, [node.index], node.loc) if rank == 1 else None
        numbers = isinstance(kind, types.BaseTuple) and all(
            isinstance(member, types.Integer) for member in kind
        )
        return node.index if numbers and len(kind) == rank else None

    # -- calls -------------------------------------------------------------------------
    def _call(self, scope: Any, stmt: Any) -> bool:
        expr = stmt.value
        callee = self._typemap[expr.func.name]
        key = getattr(callee, "typing_key", None)
        if isinstance(callee, types.BoundFunction):
            if key not in self._methods or not isinstance(callee.this, types.Array):
                return False
            owner = self._definition(expr.func)
            if owner is None or owner.op != "getattr":
                return False
            return self._library(scope, stmt, self._methods[key], [owner.value])
        if not isinstance(key, type) and key in self._functions:
            return self._library(scope, stmt, self._functions[key], expr.args)
        return False

    def _definition(self, var: Any) -> Any:
        for block in self._state.func_ir.blocks.values():
            for stmt in block.find_insts(ir.Assign):
                if stmt.target.name == var.name:
                    return stmt.value if isinstance(stmt.value, ir.Expr) else None
        return None

    def _library(self, scope: Any, stmt: Any, name: str, args: Sequence[Any]) -> bool:
        """A call with those of ``args`` that are arrays or numbers; a dtype is in the result."""
        result = self._typemap[stmt.target.name]
        if not isinstance(result, (types.Array, types.Number)):
            return False
        if isinstance(result, types.Array) and result.layout != "C":
            return False
        kinds = (types.Array, types.Number, types.Boolean)
        members = [arg for arg in args if isinstance(self._typemap[arg.name], kinds)]
        if not any(isinstance(self._typemap[arg.name], types.Array) for arg in members):
            return False
        operands = [self._tuple(scope, members, stmt.loc)]
        stmt.value = self._made(scope, intrinsics.library(name, result), operands, stmt.loc)
        self._out.append(stmt)
        return True

    # -- building ----------------------------------------------------------------------
    def _made(self, scope: Any, function: Any, args: Sequence[Any], loc: Any) -> Any:
        """A typed call of an intrinsic."""
        context = self._state.typingctx
        context.refresh()
        kind = context.resolve_value_type(function)
        var = self._assign(scope, ir.Global(function._name, function, loc), kind, loc)
        call = ir.Expr.call(var, tuple(args), (), loc)
        arg_types = tuple(types.unliteral(self._typemap[arg.name]) for arg in args)
        self._calltypes[call] = kind.get_call_type(context, arg_types, {})
        return call

    def _tuple(self, scope: Any, members: Sequence[Any], loc: Any) -> Any:
        kinds = [types.unliteral(self._typemap[one.name]) for one in members]
        kind = types.Tuple.from_types(kinds)
        return self._assign(scope, ir.Expr.build_tuple(list(members), loc), kind, loc)

    def _assign(self, scope: Any, value: Any, numba_type: Any, loc: Any) -> Any:
        name = ir_utils.mk_unique_var("$device")
        self._typemap[name] = numba_type
        var = ir.Var(scope, name, loc)
        self._out.append(ir.Assign(value, var, loc))
        return var
