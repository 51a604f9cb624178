"""One parallel loop as a GPU kernel, or two where it has reductions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building, gpu_rows
from numba_mlir.passes.gpu_body import legalize
from numba_mlir.passes.gpu_loops import (
    Refused,
    Threads,
    body_of,
    combined,
    copied,
    once,
    over_threads,
    place_body,
    segments,
    several,
    several_together,
)
from numba_mlir.passes.gpu_reduce import (
    BLOCK,
    from_stored,
    start_value,
    store_by_first,
    tree,
    truth,
)
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import defined_inside, definition, is_memref, nested, owner

#: attribute of kernels whose arrays share no memory that changes
APART = "numba.apart"
#: elements that a thread of a reduction loads before it combines them
_TOGETHER = 4
#: numeric address space of arrays, the same in NVPTX and SPIR-V (OpenCL)
GLOBAL = 1


@dataclass(frozen=True)
class Launch:
    """A kernel's name and what the host passes to it."""

    name: str
    operands: tuple[Any, ...]


# -- captured values -------------------------------------------------------------------
def captured(op: Any, regions_only: bool = False) -> list[Any]:
    """Values from outside that an operation or its regions use, in order of first use."""
    found = dict.fromkeys([] if regions_only else op.operands)
    for inner in nested(op):
        for value in inner.operands:
            if not defined_inside(value, op):
                found.setdefault(value)
    return list(found)


_CASTS = frozenset(
    f"arith.{name}"
    for name in ("index_cast", "index_castui", "extf", "truncf", "extsi", "extui", "trunci",
                 "sitofp", "uitofp")
)  # fmt: skip


def is_constant(value: Any) -> bool:
    """Whether a value is a constant, or one behind casts."""
    op = owner(value)
    if op is None:
        return False
    if op.name in ("arith.constant", "complex.constant"):
        return True
    return op.name in _CASTS and is_constant(op.operands[0])


def _again(value: Any) -> Any:
    """A constant, made again at the insertion point."""
    op = definition(value)
    operands = [_again(operand) for operand in op.operands]
    made = op.clone()
    for number, operand in enumerate(operands):
        made.operands[number] = operand
    return made.results[0]


@dataclass(frozen=True)
class Parameter:
    """How a captured value gets into a kernel: what the host passes, of which types, and
    what makes the value again of the kernel's arguments."""

    host: tuple[Any, ...]
    types: tuple[Any, ...]
    inside: Callable[..., Any]


def parameter(value: Any) -> Parameter:
    """Operations for the host's side are created at the insertion point.

    Arrays are memrefs of the global address space.  Truth values are bytes, alone and in
    arrays, and complex numbers are two numbers: SPIR-V has neither as arguments.
    """
    ir, arith = mlir.ir, mlir.arith
    text = str(value.type)
    if is_memref(value):
        type_ = device_memref(value.type)
        cast = ir.Operation.create("builtin.unrealized_conversion_cast", [type_], [value])
        return Parameter((cast.results[0],), (type_,), lambda argument: argument)
    if text == "i1":
        byte = ir.IntegerType.get_signless(8)
        return Parameter((arith.extui(byte, value),), (byte,), truth)
    if text.startswith("complex<"):
        parts = (mlir.complex.re(value), mlir.complex.im(value))
        kinds = tuple(part.type for part in parts)
        return Parameter(parts, kinds, lambda *both: mlir.complex.create_(value.type, *both))
    if text in ("f32", "f64") or text.startswith("i"):
        return Parameter((value,), (value.type,), lambda argument: argument)
    raise Refused(f"a value of type {text} cannot be passed to a kernel")


def device_memref(type_: Any) -> Any:
    """A memref type in the global address space, truth values as bytes."""
    ir = mlir.ir
    element = type_.element_type
    if str(element) == "i1":
        element = ir.IntegerType.get_signless(8)
    if str(element) == "f16":
        raise Refused("float16 has no arithmetic in Numba")
    space = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), GLOBAL)
    return ir.MemRefType.get(list(type_.shape), element, type_.layout, space)


# -- kernels ---------------------------------------------------------------------------
def elementwise(loop: Any, module: Any, name: str) -> Launch:
    """The kernel of a loop without reductions; its operands are made at the insertion point."""
    builder = _Builder(module, name, _outside(loop))
    builder.mark_apart(loop)
    with builder.inside():
        count = bodies(loop)
        copies = [builder.loop(loop) for _ in range(count + 1 if count > 1 else 1)]
        lower, upper, _, _ = segments(copies[0])
        last, *points = [place_body(copy) for copy in copies]
        if points:
            several(Threads.here(), lower, upper, points, last)
        else:
            once(Threads.here(), lower, upper, last)
        for copy in copies:
            copy.erase()
    return builder.launch


def bodies(loop: Any) -> int:
    """How many indices a thread of an element-wise kernel has: several where the body is
    straight, and none of its stores changes what another one loads."""
    straight = not any(len(op.regions) for op in body_of(loop)[1])
    few = len(segments(loop)[0]) <= 2
    return _TOGETHER if straight and few and stores_apart(loop) else 1


def stores_apart(loop: Any) -> bool:
    """Whether no array that the loop stores to shares memory with another that it uses."""
    accesses = [op for op in nested(loop) if op.name in ("memref.load", "memref.store")]
    arrays = {op.operands[0 if op.name == "memref.load" else 1] for op in accesses}
    stored = {op.operands[1] for op in accesses if op.name == "memref.store"}
    known = Provenance()
    return not any(
        known.may_alias(known.root(one), known.root(other), loop)
        for one in stored
        for other in arrays
        if one != other
    )


