"""A pass in front of Numba's ParforPass: elements that a mask picks, written after they were.

ParforPass makes ``x[m] = v`` a loop over ``x`` where ``v`` was made by ``y[m]``, and reads ``y``
in it.  In

    v = y[m]
    v *= 2
    x[m] = v

that loses the multiplication, as it loses what was stored into ``y`` or ``m`` meanwhile.
Here ``v`` gets another name, through which ParforPass does not see, unless the two
statements follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from numba.core import ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions, get_definition, guard

from numba_mlir.converters.escaping import as_it_is
from numba_mlir.roundtrip.typed_calls import typed_call

#: expressions that change nothing
_HARMLESS = frozenset({"getattr", "build_tuple", "build_slice", "cast", "static_getitem"})


@register_pass(mutates_CFG=False, analysis_only=False)
class HidePicked(FunctionPass):
    """Keep values that ParforPass would compute again."""

    _name: ClassVar[str] = "mlir_hide_picked"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        found = list(_stale(state.func_ir, state.typemap))
        for block, stmt in found:
            _hide(state, block, stmt)
        if found:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return bool(found)


def _stale(func_ir: Any, typemap: Any) -> Iterator[tuple[Any, Any]]:
    """Assignments of elements that were picked earlier than just in front of them."""
    for block in func_ir.blocks.values():
        for number, stmt in enumerate(block.body):
            if not isinstance(stmt, ir.SetItem) or not _is_mask(typemap[stmt.index.name]):
                continue
            picked = guard(get_definition, func_ir, stmt.value)
            if not isinstance(picked, ir.Expr) or picked.op != "getitem":
                continue
            if not _just_picked(block.body[:number], picked):
                yield block, stmt


def _is_mask(kind: Any) -> bool:
    return isinstance(kind, types.Array) and isinstance(kind.dtype, types.Boolean)


def _just_picked(before: list[Any], picked: Any) -> bool:
    for stmt in reversed(before):
        if not isinstance(stmt, ir.Assign):
            return False
        if stmt.value is picked:
            return True
        if isinstance(stmt.value, ir.Expr) and stmt.value.op not in _HARMLESS:
            return False
    return False


def _hide(state: Any, block: Any, stmt: Any) -> None:
    result, made = typed_call(state, block.scope, stmt.loc, as_it_is, (stmt.value,))
    place = block.body.index(stmt)
    block.body[place:place] = made
    stmt.value = result
