"""How reductions run: in blocks, and split over threads at the same places for any number.

1. A parallel loop with ``scf.reduce`` becomes one over chunks of its first index: each adds
   up its own part, and the parts are combined in order behind it.  The chunks depend on
   the sizes alone, so the result does not depend on the number of threads.  In a sequential
   function it becomes a nest of plain loops.
2. A sum of floating-point numbers whose addition has the flag ``reassoc`` is computed in
   blocks of `BLOCK` elements.  Inside a block the order is LLVM's, which makes several
   partial sums (vector lanes); blocks are added with a compensation term (Neumaier), so
   that their number adds no error.  NumPy's pairwise summation has an error of about
   ``(16 + log2(n / 128)) eps``; a block has one of ``(BLOCK / lanes + log2(lanes)) eps``.
   The last `TAIL` elements or fewer are a block of their own: added to a block one by one,
   each would cost a rounding of the whole sum.
3. Reductions along columns go row by row (`columns`).

What a user wrote as a loop has no flag and stays in its order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult
from numba_mlir.passes.building import allocate, for_loop, index
from numba_mlir.passes.columns import interchange
from numba_mlir.passes.jamming import COMPACT
from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.sums import is_free_sum
from numba_mlir.passes.values import constant_int, nested, operations, owner

#: elements of one block of a sum
BLOCK = 512
#: elements that what is behind the last block has fewer of; a multiple of lanes and of the
#: vectors that go side by side, so that blocks leave nothing over to add one by one
TAIL = 64
#: blocks of columns for each core; narrow blocks read memory in short pieces
PIECES_PER_CORE = 2
#: elements of one chunk of a reduction of a whole array
CHUNK = 1 << 14


@dataclasses.dataclass(frozen=True)
class Reductions(MLIRPass):
    """Lower reductions; ``parallel`` says whether to split them over threads."""

    parallel: bool = True

    name: ClassVar[str] = "reductions"

    def applies(self, module: Any) -> bool:
        return has_reductions(module)

    def run(self, module: Any) -> PassResult:
        """Unmodified when there are none."""
        with module.context:
            modified = interchange(module, self._pieces())
            reducing = [
                op
                for op in nested(module.operation)
                if op.name == "scf.parallel" and len(op.results)
            ]
            for op in reversed(reducing):  # inner ones first: what is inside is replaced too
                with op.location, mlir.ir.InsertionPoint(op):
                    _Split(op, self.parallel).run()
                modified = True
            loops = [op for op in nested(module.operation) if op.name == "scf.for"]
            for op in reversed(loops):
                _start_fresh(op)
            for op in reversed(loops):
                if _sums(op) and not _is_block(op):
                    with op.location, mlir.ir.InsertionPoint(op):
                        _BlockedSums(op).run()
                    modified = True
            if modified:
                mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
        return PassResult(modified)

    def _pieces(self) -> int:
        return PIECES_PER_CORE * this_machine().cores if self.parallel else 1


def has_reductions(module: Any) -> bool:
    """Whether array statements became loops that reduce."""
    for op in nested(module.operation):
        if op.name == "scf.for" or (op.name == "scf.parallel" and len(op.results)):
            return True
    return False


# -- small things ------------------------------------------------------------------
def _combine(combiner: Any, left: Any, right: Any) -> Any:
    """The combiner block of an ``scf.reduce``, on two values."""
    values = dict(zip(combiner.arguments, (left, right), strict=True))
    *body, last = operations(combiner)
    for op in body:
        clone = op.clone().operation
        for number, value in enumerate(clone.operands):
            if value in values:
                clone.operands[number] = values[value]
        values |= dict(zip(op.results, clone.results, strict=True))
    return values.get(last.operands[0], last.operands[0])


# -- chunks ------------------------------------------------------------------------
class _Split:
    """One ``scf.parallel`` with reductions, at the insertion point."""

    def __init__(self, op: Any, parallel: bool) -> None:
        self._op, self._parallel = op, parallel
        rank = len(op.regions[0].blocks[0].arguments)
        operands = list(op.operands)
        self._lower, self._upper = operands[:rank], operands[rank : 2 * rank]
        self._inits = operands[3 * rank :]
        *self._body, self._reduce = operations(op.regions[0].blocks[0])
        self._combiners = [region.blocks[0] for region in self._reduce.regions]

    def run(self) -> None:
        results = self._chunks() if self._parallel else self._nest(self._bounds(), self._inits)
        for old, new in zip(self._op.results, results, strict=True):
            old.replace_all_uses_with(new)
        self._op.erase()

    def _bounds(self) -> list[tuple[Any, Any]]:
        return list(zip(self._lower, self._upper, strict=True))

    def _nest(self, bounds: list[tuple[Any, Any]], start: list[Any]) -> list[Any]:
        """Plain loops that have the body, which is moved."""
        ivs = list(self._op.regions[0].blocks[0].arguments)

        def level(depth: int, carried: Sequence[Any]) -> Sequence[Any]:
            if depth == len(bounds):
                block = mlir.ir.InsertionPoint.current.block
                for op in self._body:
                    block.append(op)
                values = list(self._reduce.operands)
                return [
                    _combine(*parts) for parts in zip(self._combiners, carried, values, strict=True)
                ]

            def body(iv: Any, *inner: Any) -> Sequence[Any]:
                ivs[depth].replace_all_uses_with(iv)
                return level(depth + 1, inner)

            return for_loop((*bounds[depth], index(1)), body, carried)

        return list(level(0, start))

    def _chunks(self) -> list[Any]:
        ir, arith = mlir.ir, mlir.arith
        (low, high), *inner = self._bounds()
        length = self._chunk_length(inner)
        count = arith.ceildivui(arith.maxsi(arith.subi(high, low), index(0)), length)
        kinds = [value.type for value in self._inits]
        dynamic = ir.ShapedType.get_dynamic_size()
        buffers = [allocate([dynamic], kind, [count]) for kind in kinds]
        made = ir.Operation.create(
            "scf.parallel",
            [],
            [index(0), count, index(1)],
            {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 1, 0]), **_names(self._op)},
            regions=1,
        )
        here = ir.Location.name("parfor_index", ir.Location.current)
        block = ir.Block.create_at_start(made.regions[0], [ir.IndexType.get()], [here])
        (chunk,) = block.arguments
        with ir.InsertionPoint(block):
            first = arith.addi(low, arith.muli(chunk, length))
            last = arith.minsi(arith.addi(first, length), high)
            parts = self._nest([(first, last), *inner], self._inits)
            for part, buffer in zip(parts, buffers, strict=True):
                ir.Operation.create("memref.store", operands=[part, buffer, chunk])
            ir.Operation.create("scf.reduce")

        def together(iv: Any, *carried: Any) -> Sequence[Any]:
            loaded = [
                ir.Operation.create("memref.load", [kind], [buffer, iv]).results[0]
                for kind, buffer in zip(kinds, buffers, strict=True)
            ]
            return [_combine(*p) for p in zip(self._combiners, carried, loaded, strict=True)]

        return for_loop((index(0), count, index(1)), together, self._inits)

    def _chunk_length(self, inner: list[tuple[Any, Any]]) -> Any:
        """How many values of the first index make about `CHUNK` elements."""
        arith = mlir.arith
        if not inner:
            return index(CHUNK)
        size = index(1)
        for low, high in inner:
            size = arith.muli(size, arith.maxsi(arith.subi(high, low), index(1)))
        return arith.maxui(arith.divui(index(CHUNK), size), index(1))


def _names(op: Any) -> dict[str, Any]:
    """The attributes that name where a loop comes from."""
    return (
        {"numba.parfors": op.attributes["numba.parfors"]}
        if "numba.parfors" in op.attributes
        else {}
    )


# -- sums --------------------------------------------------------------------------
def _sums(loop: Any) -> list[int]:
    """The numbers of those values that an ``scf.for`` carries as sums in any order."""
    carried = list(loop.regions[0].blocks[0].arguments)[1:]
    *_, last = operations(loop.regions[0].blocks[0])
    pairs = zip(carried, last.operands, strict=True)
    return [number for number, pair in enumerate(pairs) if is_free_sum(*pair)]


def _is_block(loop: Any) -> bool:
    """Whether an ``scf.for`` ends `BLOCK` iterations behind its start or earlier.

    That is how the blocks of this pass begin and end, which come back from Numba's IR.
    """
    low, high, step = list(loop.operands)[:3]
    minimum = owner(high)
    if minimum is None or minimum.name != "arith.minsi" or constant_int(step) != 1:
        return False
    ends = [op for value in minimum.operands if (op := owner(value)) is not None]
    for end in ends:
        width = constant_int(end.operands[1]) if end.name == "arith.addi" else None
        if width is not None and width <= BLOCK and end.operands[0] == low:
            return True
    return False


def _start_fresh(loop: Any) -> None:
    """Let an inner loop that goes on with the sum of the loop around it start at zero.

    What it gives is then added to that sum, once for each iteration of the outer loop.
    """
    outer = loop.parent
    if outer is None or outer.name != "scf.for":
        return
    block = outer.regions[0].blocks[0]
    *_, last = operations(block)
    for number in _sums(loop):
        init, result = loop.operands[3 + number], loop.results[number]
        uses = list(result.uses)
        if init not in list(block.arguments) or len(list(init.uses)) != 1:
            continue
        if len(uses) != 1 or uses[0].owner.operation != last:
            continue
        if uses[0].operand_number != init.arg_number - 1:
            continue
        with mlir.ir.InsertionPoint(loop), loop.location:
            loop.operands[3 + number] = _zero(init.type)
        with mlir.ir.InsertionPoint(last), loop.location:
            last.operands[uses[0].operand_number] = _add_freely(init, result)


def _zero(type_: Any) -> Any:
    """What adding changes nothing, not even the sign of a zero."""
    return mlir.arith.constant(type_, mlir.ir.FloatAttr.get(type_, -0.0))


def _add_freely(left: Any, right: Any) -> Any:
    flags = mlir.ir.Attribute.parse("#arith.fastmath<reassoc>")
    return mlir.ir.Operation.create(
        "arith.addf", [left.type], [left, right], {"fastmath": flags}
    ).results[0]


class _BlockedSums:
    """One ``scf.for`` with sums, at the insertion point."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._block = loop.regions[0].blocks[0]
        self._low, self._high, self._step, *self._inits = list(loop.operands)
        self._sums = _sums(loop)

    def run(self) -> None:
        inner = any(op.name in _LOOPS for op in nested(self._loop))
        kinds = [self._inits[number].type for number in self._sums]
        start = [*self._inits, *map(_zero, kinds)]
        results = self._each(start) if inner else self._blocks(start)
        count = len(self._inits)
        for number, old in enumerate(self._loop.results):
            new = results[number]
            if number in self._sums:
                new = _finished(new, results[count + self._sums.index(number)])
            old.replace_all_uses_with(new)
        self._loop.erase()

    def _blocks(self, start: list[Any]) -> list[Any]:
        """Loops over blocks of elements, each with the loop as it was inside, and the tail."""
        arith = mlir.arith
        width, narrow = (arith.muli(index(number), self._step) for number in (BLOCK, TAIL))
        length = arith.maxsi(arith.subi(self._high, self._low), index(0))
        end = arith.addi(self._low, arith.subi(length, arith.remui(length, narrow)))
        if COMPACT in self._loop.attributes:
            return self._with_tail(start, end, width)
        tail = self._loop.clone(ip=False).operation  # before its body is moved

        def block(first: Any, *carried: Any) -> Sequence[Any]:
            last = arith.minsi(arith.addi(first, width), end)
            values = for_loop((first, last, self._step), self._moved, self._begin(carried))
            return self._added(carried, values)

        carried = for_loop((self._low, end, width), block, start)
        # The minimum is always the second number; it says that this is a block.
        last = arith.minsi(arith.addi(end, narrow), self._high)
        for number, value in enumerate((end, last, self._step, *self._begin(carried))):
            tail.operands[number] = value
        mlir.ir.InsertionPoint.current.insert(tail)
        return self._added(carried, list(tail.results))

    def _with_tail(self, start: list[Any], end: Any, width: Any) -> list[Any]:
        """One loop over the blocks up to ``end`` and the tail: half as much code, but slower for
        rows that are not longer than a tail."""
        arith = mlir.arith

        def block(place: Any, *carried: Any) -> Sequence[Any]:
            first = arith.minsi(place, end)
            is_tail = arith.cmpi(arith.CmpIPredicate.eq, first, end)
            limit = arith.select(is_tail, self._high, end)
            last = arith.minsi(arith.addi(first, width), limit)
            values = for_loop((first, last, self._step), self._moved, self._begin(carried))
            return self._added(carried, values)

        return for_loop((self._low, arith.addi(end, width), width), block, start)

    def _begin(self, carried: Sequence[Any]) -> list[Any]:
        """What a block starts with: sums at zero."""
        begin = list(carried[: len(self._inits)])
        for number in self._sums:
            begin[number] = _zero(begin[number].type)
        return begin

    def _each(self, start: list[Any]) -> list[Any]:
        """The loop as it was, with a compensation in every iteration."""

        def body(iv: Any, *carried: Any) -> Sequence[Any]:
            return self._added(carried, list(self._moved(iv, *self._begin(carried))))

        return for_loop((self._low, self._high, self._step), body, start)

    def _moved(self, *arguments: Any) -> Sequence[Any]:
        """The loop's body, moved here."""
        *body, last = operations(self._block)
        for old, new in zip(self._block.arguments, arguments, strict=True):
            old.replace_all_uses_with(new)
        block = mlir.ir.InsertionPoint.current.block
        values = list(last.operands)
        for op in body:
            block.append(op)
        return values

    def _added(self, carried: Sequence[Any], values: list[Any]) -> list[Any]:
        count = len(self._inits)
        rests = list(carried[count:])
        for place, number in enumerate(self._sums):
            values[number], error = _two_sum(carried[number], values[number])
            rests[place] = mlir.arith.addf(rests[place], error)
        return [*values, *rests]


_LOOPS = frozenset({"scf.for", "scf.while", "scf.parallel", "scf.execute_region"})


def _two_sum(left: Any, right: Any) -> tuple[Any, Any]:
    """The sum, and exactly what rounding it lost (Knuth)."""
    arith = mlir.arith
    total = arith.addf(left, right)
    part = arith.subf(total, left)
    lost_left = arith.subf(left, arith.subf(total, part))
    return total, arith.addf(lost_left, arith.subf(right, part))


def _finished(total: Any, rest: Any) -> Any:
    """The sum with its compensation, which counts for nothing where it is not finite."""
    arith = mlir.arith
    difference = arith.subf(rest, rest)
    is_finite = arith.cmpf(arith.CmpFPredicate.OEQ, difference, difference)
    return arith.select(is_finite, arith.addf(total, rest), total)
