"""Reductions of rows by a block of threads each, for rows that are long.

A loop over rows whose inner loops only reduce (sums along the last axis and the like) would
be one thread a row, whose reads are not next to those of its neighbours.  Here the threads
of a block share the inner loops, and all of them do everything else: they compute the same
numbers and store the same values.  Sums need the flag ``reassoc``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.gpu_loops import body_of, extent, product, segments, unravel
from numba_mlir.passes.gpu_reduce import (
    BLOCK,
    IDEMPOTENT,
    NEUTRAL,
    Block,
    barrier,
    number,
)
from numba_mlir.passes.gpu_scatter import is_own
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import defined_inside, nested, operations, owner

#: rows of fewer elements are one thread's
LONG = 128

#: makes of an inner loop what a block does together: (loop, name of buffers) -> its results
Share = Callable[[Any, str], list[Any]]


@dataclass(frozen=True)
class _Step:
    """One running value of an inner loop: the operation that combines it."""

    op: Any
    contribution: Any


def applies(loop: Any) -> bool:
    """Whether the threads of a block can share the inner loops of ``loop``.

    The inner loops have bounds from outside and hold no others.  They reduce, or store
    elements at their index; what is stored there is read there only, by the same thread.
    """
    _, body, reduce = body_of(loop)
    inner = [op for op in body if op.name == "scf.for"]
    others = [op for op in body if op.name != "scf.for"]
    if list(reduce.operands) or any(len(op.regions) for op in others):
        return False
    if not any(op.results for op in inner) or not all(_is_shared(op, loop) for op in inner):
        return False
    return _keeps_apart(loop, inner)


def length(loop: Any) -> Any:
    """The length of the rows: of the longest inner loop's, all being outside values."""
    inner = [op for op in body_of(loop)[1] if op.name == "scf.for"]
    sizes = [extent(op.operands[0], op.operands[1]) for op in inner]
    longest = sizes[0]
    for size in sizes[1:]:
        longest = mlir.arith.maxsi(longest, size)
    return longest


def _is_shared(inner: Any, loop: Any) -> bool:
    """Bounds from outside, and nothing carried but what is reduced; loads go along with the
    index."""
    outside = not any(defined_inside(value, loop) for value in list(inner.operands)[:3])
    if not outside or any(len(op.regions) for op in nested(inner)):
        return False
    block = inner.regions[0].blocks[0]
    loads = [op for op in operations(block) if op.name == "memref.load"]
    along = any(_last_index(op) == block.arguments[0] for op in loads)
    return along and (not inner.results or steps(inner) is not None)


def _keeps_apart(loop: Any, inner: list[Any]) -> bool:
    """Whether no thread needs what another one stores."""
    accesses: dict[Any, list[Any]] = {}
    for op in nested(loop):
        if op.name in ("memref.load", "memref.store"):
            accesses.setdefault(_array(op), []).append(op)
    known = Provenance()
    for array, ops in accesses.items():
        if all(op.name == "memref.load" for op in ops):
            continue
        made = owner(array)
        if made is None or made.name != "memref.alloc":
            return False
        ivs = list(loop.regions[0].blocks[0].arguments)
        stores = [op for op in ops if op.name == "memref.store"]
        if not all(is_own(_indices(op), ivs, loop) for op in stores):
            return False
        others = [other for other in accesses if other != array]
        if any(known.may_alias(known.root(array), known.root(o), loop) for o in others):
            return False
        between = [op for op in ops if op.parent.operation == loop]
        if between and len(between) == len(ops):
            if any(op.name == "memref.load" for op in ops):
                return False
        elif between or not _one_thread_each(ops):
            return False
    return True


def _one_thread_each(ops: list[Any]) -> bool:
    """Accesses at the same leading indices and at the inner index, all from loops that
    begin alike: each element is one thread's."""
    loops = [op.parent.operation for op in ops]
    starts = {(loop.operands[0], loop.operands[2]) for loop in loops}
    rows = {tuple(_indices(op)[:-1]) for op in ops}
    here = all(
        loop.name == "scf.for" and _last_index(op) == loop.regions[0].blocks[0].arguments[0]
        for op, loop in zip(ops, loops, strict=True)
    )
    return here and len(starts) == 1 and len(rows) == 1


def _array(access: Any) -> Any:
    return access.operands[0 if access.name == "memref.load" else 1]


def _indices(access: Any) -> list[Any]:
    return list(access.operands)[1 if access.name == "memref.load" else 2 :]


def _last_index(access: Any) -> Any:
    indices = _indices(access)
    return indices[-1] if indices else None