def rows(loop: Any, module: Any, name: str) -> Launch:
    """The kernel of a loop over rows, for which `gpu_rows.applies`: a block for each row."""
    builder = _Builder(module, name, _outside(loop))
    builder.mark_apart(loop)
    with builder.inside():
        gpu_rows.over_blocks(builder.loop(loop), module, name)
    return builder.launch


def first_stage(loop: Any, module: Any, name: str, partials: Sequence[Any]) -> Launch:
    """The first stage of reductions: one value a block into each of ``partials``."""
    arith = mlir.arith
    builder = _Builder(module, name, [*_outside(loop), *partials])
    builder.mark_apart(loop)
    with builder.inside():
        copies = [builder.loop(loop) for _ in range(_TOGETHER + 1)]
        copy = copies[0]
        lower, upper, _, initial = segments(copy)
        combiners = [region.blocks[0] for region in body_of(copy)[2].regions]
        start = [start_value(c, i) for c, i in zip(combiners, initial, strict=True)]
        threads = Threads.here()
        if len(lower) == 1 and not any(op.name == "memref.store" for op in nested(copy)):
            bounds = (arith.addi(lower[0], threads.x), upper[0], threads.x_count)
            points = [place_body(one) for one in copies]
            results = several_together(bounds, start, points[1:], points[0])
        else:
            results = over_threads(threads, lower, upper, start, place_body(copy))
        for number, (value, combiner) in enumerate(zip(results, combiners, strict=True)):
            combine = functools.partial(combined, combiner)
            total = tree(module, f"{name}_buffer{number}", threads, value, combine)
            target = builder.values[partials[number]]
            store_by_first(threads, total, target, threads.block)
        for one in copies:
            one.erase()
    return builder.launch


def second_stage(loop: Any, module: Any, name: str, partials: Sequence[Any], count: Any) -> Launch:
    """One block: combines the first ``count`` of ``partials`` and the loop's initial values,
    and leaves each result in the first place of its array."""
    initial = segments(loop)[3]
    reduce = body_of(loop)[2]
    outside = [v for v in (*partials, count, *initial) if not is_constant(v)]
    builder = _Builder(module, name, list(dict.fromkeys(outside)))
    with builder.inside():
        threads, known = Threads.here(), builder.known(reduce, regions_only=True)
        for number, region in enumerate(reduce.regions):
            combine = functools.partial(combined, region.blocks[0], outside=known)
            source, before = builder.value(partials[number]), builder.value(initial[number])

            def at(iv: Any, old: Any, source: Any = source, combine: Any = combine) -> list[Any]:
                return [combine(old, from_stored(mlir.memref.load(source, [iv]), old.type))]

            bounds = (threads.in_block, builder.value(count), building.index(BLOCK))
            start = start_value(region.blocks[0], before)
            (value,) = building.for_loop(bounds, at, [start])
            total = tree(module, f"{name}_buffer{number}", threads, value, combine)
            store_by_first(threads, combine(before, total), source, building.index(0))
    return builder.launch


def _outside(loop: Any) -> list[Any]:
    return [value for value in captured(loop) if not is_constant(value)]


class _Builder:
    """A kernel under construction; ``values`` has what stands inside for each captured value."""

    def __init__(self, module: Any, name: str, outside: Sequence[Any]) -> None:
        self._parameters = {value: parameter(value) for value in outside}
        ir = mlir.ir
        inputs = [kind for one in self._parameters.values() for kind in one.types]
        with ir.InsertionPoint(module.regions[0].blocks[0]):
            self._function = mlir.gpu.GPUFuncOp(ir.FunctionType.get(inputs, []), name, kernel=True)
        self.values: dict[Any, Any] = {}
        self.launch = Launch(name, tuple(v for one in self._parameters.values() for v in one.host))

    def mark_apart(self, loop: Any) -> None:
        """Tell the compiler of the kernel where its arrays share no memory that changes."""
        if stores_apart(loop):
            self._function.operation.attributes[APART] = mlir.ir.UnitAttr.get()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Build the body; what remains of the kernel is erased when it is refused."""
        entry = self._function.add_entry_block()
        try:
            with mlir.ir.InsertionPoint(entry):
                arguments = iter(entry.arguments)
                for value, how in self._parameters.items():
                    self.values[value] = how.inside(*(next(arguments) for _ in how.types))
                yield
                mlir.gpu.return_([])
        except Refused:
            self._function.operation.erase()
            raise

    def value(self, outside: Any) -> Any:
        """What stands for a captured value or a constant, made now where it is not there."""
        found = self.values.get(outside)
        if found is None:
            if not is_constant(outside):
                raise Refused("a reduction uses a value of the surrounding code")
            found = self.values[outside] = _again(outside)
        return found

    def known(self, op: Any, regions_only: bool = False) -> dict[Any, Any]:
        """Captured value of an operation -> value in the kernel."""
        return {value: self.value(value) for value in captured(op, regions_only)}

    def loop(self, loop: Any) -> Any:
        """A copy of the loop at the insertion point that uses the kernel's values, legal."""
        copy = copied(loop, self.known(loop))
        legalize(copy)
        return copy
