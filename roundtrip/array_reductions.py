"""Arrays that a ``prange`` loop adds up: ``r += t`` where ``r`` goes from trip to trip.

Numba finds these by the in-place operator and gives each thread an array of its own, so
the operator must still be there when its ParforPass comes.
"""

from __future__ import annotations

from typing import Any

from numba.core import ir, types
from numba.core.analysis import (
    compute_cfg_from_blocks,
    compute_live_map,
    compute_use_defs,
)

from numba_mlir.roundtrip.assignments import all_assignments, is_prange, operation, reached


def array_reductions(state: Any) -> frozenset[int]:
    """Ids of the statements ``x = r op= t`` of arrays that a ``prange`` loop carries."""
    blocks = state.func_ir.blocks
    if not state.flags.auto_parallel.prange or not any(
        _is_step(stmt, state.typemap) for _, stmt in all_assignments(state.func_ir)
    ):
        return frozenset()
    cfg, known = compute_cfg_from_blocks(blocks), compute_use_defs(blocks)
    live = compute_live_map(cfg, blocks, known.usemap, known.defmap)
    found: set[int] = set()
    for loop in _prange_loops(state, cfg):
        inside = [stmt for label in loop.body for stmt in blocks[label].find_insts(ir.Assign)]
        carried = live[loop.header] & {v for label in loop.body for v in known.defmap[label]}
        running = reached(inside, carried, ("inplace_binop", "cast"))
        steps = (stmt for stmt in inside if _is_step(stmt, state.typemap))
        found |= {id(step) for step in steps if step.value.lhs.name in running}
    return frozenset(found)


def _is_step(stmt: Any, typemap: Any) -> bool:
    if operation(stmt) != "inplace_binop":
        return False
    return isinstance(typemap[stmt.value.lhs.name], types.Array)


def _prange_loops(state: Any, cfg: Any) -> list[Any]:
    blocks = state.func_ir.blocks
    statements = [stmt for _, stmt in all_assignments(state.func_ir)]
    calls = (stmt.target.name for stmt in statements if is_prange(state, stmt))
    iterators = reached(statements, calls, ("getiter",))
    return [
        loop
        for loop in cfg.loops().values()
        if any(step.value.name in iterators for step in blocks[loop.header].find_exprs("iternext"))
    ]
