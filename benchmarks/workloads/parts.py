"""Parts of arrays and masks: what Numba copies or takes one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


# ---- a vector by some columns of a matrix, which BLAS gets a copy of ----------------
def columns(a: Any, x: Any, low: float, high: float) -> Any:
    return x @ a[:, a.shape[1] // 2 :]


def columns_by_hand(a: Any, x: Any, low: float, high: float) -> Any:
    rows, first = a.shape[0], a.shape[1] // 2
    out = np.empty(a.shape[1] - first)
    for j in prange(out.size):
        total = 0.0
        for i in range(rows):
            total += x[i] * a[i, first + j]
        out[j] = total
    return out


# ---- which elements lie in an interval ------------------------------------------------
def between(a: Any, x: Any, low: float, high: float) -> Any:
    return (low <= a) & (a < high)


def between_by_hand(a: Any, x: Any, low: float, high: float) -> Any:
    rows, count = a.shape
    out = np.empty(a.shape, np.bool_)
    for i in prange(rows):
        for j in range(count):
            out[i, j] = low <= a[i, j] < high
    return out


# ---- shortest paths through some of the nodes -----------------------------------------
def paths(a: Any, x: Any, low: float, high: float) -> Any:
    d = a.copy()
    for k in range(10):
        d[:] = np.minimum(d, d[:, k : k + 1] + d[k : k + 1, :])
    return d


def paths_by_hand(a: Any, x: Any, low: float, high: float) -> Any:
    d = a.copy()
    for k in range(10):
        row = d[k].copy()
        for i in prange(d.shape[0]):
            first = d[i, k]
            for j in range(d.shape[1]):
                d[i, j] = min(d[i, j], first + row[j])
    return d


def _arguments(n: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random((n, n)), rng.random(n), 0.2, 0.4


_SIZES = {"full": 2000, "quick": 300, "tiny": 24}

PARTS = (
    Workload("part-columns", columns, columns_by_hand, _arguments, _SIZES),
    Workload("mask", between, between_by_hand, _arguments, _SIZES),
    Workload("shortest-paths", paths, paths_by_hand, _arguments, _SIZES, stretches=True),
)
