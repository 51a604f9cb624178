"""Cheap temporary arrays are computed inside the loops that read them, whatever their shapes.

``d = (a + b) * 2 - c`` as three statements has loops over the shapes of (a, b) and of
(a, b, c), which nobody can call equal at compile time, and ``x += a * 2`` writes an array that
``a`` may overlap.  Instead of two versions of such loops, the body of the first goes into
the second:

1. It computes one element from elements of arrays, by few operations, all cheap
   (`CHEAP`, `MAX_OPERATIONS`): where a size of 1 is stretched they are repeated for each
   element that needs the same one, which costs about as much as to store and load it.  A
   loop of more indices than the array has repeats them in any case: `MAX_REPEATED`.
2. Only loops behind it read the temporary, at no more than `MAX_READERS` places.
3. Nothing that it reads is written in between.  What the reading loop writes itself must be
   another array: ``numba.unaliased`` makes a copy at run time where it is not.

Loops of equal bounds that may be fused without a test are left alone: that is what fusion does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.computed import Computed
from numba_mlir.passes.effects import Access, Effects, summarise
from numba_mlir.passes.motion import obstacle_to
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.shapes import broadcast_axis, sizes_of_axis, tested_size
from numba_mlir.passes.temporaries import replace_sizes
from numba_mlir.passes.values import (
    ancestor_in,
    constant_int,
    defined_inside,
    line_of,
    operations,
    owner,
)
from numba_mlir.passes.versions import bounds

MAX_OPERATIONS = 8
MAX_REPEATED = 2
MAX_READERS = 2
_UNALIASED = "numba.unaliased"
_TYPE = "numba.type"

#: operations that cost about as much as a load that hits the cache
CHEAP = frozenset(
    [f"arith.{name}{kind}" for name in ("add", "sub", "mul") for kind in "if"]
    + [f"arith.{name}" for name in ("negf", "cmpi", "cmpf", "select", "andi", "ori", "xori")]
    + [f"arith.{name}" for name in ("shli", "shrsi", "shrui", "extsi", "extui", "trunci")]
    + [f"arith.{name}" for name in ("sitofp", "uitofp", "extf", "truncf", "bitcast")]
    + [f"arith.{name}{kind}" for name in ("max", "min") for kind in ("imumf", "numf", "si", "ui")]
    + [f"complex.{name}" for name in ("add", "sub", "neg", "create", "re", "im", "conj")]
    + ["math.absf", "math.absi", "math.copysign", "math.fma"]
)
_FREE = frozenset({"arith.index_cast", "arith.index_castui", "arith.constant"})


@dataclasses.dataclass(frozen=True)
class Inlined:
    """What was done, for the user: the lines of the two loops and where to say so."""

    line: int | None
    into: int | None
    location: Any


def inline_producers(function: Any) -> list[Inlined]:
    """Do so in all blocks of ``function``."""
    done: list[Inlined] = []
    for region in function.regions:
        for block in region.blocks:
            # The loops alone: other operations are erased on the way.
            for loop in [op for op in operations(block) if op.name == "scf.parallel"]:
                if (producer := _Producer.of(loop)) is not None:
                    done += producer.inline()
    return done


class _Producer:
    """A loop that fills a temporary array and does nothing else."""

    def __init__(self, computed: Computed, cost: int) -> None:
        self._computed, self.cost = computed, cost
        self.loop, self.store, self.array = computed.loop, computed.store, computed.array
        loop = self.loop
        self.provenance = Provenance()
        whole = summarise(loop, self.provenance)
        self.reads = [access for access in whole.accesses if not access.write]
        #: what the loop would do inside another one: it reads
        self.effects = dataclasses.replace(whole, accesses=self.reads)

    @classmethod
    def of(cls, loop: Any) -> _Producer | None:
        found = Computed.of(loop)
        if found is None or found.places != tuple(range(len(found.places))):
            return None
        cost = _cost(found.body)
        return None if cost is None or cost > MAX_OPERATIONS else cls(found, cost)

    def inline(self) -> list[Inlined]:
        """Into all loops that read the array, or nowhere."""
        replace_sizes(self.array)
        loads = list(self._loads())
        if not loads or None in loads or len(loads) > MAX_READERS:
            return []
        rank = self.array.type.rank
        if self.cost > MAX_REPEATED and any(_depth(*pair) > rank for pair in loads):
            return []
        readers = list(dict.fromkeys(reader for _, reader in loads))
        found = [self._copies_for(reader, loads) for reader in readers]
        copies = [pairs for pairs in found if pairs is not None]
        if len(copies) < len(found) or not any(map(self._is_worth_it, readers, copies)):
            return []
        for reader, copied in zip(readers, copies, strict=True):
            apart = self._copy(copied, reader)
            for load in [load for load, other in loads if other == reader]:
                self._replace(load, apart)
        line, location = line_of(self.loop), self.loop.location
        self._computed.erase()
        return [Inlined(line, line_of(reader), location) for reader in readers]

    def _loads(self) -> Iterator[Any]:
        """(load, the loop around it) for each reader; None for any other use."""
        for use in self.array.uses:
            op = use.owner.operation
            if op == self.store:
                continue
            reader = ancestor_in(op, self.loop.block)
            if (
                op.name != "memref.load"
                or reader is None
                or reader.name != "scf.parallel"
                or reader == self.loop
                or not self.loop.is_before_in_block(reader)
            ):
                yield None
            else:
                yield op, reader

    def _copies_for(self, reader: Any, loads: list[Any]) -> list[tuple[Any, Any]] | None:
        """Pairs of arrays, read here and written by ``reader``, that must not overlap.

        None where the values may be others by the time that ``reader`` runs.
        """
        ops = operations(self.loop.block)
        for op in ops[ops.index(self.loop) + 1 : ops.index(reader)]:
            if obstacle_to(self.effects, self._summary(op), self.provenance) is not None:
                return None
        effects = self._summary(reader)
        if effects.opaque:
            return None
        pairs: dict[tuple[Any, Any], None] = {}
        for write in effects.writes():
            for read in self.reads:
                if self._is_same_element(read, write, reader, loads):
                    continue
                if not self.provenance.may_alias(read.root, write.root, reader):
                    continue
                if not self._may_be_copied(read, write, reader):
                    return None
                pairs[read.memref, write.memref] = None
        return list(pairs)

    def _summary(self, op: Any) -> Effects:
        return summarise(op, self.provenance)

    def _is_same_element(self, read: Access, write: Access, reader: Any, loads: Any) -> bool:
        """Whether the reader writes the very element that it has computed with just before."""
        mine = tuple(self.loop.regions[0].blocks[0].arguments)
        theirs = tuple(reader.regions[0].blocks[0].arguments)
        if read.memref != write.memref or read.indices != mine or write.indices != theirs:
            return False
        here = [load for load, other in loads if other == reader]
        return all(tuple(load.operands)[1:] == theirs for load in here)

    def _may_be_copied(self, read: Access, write: Access, reader: Any) -> bool:
        """Whether a copy can be made, and is not made in any case."""
        inside = defined_inside(read.memref, self.loop) or defined_inside(write.memref, reader)
        return not inside and read.memref != write.memref and _numba_type(read.memref) is not None

    def _is_worth_it(self, reader: Any, copies: list[tuple[Any, Any]]) -> bool:
        return bool(copies) or bounds(reader) != bounds(self.loop)

    def _copy(self, pairs: list[tuple[Any, Any]], reader: Any) -> dict[Any, Any]:
        """For each array of ``pairs`` one that ``reader`` does not change."""
        ir = mlir.ir
        apart: dict[Any, Any] = {}
        for source, target in pairs:
            attributes = {_TYPE: _numba_type(source)}
            with ir.InsertionPoint(reader), reader.location:
                operands = [apart.get(source, source), target]
                made = ir.Operation.create(_UNALIASED, [source.type], operands, attributes)
            apart[source] = made.result
        return apart

    def _replace(self, load: Any, apart: dict[Any, Any]) -> None:
        """Compute the element in place of ``load``."""
        self._computed.replace(load, apart, lambda op, values: _stretched(op, values, load))


def _depth(load: Any, reader: Any) -> int:
    """How many loop indices ``load`` is executed for, those of ``reader`` included."""
    depth = len(reader.regions[0].blocks[0].arguments)
    while (load := load.parent) != reader:
        depth += load.name in ("scf.for", "scf.while")
    return depth


def _cost(body: list[Any]) -> int | None:
    """How many operations on elements a loop's body has; None where one is not cheap."""
    cost = 0
    for op in body:
        if op.name == "memref.load":
            if not op.operands[0].type.rank:
                return None
        elif op.name in CHEAP:
            is_index = isinstance(op.results[0].type, mlir.ir.IndexType)
            cost += not is_index
        elif op.name not in _FREE:
            return None
    return cost


