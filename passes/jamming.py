"""Several rows at once: unroll-and-jam of a loop over rows with loops over columns inside.

A loop that reads a matrix row by row has one stream from memory, and loads and stores its
sums along columns once for every row.  Of several rows at once

    for i by 4: for j: s0 += a[i, j] * x[j]; s1 += a[i + 1, j] * x[j]; ...
                       sums[j] = sums[j] + a[i, j] * y[i] + a[i + 1, j] * y[i + 1] + ...

memory serves several streams, and sums are loaded and stored once.  Each result is added up
in the same order as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import clone, for_loop, index
from numba_mlir.passes.effects import is_pure_name
from numba_mlir.passes.forwarding import Forwarder
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.rows import fuse_rows
from numba_mlir.passes.values import nested, operations

#: rows at once by the number of loops over columns.  With several loops the rows lie in the
#: cache from one to the next, and few enough have to fit there: four of two thousand numbers
#: fit the second-level cache, and save more than the first-level one would.
COUNTS = {1: 4, 2: 4, 3: 2}
#: attribute of loops with sums of which `reductions` shall make little code: LLVM takes long
#: for several rows, and for what is left of the rows once more
COMPACT = "numba.compact"


def can_jam(body: Sequence[Any]) -> bool:
    """Whether ``body`` has loops over columns, and else only loads, stores and arithmetic."""
    loops = [op for op in body if op.name == "scf.for"]
    inner = [child for op in loops for child in nested(op)]
    if len(loops) not in COUNTS:
        return False
    return all(_is_simple(op) for op in (*body, *inner) if op not in loops)


def _is_simple(op: Any) -> bool:
    if op.name in ("memref.load", "memref.store", "scf.yield"):
        return True
    return not len(op.regions) and op.name != "memref.alloc" and is_pure_name(op.name)


def jammed_rows(body: Sequence[Any], row: Any, low: Any, high: Any) -> Any:
    """A loop over several rows at once from ``low`` on; where the rest begins.

    ``body`` are the operations of one row, whose number is ``row``; they are cloned.
    """
    arith, count = mlir.arith, COUNTS[sum(op.name == "scf.for" for op in body)]
    rest = arith.remui(arith.subi(high, low), index(count))
    middle = arith.subi(high, rest)
    made: list[Any] = []

    def rows(first: Any) -> list[Any]:
        for number in range(count):
            values = {row: arith.addi(first, index(number)) if number else first}
            for op in body:
                values |= dict(zip(op.results, clone(op, values).results, strict=True))
        made.append(mlir.ir.InsertionPoint.current.block.owner.operation)
        return []

    for_loop((low, middle, index(count)), rows)
    _jam(made[0])
    for op in (*nested(made[0]), *body):
        if op.name == "scf.for" and len(op.results):
            op.attributes[COMPACT] = mlir.ir.UnitAttr.get()
    return middle


def _jam(loop: Any) -> None:
    """Fuse the loops over columns of several rows, and keep sums in registers between them."""
    fuse_rows(loop.regions[0].blocks[0], ())
    Forwarder(loop, Provenance()).run()
    # all loops first: stores are erased, and nobody may look at those again
    for op in [op for op in nested(loop) if op.name == "scf.for"]:
        _drop_overwritten(op.regions[0].blocks[0])


def _drop_overwritten(block: Any) -> None:
    """Remove stores to an element that the same block stores again before it is read."""
    provenance = Provenance()
    pending: dict[tuple[Any, ...], Any] = {}
    for op in operations(block):
        if op.name == "memref.store":
            place = tuple(op.operands)[1:]
            root = provenance.root(place[0])
            for other in list(pending):
                if other != place and provenance.may_alias(provenance.root(other[0]), root, op):
                    del pending[other]
            if place in pending:
                pending.pop(place).erase()
            pending[place] = op
        elif op.name == "memref.load":
            root = provenance.root(op.operands[0])
            for other in list(pending):
                if provenance.may_alias(provenance.root(other[0]), root, op):
                    del pending[other]
        elif len(op.regions) or not is_pure_name(op.name):
            pending.clear()
