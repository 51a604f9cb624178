"""Our passes in every compilation of a process, for running other projects' tests.

A hook is called with the pass manager and the state of each nopython pipeline, before
it runs; ``hook.stats()`` says how much was done so far.  Who calls the hook is up to the
test runner, e.g. a wrapper around ``DefaultPassBuilder.define_nopython_pipeline``.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.typed_passes import ParforFusionPass
from numba.parfors.parfor import Parfor

from numba_mlir.passes.values import nested
from numba_mlir.roundtrip.adapter import RoundTrip, new_pass_class, switch_off_numba_fusion
from numba_mlir.roundtrip.arrays_adapter import ArrayRoundTrip
from numba_mlir.roundtrip.codegen import CodegenPass
from numba_mlir.roundtrip.flags import select
from numba_mlir.roundtrip.instruments import Record
from numba_mlir.roundtrip.pipeline import (
    STAGES,
    Step,
    before_lowering,
    before_parfors,
    generate_code,
    plan,
)
from numba_mlir.roundtrip.sequential_codegen import SequentialCodegenPass

STATS = (
    "functions_seen",
    "functions_round_tripped",
    "functions_refused",
    "parfors_met",
    "parfors_imported",
    "parfors_opaque",
    "loops_fused",
    "statements_converted",
    "statements_kept",
    "kernels",
    "kernels_refused",
)


class _Counting(RoundTrip):
    """Counts what goes through it."""

    counts: ClassVar[Counter[str]]

    def run_pass(self, state: Any) -> bool:
        modified = super().run_pass(state)
        record = Record.of(state)
        self.counts["functions_seen"] += 1
        self.counts["functions_refused"] += bool(record.refusals)
        self.counts["functions_round_tripped"] += bool(record.exports)
        return modified

    def bring_in(self, state: Any, record: Record) -> Any:
        met = count_parfors(state.func_ir.blocks)
        imported = super().bring_in(state, record)
        taken = 0 if imported is None else imported.parfors - len(imported.opaque)
        if imported is not None:
            self.counts["statements_converted"] += imported.converted
            self.counts["statements_kept"] += len(imported.kept)
        self.counts["parfors_met"] += met
        self.counts["parfors_imported"] += taken
        self.counts["parfors_opaque"] += met - taken
        return imported

    def after_stage(self, record: Record, stage: str, module: Any) -> None:
        super().after_stage(record, stage, module)
        if stage == "after-fusion":
            self.counts["loops_fused"] += count_fused(module)


class _Counted(FunctionPass):
    """Counts the pieces that got machine code by MLIR, and those that did not."""

    counts: ClassVar[Counter[str]]

    def run_pass(self, state: Any) -> bool:
        record = Record.of(state)
        before = len(record.remarks)
        modified = super().run_pass(state)
        kinds = Counter(remark.kind for remark in record.remarks[before:])
        self.counts["kernels"] += kinds["applied"]
        self.counts["kernels_refused"] += kinds["missed"]
        return modified


class _CountingCodegen(_Counted, CodegenPass):
    """Parfors."""


class _CountingSequential(_Counted, SequentialCodegenPass):
    """Loops and whole functions without Parfors."""


class Hook:
    """A callable for a test runner that adds the passes of ``stages``; without any, all
    passes as `numba_mlir.njit` has them without flags."""

    def __init__(self, *stages: str) -> None:
        self._selection = select({f"mlir_{stage}": True for stage in stages}, STAGES)
        self._counts: Counter[str] = Counter()
        self._classes: dict[Step, type[RoundTrip]] = {}

    def __call__(self, pm: PassManager, state: Any) -> None:
        """Add the passes to ``pm``, where `numba_mlir.njit` has them; to be finalized again.

        A pipeline that starts from typed IR, such as that of a Parfor's body, gets none.
        """
        for step in plan(pm, self._selection):
            pm.add_pass_after(self._pass(step), step.behind)
            if step.behind is ParforFusionPass and self._selection.value("fusion"):
                switch_off_numba_fusion(state)
        before_parfors(pm, self._selection)
        before_lowering(pm)
        if self._selection.value("codegen"):
            generate_code(pm, self._codegen, self._sequential)

    @functools.cached_property
    def _sequential(self) -> type[SequentialCodegenPass]:
        body: dict[str, Any] = {
            "counts": self._counts,
            "everything": self._selection.value("codegen") is True,
            "_name": "mlir_sequential_counting",
            "__module__": __name__,
        }
        made = type("_CountingSequential", (_CountingSequential,), body)
        return register_pass(mutates_CFG=True, analysis_only=False)(made)

    @functools.cached_property
    def _codegen(self) -> type[CodegenPass]:
        body = {"counts": self._counts, "_name": "mlir_codegen_counting", "__module__": __name__}
        made = type("_CountingCodegen", (_CountingCodegen,), body)
        return register_pass(mutates_CFG=False, analysis_only=True)(made)

    def stats(self) -> dict[str, int]:
        """How many functions, Parfors and fused loops there were in this process."""
        return {name: self._counts[name] for name in STATS}

    def _pass(self, step: Step) -> type[RoundTrip]:
        found = self._classes.get(step)
        if found is None:
            bases = (_Counting, ArrayRoundTrip) if step.arrays else (_Counting,)
            body = {"counts": self._counts, "__module__": __name__}
            found = new_pass_class(type("_Counting", bases, body), step.passes)
            self._classes[step] = found
        return found


def count_parfors(blocks: Mapping[int, Any]) -> int:
    """Number of Parfors in Numba IR blocks, nested ones too."""
    found = [stmt for block in blocks.values() for stmt in block.body if isinstance(stmt, Parfor)]
    return len(found) + sum(count_parfors(parfor.loop_body) for parfor in found)


def count_fused(module: Any) -> int:
    """How many loops became part of another one, by the loops' ``numba.parfors``."""
    sizes: Iterable[int] = (
        len(op.attributes["numba.parfors"])
        for op in nested(module.operation)
        if op.name == "scf.parallel" and "numba.parfors" in op.attributes
    )
    return sum(size - 1 for size in sizes if size > 1)


add_identity = Hook("identity")
add_broadcast = Hook("broadcast")
add_fusion = Hook("fusion")
add_tiling = Hook("tiling")
add_codegen = Hook("codegen")
add_all = Hook()
