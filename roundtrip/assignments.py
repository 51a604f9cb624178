"""Assignments in Numba IR: which call ``prange``, and what gets a value from what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from numba import prange
from numba.core import ir, types


def all_assignments(func_ir: Any) -> Iterator[tuple[Any, Any]]:
    """Each assignment, with its block."""
    for block in func_ir.blocks.values():
        for stmt in block.body:
            if isinstance(stmt, ir.Assign):
                yield block, stmt


def operation(stmt: Any) -> str | None:
    """What kind of expression an assignment computes."""
    return stmt.value.op if isinstance(stmt.value, ir.Expr) else None


def is_prange(state: Any, stmt: Any) -> bool:
    """Whether an assignment calls ``prange``."""
    callee: Any = state.typemap[stmt.value.func.name] if operation(stmt) == "call" else None
    return isinstance(callee, types.Function) and callee.typing_key is prange


def reached(found: Iterable[Any], names: Iterable[str], through: tuple[str, ...]) -> set[str]:
    """``names`` and what copies and the operations ``through`` make of them."""
    statements, result = list(found), set(names)
    while True:
        before = len(result)
        for stmt in statements:
            value = stmt.value if isinstance(stmt.value, ir.Var) else None
            if operation(stmt) in through:
                in_place = stmt.value.op == "inplace_binop"
                value = stmt.value.lhs if in_place else stmt.value.value
            if value is not None and value.name in result:
                result.add(stmt.target.name)
        if len(result) == before:
            return result
