"""Small pieces of new loops, created at the current insertion point and location."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.keys import dimension
from numba_mlir.passes.values import ADDRESS, nested

#: of an ``scf.for``: what LLVM is to do with the loop
LOOP_ANNOTATION = "llvm.loop_annotation"
#: of a ``memref.alloc`` of constant size in a kernel: on the stack, where making it cannot fail
ON_STACK = "numba.on_stack"


def index(number: int) -> Any:
    """A constant of type ``index``."""
    return mlir.arith.constant(mlir.ir.IndexType.get(), number)


def size_of(array: Any, axis: int) -> Any:
    """The size of an array along an axis."""
    size = dimension(array, axis)
    if size is None:
        return mlir.memref.dim(array, index(axis))
    return index(size) if isinstance(size, int) else size


def address_of(array: Any) -> Any:
    """The number of an array's first byte."""
    kind = mlir.ir.IndexType.get()
    return mlir.ir.Operation.create(ADDRESS, [kind], [array]).result


def load_at(array: Any, *where: Any) -> Any:
    """``memref.load`` of one element."""
    kind = array.type.element_type
    return mlir.ir.Operation.create("memref.load", [kind], [array, *where]).result


def for_loop(
    bounds: tuple[Any, Any, Any],
    body: Callable[..., Iterable[Any]],
    start: Sequence[Any] = (),
) -> list[Any]:
    """``scf.for`` with ``bounds`` (lower, upper, step); returns its results.

    ``body(iv, *carried)`` builds the body and gives the new values of what is carried,
    as many as there are in ``start``.
    """
    ir = mlir.ir
    types = [value.type for value in start]
    made = ir.Operation.create("scf.for", types, [*bounds, *start], regions=1)
    kinds = [ir.IndexType.get(), *types]
    block = ir.Block.create_at_start(made.regions[0], kinds, [ir.Location.current] * len(kinds))
    with ir.InsertionPoint(block):
        ir.Operation.create("scf.yield", operands=list(body(*block.arguments)))
    return list(made.results)


@contextlib.contextmanager
def only(condition: Any) -> Iterator[None]:
    """What is built inside stands in ``scf.if condition``."""
    ir = mlir.ir
    branch = ir.Operation.create("scf.if", operands=[condition], regions=2)
    with ir.InsertionPoint(branch.regions[0].blocks.append()):
        yield
        ir.Operation.create("scf.yield")


