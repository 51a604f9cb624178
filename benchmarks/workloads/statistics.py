"""Mean and variance of one long array, in two passes."""

from __future__ import annotations

from typing import Any

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
    jax=lambda jnp: array_style,
)
