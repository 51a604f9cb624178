"""The hooks of ``numba_mlir.testing``, called as a test runner calls them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager

from numba_mlir import testing
from numba_mlir.testing import STATS, Hook


def hooked(hook: Hook, **options: Any) -> Any:
    class Mine(CompilerBase):
        def define_pipelines(self) -> list[PassManager]:
            pm = DefaultPassBuilder.define_nopython_pipeline(self.state)
            hook(pm, self.state)
            pm.finalize()
            return [pm]

    return numba.njit(pipeline_class=Mine, **options)


def chain(a, b):
    c = a + b
    return c * c


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("no_rewrites", [False, True])
def test_identity(parallel: bool, no_rewrites: bool) -> None:
    hook = Hook("identity")
    f = hooked(hook, parallel=parallel, no_rewrites=no_rewrites)(chain)
    np.testing.assert_array_equal(f(np.ones(3), np.ones(3)), np.full(3, 4.0))
    counts = hook.stats()
    assert tuple(counts) == STATS
    assert counts["functions_seen"] == counts["functions_round_tripped"] == 1
    assert counts["parfors_met"] == counts["parfors_imported"]
    # without rewrites Numba makes no array expressions, and no Parfors of them
    assert (counts["parfors_met"] > 0) == (parallel and not no_rewrites)


def test_fusion_counts_loops_and_switches_numbas_fusion_off() -> None:
    hook = Hook("fusion")
    f = hooked(hook, parallel=True)(chain)
    np.testing.assert_array_equal(f(np.ones(3), np.ones(3)), np.full(3, 4.0))
    counts = hook.stats()
    assert counts["parfors_met"] == 2, "Numba's own fusion left one"
    assert counts["loops_fused"] == 1


def test_refused_functions_are_counted() -> None:
    hook = Hook("identity")

    @hooked(hook, parallel=True)
    def squares(a):
        b = a * a
        try:
            if a.size > 2:
                raise ValueError
        except Exception:
            return -1
        return b[1]

    assert (squares(np.arange(2)), squares(np.arange(3))) == (1, -1)
    counts = hook.stats()
    assert counts["functions_refused"] == 1
    assert counts["functions_round_tripped"] == 0
    assert counts["parfors_opaque"] == counts["parfors_met"] > 0


def test_pipelines_from_typed_ir_are_left_alone() -> None:
    pm = PassManager("empty")
    Hook("identity")(pm, None)
    assert pm.passes == []


def test_the_hooks_there_are() -> None:
    for name in ("add_identity", "add_fusion", "add_all"):
        hook = getattr(testing, name)
        assert set(hook.stats()) == set(STATS)
