"""The kernel of a ``numba.stencil`` function: its typed body, and what it reads where.

Numba keeps a kernel as untyped IR in which ``a[-1, 0]`` means an element relative to the
one that is computed.  Here it is typed for one call, its copy gets variables of its own, and
its relative subscripts are found.  Nothing of the function that calls it changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numba.core import ir, ir_utils, types
from numba.core.errors import NumbaError
from numba.stencils.stencil import StencilFunc
from numba.stencils.stencilparfor import _get_const_index_expr, get_stencil_ir

from numba_mlir.converters.arrayexprs import Refused

#: a relative subscript: a constant, or the variable that holds it
Offset = int | ir.Var


@dataclass(frozen=True)
class Kernel:
    """A kernel for arguments of certain types.

    ``blocks`` end in one empty block, where the variable ``result`` holds the element.
    ``offsets`` are the relative subscripts by the id of their expression.  An element at
    index i of an axis is computed where ``below <= i < size - above``.
    """

    blocks: Mapping[int, Any]
    types: Mapping[str, Any]
    calltypes: Mapping[Any, Any]
    result: str
    offsets: Mapping[int, tuple[Offset, ...]]
    below: tuple[int, ...]
    above: tuple[int, ...]


def function_of(callee: Any) -> StencilFunc | None:
    """The stencil function behind the Numba type of a callee; None for another callee."""
    key = callee.typing_key if isinstance(callee, types.Function) else None
    return key if isinstance(key, StencilFunc) else None


def relative_arguments(function: StencilFunc, kinds: Sequence[Any]) -> list[int]:
    """The numbers of the arguments that are indexed relatively; `Refused` for bad options."""
    standard = function.options.get("standard_indexing", ())
    names = list(function.kernel_ir.arg_names)
    if len(names) != len(kinds) or isinstance(standard, str) or not set(standard) <= set(names):
        raise Refused("a stencil whose arguments are not those of its kernel")
    if names[0] in standard:
        raise Refused("a stencil whose first array has standard indexing")
    return [
        number
        for number, (name, kind) in enumerate(zip(names, kinds, strict=True))
        if isinstance(kind, types.ArrayCompatible) and name not in standard
    ]


def read(
    typingctx: Any, function: StencilFunc, args: Sequence[Any], kinds: Sequence[Any]
) -> Kernel:
    """The kernel for arguments in the variables ``args`` of the types ``kinds``.

    Raises `Refused` for what Numba does not compile and for subscripts that are not understood.
    """
    relative = relative_arguments(function, kinds)
    names = {args[number].name for number in relative}
    if any(arg.name in names for number, arg in enumerate(args) if number not in relative):
        raise Refused("one array with relative and with standard indexing")
    typemap: dict[str, Any] = {arg.name: kind for arg, kind in zip(args, kinds, strict=True)}
    calltypes: dict[Any, Any] = {}
    try:
        kernel_ir, returned, _ = get_stencil_ir(
            function, typingctx, tuple(kinds), args[0].scope, args[0].loc,
            dict(enumerate(args)), typemap, calltypes,
        )  # fmt: skip
    except NumbaError as error:
        raise Refused(f"Numba does not compile the kernel: {error.msg.splitlines()[0]}") from error
    _simplify(kernel_ir, typemap, calltypes)
    rank = kinds[0].ndim
    offsets = dict(_offsets(kernel_ir, _copies(kernel_ir.blocks, names), rank))
    below, above = _margins(function, rank, list(offsets.values()))
    result = _with_one_end(kernel_ir.blocks, args[0].scope)
    typemap[result] = returned.dtype
    return Kernel(kernel_ir.blocks, typemap, calltypes, result, offsets, below, above)


def _simplify(kernel_ir: Any, typemap: Any, calltypes: Any) -> None:
    """Remove copies of variables, which stand in the way of ``range`` loops."""
    blocks = kernel_ir.blocks
    copies, _ = ir_utils.copy_propagate(blocks, typemap)
    names = ir_utils.get_name_var_table(blocks)
    ir_utils.apply_copy_propagate(blocks, copies, names, typemap, calltypes)
    ir_utils.remove_dead(blocks, kernel_ir.arg_names, kernel_ir, typemap)
    kernel_ir._definitions = ir_utils.build_definitions(blocks)


def _copies(blocks: Mapping[int, Any], names: set[str]) -> set[str]:
    """``names`` and all variables that are nothing but copies of them."""
    assigned = [s for b in blocks.values() for s in b.body if isinstance(s, ir.Assign)]
    counts = Counter(stmt.target.name for stmt in assigned)
    known = set(names)
    while True:
        found = {
            stmt.target.name
            for stmt in assigned
            if isinstance(stmt.value, ir.Var)
            and stmt.value.name in known
            and counts[stmt.target.name] == 1
        }
        if found <= known:
            return known
        known |= found


def _offsets(
    kernel_ir: Any, arrays: set[str], rank: int
) -> Iterator[tuple[int, tuple[Offset, ...]]]:
    tuples = ir_utils.get_tuple_table(kernel_ir.blocks)
    for block in kernel_ir.blocks.values():
        for stmt in block.body:
            if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
                raise Refused("a kernel that writes into an array")
            expr = stmt.value if isinstance(stmt, ir.Assign) else None
            if not isinstance(expr, ir.Expr) or expr.op not in ("getitem", "static_getitem"):
                continue
            if expr.value.name in arrays:
                yield id(expr), _subscripts(kernel_ir, expr.index, tuples, rank)


def _subscripts(kernel_ir: Any, index: Any, tuples: Mapping[str, Any], rank: int) -> Any:
    if rank == 1 and not isinstance(index, tuple):
        members = [index]
    else:
        members = list(index if isinstance(index, tuple) else tuples.get(index.name, ()))
    if len(members) != rank:
        raise Refused("a relative subscript that is not one number for each dimension")
    found = tuple(
        member if isinstance(member, int) else _get_const_index_expr(kernel_ir, kernel_ir, member)
        for member in members
    )
    if not all(isinstance(member, (int, ir.Var)) for member in found):
        raise Refused("a relative subscript that is not a number")
    return found


def _margins(
    function: StencilFunc, rank: int, offsets: Sequence[tuple[Offset, ...]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many elements are left out at the lower and at the upper end of each axis."""
    given = function.neighborhood
    if given is not None:
        pairs = [tuple(pair) for pair in given]
        if len(pairs) != rank or not all(isinstance(n, int) for pair in pairs for n in pair):
            raise Refused("a neighborhood that is not known at compile time")
        lows, highs = zip(*pairs, strict=True)
    else:
        if not offsets or not all(isinstance(n, int) for where in offsets for n in where):
            raise Refused("variable relative subscripts without a neighborhood")
        axes = list(zip(*offsets, strict=True))
        lows, highs = [min(axis) for axis in axes], [max(axis) for axis in axes]
    return tuple(-min(low, 0) for low in lows), tuple(max(high, 0) for high in highs)


def _with_one_end(blocks: dict[int, Any], scope: Any) -> str:
    """Let all returns jump to a new last block; the variable that has the value there."""
    loc = next(iter(blocks.values())).loc
    result, end = ir.Var(scope, ir_utils.mk_unique_var("$stencil"), loc), max(blocks) + 1
    for block in blocks.values():
        last = block.body[-1]
        if isinstance(last, ir.Return):
            block.body[-1:] = [ir.Assign(last.value, result, last.loc), ir.Jump(end, last.loc)]
    blocks[end] = ir.Block(scope, loc)
    return result.name
