"""Comparison of results and arguments of corpus functions."""

from __future__ import annotations

from typing import Any

import numpy as np


def same(found: Any, expected: Any, where: str = "result") -> None:
    """Equal up to the order of floating-point sums; arrays have equal dtypes as well."""
    if isinstance(expected, tuple):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(found, expected, strict=True)):
            same(*pair, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
        if expected.dtype.kind in "fc":
            tolerance = 1e-5 if expected.dtype.itemsize == 4 or expected.dtype == "c8" else 1e-13
            np.testing.assert_allclose(found, expected, rtol=tolerance, err_msg=where)
        else:
            np.testing.assert_array_equal(found, expected, where)
    elif isinstance(expected, (float, complex, np.inexact)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=where)
    else:
        assert found == expected, where


def names(cases: list[Any]) -> list[str]:
    return [function.__name__ for function, *_ in cases]
