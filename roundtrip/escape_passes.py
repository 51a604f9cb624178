"""A pass in front of Numba's ParforPass: arrays that are written after a tuple or list has them.

In

    t = (b, n)
    b[:] = a + 1
    return t

Numba takes the assignment for dead, since ``b`` itself is not used any more.  Here a mark,
`escapes`, stands in front of what holds on to an array that is written later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from numba.core import ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions
from numba.parfors.parfor import Parfor

from numba_mlir.converters.escaping import escapes
from numba_mlir.roundtrip.accesses import block_graph
from numba_mlir.roundtrip.typed_calls import typed_call

#: expressions whose result has the memory of their first operand
_VIEWS = frozenset({"getitem", "static_getitem", "getattr", "cast", "inplace_binop"})
_CONTAINERS = frozenset({"build_tuple", "build_list", "build_map"})
_HOLDERS = (types.List, types.ListType, types.DictType, types.ClassInstanceType)


@register_pass(mutates_CFG=False, analysis_only=False)
class MarkEscaping(FunctionPass):
    """Mark arrays that somebody holds on to and that are written afterwards."""

    _name: ClassVar[str] = "mlir_mark_escaping"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        blocks, typemap = state.func_ir.blocks, state.typemap
        held = [
            (label, number, var)
            for label, block in blocks.items()
            for number, stmt in enumerate(block.body)
            for var in _held(stmt, typemap)
        ]
        if not held:
            return False
        classes = _same_memory(blocks, typemap)
        after = _reachable(block_graph(blocks))
        found = [
            (blocks[label], number, var)
            for label, number, var in held
            if _written(classes, var.name, _later(blocks, after[label], label, number))
        ]
        for block, number, var in sorted(found, key=lambda one: -one[1]):
            _mark(state, block, number, var)
        if found:
            state.func_ir._definitions = build_definitions(blocks)
        return bool(found)


def _held(stmt: Any, typemap: Any) -> list[Any]:
    """Arrays that a statement may put where the analysis of aliases does not look."""
    if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
        target = typemap[stmt.target.name]
        candidates = [] if isinstance(target, types.Buffer) else [stmt.value]
    elif isinstance(stmt, ir.SetAttr):
        candidates = [stmt.value]
    elif isinstance(stmt, ir.Assign) and isinstance(stmt.value, ir.Expr):
        candidates = _arguments(stmt, typemap)
    else:
        candidates = []
    return [v for v in candidates if isinstance(typemap[v.name], types.Array)]


def _arguments(stmt: Any, typemap: Any) -> list[Any]:
    expr = stmt.value
    if expr.op in _CONTAINERS:
        return list(expr.list_vars())
    if expr.op != "call":
        return []
    callee, result = typemap[expr.func.name], typemap[stmt.target.name]
    args = [*expr.args, *(var for _, var in expr.kws)]
    if isinstance(callee, types.BoundFunction):
        return args if isinstance(callee.this, _HOLDERS) else []
    if isinstance(callee, types.Dispatcher):
        plain = isinstance(result, (types.Number, types.Boolean, types.NoneType))
        return [] if plain else args
    is_holder = isinstance(result, (types.BaseTuple, *_HOLDERS))
    return args if is_holder else []


def _same_memory(blocks: Any, typemap: Any) -> dict[str, str]:
    """Variables that may have the same memory as another: one of their names for all."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.get(name, name) != name:
            name = leader[name]
        return name

    for stmt in _statements(blocks):
        if not isinstance(stmt, ir.Assign):
            continue
        value = stmt.value
        if isinstance(value, ir.Expr):
            of = _base(value, typemap)
        else:
            of = value if isinstance(value, ir.Var) else None
        if of is not None and isinstance(typemap.get(stmt.target.name), types.Array):
            leader[find(stmt.target.name)] = find(of.name)
    return {name: find(name) for name in leader}


def _base(expr: Any, typemap: Any) -> Any:
    if expr.op == "inplace_binop":
        return expr.lhs
    if expr.op in _VIEWS:
        return expr.value
    if expr.op == "call":
        callee = typemap.get(expr.func.name)
        if isinstance(callee, types.BoundFunction):
            return None
        arrays = [v for v in expr.args if isinstance(typemap.get(v.name), types.Array)]
        return arrays[0] if arrays else None
    return None


def _statements(blocks: Any) -> Iterator[Any]:
    for block in blocks.values():
        yield from _flat(block.body)


def _flat(body: Any) -> Iterator[Any]:
    for stmt in body:
        if isinstance(stmt, Parfor):
            yield from _flat(stmt.init_block.body)
            yield from _statements(stmt.loop_body)
        else:
            yield stmt


def _reachable(control: dict[int, list[int]]) -> dict[int, set[int]]:
    """Blocks that may be executed after each block, itself only where it is in a loop."""
    found: dict[int, set[int]] = {}
    for label in control:
        todo, seen = list(control[label]), set[int]()
        while todo:
            block = todo.pop()
            if block not in seen:
                seen.add(block)
                todo.extend(control[block])
        found[label] = seen
    return found


def _later(blocks: Any, after: set[int], label: int, number: int) -> Iterator[Any]:
    """Statements that may be executed after one of block ``label``."""
    yield from _flat(blocks[label].body[number + 1 :])
    for other in after:
        yield from _flat(blocks[other].body)


def _written(classes: dict[str, str], name: str, statements: Iterable[Any]) -> bool:
    """Whether a statement writes into the memory of array ``name``."""
    mine = classes.get(name, name)
    targets = (_target(stmt) for stmt in statements)
    return any(classes.get(target, target) == mine for target in targets if target is not None)


def _target(stmt: Any) -> str | None:
    if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
        return str(stmt.target.name)
    value = stmt.value if isinstance(stmt, ir.Assign) else None
    if isinstance(value, ir.Expr) and value.op == "inplace_binop":
        return str(value.lhs.name)
    return None


def _mark(state: Any, block: Any, number: int, var: Any) -> None:
    _, made = typed_call(state, block.scope, block.body[number].loc, escapes, (var,))
    block.body[number:number] = made
