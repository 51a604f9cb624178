"""Global numbers and arrays: constants of every kind, in conditions and in parallel loops."""

from __future__ import annotations

import numba
import numpy as np
from numba import prange

from numba_mlir import njit

FLOAT = 2.5
SINGLE = np.float32(1.5)
INTEGER = 7
FLAG = True
COMPLEX = 1 + 2j
ARRAY = np.arange(4.0)


def uses_globals(x: float):  # type: ignore[no-untyped-def]
    y = 0.0
    if not FLOAT:
        y = 1.0
    if x > FLOAT:
        y += SINGLE
    if FLAG:
        y += INTEGER
    out = np.zeros(4)
    for i in prange(4):
        out[i] = ARRAY[i] * FLOAT + SINGLE + INTEGER
    return y, COMPLEX * x, out


def test_globals_are_constants() -> None:
    expected = numba.njit(uses_globals)(3.0)
    got = njit(parallel=True, mlir_identity=True)(uses_globals)(3.0)
    assert got[:2] == expected[:2]
    np.testing.assert_array_equal(got[2], expected[2])
