"""Rules from MLIR operations to Numba statements: control flow, arrays, kept statements.

Numbers need no rule: :meth:`Exporter.scalar` serves every operation with an intrinsic.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.core.typing import signature
from numba.parfors.array_analysis import assert_equiv
from numba.parfors.parfor import Parfor

from numba_mlir.converters import scalars, sizefacts
from numba_mlir.converters.overlap import PLACES
from numba_mlir.roundtrip import parallel_export, restore, shapes_export
from numba_mlir.roundtrip.exporter import Exporter
from numba_mlir.roundtrip.values import (
    alloc_sizes,
    branch_targets,
    defining,
    index_like,
    integer_constant,
    name_hint,
)

Rule = Callable[[Exporter, Any], None]


# -- functions and blocks ------------------------------------------------------
def _return(ex: Exporter, op: Any) -> None:
    value = op.operands[0]
    var = ex.var(value)
    if isinstance(ex.state.return_type, (types.Number, types.Boolean)):
        var = ex.number(value, ex.state.return_type)
    ex.emit.append(ir.Return(var, ex.emit.loc))


def _unreachable(ex: Exporter, op: Any) -> None:
    """The statement in front of it raises and ends the Numba block."""


def _branch(ex: Exporter, op: Any) -> None:
    ((target, operands),) = branch_targets(op)
    ex.pass_values(target.arguments, operands)
    ex.emit.jump(ex.label_of(target))


def _cond_branch(ex: Exporter, op: Any) -> None:
    """An edge that passes values gets a block of its own for the assignments.

    So does one to a block with other ways to it: Numba's search for ``prange`` loops
    expects that a loop's body goes back to its header by plain jumps.
    """
    edges = []
    for target, operands in branch_targets(op):
        own = bool(operands) or len(list(target.predecessors)) > 1
        edges.append((ex.emit.new_label() if own else ex.label_of(target), own, target, operands))
    ex.emit.branch(ex.var(op.operands[0]), edges[0][0], edges[1][0])
    for label, own, target, operands in edges:
        if own:
            ex.emit.start(label)
            ex.pass_values(target.arguments, operands)
            ex.emit.jump(ex.label_of(target))


# -- structured control flow -------------------------------------------------------
def _if(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    ex.declare(op.results, ex.hints(op))
    yes, no, behind = emit.new_label(), emit.new_label(), emit.new_label()
    has_else = len(op.regions[1].blocks) > 0
    emit.branch(ex.var(op.operands[0]), yes, no if has_else else behind)
    arms = [(yes, op.regions[0]), (no, op.regions[1])] if has_else else [(yes, op.regions[0])]
    for label, region in arms:
        emit.start(label)
        _inline(ex, region.blocks[0], op.results)
        emit.jump(behind)
    emit.start(behind)


def _select(ex: Exporter, op: Any) -> None:
    """A choice between numbers is an intrinsic, one between other values takes a branch."""
    if scalars.canonical(op.results[0].type) is not None:
        ex.scalar(op)
        return
    emit = ex.emit
    condition, *values = list(op.operands)
    ex.declare(op.results, [name_hint(op.location)])
    labels = [emit.new_label(), emit.new_label()]
    behind = emit.new_label()
    emit.branch(ex.var(condition), *labels)
    for label, value in zip(labels, values, strict=True):
        emit.start(label)
        ex.pass_values(op.results, [value])
        emit.jump(behind)
    emit.start(behind)


def _inline(ex: Exporter, block: Any, targets: Any) -> None:
    """Emit a single block; its ``scf.yield`` assigns ``targets``."""
    *body, last = [o.operation for o in block.operations]
    for inner in body:
        ex.operation(inner)
    ex.pass_values(targets, list(last.operands))


def _for(ex: Exporter, op: Any) -> None:
    """Counts in int64; unsigned where it serves as an index."""
    emit = ex.emit
    lower, upper, step, *initial = list(op.operands)
    block = op.regions[0].blocks[0]
    iv, *carried = list(block.arguments)
    hints = ex.hints(op)
    ex.declare(op.results, hints)
    for value, result in zip(carried, op.results, strict=True):
        ex.alias_all(value, result)
    ex.pass_values(op.results, initial)
    counter = emit.variable(name_hint(iv.location), types.int64)
    emit.store(counter, ex.number(lower, types.int64))
    bound, by = ex.number(upper, types.int64), ex.number(step, types.int64)
    header, body, behind = emit.new_label(), emit.new_label(), emit.new_label()
    emit.jump(header)
    emit.start(header)
    emit.branch(emit.operator(operator.lt, (counter, bound)), body, behind)
    emit.start(body)
    if str(iv.type) == "index" and _not_negative(lower):
        ex.alias(iv, emit.cast(counter, types.uint64))
    else:
        ex.alias(iv, emit.cast(counter, ex.types.of(iv)))
    _inline(ex, block, op.results)
    emit.store(counter, emit.operator(operator.add, (counter, by)))
    emit.jump(header)
    emit.start(behind)


def _not_negative(value: Any) -> bool:
    number = integer_constant(value)
    return number is not None and number >= 0


def _while(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    before, after = op.regions[0].blocks[0], op.regions[1].blocks[0]
    *body, condition = [o.operation for o in before.operations]
    hints = ex.hints(op)
    ex.declare(op.results, hints)
    ex.declare(before.arguments, [name_hint(a.location) for a in before.arguments])
    for value, result in zip(after.arguments, op.results, strict=True):
        ex.alias_all(value, result)
    ex.pass_values(before.arguments, list(op.operands))
    header, again, behind = emit.new_label(), emit.new_label(), emit.new_label()
    emit.jump(header)
    emit.start(header)
    for inner in body:
        ex.operation(inner)
    test, *forwarded = list(condition.operands)
    test_var = ex.var(test)
    ex.pass_values(op.results, forwarded)
    emit.branch(test_var, again, behind)
    emit.start(again)
    _inline(ex, after, before.arguments)
    emit.jump(header)
    emit.start(behind)


def _execute_region(ex: Exporter, op: Any) -> None:
    ex.declare(op.results, ex.hints(op))
    behind = ex.emit.new_label()

    def leave(last: Any) -> None:
        ex.pass_values(op.results, list(last.operands))
        ex.emit.jump(behind)

    ex.region_blocks(op.regions[0], leave)
    ex.emit.start(behind)


# -- arrays ------------------------------------------------------------------------
def _dim(ex: Exporter, op: Any) -> None:
    array, axis = op.operands[0], integer_constant(op.operands[1])
    source = defining(array)
    if source is not None and source.name == "memref.alloc" and axis is not None:
        ex.alias(op.results[0], _size(ex, alloc_sizes(source)[axis]))
        return
    emit = ex.emit
    var = ex.var(array)
    kind = types.UniTuple(types.intp, ex.types.of(array).ndim)
    shape = ex.local(
        ("shape", var.name),
        lambda: emit.assign(ir.Expr.getattr(var, "shape", emit.loc), kind, f"{var.name}_shape"),
    )
    if axis is None:
        raise NotImplementedError("memref.dim with an axis that is not a constant")
    expr = ir.Expr.static_getitem(shape, axis, None, emit.loc)
    emit.typed(expr, None)
    size = emit.assign(expr, types.intp, f"{var.name}_size{axis}")
    ex.alias(op.results[0], size)


def _size(ex: Exporter, size: Any) -> Any:
    """The variable of a size, which may be a plain number."""
    if isinstance(size, int):
        return ex.constant(size, types.int64)
    return ex.number(size, types.int64)


def _alloc(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    kind = ex.types.of(op.results[0])
    sizes = [_size(ex, size) for size in alloc_sizes(op)]
    module = emit.assign(ir.Global("np", np, emit.loc), types.Module(np), "$np")
    empty_type = emit.state.typingctx.resolve_value_type(np.empty)
    empty = emit.assign(ir.Expr.getattr(module, "empty", emit.loc), empty_type, "$empty")
    name = "bool_" if isinstance(kind.dtype, types.Boolean) else str(kind.dtype)
    number_class = types.NumberClass(kind.dtype)
    dtype = emit.assign(ir.Expr.getattr(module, name, emit.loc), number_class, "$dtype")
    if len(sizes) == 1:
        shape, shape_type = sizes[0], types.intp
    else:
        # of no sizes not a UniTuple, which Numba cannot make as a constant
        shape_type = types.Tuple.from_types([types.intp] * len(sizes))
        tuple_expr = ir.Expr.build_tuple(sizes, emit.loc)
        shape = emit.assign(tuple_expr, shape_type, "$shape")
    sig = emit.signature(np.empty, empty_type, (shape_type, number_class))
    call = ir.Expr.call(empty, (shape, dtype), (), emit.loc)
    ex.define(op.results[0], emit.typed(call, sig), name_hint(op.location), kind)


def _subscript(ex: Exporter, array: Any, indices: list[Any]) -> Any:
    """The index variable of an element access, unsigned wherever it can't be negative."""
    emit = ex.emit
    parts = [_index(ex, array, axis, v) for axis, v in enumerate(indices)]
    whole = parallel_export.index_variable(ex, parts)
    if whole is not None:
        return whole
    if len(parts) == 1:
        return parts[0]
    kind = types.Tuple.from_types([emit.type_of(p) for p in parts])
    key = ("index", *(p.name for p in parts))
    return ex.local(key, lambda: emit.assign(ir.Expr.build_tuple(parts, emit.loc), kind, "$index"))


