"""The round trip in front of Numba's ParforPass, where array expressions are still trees.

In a parallel function it stands behind NopythonRewrites and gives Parfors to Numba's own
passes.  In a sequential one it is the only round trip, and its loops end as plain loops.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from numba_mlir.passes.base import MLIRPass
from numba_mlir.passes.broadcast import ORDER_MATTERS
from numba_mlir.roundtrip.adapter import RoundTrip, new_pass_class, switch_off_numba_fusion
from numba_mlir.roundtrip.instruments import Record

if TYPE_CHECKING:
    from numba_mlir.roundtrip.importer import Imported


class ArrayRoundTrip(RoundTrip):
    """A round trip of functions that have statements on whole arrays; others stay."""

    def bring_in(self, state: Any, record: Record) -> Imported | None:
        from numba_mlir.converters.arraystage import has_work

        if not has_work(state.func_ir.blocks, state.typemap):
            return None
        return super().bring_in(state, record)

    def put_back(self, imported: Imported, state: Any, record: Record) -> None:
        record.array_statements = True
        attributes = imported.function.operation.attributes
        super().put_back(imported, state, record)
        if state.flags.auto_parallel.enabled and ORDER_MATTERS in attributes:
            # Numba's fusion takes two views of one array for two arrays.
            switch_off_numba_fusion(state)

    def imported(self, state: Any) -> Imported:
        from numba_mlir.converters.arraystage import ArrayStage
        from numba_mlir.converters.stencils import Stencils
        from numba_mlir.roundtrip.array_reductions import array_reductions
        from numba_mlir.roundtrip.importer import import_function
        from numba_mlir.roundtrip.regions import import_body

        parallel = state.flags.auto_parallel
        # parallel={"stencil": False}: calls of stencils stay calls
        wanted = parallel.stencil or not parallel.enabled
        stencils = Stencils(import_body, parallel.enabled) if wanted else None
        reductions = array_reductions(state) if parallel.enabled else frozenset[int]()
        stage = ArrayStage(stencils, reductions)
        imported = import_function(state, stage)
        imported.converted = stage.loops
        imported.kept = stage.refusals
        return imported


@functools.cache
def array_pass_class(*passes: MLIRPass, strict: bool = False) -> type[RoundTrip]:
    """A registered Numba pass that turns array statements into loops and runs ``passes``.

    Equal arguments give the same class.
    """
    return new_pass_class(ArrayRoundTrip, passes, strict)
