"""Export of ``scf.parallel``: a Parfor with Numba's reduction patterns."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from numba.core import ir, types
from numba.parfors.array_analysis import SymbolicEquivSet
from numba.parfors.parfor import LoopNest, Parfor

from numba_mlir import dialect
from numba_mlir.converters import reductions
from numba_mlir.errors import MLIRRoundtripError
from numba_mlir.roundtrip.aliasing import shares_memory
from numba_mlir.roundtrip.exporter import Exporter, renumbered
from numba_mlir.roundtrip.shared_memory import SHARED
from numba_mlir.roundtrip.values import integer_constant, name_hint

_EXTREMA: dict[str, Any] = {"max": max, "min": min}
_IMMUTABLE: dict[Any, Any] = {operator.iadd: operator.add, operator.imul: operator.mul}


def parallel(ex: Exporter, op: Any) -> None:
    emit = ex.emit
    lower, upper, steps, initial = _segments(op)
    if any(integer_constant(step) != 1 for step in steps):
        raise MLIRRoundtripError("scf.parallel with a step other than 1")
    block = op.regions[0].blocks[0]
    *body, reduce = [o.operation for o in block.operations]
    found = [_describe(ex, region.blocks[0]) for region in reduce.regions]
    accumulators = _accumulators(ex, op, found, initial)
    nests = _nests(ex, block, lower, upper)
    init_block = ir.Block(emit.scope, emit.loc)
    blocks: dict[int, Any] = {}
    loc = emit.loc
    with emit.body(blocks):
        emit.start(emit.new_label())
        index = _index(ex, nests)
        for inner in body:
            ex.operation(inner)
        emit.loc = loc
        for reduction, accumulator, value in zip(found, accumulators, reduce.operands, strict=True):
            _combine(ex, reduction, accumulator, value)
        last = emit.block
    new = Parfor(
        nests, init_block, renumbered(blocks, last), loc, index,
        SymbolicEquivSet(ex.state.typemap), ("prange", "user", ""), ex.state.flags,
        races={a.name for a in accumulators},
    )  # fmt: skip
    _take_over(ex, op, new)
    setattr(new, SHARED, shares_memory(op))
    emit.append(new)
    _results(ex, op, found, accumulators, initial)


def _segments(op: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    sizes = list(op.attributes["operandSegmentSizes"])
    operands, groups = list(op.operands), []
    for size in sizes:
        groups.append(operands[:size])
        operands = operands[size:]
    return groups[0], groups[1], groups[2], groups[3]


@dataclass(frozen=True)
class KeptReduction:
    """An original statement with new operands: ``array += value`` over whole arrays, or
    ``pair = extremum(pair, value)`` over Numba's pairs of index and value."""

    type: Any
    stmt: Any
    extremum: Any = None
    neutral: None = None


def _describe(ex: Exporter, block: Any) -> reductions.Reduction | KeptReduction:
    first = block.operations[0].operation
    if first.name == dialect.STMT:
        stmt = ex.table.statements[first.attributes["stmt"].value].stmt
        extremum = next((_EXTREMA[name] for name in _EXTREMA if name in first.attributes), None)
        return KeptReduction(ex.state.typemap[stmt.target.name], stmt, extremum)
    found = reductions.describe(block)
    if found is None:
        raise MLIRRoundtripError("a reduction that Numba cannot combine")
    return found


def _nests(ex: Exporter, block: Any, lower: list[Any], upper: list[Any]) -> list[Any]:
    nests = []
    for iv, low, high in zip(block.arguments, lower, upper, strict=True):
        hint = name_hint(iv.location) or "parfor_index"
        var = ex.emit.variable(hint, types.uintp)
        ex.alias(iv, var)
        start = integer_constant(low)
        first = ex.number(low, types.int64) if start is None else start
        nests.append(LoopNest(var, first, ex.number(high, types.int64), 1))
    return nests


