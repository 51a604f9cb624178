"""Array statements with a fresh array as their result: one operation, and three statements."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


def add(a: Any, b: Any) -> Any:
    return a + b


def add_by_hand(a: Any, b: Any) -> Any:
    out = np.empty_like(a)
    for i in prange(a.size):
        out[i] = a[i] + b[i]
    return out


def statements(a: Any, b: Any, c: Any) -> Any:
    t = a * b + c
    u = t * t - a
    return u + 0.5 * t


def statements_by_hand(a: Any, b: Any, c: Any) -> Any:
    out = np.empty_like(a)
    for i in prange(a.size):
        t = a[i] * b[i] + c[i]
        u = t * t - a[i]
        out[i] = u + 0.5 * t
    return out


_SIZES = {"full": 8_000_000, "quick": 100_000, "tiny": 100}

ELEMENTWISE = (
    Workload(
        name="add",
        array_style=add,
        by_hand=add_by_hand,
        arguments=lambda n, rng: (rng.random(n), rng.random(n)),
        sizes=_SIZES,
        jax=lambda jnp: add,
        numexpr=lambda ne: lambda a, b: ne.evaluate("a + b", {"a": a, "b": b}),
    ),
    Workload(
        name="three-statements",
        array_style=statements,
        by_hand=statements_by_hand,
        arguments=lambda n, rng: (rng.random(n), rng.random(n), rng.random(n)),
        sizes=_SIZES,
        jax=lambda jnp: statements,
        numexpr=lambda ne: (
            lambda a, b, c: ne.evaluate(
                "(a * b + c) * (a * b + c) - a + 0.5 * (a * b + c)", {"a": a, "b": b, "c": c}
            )
        ),
    ),
)
