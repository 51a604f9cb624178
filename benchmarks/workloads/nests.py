"""Nests of loops as a user writes them first: in an order that caches do not like.

NumPy runs the array form; the others run the loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload


# ---- matrix products ------------------------------------------------------------
def product(a: Any, b: Any) -> Any:
    return a @ b


def product_ijk(a: Any, b: Any) -> Any:
    out = np.empty((a.shape[0], b.shape[1]))
    for i in prange(a.shape[0]):
        for j in range(b.shape[1]):
            total = 0.0
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            out[i, j] = total
    return out


def product_ikj(a: Any, b: Any) -> Any:
    out = np.zeros((a.shape[0], b.shape[1]))
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
    return out


# ---- the lower triangle of a @ a.T ----------------------------------------------
def syrk(a: Any) -> Any:
    return np.tril(a @ a.T)


def syrk_by_hand(a: Any) -> Any:
    out = np.zeros((a.shape[0], a.shape[0]))
    for i in prange(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(i + 1):
                out[i, j] += a[i, k] * a[j, k]
    return out


# ---- products of a matrix and its transpose with vectors ------------------------
def mvt(a: Any, x: Any, y: Any) -> Any:
    return a @ x, a.T @ y


def mvt_by_hand(a: Any, x: Any, y: Any) -> Any:
    n = a.shape[0]
    u, v = np.zeros(n), np.zeros(n)
    for i in prange(n):
        for j in range(n):
            u[i] += a[i, j] * x[j]
    for i in prange(n):
        for j in range(n):
            v[i] += a[j, i] * y[j]
    return u, v


# ---- convolution in two dimensions ----------------------------------------------
def convolve(image: Any, weights: Any) -> Any:
    n, m = image.shape[0] - 4, image.shape[1] - 4
    out = np.zeros((n, m))
    for p in range(5):
        for q in range(5):
            out += image[p : p + n, q : q + m] * weights[p, q]
    return out


def convolve_by_hand(image: Any, weights: Any) -> Any:
    rows, columns = weights.shape
    out = np.empty((image.shape[0] - rows + 1, image.shape[1] - columns + 1))
    for i in prange(out.shape[0]):
        for j in range(out.shape[1]):
            total = 0.0
            for p in range(rows):
                for q in range(columns):
                    total += image[i + p, j + q] * weights[p, q]
            out[i, j] = total
    return out


# ---- memory orders --------------------------------------------------------------
def transposed_add(a: Any, b: Any) -> Any:
    return a + b.T


def transposed_add_by_hand(a: Any, b: Any) -> Any:
    out = np.empty(a.shape)
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] + b[j, i]
    return out


def fortran(a: Any, b: Any, out: Any) -> Any:
    out[:] = a * 2 + b
    return out


def fortran_by_hand(a: Any, b: Any, out: Any) -> Any:
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] * 2 + b[i, j]
    return out


def _squares(count: int, n: int, rng: np.random.Generator) -> tuple[Any, ...]:
    return tuple(rng.random((n, n)) for _ in range(count))


NESTS = [
    Workload(
        name="matmul-ijk",
        array_style=product,
        by_hand=product_ijk,
        arguments=lambda n, rng: _squares(2, n, rng),
        sizes={"full": 512, "quick": 100, "tiny": 9},
        loops=True,
    ),
    Workload(
        name="matmul-ikj",
        array_style=product,
        by_hand=product_ikj,
        arguments=lambda n, rng: _squares(2, n, rng),
        sizes={"full": 1024, "quick": 100, "tiny": 9},
        jax=lambda jnp: product,
        loops=True,
    ),
    Workload(
        name="syrk",
        array_style=syrk,
        by_hand=syrk_by_hand,
        arguments=lambda n, rng: _squares(1, n, rng),
        sizes={"full": 1000, "quick": 100, "tiny": 9},
        loops=True,
    ),
    Workload(
        name="mvt",
        array_style=mvt,
        by_hand=mvt_by_hand,
        arguments=lambda n, rng: (*_squares(1, n, rng), rng.random(n), rng.random(n)),
        sizes={"full": 4000, "quick": 300, "tiny": 9},
        jax=lambda jnp: mvt,
        loops=True,
    ),
    Workload(
        name="convolution",
        array_style=convolve,
        by_hand=convolve_by_hand,
        arguments=lambda n, rng: (rng.random((n + 4, n + 4)), rng.random((5, 5))),
        sizes={"full": 2000, "quick": 100, "tiny": 9},
        loops=True,
    ),
    Workload(
        name="transposed-add",
        array_style=transposed_add,
        by_hand=transposed_add_by_hand,
        arguments=lambda n, rng: _squares(2, n, rng),
        sizes={"full": 4096, "quick": 300, "tiny": 9},
        loops=True,
    ),
    Workload(
        name="fortran-order",
        array_style=fortran,
        by_hand=fortran_by_hand,
        arguments=lambda n, rng: tuple(np.asfortranarray(one) for one in _squares(3, n, rng)),
        sizes={"full": 4000, "quick": 300, "tiny": 9},
        loops=True,
    ),
]
