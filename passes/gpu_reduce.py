"""Reductions of a block of threads: where each thread starts, and the tree at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.gpu_loops import Refused, Threads
from numba_mlir.passes.values import operations, owner

#: numeric address space of a block's own memory, the same in NVPTX and SPIR-V (OpenCL)
WORKGROUP = 3
#: threads in a block, where nothing else is said; a power of two
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


@dataclass(frozen=True)
class Block:
    """The threads of a block, all of which combine values together.

    ``most`` is how many there can be, ``size`` how many there are (None: ``most``), a power
    of two.  ``subgroup`` neighbours at a time can read each other's registers; 0: none can.
    """

    module: Any
    threads: Threads
    subgroup: int = 0
    most: int = BLOCK
    size: Any = None

    def combined(self, name: str, value: Any, combine: Combine) -> Any:
        """The threads' values combined pairwise, always in one order; the result is the same
        in all threads.  ``name`` is that of the buffer in workgroup memory."""
        whole = self._by_registers if self.subgroup else self._by_memory
        return whole(name, value, combine)

    def _threads(self) -> Any:
        return building.index(self.most) if self.size is None else self.size

    def _by_memory(self, name: str, value: Any, combine: Combine) -> Any:
        arith, place = mlir.arith, self.threads.in_block
        buffer = self._buffer(name, self.most, value)
        _put(buffer, place, value)
        barrier()

        def level(number: Any) -> list[Any]:
            half = arith.shrui(building.index(self.most // 2), number)
            other = arith.addi(place, half)
            inside = arith.cmpi(arith.CmpIPredicate.ult, place, half)
            if self.size is not None:
                within = arith.cmpi(arith.CmpIPredicate.ult, other, self.size)
                inside = arith.andi(inside, within)
            with building.only(inside):
                pair = [_got(buffer, where, value.type) for where in (place, other)]
                _put(buffer, place, combine(*pair))
            barrier()
            return []

        levels = building.index(self.most.bit_length() - 1)
        building.for_loop((building.index(0), levels, building.index(1)), level)
        return _got(buffer, building.index(0), value.type)

    def _by_registers(self, name: str, value: Any, combine: Combine) -> Any:
        """Subgroups first, then every subgroup what all of them have, by way of memory."""
        arith, place = mlir.arith, self.threads.in_block
        lane = arith.andi(place, building.index(self.subgroup - 1))
        value = self._butterfly(lane, value, combine, self.subgroup)
        groups = self.most // self.subgroup
        if groups == 1:
            return value
        buffer = self._buffer(name, groups, value)
        with building.only(arith.cmpi(arith.CmpIPredicate.eq, lane, building.index(0))):
            _put(buffer, arith.divui(place, building.index(self.subgroup)), value)
        barrier()
        there = arith.divui(self._threads(), building.index(self.subgroup))
        group = arith.andi(lane, arith.subi(there, building.index(1)))
        value = _got(buffer, group, value.type)
        return self._butterfly(lane, value, combine, groups, None if self.size is None else there)

    def _butterfly(
        self, lane: Any, value: Any, combine: Combine, count: int, there: Any = None
    ) -> Any:
        """What ``count`` neighbours have together; ``there``: how many of them differ."""
        arith = mlir.arith
        away = count // 2
        while away:
            distance = building.index(away)
            other = self._exchanged(value, away)
            clear = arith.cmpi(
                arith.CmpIPredicate.eq, arith.andi(lane, distance), building.index(0)
            )
            pair = (arith.select(clear, value, other), arith.select(clear, other, value))
            both = combine(*pair)
            if there is not None:
                differ = arith.cmpi(arith.CmpIPredicate.ult, distance, there)
                both = arith.select(differ, both, value)
            value, away = both, away // 2
        return value

    def _exchanged(self, value: Any, away: int) -> Any:
        """The value of the thread whose number differs in the bit ``away``."""
        ir, arith, text = mlir.ir, mlir.arith, str(value.type)
        if text.startswith("complex<"):
            parts = [mlir.complex.re(value), mlir.complex.im(value)]
            return mlir.complex.create_(value.type, *[self._exchanged(p, away) for p in parts])
        word = ir.IntegerType.get_signless(32)
        if text in ("i1", "i8", "i16"):
            wide = self._exchanged(arith.extui(word, value), away)
            return arith.trunci(value.type, wide)
        if text == "index":
            long = ir.IntegerType.get_signless(64)
            wide = self._exchanged(arith.index_cast(long, value), away)
            return arith.index_cast(value.type, wide)
        operands = [value, *[arith.constant(word, n) for n in (away, self.subgroup)]]
        mode = {"mode": ir.Attribute.parse("#gpu<shuffle_mode xor>")}
        kinds = [value.type, ir.IntegerType.get_signless(1)]
        return ir.Operation.create("gpu.shuffle", kinds, operands, mode).results[0]

    def _buffer(self, name: str, size: int, value: Any) -> Any:
        """``size`` places for values like ``value`` in the memory of the block."""
        byte = mlir.ir.IntegerType.get_signless(8)
        return self.shared(name, size, byte if str(value.type) == "i1" else value.type)

    def shared(self, name: str, size: int, element: Any) -> Any:
        """A memref of ``size`` elements in the memory of the block."""
        ir = mlir.ir
        space = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), WORKGROUP)
        type_ = ir.MemRefType.get([size], element, None, space)
        _declare_buffer(self.module, name, type_)
        return mlir.memref.get_global(type_, name)


def _put(buffer: Any, place: Any, value: Any) -> None:
    mlir.memref.store(as_stored(value), buffer, [place])


def _got(buffer: Any, place: Any, type_: Any) -> Any:
    return from_stored(mlir.memref.load(buffer, [place]), type_)


def store_by_first(threads: Threads, value: Any, target: Any, where: Any) -> None:
    """Thread 0 of the block stores ``value`` at ``target[where]``."""
    arith = mlir.arith
    with building.only(arith.cmpi(arith.CmpIPredicate.eq, threads.in_block, building.index(0))):
        mlir.memref.store(as_stored(value), target, [where])


def _declare_buffer(module: Any, name: str, type_: Any) -> None:
    ir = mlir.ir
    # LLVM reckons with 16 for what is that large, and NVPTX gives it 8 where nothing is said
    alignment = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 16)
    attributes = {
        "alignment": alignment,
        "sym_name": ir.StringAttr.get(name),
        "sym_visibility": ir.StringAttr.get("private"),
        "type": ir.TypeAttr.get(type_),
        "initial_value": ir.UnitAttr.get(),  # none
    }
    with ir.InsertionPoint.at_block_begin(module.regions[0].blocks[0]):
        ir.Operation.create("memref.global", attributes=attributes)


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
