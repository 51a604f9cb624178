"""Options of the benchmarks, and the order in which they run.

The machine's noise must hit all implementations of a workload alike.  pytest-benchmark
measures one test after the other, so a test here is a short *visit* (a few rounds) and
every implementation is visited several times in turn; ``report.py`` joins the visits.
"""

from __future__ import annotations

from typing import Any

import pytest

from harness import IMPLEMENTATIONS
from workloads import WORKLOADS

_UNAVAILABLE = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("numba-mlir benchmarks")
    group.addoption("--quick", action="store_true", help="small inputs, two visits")
    group.addoption("--visits", type=int, default=5, help="visits to each implementation")
    group.addoption("--rounds", type=int, default=3, help="timed calls in a visit")
    group.addoption("--workload", action="append", choices=[*WORKLOADS], help="only this one")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "implementation" not in metafunc.fixturenames:
        return
    quick = metafunc.config.getoption("--quick")
    visits = 2 if quick else metafunc.config.getoption("--visits")
    chosen = metafunc.config.getoption("--workload") or [*WORKLOADS]
    cases = [
        pytest.param(workload, implementation, visit, id=f"{workload}-{implementation}-{visit}")
        for workload in chosen
        for visit in range(visits)
        for implementation in IMPLEMENTATIONS
    ]
    metafunc.parametrize(("workload", "implementation", "visit"), cases)


@pytest.fixture
def size(request: pytest.FixtureRequest) -> str:
    return "quick" if request.config.getoption("--quick") else "full"


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture
def unavailable(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """workload -> implementation -> why it has no time; goes into the JSON file."""
    return request.config.stash[_UNAVAILABLE]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_UNAVAILABLE] = {}


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]
) -> None:
    output_json["unavailable"] = config.stash[_UNAVAILABLE]
