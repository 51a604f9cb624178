"""Every implementation of every workload gives NumPy's result (tiny inputs, no timing)."""

from __future__ import annotations

import functools

import broadcast_times
import pytest
import tiling_times

from harness import IMPLEMENTATIONS, OURS, Prepared, Unavailable
from workloads import WORKLOADS

CASES = [
    pytest.param(n, marks=pytest.mark.smoke if n.startswith(OURS) else ()) for n in IMPLEMENTATIONS
]


@functools.lru_cache(maxsize=1)
def _prepared(workload: str) -> Prepared:
    return Prepared.at(WORKLOADS[workload], "tiny")


@pytest.mark.parametrize("implementation", CASES)
@pytest.mark.parametrize("workload", WORKLOADS)
def test_implementation_agrees_with_numpy(workload: str, implementation: str) -> None:
    try:
        _prepared(workload).runner(implementation)
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_broadcasting_is_timed_beside_a_loop_by_hand() -> None:
    workload = broadcast_times.BROADCASTS[0]
    running = broadcast_times.run_times(workload, size=20, repeats=1)
    compiling = broadcast_times.compile_times(workload, repeats=1)
    assert running.keys() == {*broadcast_times.MODES, "by hand"}
    assert compiling.keys() == {*broadcast_times.MODES, "numba"}
    assert workload.name in broadcast_times.line(workload, running, compiling)


def test_loops_are_timed_under_tiling() -> None:
    workload = tiling_times.NESTS[0]
    running = tiling_times.run_times(workload, size=20, seconds=0.0)
    assert running.keys() == {*tiling_times.MODES, "numba"}
    assert workload.name in tiling_times.line(workload, 20, running)
