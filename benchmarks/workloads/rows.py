"""Rows of a matrix: normalised by their sum, and by mean and variance (layer normalisation)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


def rownorm(x: Any) -> Any:
    return x / x.sum(axis=1).reshape(-1, 1)


def rownorm_by_hand(x: Any) -> Any:
    rows, columns = x.shape
    out = np.empty_like(x)
    for i in prange(rows):
        total = 0.0
        for j in range(columns):
            total += x[i, j]
        for j in range(columns):
            out[i, j] = x[i, j] / total
    return out


def layernorm(x: Any) -> Any:
    columns = x.shape[1]
    distance = x - (x.sum(axis=1) / columns).reshape(-1, 1)
    variance = (distance * distance).sum(axis=1) / columns
    return distance / np.sqrt(variance + 1e-5).reshape(-1, 1)


def _layernorm(jnp: Any, x: Any) -> Any:
    distance = x - x.mean(axis=1, keepdims=True)
    variance = (distance * distance).mean(axis=1, keepdims=True)
    return distance / jnp.sqrt(variance + 1e-5)


def layernorm_by_hand(x: Any) -> Any:
    rows, columns = x.shape
    out = np.empty_like(x)
    for i in prange(rows):
        total = 0.0
        for j in range(columns):
            total += x[i, j]
        mean = total / columns
        squares = 0.0
        for j in range(columns):
            distance = x[i, j] - mean
            squares += distance * distance
        deviation = np.sqrt(squares / columns + 1e-5)
        for j in range(columns):
            out[i, j] = (x[i, j] - mean) / deviation
    return out


def _arguments(n: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return (rng.random((n, 1000)),)


_SIZES = {"full": 4000, "quick": 100, "tiny": 4}

ROWS = (
    Workload(
        "row-normalise", rownorm, rownorm_by_hand, _arguments, _SIZES, jax=lambda jnp: rownorm
    ),
    Workload(
        "layernorm",
        layernorm,
        layernorm_by_hand,
        _arguments,
        _SIZES,
        jax=lambda jnp: lambda x: _layernorm(jnp, x),
    ),
)
