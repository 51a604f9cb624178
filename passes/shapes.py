"""What ``numba.broadcast`` operations say about sizes.

The common size of some sizes depends on the set of them only, and of a common size on the
sizes behind it: ``broadcast(broadcast(a, b), c)`` is ``broadcast({a, b, c})``.  A constant 1
changes nothing, and any other constant is the common size.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from numba_mlir.passes.values import constant_int, loop_indices, owner, strip_casts

BROADCAST = "numba.broadcast"
BROADCAST_INTO = "numba.broadcast_into"

K = TypeVar("K", bound=Hashable)


def shapes(op: Any) -> list[list[Any]]:
    """The operands of a ``numba.broadcast`` or ``numba.broadcast_into``, shape by shape."""
    sizes = list(op.operands)
    found: list[list[Any]] = []
    for rank in op.attributes["ranks"]:
        found.append(sizes[:rank])
        del sizes[:rank]
    return found


def sizes_of_axis(op: Any, axis: int) -> list[Any]:
    """The sizes that result number ``axis`` of a ``numba.broadcast`` is common to."""
    rank = len(op.results)
    return [
        shape[axis - rank + len(shape)] for shape in shapes(op) if axis - rank + len(shape) >= 0
    ]


def broadcast_axis(value: Any) -> tuple[Any, int] | None:
    """The ``numba.broadcast`` that computes ``value``, and which result it is; or None."""
    op = owner(value)
    if op is None or op.name != BROADCAST:
        return None
    return op, value.result_number


def reduced(leaves: Iterable[K], constant: Callable[[K], int | None]) -> frozenset[K]:
    """A set of sizes without those that do not matter: the common size is the same.

    ``constant`` gives the number of a leaf that is one.  One element is left where the
    common size is known to be it.
    """
    found = frozenset(leaves)
    stretched = frozenset(leaf for leaf in found if constant(leaf) == 1)
    found = found - stretched or stretched
    numbers = {leaf for leaf in found if constant(leaf) is not None}
    return frozenset(numbers) if len(numbers) == 1 else found


def shortened(size: Any) -> tuple[Any, int] | None:
    """(n, c) where ``size`` is max(n - c, 0), the length of a slice such as ``a[1:-1]``.

    Of a part of a part n is the length of the whole: max(max(n - c, 0) - d, 0) is
    max(n - c - d, 0) for a constant d that is not negative.
    """
    clamp = owner(size)
    if clamp is None or clamp.name != "arith.maxsi" or constant_int(clamp.operands[1]) != 0:
        return None
    rest = owner(clamp.operands[0])
    less = constant_int(rest.operands[1]) if rest is not None and len(rest.operands) == 2 else None
    if rest is None or rest.name != "arith.subi" or less is None or less < 0:
        return None
    whole = shortened(rest.operands[0])
    return (rest.operands[0], less) if whole is None else (whole[0], whole[1] + less)


def tested_size(condition: Any) -> Any | None:
    """The size n of a condition ``n == 1``; None for any other condition."""
    op = owner(condition)
    if op is None or op.name != "arith.cmpi" or op.attributes["predicate"].value != 0:
        return None
    left, right = op.operands
    return left if constant_int(right) == 1 else None


def untested(index: Any) -> Any:
    """The index i of ``select(n == 1, 0, i)``; any other index as it is, without casts."""
    index = strip_casts(index)
    op = owner(index)
    if op is None or op.name != "arith.select" or constant_int(op.operands[1]) != 0:
        return index
    return index if tested_size(op.operands[0]) is None else strip_casts(op.operands[2])


def tests(loop: Any) -> list[tuple[Any, Any]]:
    """Operations ``select(n == 1, 0, i)`` in an ``scf.parallel`` or ``scf.for``, with i's bound.

    Only for indices i that count from 0.
    """
    ivs = loop_indices(loop)
    operands, rank = list(loop.operands), len(ivs)
    found: list[tuple[Any, Any]] = []
    for iv, lower, upper in zip(ivs, operands, operands[rank:], strict=False):
        if constant_int(lower) != 0:
            continue
        for use in iv.uses:
            select = use.owner.operation
            if select.name != "arith.select" or select.operands[2] != iv:
                continue
            if constant_int(select.operands[1]) == 0 and tested_size(select.operands[0]):
                found.append((select, upper))
    return found
