"""What makes compilation slow without changing any result, and so shows in no other test."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pytest
from numba import prange

from numba_mlir import mlir, njit

VECTOR = numba.float64[::1]
MATRIX = numba.float64[:, ::1]


def statements(a, b):
    c = a + b
    return np.exp(c) * c.sum(axis=1).reshape(-1, 1)


def loops(a, b):
    total = 0.0
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * b[-i, j]
    return total


class Lookups:
    """Imports that found no loaded module; goes in front of ``sys.meta_path``."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        self.names.append(name)


@pytest.mark.parametrize("function", [statements, loops])
def test_no_dialect_is_looked_for_on_disk(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    njit(parallel=True)(function).compile((MATRIX, MATRIX))  # loads what there is
    lookups = Lookups()
    monkeypatch.setattr(sys, "meta_path", [lookups, *sys.meta_path])
    njit(parallel=True, fastmath=True)(function).compile((MATRIX, MATRIX))
    assert [name for name in lookups.names if name.startswith(mlir.package())] == []
