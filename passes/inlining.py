"""Inlining of element-wise loops into loops that read their result in another order.

``(x[:, None, :] * y).sum(axis=0)`` is a loop that stores an array of three dimensions and one
over the last two of them, which adds up along the first.  Their indices come in different
orders, so they have no loop in common; but every element is read where it can be computed
just as well:

    for j, k: for i: sum[j, k] += t[i, j, k]    (t[i, j, k] = x[i, k] * y[i, j, k])

A load of a fresh array ``t`` is replaced by the computation when

1. one loop stores ``t``, each element once at the loop's own indices, and does nothing else;
2. the load has each index of the loops around it once, so that no element is needed twice;
   any others are fixed (the first row, say);
3. one of the loads has them in another order; else the loops fuse as they are (`fusion`);
4. ``t`` is only stored there, asked for its size and loaded; and nothing that the
   computation reads is written from the loop to the load;
5. it is the only load of all elements, or the computation costs at most `LIMIT`: computing
   anew a few multiplications is faster than a way through memory, calling ``exp`` again is
   not.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from numba_mlir.passes.computed import Computed
from numba_mlir.passes.effects import is_pure_name, summarise
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.temporaries import replace_sizes
from numba_mlir.passes.values import (
    ancestor_in,
    defined_inside,
    display_name,
    loop_indices,
    operations,
    strip_casts,
)

#: the most that a computation may cost that is done more than once
LIMIT = 16
#: in additions; what is not here and no call of a function costs one
_COSTS = {
    "arith.divf": 4, "math.sqrt": 4, "arith.divsi": 16, "arith.remsi": 16,
    "complex.re": 0, "complex.im": 0, "complex.create": 0,
}  # fmt: skip
_CALL = 32
_LOOPS = frozenset({"scf.for", "scf.parallel"})


@dataclasses.dataclass(frozen=True)
class Inlined:
    """What was done: the name and place of an array, and whether it is gone."""

    name: str
    location: Any
    removed: bool


def inline_producers(block: Any) -> list[Inlined]:
    """Inline in one block; loops whose arrays nobody reads any more are removed."""
    found: list[Inlined] = []
    loops = [op for op in operations(block) if op.name == "scf.parallel"]
    for op in reversed(loops):  # the arrays of removed loops go as well
        producer = _producer(op)
        if producer is None:
            continue
        loads = _inlined_loads(producer)
        for load in loads:
            producer.replace(load)
        if loads:
            name, location = display_name(producer.array), op.location
            found.append(Inlined(name, location, _remove_unread(producer)))
    return found[::-1]


def _producer(loop: Any) -> Computed | None:
    found = Computed.of(loop)
    simple = found is not None and all(map(_is_simple, found.body))
    return found if found is not None and simple and _is_whole(found) else None


def _is_simple(op: Any) -> bool:
    return op.name == "memref.load" or is_pure_name(op.name) or op.name.startswith("numba.expr")


def _is_whole(producer: Computed) -> bool:
    """Whether every element of the array is stored."""
    keys, rank = Equalities(), len(producer.places)
    upper = list(producer.loop.operands)[rank : 2 * rank]
    return all(
        keys.key(upper[place]) == keys.size_key(producer.array, axis)
        for axis, place in enumerate(producer.places)
    )


def cost(op: Any) -> int:
    """What an operation costs, in additions."""
    if op.name in _COSTS:
        return _COSTS[op.name]
    calls = op.name.startswith(("math.", "numba.expr", "complex."))
    return _CALL if calls and op.name not in ("math.absf", "math.absi", "math.fma") else 1


def _inlined_loads(producer: Computed) -> list[Any]:
    """The loads that are to be replaced."""
    array, loop = producer.array, producer.loop
    users = [use.owner.operation for use in array.uses]
    loads = [op for op in users if op != producer.store and op.name != "memref.dim"]
    if not all(op.name == "memref.load" for op in loads):
        return []
    after = [ancestor_in(op, loop.block) for op in loads]
    if any(op is None or not loop.is_before_in_block(op) for op in after):
        return []
    orders = [_order(load, loop.block) for load in loads]
    if not any(order is not None and _is_other(order) for order in orders):
        return []
    full = [order for order in orders if order is None or -1 not in order]
    if len(full) > 1 and sum(map(cost, producer.body)) > LIMIT:
        return []
    provenance = Provenance()
    return [
        load
        for load, top, order in zip(loads, after, orders, strict=True)
        if order is not None and _keeps_inputs(producer, top, provenance)
    ]


def _order(load: Any, block: Any) -> list[int] | None:
    """For each index of a load which of the loops around it (outermost 0) it is the index of.

    -1 for one that is fixed in all of these loops; None where one of the loops' indices is
    missing or is not used as it is.
    """
    ivs: list[Any] = []
    op = load
    while op.block != block:
        op = op.parent
        if op.name not in _LOOPS:
            return None
        ivs = [*loop_indices(op), *ivs]
    found: list[int] = []
    for index in map(strip_casts, list(load.operands)[1:]):
        if index not in ivs and defined_inside(index, op):
            return None
        found.append(ivs.index(index) if index in ivs else -1)
    return found if sorted(n for n in found if n >= 0) == list(range(len(ivs))) else None


def _is_other(order: list[int]) -> bool:
    moving = [place for place in order if place >= 0]
    return moving != sorted(moving)


def _keeps_inputs(producer: Computed, last: Any, provenance: Provenance) -> bool:
    """Whether nothing up to the end of ``last`` writes what the computation reads."""
    reads = [access.root for access in summarise(producer.loop, provenance).accesses]
    reads = [root for root in reads if root is not provenance.root(producer.array)]
    order = operations(producer.loop.block)
    for op in order[order.index(producer.loop) + 1 : order.index(last) + 1]:
        effects = summarise(op, provenance)
        for root in reads:
            if any(provenance.may_alias(a.root, root, op) for a in effects.writes()):
                return False
            if any(provenance.touches(reach, root, op) for op, reach in effects.opaque):
                return False
    return True


def _remove_unread(producer: Computed) -> bool:
    """Remove the loop and its array when no load is left."""
    replace_sizes(producer.array)
    if len(list(producer.array.uses)) != 1:
        return False
    producer.erase()
    return True
