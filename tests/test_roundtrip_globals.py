"""Global numbers and arrays: constants of every kind, in conditions and in parallel loops."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
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


NUMBERS = [
    np.bool_(True), np.int8(-128), np.uint8(255), np.int16(-(2**15)), np.uint16(2**16 - 1),
    np.int32(-(2**31)), np.uint32(2**32 - 1), np.int64(-(2**63)), np.uint64(2**64 - 1),
    np.float32(1 / 3), np.float32(-0.0), np.float32(np.nan), np.float64(-np.inf),
    np.complex64(1 / 3 - 2j), np.complex128(complex(-0.0, np.inf)),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: f"{n.dtype}({n})")
def test_numbers_of_numpy_are_constants_in_loops(number: Any) -> None:
    def function(x: Any, out: Any) -> Any:
        last = number
        for i in prange(x.shape[0]):
            out[i] = number
            x[i] = x[i] * number
        return last + number, last

    results = []
    strict = njit(parallel=True, mlir_codegen=True, mlir_strict=True)
    for compiled in (numba.njit(function), strict(function)):
        x, out = np.array([0.25, -3.0, 1e30]).astype(np.complex128), np.empty(3, number.dtype)
        results.append((*compiled(x, out), x, out))
    for wanted, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert np.asarray(got).tobytes() == np.asarray(wanted).tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 4), (2, 3, 4, 5)])
def test_sizes_of_arrays_in_loops(shape: tuple[int, ...]) -> None:
    def function(a: Any, out: Any) -> Any:
        for i in prange(out.size):
            out[i] = a.size * 10 + i
        return a.size

    a = np.zeros(shape)
    for array in (a, np.asfortranarray(a), a[..., ::-1] if shape else a, a.astype(np.int8)):
        out = np.zeros(7, np.int64)
        assert njit(parallel=True, mlir_codegen=True, mlir_strict=True)(function)(array, out) == (
            array.size
        )
        np.testing.assert_array_equal(out, array.size * 10 + np.arange(7))
