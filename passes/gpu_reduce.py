"""Reductions of a block of threads: where each thread starts, and the tree at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.gpu_loops import Refused, Threads
from numba_mlir.passes.values import operations, owner

#: numeric address space of a block's own memory, the same in NVPTX and SPIR-V (OpenCL)
WORKGROUP = 3
#: threads in a block, always; a power of two
BLOCK = 256

Combine = Callable[[Any, Any], Any]

#: operations that have a neutral element in every type of numbers
NEUTRAL: dict[str, float] = {
    "arith.addf": -0.0, "arith.addi": 0, "arith.mulf": 1, "arith.muli": 1, "arith.xori": 0,
    "complex.add": -0.0, "complex.mul": 1,
}  # fmt: skip
#: operations with f(a, a) == a, which may start many times from the value before the loop
IDEMPOTENT = frozenset(
    f"arith.{name}"
    for name in ("andi", "ori", "maxsi", "maxui", "minsi", "minui", "maximumf", "minimumf",
                 "maxnumf", "minnumf")
)  # fmt: skip


def start_value(combiner: Any, initial: Any) -> Any:
    """The value that each thread starts from, where ``initial`` is that before the loop.

    Raises Refused for a combiner without one.
    """
    *steps, last = operations(combiner)
    if len(steps) == 1 and set(steps[0].operands) == set(combiner.arguments):
        name = steps[0].name
        if name in NEUTRAL:
            return number(NEUTRAL[name], initial.type)
        if name in IDEMPOTENT:
            return initial
    if _selects(last.operands[0], set(combiner.arguments)):
        return initial
    texts = [op.attributes["text"].value for op in steps if "text" in op.attributes]
    raise Refused(f"a reduction by {(texts or [steps[-1].name])[0]!r} cannot be cut into blocks")


def _selects(value: Any, arguments: set[Any]) -> bool:
    """Whether a combiner's result is always one of its two arguments."""
    if value in arguments:
        return True
    op = owner(value)
    choices = list(op.operands)[1:] if op is not None and op.name == "arith.select" else []
    return bool(choices) and all(_selects(choice, arguments) for choice in choices)


def number(number: float, type_: Any) -> Any:
    """A constant of any type of numbers."""
    if str(type_).startswith("complex<"):
        part = mlir.ir.ComplexType(type_).element_type
        imaginary = -0.0 if number == 0 else 0.0
        parts = [mlir.arith.constant(part, float(n)) for n in (number, imaginary)]
        return mlir.complex.create_(type_, *parts)
    whole = str(type_)[0] == "i"
    return mlir.arith.constant(type_, int(number) if whole else float(number))


def tree(module: Any, name: str, threads: Threads, value: Any, combine: Combine) -> Any:
    """The block's values combined pairwise, always in one order; the result is the same in
    all threads.  ``name`` is that of the buffer in workgroup memory."""
    ir, arith, memref = mlir.ir, mlir.arith, mlir.memref
    space = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), WORKGROUP)
    stored = as_stored(value)
    type_ = ir.MemRefType.get([BLOCK], stored.type, None, space)
    _buffer(module, name, type_)
    buffer = memref.get_global(type_, name)
    place = threads.in_block
    memref.store(stored, buffer, [place])
    barrier()

    def level(number: Any) -> list[Any]:
        half = arith.shrui(building.index(BLOCK // 2), number)
        with _only(arith.cmpi(arith.CmpIPredicate.ult, place, half)):
            pair = [
                from_stored(memref.load(buffer, [where]), value.type)
                for where in (place, arith.addi(place, half))
            ]
            memref.store(as_stored(combine(*pair)), buffer, [place])
            ir.Operation.create("scf.yield")
        barrier()
        return []

    levels = building.index(BLOCK.bit_length() - 1)
    building.for_loop((building.index(0), levels, building.index(1)), level)
    return from_stored(memref.load(buffer, [building.index(0)]), value.type)


def store_by_first(threads: Threads, value: Any, target: Any, where: Any) -> None:
    """Thread 0 of the block stores ``value`` at ``target[where]``."""
    arith = mlir.arith
    with _only(arith.cmpi(arith.CmpIPredicate.eq, threads.in_block, building.index(0))):
        mlir.memref.store(as_stored(value), target, [where])
        mlir.ir.Operation.create("scf.yield")


def _buffer(module: Any, name: str, type_: Any) -> None:
    ir = mlir.ir
    attributes = {
        "sym_name": ir.StringAttr.get(name),
        "sym_visibility": ir.StringAttr.get("private"),
        "type": ir.TypeAttr.get(type_),
        "initial_value": ir.UnitAttr.get(),  # none
    }
    with ir.InsertionPoint.at_block_begin(module.regions[0].blocks[0]):
        ir.Operation.create("memref.global", attributes=attributes)


def _only(condition: Any) -> Any:
    """The insertion point inside a new ``if condition``."""
    branch = mlir.ir.Operation.create("scf.if", operands=[condition], regions=2)
    return mlir.ir.InsertionPoint(branch.regions[0].blocks.append())


def barrier() -> None:
    """All threads of the block wait for each other."""
    mlir.ir.Operation.create("gpu.barrier")


# -- truth values ------------------------------------------------------------------------
def as_stored(value: Any) -> Any:
    """A truth value as the byte that memory holds; anything else as it is."""
    if str(value.type) != "i1":
        return value
    return mlir.arith.extui(mlir.ir.IntegerType.get_signless(8), value)


def from_stored(value: Any, type_: Any) -> Any:
    """What `as_stored` made of a value of ``type_``, back."""
    return truth(value) if str(type_) == "i1" else value


def truth(byte: Any) -> Any:
    arith = mlir.arith
    return arith.cmpi(arith.CmpIPredicate.ne, byte, arith.constant(byte.type, 0))
