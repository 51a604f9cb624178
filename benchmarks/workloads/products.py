"""Products of one matrix and several vectors.

By hand they are one loop over rows; the sums along columns are collected in chunks of rows,
for each of which Numba adds up an array of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


def atax(a: Any, x: Any, y: Any) -> Any:
    return a.T @ (a @ x)


def atax_by_hand(a: Any, x: Any, y: Any) -> Any:
    rows, columns = a.shape
    chunks = min(64, rows)
    parts = np.zeros((chunks, columns))
    for c in prange(chunks):
        for i in range(c * rows // chunks, (c + 1) * rows // chunks):
            total = 0.0
            for j in range(columns):
                total += a[i, j] * x[j]
            for j in range(columns):
                parts[c, j] += a[i, j] * total
    out = np.zeros(columns)
    for c in range(chunks):
        out += parts[c]
    return out


def bicg(a: Any, x: Any, y: Any) -> Any:
    return a @ x, a.T @ y


def bicg_by_hand(a: Any, x: Any, y: Any) -> Any:
    rows, columns = a.shape
    chunks = min(64, rows)
    parts, q = np.zeros((chunks, columns)), np.empty(rows)
    for c in prange(chunks):
        for i in range(c * rows // chunks, (c + 1) * rows // chunks):
            total, factor = 0.0, y[i]
            for j in range(columns):
                total += a[i, j] * x[j]
                parts[c, j] += a[i, j] * factor
            q[i] = total
    out = np.zeros(columns)
    for c in range(chunks):
        out += parts[c]
    return q, out


def gemver(a: Any, u: Any, v: Any, y: Any) -> Any:
    b = a + u[:, None] * v
    x = 0.5 * (b.T @ y) + v
    return b, b @ x


def gemver_by_hand(a: Any, u: Any, v: Any, y: Any) -> Any:
    rows, columns = a.shape
    b, x, out = np.empty_like(a), np.empty(columns), np.empty(rows)
    for i in prange(rows):
        for j in range(columns):
            b[i, j] = a[i, j] + u[i] * v[j]
    for j in prange(columns):
        total = 0.0
        for i in range(rows):
            total += b[i, j] * y[i]
        x[j] = 0.5 * total + v[j]
    for i in prange(rows):
        total = 0.0
        for j in range(columns):
            total += b[i, j] * x[j]
        out[i] = total
    return b, out


def _arguments(n: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random((n, n)), rng.random(n), rng.random(n)


def _gemver_arguments(n: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random((n, n)), rng.random(n), rng.random(n), rng.random(n)


_SIZES = {"full": 3000, "quick": 300, "tiny": 5}

PRODUCTS = (
    Workload("atax", atax, atax_by_hand, _arguments, _SIZES, jax=lambda jnp: atax),
    Workload("bicg", bicg, bicg_by_hand, _arguments, _SIZES, jax=lambda jnp: bicg),
    Workload(
        "gemver",
        gemver,
        gemver_by_hand,
        _gemver_arguments,
        _SIZES,
        jax=lambda jnp: gemver,
        stretches=True,
    ),
)
