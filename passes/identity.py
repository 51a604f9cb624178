"""The pass that changes nothing: proof that import and export are exact."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult


@dataclasses.dataclass(frozen=True)
class Identity(MLIRPass):
    """Clean up, and have the function exported whether or not anything changed.

    With ``cleanup=False`` the module is exported exactly as it was imported.
    Always reports ``modified=True``: the round trip is what this pass is for.
    """

    cleanup: bool = True

    name: ClassVar[str] = "identity"

    def run(self, module: Any) -> PassResult:
        """Run ``canonicalize,cse`` when ``cleanup`` is set."""
        if self.cleanup:
            mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
        return PassResult(modified=True)
