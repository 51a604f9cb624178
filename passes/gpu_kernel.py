"""One parallel loop as a GPU kernel, or two where it has reductions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import gpu_registers, gpu_rows, gpu_truncate
from numba_mlir.passes.gpu_body import legalize
from numba_mlir.passes.gpu_loops import (
    Refused,
    Threads,
    body_of,
    copied,
    once,
    place_body,
    segments,
    several,
)
from numba_mlir.passes.gpu_reduce import (
    BLOCK,
    Block,
    truth,
)
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import defined_inside, definition, is_memref, nested, owner

#: attribute of kernels whose arrays share no memory that changes: how many of the arguments,
#: the first ones, this is about
APART = "numba.apart"
#: attribute of kernels: threads of a block at most
THREADS = "numba.threads"
#: indices that a thread of an element-wise kernel has where their loads can be together
_TOGETHER = 4
#: the same for rows of two indices, neighbours of which are in one another's stencil, and how
#: many operations their body has at most
_ROWS_TOGETHER, _SHORT = 8, 50
#: numeric address space of arrays, the same in NVPTX and SPIR-V (OpenCL)
GLOBAL = 1


@dataclass(frozen=True)
class Target:
    """The ``gpu.module`` that kernels are made in, and what is known of the device.

    ``subgroup``: threads that can read each other's registers.  ``truncate``: numbers that
    are float64 come as float32.
    """

    module: Any
    subgroup: int = 0
    truncate: bool = False


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


def parameter(value: Any, truncate: bool = False) -> Parameter:
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
    if truncate and "f64" in text:
        short = gpu_truncate.narrowed(value)
        inner = parameter(short)
        return replace(
            inner, inside=lambda *args: gpu_truncate.widened(inner.inside(*args), value.type)
        )
    if text.startswith("complex<"):
        parts = (mlir.complex.re(value), mlir.complex.im(value))
        kinds = tuple(part.type for part in parts)
        return Parameter(parts, kinds, lambda *both: mlir.complex.create_(value.type, *both))
    if text in ("f32", "f64") or text.startswith("i"):
        return Parameter((value,), (value.type,), lambda argument: argument)
    if "<intrinsic allocate>" in text:  # an earlier run has made the allocation explicit
        raise Refused("an array is allocated in each iteration")
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


def _arguments(type_: Any) -> int:
    """How many arguments of a compiled kernel a parameter is: of a memref its two pointers,
    the offset, sizes and strides."""
    return 3 + 2 * type_.rank if isinstance(type_, mlir.ir.MemRefType) else 1


# -- kernels ---------------------------------------------------------------------------
def elementwise(loop: Any, target: Target, name: str) -> Launch:
    """The kernel of a loop without reductions; its operands are made at the insertion point."""
    builder = KernelBuilder(target, name, outside_of(loop))
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
    body, rank = body_of(loop)[1], len(segments(loop)[0])
    if rank > 2 or any(len(op.regions) for op in body) or not stores_apart(loop):
        return 1
    return _TOGETHER if rank == 1 or len(body) > _SHORT else _ROWS_TOGETHER


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


def rows(loop: Any, target: Target, name: str) -> Launch:
    """The kernel of a loop over rows, for which `gpu_rows.applies`: a block for each row."""
    builder = KernelBuilder(target, name, outside_of(loop))
    builder.mark_apart(loop)
    with builder.inside():
        block = block_of(target)
        share = functools.partial(gpu_rows.in_turns, block)
        gpu_rows.over_blocks(builder.loop(loop), name, share)
    return builder.launch


def block_of(target: Target) -> Block:
    """The threads of the block that the kernel at the insertion point is run by."""
    return Block(target.module, Threads.here(), target.subgroup)


def kept_rows(loop: Any, target: Target, name: str) -> Launch:
    """The kernel of a loop over rows for which `gpu_registers.elements` is not 0: a block
    of as many threads as a row needs, which keep it in registers."""
    builder = KernelBuilder(target, name, outside_of(loop), gpu_registers.WIDE)
    builder.mark_apart(loop)
    with builder.inside():
        threads = Threads.here()
        block = Block(target.module, threads, target.subgroup, gpu_registers.WIDE, threads.width)
        gpu_registers.over_blocks(builder.loop(loop), block, name)
    return builder.launch


def outside_of(loop: Any) -> list[Any]:
    return [value for value in captured(loop) if not is_constant(value)]


class KernelBuilder:
    """A kernel under construction; ``values`` has what stands inside for each captured value."""

    def __init__(
        self, target: Target, name: str, outside: Sequence[Any], threads: int = BLOCK
    ) -> None:
        self._parameters = {value: parameter(value, target.truncate) for value in outside}
        ir = mlir.ir
        inputs = [kind for one in self._parameters.values() for kind in one.types]
        with ir.InsertionPoint(target.module.regions[0].blocks[0]):
            self._function = mlir.gpu.GPUFuncOp(ir.FunctionType.get(inputs, []), name, kernel=True)
        size = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), threads)
        self._function.operation.attributes[THREADS] = size
        self.values: dict[Any, Any] = {}
        self.launch = Launch(name, tuple(v for one in self._parameters.values() for v in one.host))

    def mark_apart(self, loop: Any) -> None:
        """Tell the compiler of the kernel where its arrays share no memory that changes."""
        if stores_apart(loop):
            mine = [self._parameters[value] for value in outside_of(loop)]
            count = sum(_arguments(kind) for one in mine for kind in one.types)
            word = mlir.ir.IntegerType.get_signless(64)
            self._function.operation.attributes[APART] = mlir.ir.IntegerAttr.get(word, count)

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
