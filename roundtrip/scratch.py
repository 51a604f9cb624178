"""The functions that kernels call for memory of their own (:mod:`numba_mlir.passes.panels`)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from numba_mlir.passes.panels import GIVE_BACK, TAKE

_BYTES, _WORD = ir.IntType(8).as_pointer(), ir.IntType(64)


def emit_take(module: ir.Module, context: Any) -> None:
    """Define `TAKE` in ``module``: memory of the C library, null if none is left."""
    take = ir.Function(module, ir.FunctionType(_BYTES, [_WORD]), TAKE)
    take.return_value.add_attribute("noalias")
    builder = ir.IRBuilder(take.append_basic_block())
    malloc = cgutils.get_or_insert_function(module, take.function_type, "malloc")
    builder.ret(builder.call(malloc, list(take.args)))


def emit_give_back(module: ir.Module, context: Any) -> None:
    """Define `GIVE_BACK` in ``module``."""
    give_back = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES]), GIVE_BACK)
    builder = ir.IRBuilder(give_back.append_basic_block())
    free = cgutils.get_or_insert_function(module, give_back.function_type, "free")
    builder.call(free, list(give_back.args))
    builder.ret_void()
