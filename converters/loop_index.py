"""The index of a parallel loop as an ordinary number.

Numba's kernels have the index as ``uint64`` where the function has ``int64``, and type their
statements again: a variable that is the index on one path and another number on the
other becomes a float there.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.core.typing import signature

from numba_mlir.converters import intrinsics


def _same(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return args[0]


#: int64 -> int64, the same number
as_number: Any = intrinsics.make(
    "mlir_loop_index", __name__, signature(types.int64, types.int64), _same
)
