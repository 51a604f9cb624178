"""A pass of Numba's that tells the lowering which parallel loops have arrays that share memory.

Numba compiles a loop body with ``noalias`` on every array unless a statement in the loop's
init block makes one array from another.  A view made outside the loop is overlooked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from numba.core import ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import find_potential_aliases, mk_unique_var
from numba.parfors.parfor import Parfor

#: attribute of a Parfor whose arrays share memory
SHARED = "mlir_shared_memory"


@register_pass(mutates_CFG=False, analysis_only=False)
class MarkShared(FunctionPass):
    """Goes behind ParforPreLoweringPass, in front of the lowering."""

    _name: ClassVar[str] = "mlir_mark_shared"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        parfors = list(_parfors(state.func_ir.blocks))
        if not parfors:
            return False
        aliases, _ = find_potential_aliases(
            state.func_ir.blocks, [], state.typemap, state.func_ir, {}, set()
        )
        changed = False
        for parfor in parfors:
            arrays = {n for n in _parameters(parfor) if _is_array(state.typemap[n])}
            views = any(aliases.get(name, set()) & (arrays - {name}) for name in arrays)
            if arrays and (views or vars(parfor).get(SHARED)):
                _say_so(state, parfor, min(arrays))
                changed = True
        return changed


def _parfors(blocks: Any) -> Iterator[Any]:
    """Those that Numba lowers; loops inside them are compiled with them."""
    for block in blocks.values():
        for stmt in block.body:
            if isinstance(stmt, Parfor) and stmt.lowerer is None:
                yield stmt


def _parameters(parfor: Any) -> set[str]:
    return {getattr(one, "name", one) for one in parfor.params or ()}


def _is_array(kind: Any) -> bool:
    return isinstance(kind, types.Array)


def _say_so(state: Any, parfor: Any, name: str) -> None:
    scope, loc = parfor.init_block.scope, parfor.loc
    target = scope.redefine(mk_unique_var("$alias"), loc)
    state.typemap[target.name] = state.typemap[name]
    parfor.init_block.body.append(ir.Assign(ir.Var(scope, name, loc), target, loc))
