"""Several reductions of one array: mean, standard deviation, smallest, largest."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba import prange

from harness import Function, Workload


def array_style(x: Any) -> Any:
    return x.mean(), x.std(), x.min(), x.max()


def by_hand(x: Any) -> Any:
    total = 0.0
    low = np.inf
    high = -np.inf
    for i in prange(x.size):
        total += x[i]
        low = min(low, x[i])
        high = max(high, x[i])
    mean = total / x.size
    squares = 0.0
    for i in prange(x.size):
        squares += (x[i] - mean) ** 2
    return mean, np.sqrt(squares / x.size), low, high


def jax(jnp: ModuleType) -> Function:
    def function(x: Any) -> Any:
        return x.mean(), x.std(), x.min(), x.max()

    return function


def numexpr(ne: ModuleType) -> Function:
    def function(x: Any) -> Any:
        inputs = {"x": x}
        mean = ne.evaluate("sum(x)", inputs) / x.size
        squares = ne.evaluate("sum((x - mean)**2)", {"x": x, "mean": mean})
        low, high = ne.evaluate("min(x)", inputs), ne.evaluate("max(x)", inputs)
        return mean, np.sqrt(squares / x.size), low, high

    return function


REDUCTIONS = Workload(
    name="reductions",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.standard_normal(n),),
    sizes={"full": 20_000_000, "quick": 200_000, "tiny": 1000},
    jax=jax,
    numexpr=numexpr,
    rtol=1e-8,
)
