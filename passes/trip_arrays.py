"""Arrays that go from one trip of a loop to the next become one array (see `trips`).

    for k:                                      R = empty; R[:] = p
        t = empty                               for k:
        for i in parallel: t[i] = f(p[i])           for i in parallel: R[i] = f(R[i])
        p = t

Taken are arrays that are allocated in each trip, with sizes that are the same in each, where

1. the array before the loop has these sizes, which is tested at run time;
2. no element of the old array is read after that of the new one is written: all reads are in
   earlier loops, or in front of the write in the same iteration, with the same subscripts.

Behind the loop the new array is the result, whatever happens to the one before the loop.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.shapes import tested_size
from numba_mlir.passes.values import (
    ACCESSES,
    constant_int,
    defined_inside,
    definition,
    display_name,
    is_memref,
    loop_indices,
    nested,
    operations,
    owner,
    strip_casts,
)


def obstacle(loop: Any, number: int) -> str | None:
    """Why carried value ``number`` of ``loop``, an array, cannot become one array."""
    body = loop.regions[0].blocks[0]
    old = body.arguments[1 + number]
    *_, last = operations(body)
    new = last.operands[number]
    made = owner(new)
    name = display_name(new)
    if made is None or made.name != "memref.alloc" or made.block != body:
        return f"{name} goes from one trip to the next, and is not made in each trip"
    if new.type != old.type or any(defined_inside(size, loop) for size in made.operands):
        return f"{name} may have other sizes in each trip"
    reads, _ = _accesses(old)
    _, writes = _accesses(new)
    if reads is None or writes is None or any(op.name != "memref.load" for op in reads):
        return f"{name} goes from one trip to the next, and is not used element by element"
    for read in reads:
        for write in writes:
            if not _is_before(read, write, body):
                return f"{name} is needed from the trip before when it is written"
    return None


def unite(loop: Any, number: int) -> Any:
    """Let the array of the trip before and the new one be one; returns it.

    The result and the carried value of the loop are not used any more.
    """
    body = loop.regions[0].blocks[0]
    *_, last = operations(body)
    array = last.operands[number]
    body.arguments[1 + number].replace_all_uses_with(array)
    last.operands[number] = loop.operands[3 + number]
    definition(array).move_before(loop)
    return array


def without(loop: Any, numbers: set[int]) -> Any:
    """``loop`` without the carried values ``numbers``, which nobody uses; replaces it."""
    ir = mlir.ir
    operands = list(loop.operands)
    kept = [n for n in range(len(loop.results)) if n not in numbers]
    starts = [operands[3 + n] for n in kept]
    body = loop.regions[0].blocks[0]
    arguments = list(body.arguments)
    *moved, last = operations(body)
    with loop.location, ir.InsertionPoint(loop):
        kinds = [value.type for value in starts]
        made = ir.Operation.create("scf.for", kinds, [*operands[:3], *starts], regions=1)
        wanted = [arguments[0], *(arguments[1 + n] for n in kept)]
        block = ir.Block.create_at_start(
            made.regions[0], [a.type for a in wanted], [a.location for a in wanted]
        )
        for old, new in zip(wanted, block.arguments, strict=True):
            old.replace_all_uses_with(new)
        for op in moved:
            block.append(op)
        with ir.InsertionPoint(block):
            ir.Operation.create("scf.yield", operands=[last.operands[n] for n in kept])
    for n, result in zip(kept, made.results, strict=True):
        loop.results[n].replace_all_uses_with(result)
    loop.erase()
    return made


def _accesses(array: Any) -> tuple[list[Any] | None, list[Any] | None]:
    """The loads and the stores of ``array``; None where it is used in another way."""
    loads: list[Any] = []
    stores: list[Any] = []
    for use in array.uses:
        op = use.owner.operation
        if op.name in ("memref.dim", "scf.yield"):
            continue
        if use.operand_number != ACCESSES.get(op.name):
            return None, None
        (loads if op.name == "memref.load" else stores).append(op)
    return loads, stores


def _is_before(read: Any, write: Any, body: Any) -> bool:
    """Whether ``read`` of an element is never later than ``write`` of it, in one trip."""
    left, right = _path(read, body), _path(write, body)
    depth = next(n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    if left[depth].block != right[depth].block:
        return True  # two branches, of which one is taken
    if not left[depth].is_before_in_block(right[depth]):
        return False
    loops = [op for op in left[:depth] if op.name != "scf.if"]
    return not loops or _same_element(read, write, loops)


def _path(op: Any, body: Any) -> list[Any]:
    """The operations from one of ``body`` to ``op``, which is inside it."""
    found = [op]
    while found[0].block != body:
        found.insert(0, found[0].parent.operation)
    return found


def _same_element(read: Any, write: Any, loops: list[Any]) -> bool:
    """Whether both are of one element in each iteration of ``loops``, of others in others."""
    keys = Equalities()
    indices = list(write.operands)[2:]
    if [keys.key(i) for i in list(read.operands)[1:]] != [keys.key(i) for i in indices]:
        return False
    found = [strip_casts(i) for i in indices]
    return all(
        op.name in ("scf.for", "scf.parallel") and all(iv in found for iv in loop_indices(op))
        for op in loops
    )


def sizes(array: Any) -> list[Any]:
    """The sizes of an allocated array, index values."""
    dynamic = iter(definition(array).operands)
    shape = list(array.type.shape)
    index = mlir.ir.IndexType.get()
    return [
        next(dynamic) if array.type.is_dynamic_dim(axis) else mlir.arith.constant(index, size)
        for axis, size in enumerate(shape)
    ]


# -- the same sizes in all trips -----------------------------------------------------------
def use_first_sizes(loop: Any) -> list[int]:
    """Take the sizes of carried arrays from the arrays before the loop.

    Returns the numbers of the carried values that are arrays.
    """
    arguments = list(loop.regions[0].blocks[0].arguments)[1:]
    found = [n for n, argument in enumerate(arguments) if is_memref(argument)]
    for number in found:
        for use in list(arguments[number].uses):
            op = use.owner.operation
            if op.name == "memref.dim":
                op.operands[0] = loop.operands[3 + number]
    return found


def fold_constants(loop: Any) -> None:
    """Constants in place of casts of constants."""
    for op in list(nested(loop)):
        if op.name == "arith.index_cast" and (number := constant_int(op.operands[0])) is not None:
            with mlir.ir.InsertionPoint(op), op.location:
                new = mlir.arith.constant(op.results[0].type, number)
            op.results[0].replace_all_uses_with(new)
            op.erase()


def size_tests(loop: Any) -> list[tuple[Any, Any, Any]]:
    """Indices in a parallel loop that are 0 where a size is 1, and else the loop's own.

    Each as the operation, the size that is tested, and the bound of the index.
    """
    rank = len(list(loop.regions[0].blocks[0].arguments))
    ivs = list(loop.regions[0].blocks[0].arguments)
    lower, upper = list(loop.operands)[:rank], list(loop.operands)[rank : 2 * rank]
    found: list[tuple[Any, Any, Any]] = []
    for iv, low, high in zip(ivs, lower, upper, strict=True):
        if constant_int(low) != 0:
            continue
        for use in iv.uses:
            op = use.owner.operation
            size = _tested_size(op, iv)
            if size is not None:
                found.append((op, size, high))
    return found


def _tested_size(op: Any, iv: Any) -> Any | None:
    """The size n of ``select(n == 1, 0, iv)``, ``iv & select(n == 1, 0, -1)`` or ``iv *
    select(n == 1, 0, 1)``; None for other operations."""
    if op.name == "arith.select":
        is_test = op.operands[2] == iv and constant_int(op.operands[1]) == 0
        return tested_size(op.operands[0]) if is_test else None
    if op.name not in ("arith.andi", "arith.muli") or op.operands[0] != iv:
        return None
    factor = owner(op.operands[1])
    if factor is None or factor.name != "arith.select":
        return None
    neutral = -1 if op.name == "arith.andi" else 1
    condition, zero, other = factor.operands
    is_test = constant_int(zero) == 0 and constant_int(other) == neutral
    return tested_size(condition) if is_test else None
