"""A pass behind all others: large arrays that a function makes get memory from the cache of blocks.

Calls of ``np.empty``, ``np.zeros`` and their ``_like`` forms, and copies of contiguous arrays,
become calls of intrinsics that allocate through :mod:`.block_cache`; Numba and our passes make the
arrays of array statements by ``np.empty`` as well.  What comes out is an ordinary array.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numba.core import cgutils, ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.extending import intrinsic
from numba.core.ir_utils import build_definitions, mk_unique_var
from numba.np import arrayobj
from numba.parfors.parfor import Parfor

from numba_mlir.roundtrip import block_cache, freshness

#: what is in a new array
Content = Literal["anything", "zeros", "copy"]
_CALLS: dict[Any, Content] = {
    np.empty: "anything", np.empty_like: "anything", np.zeros: "zeros", np.zeros_like: "zeros",
}  # fmt: skip
_LIKE = (np.empty_like, np.zeros_like)


def _new_memory(context: Any, builder: Any, size: Any, alignment: Any) -> Any:
    """A MemInfo of at least ``size`` bytes; MemoryError where there is none."""
    block_cache.load()
    context.active_code_library._reload_init.add(block_cache.load)
    kind = cgutils.ir.FunctionType(cgutils.voidptr_t, [size.type, alignment.type])
    function = cgutils.get_or_insert_function(builder.module, kind, block_cache.NEW_ARRAY)
    made = builder.call(function, [size, alignment])
    message = "Allocation failed (probably too large)."  # as Numba says it
    cgutils.guard_memory_error(context, builder, made, message)
    return made


def allocate(context: Any, builder: Any, array: Any, shape: Sequence[Any]) -> tuple[Any, Any]:
    """An array of Numba type ``array`` with layout C or F, and its bytes.

    ``shape`` are sizes of 64 bits, none of them negative.  ValueError where the array is larger
    than 2**63 bytes, as in NumPy.
    """
    item = context.get_abi_sizeof(context.get_data_type(array.dtype))
    itemsize = context.get_constant(types.intp, item)
    size, too_big = context.get_constant(types.intp, 1), cgutils.false_bit
    for factor in (*shape, itemsize):
        product = builder.smul_with_overflow(size, factor)
        size = builder.extract_value(product, 0)
        too_big = builder.or_(too_big, builder.extract_value(product, 1))
    strides, order = [itemsize] * array.ndim, list(range(array.ndim))
    order = order if array.layout == "F" else order[::-1]
    for inner, axis in itertools.pairwise(order):
        strides[axis] = builder.mul(strides[inner], shape[inner])
    with builder.if_then(too_big, likely=False):
        message = (
            "array is too big; `arr.size * arr.dtype.itemsize` is larger than"
            " the maximum possible size."
        )
        context.call_conv.return_user_exc(builder, ValueError, (message,))
    alignment = context.get_preferred_array_alignment(array.dtype)
    alignment = context.get_constant(types.uint32, alignment)
    meminfo = _new_memory(context, builder, size, alignment)
    made = context.make_array(array)(context, builder)
    arrayobj.populate_array(
        made,
        data=builder.bitcast(context.nrt.meminfo_data(builder, meminfo), made.data.type),
        shape=list(shape),
        strides=strides,
        itemsize=itemsize,
        meminfo=meminfo,
    )
    return made, size


@functools.cache
def allocator(array: Any, content: Content) -> Any:
    """An intrinsic for arrays of Numba type ``array``; its argument is a shape, or an array.

    For a copy, that has the same layout and is contiguous.
    """

    @intrinsic
    def new_array(typingctx: Any, like: Any) -> Any:
        """np.empty, np.zeros or np.copy"""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            known = isinstance(like, types.Array)
            parse = arrayobj._parse_empty_like_args if known else arrayobj._parse_empty_args
            _, shapes = parse(context, builder, sig, args)
            made, size = allocate(context, builder, array, shapes)
            if content == "zeros":
                cgutils.memset(builder, made.data, size, 0)
            elif content == "copy":
                source = context.make_array(like)(context, builder, args[0])
                cgutils.raw_memcpy(builder, made.data, source.data, made.nitems, made.itemsize)
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
        for block in calling_blocks(state.func_ir):
            for number, stmt in reversed(list(enumerate(block.body))):
                found = _allocation(stmt, single, state.typemap)
                if found is not None:
                    _replace(state, block, number, *found)
                    changed = True
        if changed:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return changed


def calling_blocks(func_ir: Any) -> Iterator[Any]:
    """Blocks that run on the calling thread."""
    for block in func_ir.blocks.values():
        yield block
        for stmt in block.body:
            if isinstance(stmt, Parfor):
                yield stmt.init_block


def _allocation(stmt: Any, single: dict[str, Any], typemap: Any) -> tuple[Content, Any] | None:
    """What is in the array that a statement makes, and its shape or model; None for others."""
    if not isinstance(stmt, ir.Assign):
        return None
    made, value = typemap.get(stmt.target.name), stmt.value
    if type(made) is not types.Array or not isinstance(made.dtype, (types.Number, types.Boolean)):
        return None
    if (model := _copied(value, single, typemap)) is not None:
        kind = typemap[model.name]
        same = kind.dtype == made.dtype and kind.layout == made.layout in ("C", "F")
        return ("copy", model) if same else None
    function = freshness.callee(single, value)
    for one, content in _CALLS.items():
        if function is one and value.args and value.vararg is None:
            kind = typemap[value.args[0].name]
            # np.empty_like of a number is an array without dimensions
            wanted = types.Array if one in _LIKE else (types.Integer, types.BaseTuple)
            known = isinstance(kind, wanted) and not isinstance(kind, types.Literal)
            return (content, value.args[0]) if known else None
    return None


def _copied(value: Any, single: dict[str, Any], typemap: Any) -> Any | None:
    """``a`` in ``a.copy()``."""
    if not isinstance(value, ir.Expr) or value.op != "call" or value.args or value.kws:
        return None
    method = typemap.get(value.func.name)
    if not isinstance(method, types.BoundFunction) or method.typing_key != "array.copy":
        return None
    lookup = single.get(value.func.name)
    if not isinstance(lookup, ir.Expr) or lookup.op != "getattr":
        return None
    if type(typemap[lookup.value.name]) is not types.Array:
        return None
    # the array of that name may be another one by now
    return lookup.value if lookup.value.name in single else None


def _replace(state: Any, block: Any, number: int, content: Content, model: Any) -> None:
    """``target = np.empty(model, ...)`` becomes ``target = new_array(model)``."""
    stmt, context = block.body[number], state.typingctx
    loc = stmt.loc
    function = allocator(state.typemap[stmt.target.name], content)
    context.refresh()
    state.targetctx.refresh()
    var = block.scope.redefine(mk_unique_var("$new_array"), loc)
    kind = state.typemap[var.name] = context.resolve_value_type(function)
    call = ir.Expr.call(var, (model,), (), loc)
    state.calltypes[call] = kind.get_call_type(context, (state.typemap[model.name],), {})
    stmt.value = call
    block.body.insert(number, ir.Assign(ir.Global("new_array", function, loc), var, loc))
