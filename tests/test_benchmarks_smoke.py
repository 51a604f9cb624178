"""Every implementation of every workload gives NumPy's result (tiny inputs, no timing)."""

from __future__ import annotations

import functools

import pytest

from harness import IMPLEMENTATIONS, OURS, Prepared, Unavailable
from workloads import WORKLOADS

CASES = [pytest.param(n, marks=pytest.mark.smoke if n in OURS else ()) for n in IMPLEMENTATIONS]


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
