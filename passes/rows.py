"""Loops over the rows of a fused loop: neighbours become one, temporaries shrink to a row.

Inside one iteration of a fused loop stand loops over the rest of the indices ("rows").

1. Two of them with equal bounds that use one array become one, when `legality` allows it
   and what stands between them can move away (`motion`).
2. An array of which each iteration uses nothing but its own row, and which nobody else
   uses, is not needed in full.  Where the row is last read at the very element that an
   array of the same shape is written to, its values live there until then; else it
   becomes a buffer of one row, made in each iteration.

Refused: arrays that have uses outside the loop, and accesses with other leading indices
than the loop's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import allocate
from numba_mlir.passes.effects import Effects, summarise
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.legality import Guard, Loop, can_fuse
from numba_mlir.passes.motion import plan
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.temporaries import replace_sizes, stored_allocations
from numba_mlir.passes.values import (
    ancestor_in,
    constant_int,
    definition,
    operations,
    strip_casts,
    variable_name,
)

_OFFSET = {"memref.load": 1, "memref.store": 2}


def fuse_rows(block: Any, disjoint: Sequence[Guard]) -> int:
    """Fuse neighbouring ``scf.for`` of ``block``, and of what is fused; returns how many."""
    count = 0
    while (pair := _first_pair(block, disjoint)) is not None:
        first, second, above = pair
        for op in above:
            op.move_before(first.op)
        second.op.move_after(first.op)
        merged = _merge(first, second)
        count += 1 + fuse_rows(merged.regions[0].blocks[0], disjoint)
    return count


def _first_pair(block: Any, disjoint: Sequence[Guard]) -> tuple[Loop, Loop, Sequence[Any]] | None:
    """Two loops that can be fused, and what has to move in front of them."""
    ops = operations(block)
    rows = [op for op in ops if op.name == "scf.for"]
    if len(rows) < 2:
        return None
    provenance = Provenance()
    known: dict[Any, Effects] = {}

    def summary(op: Any) -> Effects:
        found = known.get(op)
        if found is None:
            found = known[op] = summarise(op, provenance)
        return found

    for number, op in enumerate(rows):
        first = Loop(op, summary(op))
        for other in rows[number + 1 :]:
            second = Loop(other, summary(other))
            if not _alike(first, second):
                continue
            verdict = can_fuse(first, second, provenance)
            if not verdict or not _known_disjoint(verdict.guards, disjoint, provenance):
                continue
            between = ops[ops.index(op) + 1 : ops.index(other)]
            way = plan([op], between, other, summary, provenance)
            if way.reason is None:
                return first, second, way.above
    return None


def _alike(first: Loop, second: Loop) -> bool:
    """Equal bounds, steps of one, and an array in common."""
    if any(constant_int(step) != 1 for step in (*first.steps, *second.steps)):
        return False
    equal = Equalities()
    if not (equal.equal(first.lower, second.lower) and equal.equal(first.upper, second.upper)):
        return False
    return not first.by_root.keys().isdisjoint(second.by_root)


def _known_disjoint(
    needed: Sequence[Guard], disjoint: Sequence[Guard], provenance: Provenance
) -> bool:
    known = {frozenset(map(provenance.root, guard)) for guard in disjoint}
    return all(frozenset(map(provenance.root, guard)) in known for guard in needed)


def _merge(first: Loop, second: Loop) -> Any:
    """One ``scf.for`` with the bodies of two neighbours; replaces them."""
    ir = mlir.ir
    loops = (first, second)
    inits = [init for loop in loops for init in loop.inits]
    with ir.Location.fused([loop.op.location for loop in loops]), ir.InsertionPoint(second.op):
        merged = ir.Operation.create(
            "scf.for",
            [init.type for init in inits],
            [*first.lower, *first.upper, *first.steps, *inits],
            regions=1,
        )
        kinds = [ir.IndexType.get(), *(init.type for init in inits)]
        places = [first.ivs[0].location, *[ir.Location.current] * len(inits)]
        body = ir.Block.create_at_start(merged.regions[0], kinds, places)
        iv, *carried = list(body.arguments)
        yielded: list[Any] = []
        for loop in loops:
            block = loop.op.regions[0].blocks[0]
            old_iv, *old = list(block.arguments)
            old_iv.replace_all_uses_with(iv)
            for value in old:
                value.replace_all_uses_with(carried.pop(0))
            *moved, last = operations(block)
            yielded += list(last.operands)
            for op in moved:
                body.append(op)
        with ir.InsertionPoint(body):
            ir.Operation.create("scf.yield", operands=yielded)
    results = iter(merged.results)
    for loop in loops:
        for old in loop.op.results:
            old.replace_all_uses_with(next(results))
    for loop in reversed(loops):
        loop.op.erase()
    return merged


# -- temporaries -------------------------------------------------------------------
def contract(loop: Any) -> list[str | None]:
    """Shrink the arrays of one row an iteration; returns their names (None: Numba's own)."""
    found: list[str | None] = []
    for array in stored_allocations(loop, Provenance()):
        replace_sizes(array)
        accesses = _own_row_accesses(array, loop)
        if accesses is None:
            continue
        name = variable_name(array)
        target = _later_home(array, accesses, loop)
        if target is None:
            _to_buffer(array, accesses, loop)
        else:
            array.replace_all_uses_with(target)
        definition(array).erase()
        found.append(name)
    return found


def _indices(op: Any) -> list[Any]:
    return list(op.operands)[_OFFSET[op.name] :]


def _own_row_accesses(array: Any, loop: Any) -> list[Any] | None:
    """All uses of ``array``: loads and stores in ``loop`` at its own leading indices.

    None when there are others, or when no index is left to loop over.
    """
    body = loop.regions[0].blocks[0]
    ivs = list(body.arguments)
    if array.type.rank <= len(ivs) or definition(array).block != loop.block:
        return None
    found: list[Any] = []
    for use in array.uses:
        op = use.owner.operation
        if use.operand_number != _OFFSET.get(op.name, 0) - 1 or ancestor_in(op, body) is None:
            return None
        leading = [strip_casts(index) for index in _indices(op)[: len(ivs)]]
        if leading != ivs:
            return None
        found.append(op)
    return found


def _later_home(array: Any, accesses: list[Any], loop: Any) -> Any | None:
    """An array that is written, element by element, where ``array`` is read last."""
    body = loop.regions[0].blocks[0]
    for load in accesses:
        if load.name != "memref.load":
            continue
        for store in operations(load.block):
            if store.name == "memref.store" and _takes_over(store, load, array, accesses, body):
                return store.operands[1]
    return None


def _takes_over(store: Any, load: Any, array: Any, accesses: list[Any], body: Any) -> bool:
    target = store.operands[1]
    home = target.owner
    if target == array or target.type != array.type or isinstance(home, mlir.ir.Block):
        return False
    if home.operation.name != "memref.alloc" or ancestor_in(home.operation, body) is not None:
        return False
    equal = Equalities()
    axes = range(array.type.rank)
    if any(equal.size_key(array, axis) != equal.size_key(target, axis) for axis in axes):
        return False
    loop = body.owner.operation
    if home.operation.block != loop.block or not _is_new(target, store, loop):
        return False
    where, last = _indices(store), ancestor_in(store, body)
    for op in accesses:
        top = ancestor_in(op, body)
        if top == last:
            # in the same loop: the very element, and before it is overwritten
            if op.block != store.block or _indices(op) != where or store.is_before_in_block(op):
                return False
        elif top is None or last is None or last.is_before_in_block(top):
            return False
    return load in accesses


def _is_new(target: Any, store: Any, loop: Any) -> bool:
    """Whether ``store`` is the only access to ``target`` up to the end of ``loop``."""
    for use in target.uses:
        op = use.owner.operation
        top = ancestor_in(op, loop.block)
        if op == store or op.name == "memref.dim" or top is None:
            continue
        if top == loop or top.is_before_in_block(loop):
            return False
    return True


def _to_buffer(array: Any, accesses: list[Any], loop: Any) -> None:
    """Replace ``array`` by a buffer of one row."""
    ir = mlir.ir
    body = loop.regions[0].blocks[0]
    depth = len(body.arguments)
    made = definition(array)
    full = array.type
    shape = list(full.shape)[depth:]
    skipped = sum(full.is_dynamic_dim(axis) for axis in range(depth))
    sizes = list(made.operands)[skipped:]
    with ir.InsertionPoint.at_block_begin(body), loop.location:  # not the array's: it has a type
        row = allocate(shape, full.element_type, sizes)
    for op in accesses:
        operands = [*list(op.operands)[: _OFFSET[op.name] - 1], row, *_indices(op)[depth:]]
        with ir.InsertionPoint(op), op.location:
            new = ir.Operation.create(op.name, [r.type for r in op.results], operands)
        for old, result in zip(op.results, new.results, strict=True):
            old.replace_all_uses_with(result)
        op.erase()
