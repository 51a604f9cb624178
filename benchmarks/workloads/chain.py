"""A chain of array statements that ends in two reductions."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba import prange

from harness import Function, Workload


def array_style(a: Any, b: Any) -> Any:
    c = a + b
    d = np.sqrt(np.abs(c)) * 2
    e = d * d - a * b
    return e.sum(), (e - a).max()


def by_hand(a: Any, b: Any) -> Any:
    total = 0.0
    largest = -np.inf
    for i in prange(a.size):
        d = np.sqrt(np.abs(a[i] + b[i])) * 2
        e = d * d - a[i] * b[i]
        total += e
        largest = max(largest, e - a[i])
    return total, largest


def jax(jnp: ModuleType) -> Function:
    def function(a: Any, b: Any) -> Any:
        d = jnp.sqrt(jnp.abs(a + b)) * 2
        e = d * d - a * b
        return e.sum(), (e - a).max()

    return function


def numexpr(ne: ModuleType) -> Function:
    e = "(sqrt(abs(a + b)) * 2)**2 - a * b"

    def function(a: Any, b: Any) -> Any:
        inputs = {"a": a, "b": b}
        return ne.evaluate(f"sum({e})", inputs), ne.evaluate(f"max({e} - a)", inputs)

    return function


CHAIN = Workload(
    name="chain",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.standard_normal(n), rng.standard_normal(n)),
    sizes={"full": 10_000_000, "quick": 100_000, "tiny": 1000},
    jax=jax,
    numexpr=numexpr,
    rtol=1e-8,
)
