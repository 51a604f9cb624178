"""Two passes in front of Numba's ParforPass, about the index of parallel loops.

ParforPass takes ``prange`` with a step of 1 only; `UnitSteps` lets other loops count their
iterations, and computes the index from that.

`NumberIndices` is about variables that are a loop's index at times.  In

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

from numba.core import errors, ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions, mk_unique_var

from numba_mlir.converters.loop_index import as_number, strided, trips
from numba_mlir.roundtrip.assignments import all_assignments, is_prange, operation, reached
from numba_mlir.roundtrip.typed_calls import typed_call


@register_pass(mutates_CFG=False, analysis_only=False)
class NumberIndices(FunctionPass):
    """Where a loop's index becomes another variable's value, it is a plain number."""

    _name: ClassVar[str] = "mlir_number_indices"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        assignments = list(all_assignments(state.func_ir))
        if not any(is_prange(state, stmt) for _, stmt in assignments):
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


def _indices(state: Any, assignments: list[tuple[Any, Any]]) -> set[str]:
    """The indices of loops over ``prange``, and variables that are never anything else."""
    statements = [stmt for _, stmt in assignments]
    ranges = {stmt.target.name for stmt in statements if is_prange(state, stmt)}
    iterators = reached(statements, ranges, ("getiter", "iternext"))
    first = {
        stmt.target.name
        for _, stmt in assignments
        if operation(stmt) == "pair_first" and stmt.value.value.name in iterators
    }
    copies = reached(statements, first, ())
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


def _places(state: Any, stmt: Any, indices: set[str]) -> Iterator[int | None]:
    """Where a statement uses an index as a number: None for a copy, else the argument."""
    value = stmt.value
    if isinstance(value, ir.Var):
        numbers = state.typemap[stmt.target.name] == state.typemap[value.name] == types.int64
        if value.name in indices and stmt.target.name not in indices and numbers:
            yield None
    elif operation(stmt) == "call" and not value.kws and value.vararg is None:
        callee = state.typemap[value.func.name]
        if isinstance(callee, types.Function) and callee.typing_key in (max, min):
            for number, arg in enumerate(value.args):
                if arg.name in indices and state.typemap[arg.name] == types.int64:
                    yield number


def _make_number(state: Any, block: Any, stmt: Any, place: int | None) -> None:
    index = stmt.value if place is None else stmt.value.args[place]
    result, new = _call(state, block, stmt.loc, as_number, (index,))
    if place is None:
        stmt.value = new.pop().value
    else:
        args = list(stmt.value.args)
        args[place] = result
        stmt.value.args = tuple(args)
    position = block.body.index(stmt)
    block.body[position:position] = new


@register_pass(mutates_CFG=False, analysis_only=False)
class UnitSteps(FunctionPass):
    """``prange(start, stop, step)`` becomes a loop over its number of iterations."""

    _name: ClassVar[str] = "mlir_unit_steps"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        assignments = list(all_assignments(state.func_ir))
        modified = False
        for block, stmt in assignments:
            if is_prange(state, stmt) and len(stmt.value.args) == 3:
                modified |= _unit_step(state, block, stmt, assignments)
        if modified:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return modified


def _unit_step(state: Any, block: Any, stmt: Any, assignments: list[tuple[Any, Any]]) -> bool:
    statements = [one for _, one in assignments]
    iterators = reached(statements, {stmt.target.name}, ("getiter", "iternext"))
    found = [
        (where, one)
        for where, one in assignments
        if operation(one) == "pair_first" and one.value.value.name in iterators
    ]
    if any(state.typemap[one.target.name] != types.int64 for _, one in found):
        return False
    position = block.body.index(stmt)
    start, _, step = stmt.value.args
    held = [_held(state, block, position, var) for var in (start, step)]
    count, new = _call(state, block, stmt.loc, trips, stmt.value.args)
    block.body[position + 2 : position + 2] = new
    call = ir.Expr.call(stmt.value.func, (count,), (), stmt.loc)
    kind = state.typemap[call.func.name]
    state.calltypes[call] = kind.get_call_type(state.typingctx, (types.int64,), {})
    stmt.value = call
    for where, one in found:
        index, number = one.target, ir.Var(where.scope, mk_unique_var("$iteration"), one.loc)
        state.typemap[number.name] = types.int64
        one.target = number
        result, new = _call(state, where, one.loc, strided, (number, *held))
        new.append(ir.Assign(result, index, one.loc))
        after = where.body.index(one) + 1
        where.body[after:after] = new
    return True


def _held(state: Any, block: Any, position: int, var: Any) -> Any:
    """A variable of our own with the value of another one."""
    held = ir.Var(block.scope, mk_unique_var("$held"), block.body[position].loc)
    state.typemap[held.name] = state.typemap[var.name]
    block.body.insert(position, ir.Assign(var, held, held.loc))
    return held


def _call(state: Any, block: Any, loc: Any, function: Any, args: Any) -> tuple[Any, list[Any]]:
    """A new variable, and the statements that give it the value of a call on int64 numbers."""
    return typed_call(state, block.scope, loc, function, args, (types.int64,) * len(args))
