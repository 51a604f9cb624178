"""Comparison of results and arguments of corpus functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
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


def call(function: Callable[..., Any], args: Any) -> Any:
    """The result, or an exception's type and message."""
    try:
        return quietly(function, args)
    except Exception as error:
        return type(error), str(error)


def quietly(function: Callable[..., Any], args: Any) -> Any:
    """The result, without warnings."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*args)


def beside_python(function: Callable[..., Any], compiled: Callable[..., Any], make: Any) -> None:
    """``compiled`` gives what ``function`` gives, in new arguments of ``make`` as well."""
    plain, ours = make(), make()
    expected = quietly(function, plain)
    same(quietly(compiled, ours), expected)
    same(ours, plain, "argument")


def outcome(function: Callable[..., Any], args: Any) -> tuple[Any, str | None]:
    """The result and None, or None and the message of a ValueError."""
    try:
        return quietly(function, args), None
    except ValueError as error:
        return None, str(error)


def identical(left: Any, right: Any) -> bool:
    """Equal types and values; NaN equals NaN."""
    if isinstance(left, (tuple, list)):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, np.ndarray):
        if (left.dtype, left.shape) != (right.dtype, right.shape):
            return False
        return np.array_equal(left, right, equal_nan=left.dtype.kind in "fc")
    if isinstance(left, (float, complex)):
        return type(left) is type(right) and np.array_equal(left, right, equal_nan=True)
    return type(left) is type(right) and left == right