def _index(ex: Exporter, nests: list[Any]) -> Any:
    """The variable by which Numba recognises accesses to this iteration's own element."""
    emit = ex.emit
    names = [nest.index_variable for nest in nests]
    if len(names) == 1:
        return names[0]
    kind = types.UniTuple(types.uintp, len(names))
    whole = emit.assign(ir.Expr.build_tuple(names, emit.loc), kind, "parfor_index_tuple")
    ex.index_tuples[tuple(v.name for v in names)] = whole
    return whole


def index_variable(ex: Exporter, parts: list[Any]) -> Any:
    """The loop's own index tuple where ``parts`` are exactly its indices."""
    return ex.index_tuples.get(tuple(p.name for p in parts))


def _accumulators(ex: Exporter, op: Any, found: list[Any], initial: list[Any]) -> list[Any]:
    emit = ex.emit
    made = []
    for reduction, value, hint in zip(found, initial, ex.hints(op), strict=True):
        kept = isinstance(reduction, KeptReduction)
        start = ex.var(value) if kept else ex.number(value, reduction.type)
        if reduction.neutral is not None:
            start = ex.constant(reduction.neutral, reduction.type)
        made.append(emit.assign(start, reduction.type, hint or "reduction"))
    return made


def _combine(ex: Exporter, reduction: Any, accumulator: Any, contribution: Any) -> None:
    """``acc += value``, or ``acc = f(acc, value)``, as Numba's analysis expects them."""
    emit = ex.emit
    if isinstance(reduction, KeptReduction):
        old = reduction.stmt.value
        operands = accumulator, ex.var(contribution)
        if reduction.extremum is None:
            expr = ir.Expr.inplace_binop(old.fn, old.immutable_fn, *operands, emit.loc)
        else:
            function, _ = emit.function(reduction.extremum, reduction.extremum.__name__)
            expr = ir.Expr.call(function, operands, (), emit.loc)
        emit.typed(expr, ex.state.calltypes[old])
        emit.store(accumulator, emit.assign(expr, reduction.type))
        return
    value = ex.number(contribution)
    if reduction.form == "inplace":
        fn = reduction.operator
        immutable = _IMMUTABLE[fn]
        sig = emit.resolve(fn, (reduction.type, reduction.type))
        expr = ir.Expr.inplace_binop(fn, immutable, accumulator, value, emit.loc)
        partial = emit.assign(emit.typed(expr, sig), reduction.type)
        emit.store(accumulator, partial)
    else:
        emit.store(accumulator, _call(ex, reduction, accumulator, value))


def _call(ex: Exporter, reduction: reductions.Reduction, left: Any, right: Any) -> Any:
    emit = ex.emit
    function, kind = emit.function(reduction.function, "max")
    sig = emit.signature(reduction.function, kind, (reduction.type, reduction.type))
    return emit.typed(ir.Expr.call(function, (left, right), (), emit.loc), sig)


def _results(
    ex: Exporter,
    op: Any,
    found: list[Any],
    accumulators: list[Any],
    initial: list[Any],
) -> None:
    for result, reduction, accumulator, value in zip(
        op.results, found, accumulators, initial, strict=True
    ):
        if reduction.neutral is None:
            ex.alias(result, accumulator)
            continue
        before = ex.number(value, reduction.type)
        ex.define(result, _call(ex, reduction, before, accumulator), None, reduction.type)


def _take_over(ex: Exporter, op: Any, new: Any) -> None:
    """Patterns and the number of the loops behind this one, for Numba's own diagnostics.

    They know the loops that ParforPass made by number; a copy (under a guard) has its own.
    """
    if "numba.parfors" not in op.attributes:
        return
    originals = [ex.table.parfors[handle.value] for handle in op.attributes["numba.parfors"]]
    new.patterns = [pattern for one in originals for pattern in one.patterns] or new.patterns
    number = originals[0].id
    if number not in ex.parfor_ids:
        ex.parfor_ids.add(number)
        new.id = number
