"""In which order a parallel loop with loops inside goes through memory.

A loop that adds up columns is worth most when its parallel index becomes the innermost one
(`tiling`), one that adds up rows as it is.  Run as one loop, neither can have its own order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numba_mlir.passes.legality import Loop
from numba_mlir.passes.strides import Reference, step
from numba_mlir.passes.values import loop_indices

_LOOPS = frozenset({"scf.for", "scf.parallel"})


def orders_differ(left: Loop, right: Loop) -> bool:
    """Whether one of two loops goes along columns in the loops inside, the other one does
    not, and neither accesses an array that the other writes, or the other one stores its elements
    far apart: sums of neighbouring columns are added up where they are neighbours."""
    one, other = goes_along_columns(left), goes_along_columns(right)
    if one == other:
        return False
    return stores_far_apart(right if one else left) or not _communicate(left, right)


def stores_far_apart(loop: Loop) -> bool:
    """Whether a loop over one index stores at places that are no neighbours."""
    (iv, *others) = loop.ivs
    writes = [access for access in loop.effects.writes() if access.indices is not None]
    references = [Reference(access.memref, access.indices or (), True) for access in writes]
    return not others and any(step(reference, iv) == "far" for reference in references)


def goes_along_columns(loop: Loop) -> bool:
    """Whether some access goes far with a loop inside, and next with the parallel index."""
    return any(
        step(reference, loop.ivs[-1]) == "next" and step(reference, iv) == "far"
        for reference, iv in _inner_references(loop)
    )


def _inner_references(loop: Loop) -> Iterator[tuple[Reference, Any]]:
    """The accesses in loops inside, each with the index of the innermost one around it."""
    for access in loop.effects.accesses:
        if access.indices is None:
            continue
        around = access.op.parent.operation
        while around != loop.op and around.name not in _LOOPS:
            around = around.parent.operation
        if around != loop.op:
            iv = loop_indices(around)[-1]
            yield Reference(access.memref, access.indices, access.write), iv


def _communicate(left: Loop, right: Loop) -> bool:
    pairs = ((left, right), (right, left))
    return any(
        root in other.by_root and use.writes
        for one, other in pairs
        for root, use in one.by_root.items()
    )
