"""Jacobi sweeps over a square grid, written with slices."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from numba import prange

from harness import Function, Workload

SWEEPS = 10


def array_style(grid: Any) -> Any:
    a = grid.copy()
    b = grid.copy()
    for _ in range(SWEEPS):
        b[1:-1, 1:-1] = 0.25 * (a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:])
        a, b = b, a
    return a


def by_hand(grid: Any) -> Any:
    a = grid.copy()
    b = grid.copy()
    rows, columns = grid.shape
    for _ in range(SWEEPS):
        for i in prange(1, rows - 1):
            for j in range(1, columns - 1):
                b[i, j] = 0.25 * (a[i - 1, j] + a[i + 1, j] + a[i, j - 1] + a[i, j + 1])
        a, b = b, a
    return a


def jax(jnp: ModuleType) -> Function:
    def function(grid: Any) -> Any:
        for _ in range(SWEEPS):
            inner = grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2] + grid[1:-1, 2:]
            grid = grid.at[1:-1, 1:-1].set(0.25 * inner)
        return grid

    return function


def numexpr(ne: ModuleType) -> Function:
    def function(grid: Any) -> Any:
        a = grid.copy()
        b = grid.copy()
        for _ in range(SWEEPS):
            near = {"n": a[:-2, 1:-1], "s": a[2:, 1:-1], "w": a[1:-1, :-2], "e": a[1:-1, 2:]}
            ne.evaluate("0.25 * (n + s + w + e)", near, out=b[1:-1, 1:-1])
            a, b = b, a
        return a

    return function


JACOBI = Workload(
    name="jacobi",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.random((n, n)),),
    sizes={"full": 1500, "quick": 200, "tiny": 12},
    jax=jax,
    numexpr=numexpr,
)
