"""Distances between all pairs of points, in array style an array of three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


def array_style(x: Any, y: Any) -> Any:
    return np.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=2))


def by_hand(x: Any, y: Any) -> Any:
    n, columns = x.shape
    m = y.shape[0]
    out = np.empty((n, m))
    for i in prange(n):
        for j in range(m):
            total = 0.0
            for k in range(columns):
                distance = x[i, k] - y[j, k]
                total += distance * distance
            out[i, j] = np.sqrt(total)
    return out


PAIRWISE = Workload(
    name="pairwise",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.random((n, 64)), rng.random((n, 64))),
    sizes={"full": 1000, "quick": 100, "tiny": 4},
    jax=lambda jnp: lambda x, y: jnp.sqrt(((x[:, None, :] - y[None, :, :]) ** 2).sum(axis=2)),
    stretches=True,
)