def _numba_type(array: Any) -> Any | None:
    """The attribute with the Numba type of an array, where its definition has one."""
    op = owner(array)
    if op is not None and "numba.types" in op.attributes:
        return op.attributes["numba.types"][array.result_number]
    if op is not None:
        return op.attributes.get(_TYPE)
    function = array.owner.owner
    if function is None or function.operation.name != "func.func":
        return None
    attributes = function.operation.attributes
    if "arg_attrs" not in attributes or array.owner != function.operation.regions[0].blocks[0]:
        return None
    named = attributes["arg_attrs"][array.arg_number]  # DictAttr.get is a constructor
    return named[_TYPE] if _TYPE in named else None  # noqa: SIM401


def _stretched(op: Any, mapping: Mapping[Any, Any], load: Any) -> Any | None:
    """``select(n == 1, 0, i)`` where i became ``select(m == 1, 0, j)``: ``select(n == 1, 0, j)``.

    Right where m is a common size of n and others: where m is 1, so is n.
    """
    if op.name != "arith.select" or (index := mapping.get(op.operands[2])) is None:
        return None
    outer = owner(index)
    if outer is None or outer.name != "arith.select" or constant_int(outer.operands[1]) != 0:
        return None
    size, common = tested_size(op.operands[0]), tested_size(outer.operands[0])
    if size is None or common is None or constant_int(op.operands[1]) != 0:
        return None
    if not _is_common_of(common, size):
        return None
    with mlir.ir.InsertionPoint(load), op.location:
        return mlir.arith.select(op.operands[0], op.operands[1], outer.operands[2])


def _is_common_of(common: Any, size: Any) -> bool:
    if common == size:
        return True
    axis = broadcast_axis(common)
    return axis is not None and any(_is_common_of(leaf, size) for leaf in sizes_of_axis(*axis))
