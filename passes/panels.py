"""Memory that a loop nest takes for itself, and single accesses to it, in the LLVM dialect.

A *panel* has the values of an operand in the order in which a register tile uses them: all
neighbours of one term, then those of the next term.

    panel of width w:   x(0, 0) ... x(w-1, 0)  x(0, 1) ... x(w-1, 1)  ...  of (neighbour, term)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.building import address_of

#: ``(bytes)`` gives memory or null, ``(address)`` takes it back
TAKE, GIVE_BACK = "numba_mlir.scratch", "numba_mlir.scratch_end"
#: panels begin where cache lines do
ALIGNMENT = 64
_DYNAMIC = -(2**31)


def pointer_type() -> Any:
    return mlir.ir.Type.parse("!llvm.ptr")


def declare(module: Any) -> None:
    """Declare the two functions in ``module``."""
    word = mlir.ir.IntegerType.get_signless(64)
    libm.declare(module, TAKE, [word], pointer_type())
    libm.declare(module, GIVE_BACK, [pointer_type()])


def take(size: Any) -> Any:
    """The address of ``size`` bytes (an index) and `ALIGNMENT` more."""
    arith = mlir.arith
    total = arith.addi(size, arith.constant(size.type, ALIGNMENT))
    callee = {"callee": mlir.ir.FlatSymbolRefAttr.get(TAKE)}
    return mlir.ir.Operation.create("func.call", [pointer_type()], [word(total)], callee).result


def give_back(address: Any) -> None:
    callee = {"callee": mlir.ir.FlatSymbolRefAttr.get(GIVE_BACK)}
    mlir.ir.Operation.create("func.call", [], [address], callee)


def is_there(address: Any) -> Any:
    """An i1: the address is not null."""
    arith = mlir.arith
    number = _number(address)
    return arith.cmpi(arith.CmpIPredicate.ne, number, arith.constant(number.type, 0))


def aligned(address: Any) -> Any:
    """The next address that is a multiple of `ALIGNMENT`."""
    arith, number = mlir.arith, _number(address)
    zero, mask = (arith.constant(number.type, n) for n in (0, ALIGNMENT - 1))
    odd = arith.andi(arith.subi(zero, number), mask)
    return _moved(address, odd, mlir.ir.IntegerType.get_signless(8))


def at(address: Any, place: Any, element: Any) -> Any:
    """The address ``place`` (an index) elements behind ``address``."""
    return _moved(address, word(place), element)


def load(address: Any, kind: Any, alignment: int) -> Any:
    """A number or vector; ``alignment`` in bytes."""
    word_type = mlir.ir.IntegerType.get_signless(64)
    attributes = {"alignment": mlir.ir.IntegerAttr.get(word_type, alignment)}
    return mlir.ir.Operation.create("llvm.load", [kind], [address], attributes).result


def store(value: Any, address: Any, alignment: int) -> None:
    word_type = mlir.ir.IntegerType.get_signless(64)
    attributes = {"alignment": mlir.ir.IntegerAttr.get(word_type, alignment)}
    mlir.ir.Operation.create("llvm.store", [], [value, address], attributes)


def word(value: Any) -> Any:
    """An index as 64 bits."""
    return mlir.arith.index_cast(mlir.ir.IntegerType.get_signless(64), value)


def _number(address: Any) -> Any:
    kind = mlir.ir.IntegerType.get_signless(64)
    return mlir.ir.Operation.create("llvm.ptrtoint", [kind], [address]).result


def _moved(address: Any, count: Any, element: Any) -> Any:
    attributes = {
        "elem_type": mlir.ir.TypeAttr.get(element),
        "rawConstantIndices": mlir.ir.DenseI32ArrayAttr.get([_DYNAMIC]),
    }
    operands = [address, count]
    name = "llvm.getelementptr"
    return mlir.ir.Operation.create(name, [pointer_type()], operands, attributes).result


class Strided:
    """An array as an address and strides, which are found at the insertion point."""

    def __init__(self, memref: Any) -> None:
        ir, arith = mlir.ir, mlir.arith
        kind = ir.MemRefType(memref.type)
        index = ir.IndexType.get()
        self.element, self.rank = kind.element_type, kind.rank
        scalar = ir.MemRefType.get([], self.element)
        results = [scalar, index, *[index] * (2 * kind.rank)]
        made = ir.Operation.create("memref.extract_strided_metadata", results, [memref])
        _, offset, *rest = made.results
        self.sizes, self.strides = rest[: kind.rank], rest[kind.rank :]
        number = word(address_of(memref))
        base = ir.Operation.create("llvm.inttoptr", [pointer_type()], [number]).result
        self.address = at(base, offset, self.element)
        self._arith = arith

    def at(self, places: Sequence[Any]) -> Any:
        """The address of an element."""
        return at(self.address, self._distance(places), self.element)

    def _distance(self, places: Sequence[Any]) -> Any:
        total = None
        for place, stride in zip(places, self.strides, strict=True):
            term = self._arith.muli(place, stride)
            total = term if total is None else self._arith.addi(total, term)
        return total

    def ends(self) -> tuple[Any, Any]:
        """The numbers of the first byte and of the one behind the last; of an array without
        elements anything."""
        arith, index = self._arith, mlir.ir.IndexType.get()
        zero, one = arith.constant(index, 0), arith.constant(index, 1)
        low = high = zero
        for size, stride in zip(self.sizes, self.strides, strict=True):
            reach = arith.muli(arith.subi(size, one), stride)
            low = arith.addi(low, arith.minsi(reach, zero))
            high = arith.addi(high, arith.maxsi(reach, zero))
        first = _number(at(self.address, low, self.element))
        behind = _number(at(self.address, arith.addi(high, one), self.element))
        return first, behind


def are_disjoint(left: Any, right: Any) -> Any:
    """An i1: two arrays share no memory."""
    arith = mlir.arith
    (first, behind), (other_first, other_behind) = Strided(left).ends(), Strided(right).ends()
    before = arith.CmpIPredicate.ule
    return arith.ori(
        arith.cmpi(before, behind, other_first), arith.cmpi(before, other_behind, first)
    )
