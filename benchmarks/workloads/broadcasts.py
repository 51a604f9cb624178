"""Single expressions whose operands are stretched: sizes of 1, and fewer dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

from harness import Workload


# ---- (n, 1) + (1, m) ------------------------------------------------------------
def outer_sum(column: Any, row: Any) -> Any:
    return column + row


def outer_sum_by_hand(column: Any, row: Any) -> Any:
    n, m = column.shape[0], row.shape[1]
    out = np.empty((n, m))
    for i in prange(n):
        x = column[i, 0]
        for j in range(m):
            out[i, j] = x + row[0, j]
    return out


# ---- (n, m) + (m,) --------------------------------------------------------------
def add_row(matrix: Any, row: Any) -> Any:
    return matrix + row


def add_row_by_hand(matrix: Any, row: Any) -> Any:
    n, m = matrix.shape
    out = np.empty((n, m))
    for i in prange(n):
        for j in range(m):
            out[i, j] = matrix[i, j] + row[j]
    return out


# ---- (n, m) * (n, 1) ------------------------------------------------------------
def scale_rows(matrix: Any, column: Any) -> Any:
    return matrix * column


def scale_rows_by_hand(matrix: Any, column: Any) -> Any:
    n, m = matrix.shape
    out = np.empty((n, m))
    for i in prange(n):
        x = column[i, 0]
        for j in range(m):
            out[i, j] = matrix[i, j] * x
    return out


# ---- ((n, m) + (m,)) * (n, 1) ---------------------------------------------------
def mixed_ranks(matrix: Any, row: Any, column: Any) -> Any:
    return (matrix + row) * column


def mixed_ranks_by_hand(matrix: Any, row: Any, column: Any) -> Any:
    n, m = matrix.shape
    out = np.empty((n, m))
    for i in prange(n):
        x = column[i, 0]
        for j in range(m):
            out[i, j] = (matrix[i, j] + row[j]) * x
    return out


Make = Callable[[int, np.random.Generator], Any]


def _matrix(n: int, rng: np.random.Generator) -> Any:
    return rng.random((n, n))


def _row(n: int, rng: np.random.Generator) -> Any:
    return rng.random(n)


def _row_matrix(n: int, rng: np.random.Generator) -> Any:
    return rng.random((1, n))


def _column(n: int, rng: np.random.Generator) -> Any:
    return rng.random((n, 1))


def _workload(name: str, style: Any, by_hand: Any, numexpr: str, *makes: Make) -> Workload:
    names = style.__code__.co_varnames[: len(makes)]
    return Workload(
        name=name,
        array_style=style,
        by_hand=by_hand,
        arguments=lambda n, rng: tuple(make(n, rng) for make in makes),
        sizes={"full": 3000, "quick": 300, "tiny": 20},
        jax=lambda jnp: style,
        stretches=_column in makes,
        numexpr=lambda ne: lambda *args: ne.evaluate(numexpr, dict(zip(names, args, strict=True))),
    )


BROADCASTS = (
    _workload("outer-sum", outer_sum, outer_sum_by_hand, "column + row", _column, _row_matrix),
    _workload("add-row", add_row, add_row_by_hand, "matrix + row", _matrix, _row),
    _workload("scale-rows", scale_rows, scale_rows_by_hand, "matrix * column", _matrix, _column),
    _workload(
        "mixed-ranks",
        mixed_ranks,
        mixed_ranks_by_hand,
        "(matrix + row) * column",
        _matrix,
        _row,
        _column,
    ),
)