def either(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> None:
    """``scf.if`` without results, of what ``yes`` builds and of what ``no`` builds."""
    ir = mlir.ir
    branch = ir.Operation.create("scf.if", operands=[condition], regions=2)
    for region, build in zip(branch.regions, (yes, no), strict=True):
        with ir.InsertionPoint(region.blocks.append()):
            build()
            ir.Operation.create("scf.yield")


def choice(condition: Any, kind: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """``scf.if`` with a result of type ``kind``, which ``yes`` or ``no`` builds."""
    ir = mlir.ir
    branch = ir.Operation.create("scf.if", [kind], [condition], regions=2)
    for region, build in zip(branch.regions, (yes, no), strict=True):
        with ir.InsertionPoint(region.blocks.append()):
            ir.Operation.create("scf.yield", operands=[build()])
    return branch.results[0]


def parallel_loop(bounds: tuple[Any, Any, Any], body: Callable[[Any], None]) -> Any:
    """``scf.parallel`` over one index with ``bounds`` (lower, upper, step); ``body(iv)``."""
    return parallel_loops([bounds], body)


def parallel_loops(
    bounds: Sequence[tuple[Any, Any, Any]],
    body: Callable[..., None],
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """``scf.parallel`` over indices with ``bounds`` (lower, upper, step); ``body(*ivs)``."""
    ir = mlir.ir
    rank = len(bounds)
    segments = {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([rank, rank, rank, 0])}
    operands = [one[number] for number in range(3) for one in bounds]
    found = {**(attributes or {}), **segments}
    made = ir.Operation.create("scf.parallel", [], operands, found, regions=1)
    here = ir.Location.name("parfor_index", ir.Location.current)
    block = ir.Block.create_at_start(made.regions[0], [ir.IndexType.get()] * rank, [here] * rank)
    with ir.InsertionPoint(block):
        body(*block.arguments)
        ir.Operation.create("scf.reduce")
    return made


def with_last(loop: Any, last: tuple[Any, Any, Any], body: Callable[..., None]) -> Any:
    """``scf.parallel`` as ``loop``, which has no results, but with bounds ``last`` (lower, upper,
    step) for its last index; ``body(*ivs)``."""
    rank = len(loop.regions[0].blocks[0].arguments)
    operands = list(loop.operands)
    bounds = [tuple(operands[number::rank]) for number in range(rank - 1)]
    attributes = {name: loop.attributes[name] for name in loop.attributes}
    return parallel_loops([*bounds, last], body, attributes)


def reduction(
    bounds: tuple[Any, Any, Any],
    term: Callable[[Any], Any],
    combine: Callable[[Any, Any], Any],
    neutral: Any,
) -> Any:
    """``scf.parallel`` over one index with ``bounds`` (lower, upper, step) that combines the
    values of ``term(iv)``, from ``neutral`` on; its result."""
    ir = mlir.ir
    segments = {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 1, 1])}
    kind = neutral.type
    made = ir.Operation.create("scf.parallel", [kind], [*bounds, neutral], segments, regions=1)
    here = ir.Location.current
    named = ir.Location.name("parfor_index", here)
    block = ir.Block.create_at_start(made.regions[0], [ir.IndexType.get()], [named])
    with ir.InsertionPoint(block):
        last = ir.Operation.create("scf.reduce", [], [term(*block.arguments)], regions=1)
    combiner = ir.Block.create_at_start(last.regions[0], [kind, kind], [here, here])
    with ir.InsertionPoint(combiner):
        combined = combine(*combiner.arguments)
        ir.Operation.create("scf.reduce.return", operands=[combined])
    return made.result


def nest(bounds: Sequence[tuple[Any, Any, Any]], loop: Any, moved: Sequence[Any]) -> None:
    """``scf.for`` loops over ``bounds`` in each other, with the body of ``loop`` inside.

    ``moved`` are the operations of the body; the indices of ``loop`` become the new ones.
    """
    ivs = list(loop.regions[0].blocks[0].arguments)

    def level(depth: int) -> None:
        def body(iv: Any) -> list[Any]:
            ivs[depth].replace_all_uses_with(iv)
            if depth + 1 < len(ivs):
                level(depth + 1)
            else:
                for op in moved:
                    iv.owner.append(op)
            return []

        for_loop(bounds[depth], body)

    level(0)


def allocate(shape: Sequence[int], element: Any, sizes: Sequence[Any] = ()) -> Any:
    """``memref.alloc`` of ``shape``, with ``sizes`` for its dynamic dimensions, in order."""
    ir = mlir.ir
    segments = ir.DenseI32ArrayAttr.get([len(sizes), 0])
    kind = ir.MemRefType.get(list(shape), element)
    attributes = {"operandSegmentSizes": segments}
    return ir.Operation.create("memref.alloc", [kind], list(sizes), attributes).result


def on_stack(count: int, element: Any, function: Any) -> Any:
    """``memref.alloca`` of ``count`` elements where ``function`` begins, aligned to cache lines."""
    ir = mlir.ir
    word = ir.IntegerType.get_signless(64)
    attributes = {
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([0, 0]),
        "alignment": ir.IntegerAttr.get(word, 64),
    }
    kind = ir.MemRefType.get([count], element)
    with ir.InsertionPoint.at_block_begin(function.regions[0].blocks[0]):
        return ir.Operation.create("memref.alloca", [kind], [], attributes).results[0]


def clone(op: Any, values: Mapping[Any, Any]) -> Any:
    """A copy of ``op`` and all inside, at the insertion point, with operands by ``values``."""
    made = op.clone().operation
    for inner in (made, *nested(made)):
        for number, value in enumerate(inner.operands):
            inner.operands[number] = values.get(value, value)
    return made


def clone_all(ops: Iterable[Any], values: dict[Any, Any]) -> None:
    """Copies of operations in their order, by ``values``, which gets their results."""
    for op in ops:
        values.update(zip(op.results, clone(op, values).results, strict=True))