def steps(inner: Any) -> list[_Step] | None:
    """How each running value of an ``scf.for`` is combined; None where it is not a reduction."""
    block = inner.regions[0].blocks[0]
    _, *running = list(block.arguments)
    last = operations(block)[-1]
    found: list[_Step] = []
    for argument, value in zip(running, last.operands, strict=True):
        step = _step(argument, value)
        if step is None:
            return None
        found.append(step)
    return found or None


def _step(argument: Any, value: Any) -> _Step | None:
    op = owner(value)
    if op is None or len(list(argument.uses)) != 1 or len(list(value.uses)) != 1:
        return None
    if op.name not in NEUTRAL and op.name not in IDEMPOTENT:
        return None
    ordered = op.name in ("arith.addf", "arith.mulf")
    if ordered and "reassoc" not in str(op.attributes["fastmath"]):
        return None
    operands = list(op.operands)
    if len(operands) != 2 or argument not in operands:
        return None
    return _Step(op, operands[1 - operands.index(argument)])


def over_blocks(loop: Any, name: str, share: Share, one_each: bool = False) -> None:
    """Replace ``loop``, inside a kernel, by one over the rows of this thread's block, or,
    where there are as many blocks as rows, by the row of this block.

    ``share`` makes of an inner loop, in front of it, what the block's threads do together.
    """
    lower, upper, _, _ = segments(loop)
    gpu = mlir.gpu
    first, count = gpu.block_id(gpu.Dimension.x), gpu.grid_dim(gpu.Dimension.x)
    sizes = [extent(low, high) for low, high in zip(lower, upper, strict=True)]
    where, body, _ = body_of(loop)

    def row(item: Any) -> list[Any]:
        ivs = unravel(item, sizes)
        for argument, low, iv in zip(where.arguments, lower, ivs, strict=True):
            argument.replace_all_uses_with(mlir.arith.addi(low, iv))
        here = mlir.ir.InsertionPoint.current.block
        for op in body:
            here.append(op)
        for position, op in enumerate(op for op in body if op.name == "scf.for"):
            with mlir.ir.InsertionPoint(op), op.location:
                results = share(op, f"{name}_row{position}")
            for old, new in zip(op.results, results, strict=True):
                old.replace_all_uses_with(new)
            op.erase()
        return []

    if not one_each:
        building.for_loop((first, product(sizes), count), row)
    else:
        with building.only(mlir.arith.cmpi(mlir.arith.CmpIPredicate.ult, first, product(sizes))):
            row(first)
    loop.erase()


def in_turns(block: Block, inner: Any, name: str) -> list[Any]:
    """The block's threads take turns in an inner loop and combine what they have."""
    low, high, step, *initial = list(inner.operands)
    start = starts(inner)
    arith = mlir.arith
    first = arith.addi(low, arith.muli(block.threads.in_block, step))
    body = inner.regions[0].blocks[0]
    *ops, last = operations(body)

    def at(iv: Any, *running: Any) -> list[Any]:
        for argument, value in zip(body.arguments, (iv, *running), strict=True):
            argument.replace_all_uses_with(value)
        here = mlir.ir.InsertionPoint.current.block
        for op in ops:
            here.append(op)
        return list(last.operands)

    stride = arith.muli(step, building.index(BLOCK))
    found = [combination(one.op) for one in steps(inner) or []]
    totals = building.for_loop((first, high, stride), at, start)
    return together(block, found, totals, initial, name)


def starts(inner: Any) -> list[Any]:
    """What each thread's running values start from."""
    initial = list(inner.operands)[3:]
    return [
        number(NEUTRAL[one.op.name], value.type) if one.op.name in NEUTRAL else value
        for one, value in zip(steps(inner) or [], initial, strict=True)
    ]


def together(
    block: Block, found: list[Any], totals: list[Any], initial: list[Any], name: str
) -> list[Any]:
    """The threads' values and those before the loop combined, by the functions ``found``."""
    results: list[Any] = []
    for index, (total, combine, before) in enumerate(zip(totals, found, initial, strict=True)):
        whole = block.combined(f"{name}_buffer{index}", total, combine)
        barrier()  # the buffer is written again for the next row
        results.append(combine(before, whole))
    return results


def combination(op: Any) -> Any:
    """A function that makes the operation again for two other values."""
    name = op.name
    attributes = {key: op.attributes[key] for key in ("fastmath",) if key in op.attributes}

    def combine(left: Any, right: Any) -> Any:
        return mlir.ir.Operation.create(name, [left.type], [left, right], attributes).results[0]

    return combine
