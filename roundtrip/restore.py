"""Putting kept statements back: the very objects where their variables kept their names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from numba.core import ir

from numba_mlir.converters.sidetable import Statement
from numba_mlir.roundtrip.exporter import Exporter


def statement(ex: Exporter, op: Any, record: Statement) -> None:
    """One statement of ordinary Numba IR."""
    operands = {
        name: operand(ex, name, value, type_of(ex, record, name))
        for name, value in zip(record.uses, op.operands, strict=True)
    }
    stmt = renamed(ex, record.stmt, operands)
    if record.signature is not None:
        ex.emit.typed(stmt.value, record.signature)
    if not isinstance(stmt, ir.Assign):
        ex.emit.append(stmt)
        return
    original = record.stmt.target.name
    if len(op.results):
        ex.define(op.results[0], stmt.value, original, type_of(ex, record, original))
        last = ex.emit.block.body[-1]
        if last.target.name == original and stmt is record.stmt:
            ex.emit.block.body[-1] = stmt
    else:
        target = ex.emit.variable(original, type_of(ex, record, original))
        ex.emit.store(target, stmt.value)


def type_of(ex: Exporter, record: Statement, name: str) -> Any:
    """The type of a statement's variable."""
    found = record.types.get(name)
    return ex.state.typemap[name] if found is None else found


def operand(ex: Exporter, name: str, value: Any, wanted: Any) -> Any:
    """The value in a variable of the type that the statement knew."""
    var = ex.var(value)
    if ex.emit.type_of(var) == wanted:
        return var
    if ex.types.of(value) == wanted or str(value.type)[0] in "if" or "complex" in str(value.type):
        return ex.number(value, wanted)
    return ex.emit.assign(var, wanted, name)


def again(ex: Exporter, op: Any) -> Any:
    """A constant-like statement, emitted once more for the block that uses it."""
    record = ex.table.statements[op.attributes["stmt"].value]
    operands = {name: ex.var(value) for name, value in zip(record.uses, op.operands, strict=True)}
    stmt = renamed(ex, record.stmt, operands)
    original = record.stmt.target.name
    return ex.emit.assign(stmt.value, type_of(ex, record, original), original)


def parfor(ex: Exporter, op: Any, record: Statement) -> None:
    """An opaque Parfor: its variables get their old names around it."""
    emit = ex.emit
    for name, value in zip(record.uses, op.operands, strict=True):
        var = ex.var(value)
        if var.name != name:
            emit.store(emit.reference(name), var)
    emit.append(record.stmt)
    for name, value in zip(record.defs, op.results, strict=True):
        var = emit.reference(name)
        if name in ex.owned and ex.owned[name] == value:
            ex.alias(value, var)
        else:
            ex.define(value, var, None, ex.state.typemap[name])


def renamed(ex: Exporter, stmt: Any, operands: Mapping[str, Any]) -> Any:
    """The statement with other variables; the same object when nothing changes."""
    changes = {name: var for name, var in operands.items() if var.name != name}
    if not changes:
        return stmt
    return _copy(ex, stmt, changes)


def _copy(ex: Exporter, node: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a statement or expression, with its signature registered."""
    new = copy.copy(node)
    if isinstance(node, ir.Expr):
        new._kws = {key: _replaced(ex, item, changes) for key, item in node._kws.items()}
    else:
        target = getattr(node, "target", None) if isinstance(node, ir.Assign) else None
        for key, item in vars(node).items():
            if item is not target and key != "loc":
                setattr(new, key, _replaced(ex, item, changes))
    if node in ex.state.calltypes:
        ex.emit.typed(new, ex.state.calltypes[node])
    return new


def _replaced(ex: Exporter, item: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(item, ir.Var):
        return changes.get(item.name, item)
    if isinstance(item, ir.Expr):
        return _copy(ex, item, changes)
    if type(item) is list:
        return [_replaced(ex, part, changes) for part in item]
    if type(item) is tuple:
        return tuple([_replaced(ex, part, changes) for part in item])
    if type(item) is dict:
        return {key: _replaced(ex, part, changes) for key, part in item.items()}
    return item
