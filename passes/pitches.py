"""How far apart the rows of an array lie, as tests at run time.

A cache looks for a line in one of its sets, which the line's address modulo ``size / ways``
says, and a set holds as many lines as there are ways.  Rows that are a multiple of that apart
(8192 numbers of 8 bytes are) have the lines of one column all in one set of L1: it
holds some 8 of them, wherever else there is room.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import index, size_of
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.strides import Layout, Reference, item_bytes, layout, moving_axes
from numba_mlir.passes.values import strip_casts

#: how many sets of L1 at most the lines of one column are in where rows are said to meet
SETS = 2


def rows_meet(references: Iterable[Reference], iv: Any, machine: Machine) -> Any:
    """An i1 at the insertion point: for one of the accesses, lines of neighbouring
    iterations of ``iv`` fall into `SETS` sets of L1 or fewer.

    Strided arrays are taken to have no gaps.
    """
    arith = mlir.arith
    equal = arith.CmpIPredicate.eq
    period = index(max(machine.l1 // machine.ways // SETS, 1))
    tests = [
        arith.cmpi(equal, arith.remui(_pitch(reference, iv), period), index(0))
        for reference in references
    ]
    return functools.reduce(arith.ori, tests)


def not_stretched(reference: Reference, ivs: Iterable[Any]) -> list[Any]:
    """An i1 for each axis that ``ivs`` go along unless its size is 1: its size is not 1."""
    arith = mlir.arith
    axes = [axis for iv in ivs for axis in moving_axes(reference, iv)
            if strip_casts(reference.indices[axis]) != iv]  # fmt: skip
    differs = arith.CmpIPredicate.ne
    return [arith.cmpi(differs, size_of(reference.memref, axis), index(1)) for axis in axes]


def _pitch(reference: Reference, iv: Any) -> Any:
    """The bytes between two neighbouring iterations."""
    memref = reference.memref
    kind: Layout = layout(memref)
    kind = reference.unknown if kind == "A" else kind
    axis = moving_axes(reference, iv)[0]
    inner = range(axis) if kind == "F" else range(axis + 1, len(reference.indices))
    sizes = [size_of(memref, other) for other in inner]
    return functools.reduce(mlir.arith.muli, sizes, index(item_bytes(memref)))
