"""Products of vectors and parts of matrices, which BLAS would need a copy of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from numba_mlir import njit

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")


def columns(a, x, y, k):
    return x @ a[:, k:]


def columns_into(a, x, y, k):
    out = np.ones(a.shape[1])
    out[k:] = a[:, 0] @ a[:, k:] / 3.0 + y[k:]
    return out


def rows(a, x, y, k):
    return a[:, k:] @ y[k:]


def rows_into_column(a, x, y, k):
    out = np.ones((a.shape[0], 3))
    out[:, 1] = np.dot(a[:, k:], y[k:]) + out[:, 2]
    return out


def every_other(a, x, y, k):
    return x @ a[:, ::2], a[:, ::2] @ y[::2], x[::-1] @ a[:, ::-1]


FUNCTIONS = (columns, columns_into, rows, rows_into_column, every_other)
SHAPES = ((5, 7), (1, 9), (9, 3), (40, 70), (300, 33), (3, 2000))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("options", [{"parallel": True}, {"mlir_codegen": True}, {}])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_as_numpy(function: Any, options: dict[str, Any], dtype: str) -> None:
    compiled = njit(**options)(function)
    rng = np.random.default_rng(1)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for n, m in SHAPES:
        a, x, y = (rng.random(shape).astype(dtype) for shape in ((n, m), (n,), (m,)))
        for k in (0, 2, m, m + 4, -1):
            got, want = compiled(a, x, y, k), function(a, x, y, k)
            got, want = (one if isinstance(one, tuple) else (one,) for one in (got, want))
            for one, other in zip(got, want, strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function", [columns, rows])
def test_is_a_loop(function: Any) -> None:
    a, x = np.ones((4, 5)), np.ones(4)
    compiled = njit(parallel=True)(function)
    compiled(a, x, np.ones(5), 2)
    assert "BLAS would need a copy" in str(compiled.mlir_diagnostics())
    whole = njit(parallel=True)(lambda a, x: x @ a)
    whole(a, x)
    assert "the product is a loop" not in str(whole.mlir_diagnostics())


@pytest.mark.parametrize("function", [columns, rows])
def test_sizes_that_do_not_fit(function: Any) -> None:
    compiled = njit(parallel=True)(function)
    with pytest.raises(ValueError, match="incompatible array sizes"):
        compiled(np.ones((4, 5)), np.ones(3), np.ones(8), 2)


def test_empty_sums_are_zero() -> None:
    compiled = njit(parallel=True)(columns)
    a = np.ones((0, 6))
    np.testing.assert_array_equal(compiled(a, np.ones(0), np.ones(6), 2), np.zeros(4))


def test_tiling_of_sums_at_a_shifted_place() -> None:
    """The place of a sum is an index plus a number that the loops do not change."""
    compiled = njit(parallel=True)(columns_into)
    compiled(np.ones((4, 5)), np.ones(4), np.ones(5), 2)
    assert "iterations may meet" not in str(compiled.mlir_diagnostics())


def into_column(a, x, y, k):
    out = np.ones((a.shape[1], a.shape[1]))
    out[k:, 1] = x @ a[:, k:] / 3.0
    out[1, k:] = out[k:, 1]
    return out


@pytest.mark.parametrize("options", [{"parallel": True}, {}])
def test_sums_for_a_column_are_added_up_side_by_side(options: dict[str, Any]) -> None:
    compiled, rng = njit(**options)(into_column), np.random.default_rng(1)
    for n, m in ((5, 7), (1, 9), (9, 3), (300, 133)):
        a, x, y = (rng.random(shape) for shape in ((n, m), (n,), (m,)))
        for k in (0, 2, m):
            np.testing.assert_allclose(compiled(a, x, y, k), into_column(a, x, y, k), rtol=1e-12)
    assert "innermost, along which the arrays are contiguous" in compiled.mlir_diagnostics()
