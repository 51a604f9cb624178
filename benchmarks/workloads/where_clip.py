"""Selections: ``np.where`` twice, then ``np.clip``."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba import prange

from harness import Function, Workload


def array_style(x: Any) -> Any:
    y = np.where(x > 0.25, x * 3, x - 1)
    z = np.where(y < 0, -y, y + x)
    return np.clip(z, 0.1, 0.9)


def by_hand(x: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.size):
        y = x[i] * 3 if x[i] > 0.25 else x[i] - 1
        z = -y if y < 0 else y + x[i]
        out[i] = min(max(z, 0.1), 0.9)
    return out


def jax(jnp: ModuleType) -> Function:
    def function(x: Any) -> Any:
        y = jnp.where(x > 0.25, x * 3, x - 1)
        z = jnp.where(y < 0, -y, y + x)
        return jnp.clip(z, 0.1, 0.9)

    return function


def numexpr(ne: ModuleType) -> Function:
    def function(x: Any) -> Any:
        y = ne.evaluate("where(x > 0.25, x * 3, x - 1)", {"x": x})
        z = ne.evaluate("where(y < 0, -y, y + x)", {"x": x, "y": y})
        return ne.evaluate("where(z < 0.1, 0.1, where(z > 0.9, 0.9, z))", {"z": z})

    return function


WHERE_CLIP = Workload(
    name="where-clip",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.random(n),),
    sizes={"full": 10_000_000, "quick": 100_000, "tiny": 1000},
    jax=jax,
    numexpr=numexpr,
)
