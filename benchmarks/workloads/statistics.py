"""Several reductions of one long array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


def array_style(x: Any) -> Any:
    return x.mean(), x.var()


def by_hand(x: Any) -> Any:
    n = len(x)
    total = 0.0
    for i in prange(n):
        total += x[i]
    mean = total / n
    squares = 0.0
    for i in prange(n):
        distance = x[i] - mean
        squares += distance * distance
    return mean, squares / n


MEAN_VAR = Workload(
    name="mean-var",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.random(n),),
    sizes={"full": 10_000_000, "quick": 100_000, "tiny": 1000},
)


def everything(x: Any) -> Any:
    return x.mean() + x.std() + x.min() + x.max()


def everything_by_hand(x: Any) -> Any:
    n = len(x)
    total, low, high = 0.0, np.inf, -np.inf
    for i in prange(n):
        total += x[i]
        low = min(low, x[i])
        high = max(high, x[i])
    mean = total / n
    squares = 0.0
    for i in prange(n):
        distance = x[i] - mean
        squares += distance * distance
    return mean + np.sqrt(squares / n) + low + high


STATISTICS = (
    MEAN_VAR,
    Workload("statistics", everything, everything_by_hand, MEAN_VAR.arguments, MEAN_VAR.sizes),
)
