"""Reductions of long vectors: a sum, a product of two."""

from __future__ import annotations

from typing import Any

from numba import prange

from harness import Workload


def total(x: Any) -> Any:
    return x.sum()


def total_by_hand(x: Any) -> Any:
    found = 0.0
    for i in prange(x.size):
        found += x[i]
    return found


def dot(x: Any, y: Any) -> Any:
    return (x * y).sum()


def dot_by_hand(x: Any, y: Any) -> Any:
    found = 0.0
    for i in prange(x.size):
        found += x[i] * y[i]
    return found


_SIZES = {"full": 16_000_000, "quick": 100_000, "tiny": 1000}

VECTORS = (
    Workload(
        name="sum",
        array_style=total,
        by_hand=total_by_hand,
        arguments=lambda n, rng: (rng.random(n),),
        sizes=_SIZES,
        jax=lambda jnp: total,
        numexpr=lambda ne: lambda x: ne.evaluate("sum(x)", {"x": x}),
    ),
    Workload(
        name="dot",
        array_style=dot,
        by_hand=dot_by_hand,
        arguments=lambda n, rng: (rng.random(n), rng.random(n)),
        sizes=_SIZES,
        jax=lambda jnp: dot,
        numexpr=lambda ne: lambda x, y: ne.evaluate("sum(x * y)", {"x": x, "y": y}),
    ),
)
