"""A pass behind all others: large arrays that a function makes get memory from the cache of blocks.

Calls of ``np.empty``, ``np.zeros`` and their ``_like`` forms become calls of intrinsics that
allocate through :mod:`.block_cache`; Numba and our passes make the arrays of array statements by
``np.empty`` as well.  What comes out is an ordinary array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from numba.core import cgutils, ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.datamodel import models, register_default
from numba.core.extending import intrinsic, overload_classmethod
from numba.core.ir_utils import mk_unique_var
from numba.np import arrayobj
from numba.parfors.parfor import Parfor

from numba_mlir.roundtrip import block_cache, freshness

#: function -> whether it fills the array with zeros
_CALLS = {np.empty: False, np.empty_like: False, np.zeros: True, np.zeros_like: True}


class FreshArray(types.Array):
    """The type of an array while it is allocated: it has `_allocate` of its own."""


register_default(FreshArray)(models.ArrayModel)


@intrinsic
def _new_memory(typingctx: Any, size: Any, alignment: Any) -> Any:
    """A MemInfo of at least ``size`` bytes; MemoryError where there is none."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        block_cache.load()
        context.active_code_library._reload_init.add(block_cache.load)
        kind = cgutils.ir.FunctionType(cgutils.voidptr_t, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(builder.module, kind, block_cache.NEW_ARRAY)
        made = builder.call(function, args)
        message = "Allocation failed (probably too large)."  # as Numba says it
        cgutils.guard_memory_error(context, builder, made, message)
        return made

    return types.MemInfoPointer(types.voidptr)(size, alignment), codegen


@overload_classmethod(FreshArray, "_allocate", target="CPU")
def _allocate(cls: Any, size: Any, alignment: Any) -> Callable[..., Any]:
    def impl(cls: Any, size: Any, alignment: Any) -> Any:
        return _new_memory(size, alignment)

    return impl


@functools.cache
def allocator(array: Any, zeros: bool) -> Any:
    """An intrinsic for arrays of Numba type ``array``; its argument is a shape, or an array."""
    fresh = FreshArray(array.dtype, array.ndim, array.layout)

    @intrinsic
    def new_array(typingctx: Any, like: Any) -> Any:
        """np.empty or np.zeros"""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            known = isinstance(like, types.Array)
            parse = arrayobj._parse_empty_like_args if known else arrayobj._parse_empty_args
            _, shapes = parse(context, builder, sig, args)
            made = arrayobj._empty_nd_impl(context, builder, fresh, shapes)
            if zeros:
                size = builder.mul(made.itemsize, made.nitems)
                cgutils.memset(builder, made.data, size, 0)
            return made._getvalue()

        return array(like), codegen

    return new_array


@register_pass(mutates_CFG=False, analysis_only=False)
class FreshMemory(FunctionPass):
    """Goes behind everything that looks for calls of np.empty."""

    _name: ClassVar[str] = "mlir_fresh_memory"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        single = freshness.single_definitions(state.func_ir)
        changed = False
        for block in _blocks(state.func_ir):
            for number, stmt in reversed(list(enumerate(block.body))):
                zeros = _zeros(stmt, single, state.typemap)
                if zeros is not None:
                    _replace(state, block, number, zeros)
                    changed = True
        return changed


def _blocks(func_ir: Any) -> Iterator[Any]:
    """Blocks that run on the calling thread."""
    for block in func_ir.blocks.values():
        yield block
        for stmt in block.body:
            if isinstance(stmt, Parfor):
                yield stmt.init_block


def _zeros(stmt: Any, single: dict[str, Any], typemap: Any) -> bool | None:
    """Whether the array that a statement makes is to be filled with zeros; None for others."""
    if not isinstance(stmt, ir.Assign):
        return None
    made, value = typemap.get(stmt.target.name), stmt.value
    if type(made) is not types.Array or not isinstance(made.dtype, (types.Number, types.Boolean)):
        return None
    function = freshness.callee(single, value)
    for one, zeros in _CALLS.items():
        if function is one and value.args and value.vararg is None:
            return None if isinstance(typemap[value.args[0].name], types.Literal) else zeros
    return None


def _replace(state: Any, block: Any, number: int, zeros: bool) -> None:
    """``target = np.empty(shape, ...)`` becomes ``target = new_array(shape)``."""
    stmt, context = block.body[number], state.typingctx
    loc, expr = stmt.loc, stmt.value
    function = allocator(state.typemap[stmt.target.name], zeros)
    context.refresh()
    state.targetctx.refresh()
    var = block.scope.redefine(mk_unique_var("$new_array"), loc)
    kind = state.typemap[var.name] = context.resolve_value_type(function)
    call = ir.Expr.call(var, expr.args[:1], (), loc)
    given = (state.typemap[expr.args[0].name],)
    state.calltypes[call] = kind.get_call_type(context, given, {})
    stmt.value = call
    block.body.insert(number, ir.Assign(ir.Global("new_array", function, loc), var, loc))
