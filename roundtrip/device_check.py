"""The last check of a function on a device: nothing on the host touches an element.

Compiled host code would follow a pointer of the device.  Statements are allowed one by one;
whatever is not known to leave the elements alone is an error at the user's line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numba.core import ir, types
from numba.core.extending import _Intrinsic
from numba.parfors.parfor import Parfor

from numba_mlir.converters import arrays, overlap
from numba_mlir.converters.frame import statement_text
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.gpu import intrinsics
from numba_mlir.gpu.places import Place, arrays_in
from numba_mlir.roundtrip.instruments import Record

#: attributes of arrays that come from their structure
_ATTRIBUTES = frozenset(
    {"shape", "strides", "ndim", "size", "itemsize", "nbytes", "dtype", "T", "flags"}
)
#: methods that give views
_VIEWS = frozenset({"array.transpose", "array.reshape", "array.view"})
#: attributes that name methods, which may be taken and not called
_METHODS = frozenset({"transpose", "reshape", "view", "copy", "astype", "flatten"})


def check(state: Any, place: Place, record: Record) -> None:
    """Raises UnsupportedConstruct at the first statement that is not allowed."""
    checker = _Checker(state, place, record)
    for block in state.func_ir.blocks.values():
        for stmt in block.body:
            checker.statement(stmt)


class _Checker:
    def __init__(self, state: Any, place: Place, record: Record) -> None:
        self._typemap, self._calltypes = state.typemap, state.calltypes
        self._place = place
        self._reasons = {
            (remark.file, remark.line): remark.message
            for remark in reversed(record.remarks)  # the first one of a line counts
            if remark.kind == "missed"
        }

    def statement(self, stmt: Any) -> None:
        if isinstance(stmt, Parfor):
            reason = self._reasons.get((stmt.loc.filename, stmt.loc.line), "not offloaded")
            raise UnsupportedConstruct(f"a loop on {self._place}: {reason}", stmt.loc)
        if isinstance(stmt, (ir.Del, ir.Return, ir.Jump, ir.Branch)):
            return
        if not any(True for name in self._names(stmt) if self._has_arrays(name)):
            return
        if isinstance(stmt, ir.Assign) and self._allowed(stmt.value):
            return
        text = statement_text(stmt)
        reason = self._reasons.get((stmt.loc.filename, stmt.loc.line))
        because = f": {reason}" if reason else ""
        raise UnsupportedConstruct(
            f"{text!r} would touch elements of an array on {self._place} from the host{because}",
            stmt.loc,
        )

    def _names(self, stmt: Any) -> Iterator[str]:
        yield from (var.name for var in stmt.list_vars())

    def _has_arrays(self, name: str) -> bool:
        return any(True for _ in arrays_in(self._typemap[name]))

    def _allowed(self, value: Any) -> bool:
        if isinstance(value, (ir.Arg, ir.Var)):
            return True
        if not isinstance(value, ir.Expr):
            return False  # a global array lives on the host
        rule = getattr(self, f"_{value.op}", None)
        return rule is not None and bool(rule(value))

    # -- expressions -----------------------------------------------------------------
    def _build_tuple(self, expr: Any) -> bool:
        return True

    def _phi(self, expr: Any) -> bool:
        return True

    def _cast(self, expr: Any) -> bool:
        return True

    def _undef(self, expr: Any) -> bool:
        return True

    def _exhaust_iter(self, expr: Any) -> bool:
        return isinstance(self._typemap[expr.value.name], types.BaseTuple)

    def _getattr(self, expr: Any) -> bool:
        kind = self._typemap[expr.value.name]
        return isinstance(kind, types.BaseTuple) or expr.attr in _ATTRIBUTES | _METHODS

    def _static_getitem(self, expr: Any) -> bool:
        return self._getitem(expr)

    def _getitem(self, expr: Any) -> bool:
        """Members of tuples, and views."""
        kind = self._typemap[expr.value.name]
        if isinstance(kind, types.BaseTuple):
            return True
        sig = self._calltypes.get(expr)
        if not isinstance(kind, types.Array) or sig is None or len(sig.args) < 2:
            return False
        index = sig.args[1]
        members = list(index) if isinstance(index, types.BaseTuple) else [index]
        basic = all(isinstance(member, arrays.BASIC) for member in members)
        return basic and isinstance(sig.return_type, types.Array)

    def _call(self, expr: Any) -> bool:
        callee = self._typemap[expr.func.name]
        if isinstance(callee, types.BoundFunction):
            return callee.typing_key in _VIEWS
        key = getattr(callee, "typing_key", None)
        if key is len:
            return True
        if key is overlap.disjoint:
            return True
        return isinstance(key, _Intrinsic) and key in intrinsics.MADE
