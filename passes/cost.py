"""What one iteration of a loop costs, roughly: which loops are too short for threads."""

from __future__ import annotations

from typing import Any

from numba_mlir.passes import libm
from numba_mlir.passes.values import nested

#: loops inside, of which nobody knows how long they are
_LOOPS = frozenset({"scf.for", "scf.while", "scf.parallel", "scf.execute_region"})
#: nanoseconds on a processor of about 4 GHz, as vector code
_FUNCTION, _DIVISION, _ACCESS, _OTHER = 1.0, 0.5, 0.25, 0.1
_DIVISIONS = frozenset(
    {f"arith.{name}" for name in ("divf", "remf", "divsi", "divui", "remsi", "remui")}
)


def iteration_cost(loop: Any) -> float:
    """Nanoseconds for one iteration of a loop; 0 where there are loops inside."""
    cost = 0.0
    for op in nested(loop):
        if op.name in _LOOPS:
            return 0.0
        if op.name in libm.FUNCTIONS:
            cost += _FUNCTION
        elif op.name in _DIVISIONS or op.name == "math.sqrt":
            cost += _DIVISION
        elif op.name in ("memref.load", "memref.store"):
            cost += _ACCESS
        elif op.name.startswith(("arith.", "math.", "complex.")):
            cost += _OTHER
    return max(cost, _OTHER)
