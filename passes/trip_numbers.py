"""What trips compute with numbers only: checks, and values that are computed once.

In front of the blocks (`interchange`) runs a copy of the loop without its parallel loops where

1. a check may raise in another trip than the first;
2. somebody uses what a number is behind the last trip;
3. a number of a trip is expensive (a loop computes it), or computing it may raise: it is
   stored to an array with one element for each trip, from which the blocks load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import allocate, index
from numba_mlir.passes.effects import STATEMENT
from numba_mlir.passes.legality import Loop
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.trips import (
    Refused,
    Trip,
    drop_unused,
    has_parallel,
    is_check,
    outside_parallel,
)
from numba_mlir.passes.values import constant_int, describe, is_memref, is_ref, operations


def compute_in_front(
    trip: Trip, loops: Sequence[Loop], provenance: Provenance, wanted: Sequence[int], at: Any
) -> list[Any]:
    """Results ``wanted`` of the loop, computed at the insertion point; may raise `Refused`.

    ``at`` is an operation where arrays that the function has made may be known to others.
    """
    if trip.checks:
        _refuse_if_seen(trip, loops, provenance, at)
    arrays = {number: array for number, (_, array) in trip.arrays.items()}
    kept = _worth_keeping(trip)
    if not (trip.checks or kept) and all(number in arrays for number in wanted):
        return [arrays[number] for number in wanted]
    dropped = [check for check in trip.checks if not _is_inside(check, kept)]
    alone = trip.loop.clone().operation
    pairs = dict(zip(_body(trip.loop), _body(alone), strict=True))
    for op in kept:
        for result, copy in zip(list(op.results), pairs[op].results, strict=True):
            _keep(trip.loop, op, result, alone, pairs[op], copy)
        op.erase()
    for op in list(outside_parallel(alone)):
        if op.name == "scf.parallel":
            op.erase()
    drop_unused(alone)
    for check in dropped:
        check.erase()
    found = arrays | dict(zip(trip.numbers, alone.results, strict=True))
    return [found[number] for number in wanted]


def _body(loop: Any) -> list[Any]:
    return operations(loop.regions[0].blocks[0])


def _refuse_if_seen(trip: Trip, loops: Sequence[Loop], provenance: Provenance, at: Any) -> None:
    """Raise `Refused` where somebody may see what is written before a later check fails."""
    for loop in loops:
        for access in loop.effects.writes():
            if provenance.captured(access.root, at):
                check, array = describe(trip.checks[0]), access.root
                raise Refused(f"{check} may fail in a later trip, when {array} is already written")


def _worth_keeping(trip: Trip) -> list[Any]:
    """Operations whose results are stored for each trip."""
    body = _body(trip.loop)
    found: list[Any] = []
    for op in outside_parallel(trip.loop):
        is_loop = op.name == "scf.for" and not has_parallel(op)
        raises = op.name == STATEMENT and is_check(op)
        if _is_inside(op, found):
            continue
        if is_check(op) and op.name != STATEMENT and any(list(r.uses) for r in op.results):
            raise Refused(f"{describe(op)} gives sizes that may differ from trip to trip")
        if not (is_loop or raises):
            continue
        numbers = not any(is_memref(result) or is_ref(result) for result in op.results)
        if op not in body or not numbers:
            raise Refused(f"what {describe(op)} computes would be computed again for each block")
        found.append(op)
    return found


def _is_inside(op: Any, others: Sequence[Any]) -> bool:
    """Whether ``op`` is one of ``others`` or inside one."""
    while op is not None:
        if op.operation in others:
            return True
        op = op.parent
    return False


def _keep(loop: Any, op: Any, result: Any, alone: Any, made: Any, copy: Any) -> None:
    """Store ``copy``, a result of ``made`` in ``alone``; ``loop`` loads it, not ``result``."""
    ir, arith = mlir.ir, mlir.arith
    low, high, step = list(loop.operands)[:3]
    with ir.InsertionPoint(alone):
        span = arith.maxsi(arith.subi(high, low), index(0))
        count = span if constant_int(step) == 1 else arith.ceildivui(span, step)
        values = allocate([ir.ShapedType.get_dynamic_size()], result.type, [count])
    behind = _body(alone)[_body(alone).index(made) + 1]
    with ir.InsertionPoint(behind), made.location:
        where = _number(alone, low, step)
        ir.Operation.create("memref.store", operands=[copy, values, where])
    with ir.InsertionPoint(op), op.location:
        where = _number(loop, low, step)
        load = ir.Operation.create("memref.load", [result.type], [values, where])
    result.replace_all_uses_with(load.result)


def _number(loop: Any, low: Any, step: Any) -> Any:
    """The number of the trip at hand, from 0."""
    iv = loop.regions[0].blocks[0].arguments[0]
    far = iv if constant_int(low) == 0 else mlir.arith.subi(iv, low)
    return far if constant_int(step) == 1 else mlir.arith.divui(far, step)
