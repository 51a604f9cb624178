"""Rows and products inside loops and branches, and the memory that fused rows need."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from numba_mlir import njit


def softmax_again(x: Any, times: int) -> Any:
    for _ in range(times):
        e = np.exp(x - x.max(axis=1)[:, None])
        x = e / e.sum(axis=1)[:, None]
    return x


def one_of_two(x: Any, times: int) -> Any:
    if times > 2:
        y = x - x.mean(axis=1)[:, None]
        return y / np.sqrt((y * y).mean(axis=1) + 1.0)[:, None]
    return x / x.sum(axis=1)[:, None]


def power_method(a: Any, times: int) -> Any:
    x = np.ones(a.shape[1])
    i = 0
    while i < times:
        x = a.T @ (a @ x)
        x = x / np.sqrt((x * x).sum())
        i += 1
    return x


def in_place(x: Any, times: int) -> Any:
    for _ in range(times):
        x[:] = x / x.sum(axis=1).reshape(-1, 1)
        x += 1.0
    return x


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    ("function", "loops", "matrices"),
    [(softmax_again, 1, 1), (one_of_two, 2, 2), (in_place, 1, 0)],
)
def test_rows(function: Any, loops: int, matrices: int, parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    x = np.random.default_rng(0).random((5, 7))
    for times in (0, 1, 3):
        expected = function(x.copy(), times)
        np.testing.assert_allclose(compiled(x.copy(), times), expected, rtol=1e-12)
    text = compiled.inspect_mlir(stage="after-row-fusion" if parallel else "after-fusion")
    assert text.count("scf.parallel") == loops
    made = [line for line in text.splitlines() if "memref.alloc(" in line and "<?x?x" in line]
    assert len(made) == matrices


def test_products() -> None:
    compiled = njit(power_method)
    a = np.random.default_rng(1).random((6, 6))
    for times in (0, 1, 4):
        expected = power_method(a, times)
        np.testing.assert_allclose(compiled(a, times), expected, rtol=1e-12)
    text = compiled.inspect_mlir(stage="after-fusion")
    loops, calls = text.split("{numba.large}")[1].split("numba.product", 1)
    assert loops.count("memref.load %arg0[") > 1  # one loop, several rows at once
    assert calls.count("numba.product") == 1 and "%arg0[" not in calls


MEMORY = """
import re
import numpy as np
import numba_mlir

def kibibytes(name):  # of this process alone: ru_maxrss begins with what the parent had
    with open("/proc/self/status") as file:
        return int(re.search(rf"^{name}:\\s+(\\d+) kB", file.read(), re.M)[1])

@numba_mlir.njit(parallel=True)
def softmax(x):
    e = np.exp(x - x.max(axis=1)[:, None])
    return e / e.sum(axis=1)[:, None]

softmax(np.ones((2, 3)))  # compiles
before = kibibytes("VmRSS")
x = np.full((8000, 4000), 0.5)
y = softmax(x)
print((kibibytes("VmHWM") - before) * 1024 / (x.nbytes + y.nbytes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_softmax_needs_the_memory_of_its_input_and_output() -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", MEMORY],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert float(run.stdout) <= 1.1
