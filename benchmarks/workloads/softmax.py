"""Softmax of every row (without the shift by the maximum, which Numba cannot compile)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba import prange

from harness import Function, Workload


def array_style(x: Any) -> Any:
    e = np.exp(x)
    s = e.sum(axis=1)
    return e / s.reshape(-1, 1)


def by_hand(x: Any) -> Any:
    rows, columns = x.shape
    out = np.empty_like(x)
    for i in prange(rows):
        total = 0.0
        for j in range(columns):
            e = np.exp(x[i, j])
            out[i, j] = e
            total += e
        for j in range(columns):
            out[i, j] /= total
    return out


def jax(jnp: ModuleType) -> Function:
    def function(x: Any) -> Any:
        e = jnp.exp(x)
        return e / e.sum(axis=1).reshape(-1, 1)

    return function


def numexpr(ne: ModuleType) -> Function:
    def function(x: Any) -> Any:
        e = ne.evaluate("exp(x)", {"x": x})
        s = ne.evaluate("sum(e, axis=1)", {"e": e}).reshape(-1, 1)
        return ne.evaluate("e / s", {"e": e, "s": s})

    return function


SOFTMAX = Workload(
    name="softmax-rows",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.standard_normal((n, 1000)),),
    sizes={"full": 4000, "quick": 100, "tiny": 4},
    jax=jax,
    numexpr=numexpr,
)
