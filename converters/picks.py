"""Elements that a mask picks: ``a[m]`` with a Boolean array of one dimension.

The statement is kept, as one that reads two arrays and makes a new one
(`numba_mlir.dialect.PICKED`), so that `numba_mlir.passes.picks` can reduce the elements where
they are.  Numba does not compare the sizes; here they are checked in front of it.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import arrays, elementwise, kept, reduction_calls, scalars
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.dialect import PICKED
from numba_mlir.errors import MASK_DOES_NOT_FIT


def flags(frame: Frame, env: Env, expr: Any) -> dict[str, bool]:
    """Flags of the statement with such a subscript, behind the check of sizes; else none."""
    array = env.get(expr.value.name)
    if expr.op != "getitem" or not arrays.is_native(array) or array.type.ndim != 1:
        return {}
    mask = env.get(expr.index.name)
    if not arrays.is_native(mask) or mask.type.ndim != 1 or mask.type.dtype != types.boolean:
        return {}
    _check(frame, array, mask, expr.loc)
    return {PICKED: True, "fresh": True}


def _check(frame: Frame, array: Slot, mask: Slot, loc: Any) -> None:
    """NumPy's IndexError.  An empty mask picks nothing of any array, there as well."""
    (size,), (wanted,) = elementwise.sizes(frame, mask), elementwise.sizes(frame, array)
    if arrays.same_size(size, wanted):
        return
    arith = mlir.arith
    fits = [
        arith.cmpi(arith.CmpIPredicate.eq, size, other)
        for other in (wanted, frame.index_constant(0))
    ]
    number = arith.extui(scalars.to_mlir(types.intp), arith.ori(*fits))
    check = reduction_calls.checker(MASK_DOES_NOT_FIT, loc.filename, loc.line, IndexError)
    kept.check(frame, loc, check, (number, types.intp))


def is_picked(slot: Slot | None) -> TypeGuard[Slot]:
    """Whether an array was made by such a statement."""
    made = arrays.definition(slot.value) if arrays.is_native(slot) else None
    return made is not None and PICKED in made.attributes
