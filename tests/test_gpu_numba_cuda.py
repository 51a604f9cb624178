"""Arrays of numba-cuda: on a CUDA device only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from device_arrays import Library, library
from numba import prange

import numba_mlir
from numba_mlir.errors import MixedDevicesError


@pytest.fixture(scope="module")
def lib() -> Library:
    found = library("numba_cuda")
    if isinstance(found, str):
        pytest.skip(found)
    return found


def everything(a: Any, u: Any) -> Any:
    b = np.sqrt(a) * 2
    total = 0.0
    for i in prange(a.size):
        total += a[i] * b[i]
    return b, total, u.sum(axis=1), u[1:], u.T + 1, a.copy()


def test_functions(lib: Library) -> None:
    rng = np.random.default_rng(0)
    a, u = rng.random(1001), rng.random((30, 200))
    device = lib.asarray(a), lib.asarray(u)
    got = numba_mlir.njit(parallel=True)(everything)(*device)
    assert type(got[0]) is type(device[0]) and type(got[1]) is float
    for one, wanted in zip(got, everything(a, u), strict=True):
        value = lib.asnumpy(one) if hasattr(one, "copy_to_host") else one
        np.testing.assert_allclose(value, wanted, rtol=1e-12)


def test_host_arrays_stay_apart(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True)(lambda a: a.sum())
    values = np.arange(5.0)
    assert math.isclose(compiled(values), 10.0)
    assert math.isclose(compiled(lib.asarray(values)), 10.0)
    assert math.isclose(compiled(values), 10.0)
    assert len(compiled.signatures) == 2
    two = numba_mlir.njit(parallel=True)(lambda a, b: a + b)
    with pytest.raises(MixedDevicesError):
        two(lib.asarray(values), values)
