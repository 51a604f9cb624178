"""The loop from Numba IR to MLIR and back, as passes of Numba's compiler."""

from numba_mlir.roundtrip.adapter import pass_class
from numba_mlir.roundtrip.pipeline import pipeline

__all__ = ["pass_class", "pipeline"]
