"""The loop from Numba IR to MLIR and back, as passes of Numba's compiler."""

from numba_mlir.roundtrip.adapter import pass_class
from numba_mlir.roundtrip.pipeline import pipeline
from numba_mlir.roundtrip.sequential_codegen import Codegen

__all__ = ["Codegen", "pass_class", "pipeline"]
