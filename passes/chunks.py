"""Cut a loop into chunks that run in parallel, and put what they carry together in order.

The chunks depend on the number of iterations alone: the result is the same for any number
of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numba_mlir import mlir
from numba_mlir.passes.building import allocate, for_loop, index
from numba_mlir.passes.carried import Dependences
from numba_mlir.passes.operators import Operator
from numba_mlir.passes.selections import Selection
from numba_mlir.passes.values import has_inner_loop, nested, operations, owner

#: at most so many chunks: enough for the threads of large machines, and few enough for the
#: loop that puts them together to cost nothing
CHUNKS = 256
#: at least so many iterations in a chunk, where an iteration has no loop and no call in it
ITERATIONS = 512


class Part(Protocol):
    """Carried values that chunks start, and that are put together, in one way."""

    @property
    def numbers(self) -> tuple[int, ...]: ...

    def starts(self, before: Sequence[Any]) -> Sequence[Any]:
        """What a chunk starts from, given the values before the loop."""
        ...

    def join(self, before: Sequence[Any], found: Sequence[Any], flag: Any) -> Sequence[Any]:
        """The values behind a chunk that found ``found``; ``flag`` is that of `flagged`."""
        ...

    @property
    def flagged(self) -> int | None:
        """The carried value for which to note whether a chunk replaced it."""
        ...


class OperatorPart:
    flagged = None

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.numbers = (operator.number,)

    def starts(self, before: Sequence[Any]) -> Sequence[Any]:
        return [self._operator.start(before[0].type)]

    def join(self, before: Sequence[Any], found: Sequence[Any], flag: Any) -> Sequence[Any]:
        return [self._operator.join(before[0], found[0])]


class SelectionPart:
    def __init__(self, selection: Selection) -> None:
        self._rule = selection.rule
        self.numbers = selection.members
        # a smaller (larger) value than those before shows by itself that there was one
        needless = self._rule is not None and self._rule.strict
        self.flagged = None if needless else selection.flagged

    def starts(self, before: Sequence[Any]) -> Sequence[Any]:
        return list(before) if self._rule is not None else [_zero(before[0].type)]

    def join(self, before: Sequence[Any], found: Sequence[Any], flag: Any) -> Sequence[Any]:
        taken = flag
        if self._rule is not None:
            holds = self._rule.holds(found, before)
            taken = holds if flag is None else mlir.arith.andi(flag, holds)
        return [mlir.arith.select(taken, f, b) for f, b in zip(found, before, strict=True)]


class PrivatePart:
    """A value that no iteration takes from the one before, and that nobody reads behind."""

    flagged = None

    def __init__(self, number: int) -> None:
        self.numbers = (number,)

    def starts(self, before: Sequence[Any]) -> Sequence[Any]:
        return list(before)

    def join(self, before: Sequence[Any], found: Sequence[Any], flag: Any) -> Sequence[Any]:
        return list(before)


def _zero(type_: Any) -> Any:
    ir, arith = mlir.ir, mlir.arith
    if isinstance(type_, ir.ComplexType):
        zero = ir.FloatAttr.get(ir.ComplexType(type_).element_type, 0.0)
        value = {"value": ir.ArrayAttr.get([zero, zero])}
        return ir.Operation.create("complex.constant", [type_], attributes=value).results[0]
    if isinstance(type_, (ir.IntegerType, ir.IndexType)):
        return arith.constant(type_, ir.IntegerAttr.get(type_, 0))
    return arith.constant(type_, ir.FloatAttr.get(type_, 0.0))


def run_in_chunks(loop: Any, parts: Sequence[Part], attributes: dict[str, Any]) -> None:
    """Replace ``loop``, an ``scf.for`` of step 1 whose carried values are those of ``parts``.

    ``attributes`` are those of the new parallel loop.
    """
    if not parts:
        _in_parallel(loop, attributes)
        return
    flags: dict[int, int] = {}
    for part in parts:
        if part.flagged is not None:
            loop, flags[part.flagged] = _with_flag(loop, part.flagged)
    with loop.location, mlir.ir.InsertionPoint(loop):
        _Chunks(loop, parts, flags).run(attributes)


def _in_parallel(loop: Any, attributes: dict[str, Any]) -> None:
    """An ``scf.parallel`` of the body of a loop that carries nothing."""
    ir = mlir.ir
    segments = {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 1, 0])}
    with loop.location, ir.InsertionPoint(loop):
        bounds = list(loop.operands)
        made = ir.Operation.create("scf.parallel", [], bounds, segments | attributes, regions=1)
    block = loop.regions[0].blocks[0]
    block.append_to(made.regions[0])
    last = operations(block)[-1]
    with loop.location, ir.InsertionPoint(last):
        ir.Operation.create("scf.reduce")
    last.erase()
    loop.erase()


class _Chunks:
    def __init__(self, loop: Any, parts: Sequence[Part], flags: dict[int, int]) -> None:
        self._loop, self._parts, self._flags = loop, parts, flags
        self._lower, self._upper, _, *self._inits = list(loop.operands)

    def run(self, attributes: dict[str, Any]) -> None:
        ir, arith = mlir.ir, mlir.arith
        length, count = self._sizes()
        kept = self._kept()
        buffers = {n: _buffer(self._inits[n].type, count) for n in kept}
        segments = {"operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 1, 0])}
        bounds = [index(0), count, index(1)]
        made = ir.Operation.create("scf.parallel", [], bounds, segments | attributes, regions=1)
        here = ir.Location.name("parfor_index", ir.Location.current)
        block = ir.Block.create_at_start(made.regions[0], [ir.IndexType.get()], [here])
        (chunk,) = block.arguments
        with ir.InsertionPoint(block):
            first = arith.addi(self._lower, arith.muli(chunk, length))
            last = arith.minsi(arith.addi(first, length), self._upper)
            starts = self._starts()
            anchor = ir.Operation.create("scf.reduce")
        together = for_loop((index(0), count, index(1)), self._join(kept, buffers), self._before())
        for old, new in zip(self._loop.results, together, strict=False):
            old.replace_all_uses_with(new)
        self._loop.move_before(anchor)
        for position, operand in enumerate((first, last)):
            self._loop.operands[position] = operand
        for number, start in starts.items():
            self._loop.operands[3 + number] = start
        with ir.InsertionPoint(anchor):
            for number, buffer in buffers.items():
                ir.Operation.create(
                    "memref.store", operands=[self._loop.results[number], buffer, chunk]
                )

    def _sizes(self) -> tuple[Any, Any]:
        """Iterations of a chunk, and the number of chunks."""
        arith = mlir.arith
        busy = has_inner_loop(self._loop) or any(
            op.name == "pyir.stmt" for op in nested(self._loop)
        )
        trips = arith.maxsi(arith.subi(self._upper, self._lower), index(0))
        length = arith.ceildivui(trips, index(CHUNKS))
        length = arith.maxui(length, index(1 if busy else ITERATIONS))
        return length, arith.ceildivui(trips, length)

    def _before(self) -> list[Any]:
        return self._inits[: len(self._inits) - len(self._flags)]

    def _kept(self) -> list[int]:
        """Carried values of which every chunk's is needed, flags included."""
        numbers = [n for part in self._parts if not isinstance(part, PrivatePart)
                   for n in part.numbers]  # fmt: skip
        return sorted([*numbers, *self._flags.values()])

    def _starts(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for part in self._parts:
            before = [self._inits[n] for n in part.numbers]
            found |= dict(zip(part.numbers, part.starts(before), strict=True))
        return found

    def _join(self, kept: list[int], buffers: dict[int, Any]) -> Callable[..., Sequence[Any]]:
        def body(chunk: Any, *before: Any) -> Sequence[Any]:
            found = {
                n: mlir.ir.Operation.create(
                    "memref.load", [self._inits[n].type], [buffers[n], chunk]
                ).results[0]
                for n in kept
            }
            after = list(before)
            for part in self._parts:
                if isinstance(part, PrivatePart):
                    continue
                flag = None if part.flagged is None else found[self._flags[part.flagged]]
                old, new = ([values[n] for n in part.numbers] for values in (before, found))
                for n, value in zip(part.numbers, part.join(old, new, flag), strict=True):
                    after[n] = value
            return after

        return body


def _buffer(type_: Any, count: Any) -> Any:
    return allocate([mlir.ir.ShapedType.get_dynamic_size()], type_, [count])


# -- flags -----------------------------------------------------------------------------
def _with_flag(loop: Any, number: int) -> tuple[Any, int]:
    """The loop with one more carried value: whether value ``number`` was replaced.

    Returns the new operation and the number of the flag.
    """
    ir = mlir.ir
    boolean = ir.IntegerType.get_signless(1)
    with loop.location, ir.InsertionPoint(loop):
        constants = [mlir.arith.constant(boolean, ir.BoolAttr.get(b)) for b in (False, True)]
    flags = _Flags(Dependences(loop), constants[1])
    value = operations(loop.regions[0].blocks[0])[-1].operands[number]
    base = loop.regions[0].blocks[0].arguments[1 + number]
    new = flags.carry(loop, base, value, constants[0])
    return new, len(new.results) - 1


class _Flags:
    """Adds to the operations that choose a value what tells whether it was replaced."""

    def __init__(self, deps: Dependences, yes: Any) -> None:
        self._deps, self._yes = deps, yes
        self._known: dict[Any, Any] = {}

    def carry(self, loop: Any, base: Any, value: Any, init: Any) -> Any:
        """``loop`` (an ``scf.for``) with a flag for the carried value that starts as ``base``."""
        block = loop.regions[0].blocks[0]
        flag = block.add_argument(init.type, loop.location)
        self._known[base] = flag
        last = operations(block)[-1]
        last = _with_operand(last, self._of(value))
        return _with_result(loop, [*loop.operands, init], self._deps)

    def _of(self, value: Any) -> Any:
        if value in self._known:
            return self._known[value]
        op = owner(value)
        if op is None or not self._deps.of(value):
            return self._yes
        if op.name == "arith.select":
            condition, yes, no = op.operands
            flags = self._of(yes), self._of(no)
            with op.location, mlir.ir.InsertionPoint.after(op):
                found = mlir.arith.select(condition, *flags)
        else:
            number = mlir.ir.OpResult(value).result_number
            made = self._if(op, number) if op.name == "scf.if" else self._for(op, number)
            value, found = made.results[number], made.results[len(made.results) - 1]
        self._known[value] = found
        return found

    def _if(self, op: Any, number: int) -> Any:
        for region in op.regions:
            last = operations(region.blocks[0])[-1]
            _with_operand(last, self._of(last.operands[number]))
        return _with_result(op, list(op.operands), self._deps)

    def _for(self, op: Any, number: int) -> Any:
        block = op.regions[0].blocks[0]
        init = self._of(op.operands[3 + number])
        value = operations(block)[-1].operands[number]
        return self.carry(op, block.arguments[1 + number], value, init)


def _with_operand(end: Any, value: Any) -> Any:
    """A terminator with one more operand."""
    with end.location, mlir.ir.InsertionPoint(end):
        made = mlir.ir.Operation.create(end.name, operands=[*end.operands, value])
    end.erase()
    return made


def _with_result(op: Any, operands: list[Any], deps: Dependences) -> Any:
    """A structured operation with one more result, an ``i1``; its regions are moved."""
    ir = mlir.ir
    kinds = [*(r.type for r in op.results), ir.IntegerType.get_signless(1)]
    stale = ("numba.names", "numba.types")
    attributes = {name: value for name, value in op.attributes.items() if name not in stale}
    with op.location, ir.InsertionPoint(op):
        made = ir.Operation.create(op.name, kinds, operands, attributes, regions=len(op.regions))
    for old, new in zip(op.regions, made.regions, strict=True):
        old.blocks[0].append_to(new)
    for old, new in zip(op.results, made.results, strict=False):
        deps.copy(old, new)
        old.replace_all_uses_with(new)
    op.erase()
    return made