def _index(ex: Exporter, array: Any, axis: int, value: Any) -> Any:
    """A signed index keeps Numba's own wrap-around; every other one is unsigned."""
    if integer_constant(value) is not None:
        return ex.number(value, types.int64)
    op = defining(value)
    if op is not None and op.name == "numba.wrap_index" and _wraps_at(op, array, axis):
        return ex.number(op.operands[0], types.int64)
    return ex.number(value, types.uint64)


def _wraps_at(op: Any, array: Any, axis: int) -> bool:
    """Whether ``numba.wrap_index`` is the rule of this very axis."""
    size = defining(op.operands[1])
    if size is None or str(op.operands[0].type) != "i64":
        return False
    if size.name != "memref.dim" or size.operands[0] != array:
        return False
    return integer_constant(size.operands[1]) == axis


def _wrap_index(ex: Exporter, op: Any) -> None:
    """Emitted only where something else than its own axis uses it."""
    for use in op.results[0].uses:
        user, number = use.owner.operation, use.operand_number
        first = {"memref.load": 1, "memref.store": 2}.get(user.name)
        if first is None or number < first:
            ex.scalar(op)
            return
        if not _wraps_at(op, user.operands[first - 1], number - first):
            ex.scalar(op)
            return


def _load(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    array, *indices = list(op.operands)
    var, kind = ex.var(array), ex.types.of(array)
    hint = name_hint(op.location)
    if kind.ndim == 0:
        expr, index_type = _scalar_index(ex, var), types.Tuple(())
        index = expr
    else:
        index = _subscript(ex, array, indices)
        index_type = emit.type_of(index)
    getitem = ir.Expr.getitem(var, index, emit.loc)
    sig = emit.resolve(operator.getitem, (kind, index_type))
    emit.typed(getitem, sig)
    ex.define(op.results[0], getitem, hint, kind.dtype)


def _scalar_index(ex: Exporter, var: Any) -> Any:
    emit = ex.emit
    empty = types.Tuple(())
    return emit.assign(ir.Expr.build_tuple([], emit.loc), empty, "$index")


def _store(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    value, array, *indices = list(op.operands)
    var, kind = ex.var(array), ex.types.of(array)
    index = _scalar_index(ex, var) if kind.ndim == 0 else _subscript(ex, array, indices)
    stmt = ir.SetItem(var, index, ex.var(value), emit.loc)
    sig = signature(types.none, kind, emit.type_of(index), kind.dtype)
    emit.append(emit.typed(stmt, sig))


def _same(ex: Exporter, op: Any) -> None:
    """A change of MLIR type only: the variable stays."""
    ex.alias(op.results[0], ex.var(op.operands[0]))


def _index_cast(ex: Exporter, op: Any) -> None:
    """Between index and i64 the bits stay; other widths are converted."""
    source, result = op.operands[0], op.results[0]
    if str(source.type) in ("i64", "index") and str(result.type) in ("i64", "index"):
        var = ex.var(source)
        if index_like(ex.emit.type_of(var)):
            ex.alias(result, var)
            return
    ex.scalar(op)


# -- the numba dialect -------------------------------------------------------------
def _assert_equal(ex: Exporter, op: Any) -> None:
    if sizefacts.KNOWN in op.attributes:
        return
    emit = ex.emit
    text = op.attributes["message"].value
    literal = types.literal(text)
    message = emit.assign(ir.Const(text, emit.loc), literal, "$msg")
    sizes = [ex.number(v, types.int64) for v in op.operands]
    function, kind = emit.function(assert_equiv, "assert_equiv")
    arg_types = (literal, *[types.int64] * len(sizes))
    sig = emit.signature(assert_equiv, kind, arg_types)
    call = ir.Expr.call(function, (message, *sizes), (), emit.loc)
    emit.assign(emit.typed(call, sig), sig.return_type, "$ret")


def _place(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    arrays = [ex.var(v) for v in op.operands]
    name = op.name.partition(".")[2]
    var = emit.call(PLACES[op.name], name, arrays, [emit.type_of(a) for a in arrays])
    ex.alias(op.results[0], var)


def _nothing(ex: Exporter, op: Any) -> None:
    """Emitted where it is used."""


def _opaque(ex: Exporter, op: Any) -> None:
    record = ex.table.statements[op.attributes["stmt"].value]
    if isinstance(record.stmt, Parfor):
        restore.parfor(ex, op, record)
    else:
        restore.statement(ex, op, record)


def _yield(ex: Exporter, op: Any) -> None:
    ex.leave(op)


RULES: dict[str, Rule] = {
    "func.return": _return,
    "ub.unreachable": _unreachable,
    "cf.br": _branch,
    "cf.cond_br": _cond_branch,
    "scf.if": _if,
    "scf.for": _for,
    "scf.while": _while,
    "scf.execute_region": _execute_region,
    "scf.parallel": parallel_export.parallel,
    "scf.yield": _yield,
    "memref.dim": _dim,
    "memref.alloc": _alloc,
    "memref.load": _load,
    "memref.store": _store,
    "memref.cast": _same,
    "arith.index_cast": _index_cast,
    "arith.select": _select,
    "numba.wrap_index": _wrap_index,
    "numba.assert_equal": _assert_equal,
    **dict.fromkeys(PLACES, _place),
    **shapes_export.RULES,
    "numba.undef": _nothing,
    "opaque": _opaque,
    "remat": restore.again,
}
