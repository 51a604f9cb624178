"""The index of a parallel loop as an ordinary number, and of loops with a step.

Numba's kernels have the index as ``uint64`` where the function has ``int64``, and type their
statements again: a variable that is the index on one path and another number on the
other becomes a float there.
"""

from __future__ import annotations

from typing import Any

import numba
from numba.core import types
from numba.core.ir_utils import remove_call_handlers
from numba.core.typing import signature

from numba_mlir.converters import build, intrinsics
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Slot


def _same(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return args[0]


def _affine(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    number, start, step = args
    return builder.add(start, builder.mul(number, step))


#: int64 -> int64, the same number
as_number: Any = intrinsics.make(
    "mlir_loop_index", __name__, signature(types.int64, types.int64), _same
)
#: (number of the iteration, start, step) -> index
strided: Any = intrinsics.make(
    "mlir_strided_index", __name__, signature(types.int64, *[types.int64] * 3), _affine
)


@numba.njit
def trips(start: int, stop: int, step: int) -> int:
    """The length of ``range(start, stop, step)``."""
    if step == 0:
        raise ValueError("range() arg 3 must not be zero")
    if step > 0:
        return (stop - start + step - 1) // step if stop > start else 0
    return (start - stop - step - 1) // -step if start > stop else 0


def call(frame: Frame, function: Any, args: list[Slot]) -> Slot | None:
    """The MLIR form of the two intrinsics; None for other functions."""
    if function is as_number:
        return args[0]
    if function is not strided:
        return None
    numbers = [frame.coerce(arg, types.int64) for arg in args]
    number, start, step = (slot.value for slot in numbers if slot is not None)
    wide = frame.mlir_type(types.int64)
    distance = build.value("arith.muli", (number, step), wide)
    return Slot(types.int64, build.value("arith.addi", (start, distance), wide))


def _is_pure(rhs: Any, lives: Any, call_list: list[Any]) -> bool:
    """For Numba's removal of dead code: the intrinsics compute a number, nothing else."""
    return any(call_list == [function] for function in (as_number, strided))


remove_call_handlers.append(_is_pure)
