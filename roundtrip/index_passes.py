"""A pass in front of Numba's ParforPass: variables that are a parallel loop's index at times.

In

    for i in prange(n):
        k = i
        if backward:
            k = n - i - 1

Numba takes ``k`` for the index itself ("Overwrite of parallel loop index"), or types it as a
float in the loop's kernel, where the index is unsigned.  Here ``k = i`` becomes the call of an
intrinsic of exact type, as does ``max(i, k)``'s argument ``i``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from numba import prange
from numba.core import errors, ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions, mk_unique_var

from numba_mlir.converters.loop_index import as_number


@register_pass(mutates_CFG=False, analysis_only=False)
class NumberIndices(FunctionPass):
    """Where a loop's index becomes another variable's value, it is a plain number."""

    _name: ClassVar[str] = "mlir_number_indices"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        assignments = list(_assignments(state.func_ir))
        if not any(_is_prange(state, stmt) for _, stmt in assignments):
            return False
        indices = _indices(state, assignments)
        found = [
            (block, stmt, place)
            for block, stmt in assignments
            for place in _places(state, stmt, indices)
        ]
        for block, stmt, place in found:
            _make_number(state, block, stmt, place)
        if found:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return bool(found)


def _assignments(func_ir: Any) -> Iterator[tuple[Any, Any]]:
    for block in func_ir.blocks.values():
        for stmt in block.body:
            if isinstance(stmt, ir.Assign):
                yield block, stmt


def _op(stmt: Any) -> str | None:
    return stmt.value.op if isinstance(stmt.value, ir.Expr) else None


def _is_prange(state: Any, stmt: Any) -> bool:
    callee: Any = state.typemap[stmt.value.func.name] if _op(stmt) == "call" else None
    return isinstance(callee, types.Function) and callee.typing_key is prange


def _indices(state: Any, assignments: list[tuple[Any, Any]]) -> set[str]:
    """The indices of loops over ``prange``, and variables that are never anything else."""
    iterators = _reached(assignments, _iterators(state, assignments), ("getiter", "iternext"))
    first = {
        stmt.target.name
        for _, stmt in assignments
        if _op(stmt) == "pair_first" and stmt.value.value.name in iterators
    }
    copies = _reached(assignments, first, ())
    user_names = {stmt.target.name: _user_name(stmt.target) for _, stmt in assignments}
    while True:
        others = {
            stmt.target.name
            for _, stmt in assignments
            if stmt.target.name not in first
            and not (isinstance(stmt.value, ir.Var) and stmt.value.name in copies)
        }
        # Numba compares the names that the user gave
        theirs = {user_names[name] for name in others}
        others |= {name for name in copies - first if user_names[name] in theirs}
        if not copies & others:
            return copies
        copies -= others


def _user_name(var: Any) -> str:
    """The name without the version that tells its assignments apart."""
    try:
        return str(var.scope.get_exact(var.name).unversioned_name)
    except errors.NotDefinedError:
        return str(var.name)


def _iterators(state: Any, assignments: list[tuple[Any, Any]]) -> set[str]:
    return {stmt.target.name for _, stmt in assignments if _is_prange(state, stmt)}


def _reached(
    assignments: list[tuple[Any, Any]], names: set[str], through: tuple[str, ...]
) -> set[str]:
    """``names`` and what copies and the operations ``through`` make of them."""
    found = set(names)
    while True:
        before = len(found)
        for _, stmt in assignments:
            value = stmt.value if isinstance(stmt.value, ir.Var) else None
            if _op(stmt) in through:
                value = stmt.value.value
            if value is not None and value.name in found:
                found.add(stmt.target.name)
        if len(found) == before:
            return found


def _places(state: Any, stmt: Any, indices: set[str]) -> Iterator[int | None]:
    """Where a statement uses an index as a number: None for a copy, else the argument."""
    value = stmt.value
    if isinstance(value, ir.Var):
        numbers = state.typemap[stmt.target.name] == state.typemap[value.name] == types.int64
        if value.name in indices and stmt.target.name not in indices and numbers:
            yield None
    elif _op(stmt) == "call" and not value.kws and value.vararg is None:
        callee = state.typemap[value.func.name]
        if isinstance(callee, types.Function) and callee.typing_key in (max, min):
            for number, arg in enumerate(value.args):
                if arg.name in indices and state.typemap[arg.name] == types.int64:
                    yield number


def _make_number(state: Any, block: Any, stmt: Any, place: int | None) -> None:
    context, typemap, loc = state.typingctx, state.typemap, stmt.loc
    context.refresh()
    state.targetctx.refresh()
    function = ir.Var(block.scope, mk_unique_var("$number"), loc)
    typemap[function.name] = kind = context.resolve_value_type(as_number)
    index = stmt.value if place is None else stmt.value.args[place]
    call = ir.Expr.call(function, (index,), (), loc)
    state.calltypes[call] = kind.get_call_type(context, (types.int64,), {})
    new = [ir.Assign(ir.Global(function.name, as_number, loc), function, loc)]
    if place is None:
        stmt.value = call
    else:
        result = ir.Var(block.scope, mk_unique_var("$index"), loc)
        typemap[result.name] = types.int64
        new.append(ir.Assign(call, result, loc))
        args = list(stmt.value.args)
        args[place] = result
        stmt.value.args = tuple(args)
    position = block.body.index(stmt)
    block.body[position:position] = new
