"""Parallel loops to plain ones, for functions that Numba compiles without ``parallel=True``."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult
from numba_mlir.passes.values import nested

_PIPELINE = "builtin.module(func.func(scf-parallel-for-to-nested-fors))"


@dataclasses.dataclass(frozen=True)
class Sequential(MLIRPass):
    """Turn each ``scf.parallel`` into a nest of ``scf.for``.

    Loops with reductions stay as they are; nothing in front of this pass makes any in a
    sequential function.
    """

    name: ClassVar[str] = "sequential"

    def run(self, module: Any) -> PassResult:
        """Unmodified when there is no parallel loop."""
        loops = [op for op in nested(module.operation) if op.name == "scf.parallel"]
        if loops:
            mlir.run_pipeline(module.operation, _PIPELINE)
        return PassResult(bool(loops))
