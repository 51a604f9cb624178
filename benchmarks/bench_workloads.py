"""Times every implementation of every workload: ``make bench``."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from harness import Prepared, Unavailable
from workloads import WORKLOADS


@functools.lru_cache(maxsize=1)  # inputs of one workload at a time are in memory
def prepared(workload: str, size: str) -> Prepared:
    return Prepared.at(WORKLOADS[workload], size)


def test_workload(
    benchmark: Any,
    workload: str,
    implementation: str,
    visit: int,
    size: str,
    rounds: int,
    unavailable: dict[str, dict[str, str]],
) -> None:
    try:
        run = prepared(workload, size).runner(implementation)
    except Unavailable as reason:
        unavailable.setdefault(workload, {})[implementation] = str(reason)
        pytest.skip(str(reason))
    benchmark.group = workload
    benchmark.extra_info.update(workload=workload, implementation=implementation, size=size)
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1)
