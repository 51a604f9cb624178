"""Reductions over all threads of a grid, in two stages.

The threads of a block combine what they have, which leaves one value a block; then one block
combines those and the value in front of the loop.  That is a second kernel, or, where the
device has the memory order for it, the block that finishes last.  The order of every
combination is fixed by the geometry, so the result is the same each time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building, gpu_vectors
from numba_mlir.passes.gpu_kernel import (
    KernelBuilder,
    Launch,
    Target,
    block_of,
    captured,
    is_constant,
    outside_of,
)
from numba_mlir.passes.gpu_loops import (
    body_of,
    combined,
    over_threads,
    place_body,
    segments,
)
from numba_mlir.passes.gpu_reduce import (
    BLOCK,
    Block,
    barrier,
    from_stored,
    start_value,
    store_by_first,
)
from numba_mlir.passes.values import nested

#: LLVM's number of an order of memory: what was written before is there for those that read after
_ACQUIRE_RELEASE = 6
#: LLVM's names of what an order holds for: the device, or the host as well
_DEVICE, _ALL = "device", ""


def first_stage(loop: Any, target: Target, name: str, partials: Sequence[Any]) -> Launch:
    """One value a block into each of ``partials``."""
    builder = KernelBuilder(target, name, [*outside_of(loop), *partials])
    builder.mark_apart(loop)
    with builder.inside():
        _of_blocks(builder, loop, block_of(target), name, partials)
    return builder.launch


def second_stage(
    loop: Any, target: Target, name: str, partials: Sequence[Any], count: Any,
    results: Sequence[Any],
) -> Launch:  # fmt: skip
    """One block: combines the first ``count`` of ``partials`` and the loop's initial values,
    and leaves each result in the first place of one of ``results``."""
    initial = segments(loop)[3]
    reduce = body_of(loop)[2]
    inside = captured(reduce, regions_only=True)
    outside = [v for v in (*partials, count, *results, *initial, *inside) if not is_constant(v)]
    builder = KernelBuilder(target, name, list(dict.fromkeys(outside)))
    with builder.inside():
        block = block_of(target)
        _of_one_block(builder, loop, block, name, partials, builder.value(count), results)
    return builder.launch


@dataclass(frozen=True)
class Words:
    """Numbers that a kernel of both stages keeps, each an array of one i32.

    ``finished`` counts the blocks that are done: 0 before and afterwards.  ``flag`` becomes 1
    when the results are where they belong, for a host that waits for it.
    """

    finished: Any
    flag: Any


def both_stages(
    loop: Any, target: Target, name: str, partials: Sequence[Any], results: Sequence[Any],
    words: Words,
) -> Launch:  # fmt: skip
    """One kernel: the block that finishes last combines ``partials`` into the first places
    of ``results``, which are in memory of the host."""
    outside = [*outside_of(loop), *partials, *results, words.finished, words.flag]
    builder = KernelBuilder(target, name, outside)
    builder.mark_apart(loop)
    with builder.inside():
        gpu, x, y = mlir.gpu, mlir.gpu.Dimension.x, mlir.gpu.Dimension.y
        block = block_of(target)
        _of_blocks(builder, loop, block, name, partials)
        count = mlir.arith.muli(gpu.grid_dim(x), gpu.grid_dim(y))
        counter = builder.value(words.finished)
        with building.only(_is_last(block, f"{name}_last", counter, count)):
            _of_one_block(builder, loop, block, f"{name}_end", partials, count, results)
            first = mlir.arith.cmpi(
                mlir.arith.CmpIPredicate.eq, block.threads.in_block, building.index(0)
            )
            with building.only(first):
                _say_done(counter, builder.value(words.flag))
    return builder.launch


def _say_done(counter: Any, flag: Any) -> None:
    """Done by the thread that stored the results."""
    place = [building.index(0)]
    mlir.memref.store(mlir.arith.constant(_word(), 0), counter, place)
    _fence(_ALL)
    mlir.memref.store(mlir.arith.constant(_word(), 1), flag, place)
    _fence(_ALL)


def _of_blocks(
    builder: KernelBuilder, loop: Any, block: Block, name: str, partials: Sequence[Any]
) -> None:
    copy = builder.loop(loop)
    lower, upper, _, initial = segments(copy)
    combiners = [region.blocks[0] for region in body_of(copy)[2].regions]
    start = [start_value(c, i) for c, i in zip(combiners, initial, strict=True)]
    threads = block.threads
    if len(lower) == 1 and not any(op.name == "memref.store" for op in nested(copy)):
        shape = gpu_vectors.copies_for(copy)
        make = functools.partial(builder.loop, loop)
        values = gpu_vectors.reduced(make, copy, shape, start, threads)
    else:
        values = over_threads(threads, lower, upper, start, place_body(copy))
    for number, (value, combiner) in enumerate(zip(values, combiners, strict=True)):
        combine = functools.partial(combined, combiner)
        total = block.combined(f"{name}_buffer{number}", value, combine)
        store_by_first(threads, total, builder.value(partials[number]), threads.block)
    copy.erase()


def _of_one_block(
    builder: KernelBuilder, loop: Any, block: Block, name: str, partials: Sequence[Any],
    count: Any, results: Sequence[Any],
) -> None:  # fmt: skip
    reduce, initial = body_of(loop)[2], segments(loop)[3]
    known: Mapping[Any, Any] = builder.known(reduce, regions_only=True)
    for number, region in enumerate(reduce.regions):
        combine = functools.partial(combined, region.blocks[0], outside=known)
        source, before = builder.value(partials[number]), builder.value(initial[number])

        def at(iv: Any, old: Any, source: Any = source, combine: Any = combine) -> list[Any]:
            return [combine(old, from_stored(mlir.memref.load(source, [iv]), old.type))]

        bounds = (block.threads.in_block, count, building.index(BLOCK))
        start = start_value(region.blocks[0], before)
        (value,) = building.for_loop(bounds, at, [start])
        total = block.combined(f"{name}_buffer{number}", value, combine)
        target = builder.value(results[number])
        store_by_first(block.threads, combine(before, total), target, building.index(0))


def _is_last(block: Block, name: str, counter: Any, count: Any) -> Any:
    """Whether this block is the last one that comes here, the same in all its threads.

    What the first threads of the others stored before is there for this block then.
    """
    ir, arith, word = mlir.ir, mlir.arith, _word()
    flag = block.shared(name, 1, word)
    zero = building.index(0)
    with building.only(arith.cmpi(arith.CmpIPredicate.eq, block.threads.in_block, zero)):
        _fence()
        before = ir.Operation.create(
            "memref.atomic_rmw",
            [word],
            [arith.constant(word, 1), counter, zero],
            {"kind": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1)},  # addi
        ).results[0]
        _fence()
        last = arith.index_cast(word, arith.subi(count, building.index(1)))
        is_last = arith.cmpi(arith.CmpIPredicate.eq, before, last)
        mlir.memref.store(arith.extui(word, is_last), flag, [zero])
    barrier()
    found = mlir.memref.load(flag, [zero])
    return arith.cmpi(arith.CmpIPredicate.ne, found, arith.constant(word, 0))


def _fence(scope: str = _DEVICE) -> None:
    """Everything in ``scope`` sees what this thread wrote before, before what it does after.

    (LLVM's target for NVIDIA's GPUs gives atomic additions no order of their own.)
    """
    ir = mlir.ir
    order = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _ACQUIRE_RELEASE)
    attributes = {"ordering": order}
    if scope:
        attributes["syncscope"] = ir.StringAttr.get(scope)
    ir.Operation.create("llvm.fence", attributes=attributes)


def _word() -> Any:
    return mlir.ir.IntegerType.get_signless(32)
