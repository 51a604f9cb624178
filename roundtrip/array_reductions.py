"""Arrays that a ``prange`` loop adds up: ``r += t`` where ``r`` goes from trip to trip.

Numba finds these by the in-place operator and gives each thread an array of its own, so
the operator must still be there when its ParforPass comes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from numba import prange
from numba.core import ir, types
from numba.core.analysis import (
    compute_cfg_from_blocks,
    compute_live_map,
    compute_use_defs,
)


def array_reductions(state: Any) -> frozenset[int]:
    """Ids of the statements ``x = r op= t`` of arrays that a ``prange`` loop carries."""
    blocks = state.func_ir.blocks
    steps = [s for block in blocks.values() for s in block.body if _is_step(s, state.typemap)]
    if not steps or not state.flags.auto_parallel.prange:
        return frozenset()
    cfg, known = compute_cfg_from_blocks(blocks), compute_use_defs(blocks)
    live = compute_live_map(cfg, blocks, known.usemap, known.defmap)
    found: set[int] = set()
    for loop in _prange_loops(state, cfg):
        inside = [stmt for label in loop.body for stmt in blocks[label].body]
        carried = live[loop.header] & {v for label in loop.body for v in known.defmap[label]}
        sources = _sources(inside)
        mine = {id(stmt) for stmt in inside}
        found |= {
            id(step)
            for step in steps
            if id(step) in mine and carried & _reached(step.value.lhs.name, sources)
        }
    return frozenset(found)


def _is_step(stmt: Any, typemap: Any) -> bool:
    value = stmt.value if isinstance(stmt, ir.Assign) else None
    if not isinstance(value, ir.Expr) or value.op != "inplace_binop":
        return False
    return isinstance(typemap[value.lhs.name], types.Array)


def _prange_loops(state: Any, cfg: Any) -> list[Any]:
    blocks = state.func_ir.blocks
    iterators = _iterators(state)
    return [
        loop
        for loop in cfg.loops().values()
        if any(step.value.name in iterators for step in blocks[loop.header].find_exprs("iternext"))
    ]


def _iterators(state: Any) -> set[str]:
    """Variables that hold the iterator of a call of ``prange``."""
    statements = [s for b in state.func_ir.blocks.values() for s in b.find_insts(ir.Assign)]
    sources = _sources(statements, ("getiter",))
    ranges = {s.target.name for s in statements if _is_prange(state, s)}
    return {name for name in sources if ranges & _reached(name, sources)}


def _is_prange(state: Any, stmt: Any) -> bool:
    if not isinstance(stmt.value, ir.Expr) or stmt.value.op != "call":
        return False
    callee = state.typemap[stmt.value.func.name]
    return isinstance(callee, types.Function) and callee.typing_key is prange


def _sources(
    statements: Iterable[Any], through: tuple[str, ...] = ("inplace_binop", "cast")
) -> dict[str, set[str]]:
    """For each variable those whose object it may hold."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for stmt in statements:
        value = stmt.value if isinstance(stmt, ir.Assign) else None
        if isinstance(value, ir.Var):
            found[stmt.target.name].add(value.name)
        elif isinstance(value, ir.Expr) and value.op in through:
            origin = value.lhs if value.op == "inplace_binop" else value.value
            found[stmt.target.name].add(origin.name)
    return dict(found)


def _reached(name: str, sources: dict[str, set[str]]) -> set[str]:
    found, work = {name}, [name]
    while work:
        new = sources.get(work.pop(), set()) - found
        found |= new
        work += new
    return found
