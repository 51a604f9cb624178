"""Export of ``numba.broadcast``, ``numba.broadcast_into`` and ``numba.unaliased``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import ir, types

from numba_mlir.converters import broadcasting, windows
from numba_mlir.converters.broadcasting import Rule
from numba_mlir.roundtrip.exporter import Exporter
from numba_mlir.roundtrip.values import name_hint


def _broadcast(ex: Exporter, op: Any) -> None:
    """A call with all sizes in one tuple; its result is a tuple of the common sizes."""
    emit = ex.emit
    rule = Rule.of(op, emit.loc.filename, emit.loc.line)
    function = broadcasting.check_function(rule)
    sizes = [ex.number(size, types.int64) for size in op.operands]
    kind = types.UniTuple(types.int64, len(sizes))
    whole = emit.assign(ir.Expr.build_tuple(sizes, emit.loc), kind, "$sizes")
    common = emit.call(function, function.__name__, [whole], [kind])
    for axis, result in enumerate(op.results):
        item = ir.Expr.static_getitem(common, axis, None, emit.loc)
        emit.typed(item, None)
        ex.define(result, item, "$size", types.intp)


def _unaliased(ex: Exporter, op: Any) -> None:
    arrays = [ex.var(value) for value in op.operands]
    kinds = [ex.emit.type_of(array) for array in arrays]
    function = broadcasting.unaliased_source
    var = ex.emit.call(function, "unaliased", arrays, kinds, name_hint(op.location))
    ex.alias(op.results[0], var)


def _window(ex: Exporter, op: Any) -> None:
    """The view itself; where its elements are is for passes."""
    ex.alias(op.results[0], ex.var(op.operands[0]))


RULES: dict[str, Callable[[Exporter, Any], None]] = {
    broadcasting.BROADCAST: _broadcast,
    broadcasting.BROADCAST_INTO: _broadcast,
    broadcasting.UNALIASED: _unaliased,
    windows.WINDOW: _window,
}
