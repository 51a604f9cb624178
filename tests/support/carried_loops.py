"""Data for loops that carry variables, and the comparison with the loop run by Python."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

RNG = np.random.default_rng(5)
X = RNG.random(61)
TIES = np.round(X * 8)
NAN = np.where(RNG.random(61) < 0.2, np.nan, TIES)
K = RNG.integers(-20, 20, 61)
MASK = RNG.random(61) < 0.4
EMPTY = np.empty(0)
GRID = np.round(RNG.random((9, 7)) * 20)
ZEROS = np.array([0.0, -0.0, 0.0, -0.0, 0.0])
ONE_D = [(X,), (TIES,), (NAN,), (ZEROS,), (EMPTY,), (np.full(9, np.nan),), (NAN[::-2],)]


def copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.copy() if isinstance(a, np.ndarray) and a.base is None else a for a in args)


def expected(function: Any, args: tuple[Any, ...]) -> Any:
    with np.errstate(all="ignore"):
        return function(*copies(args))


def check(compiled: Any, function: Any, args: tuple[Any, ...]) -> None:
    found, wanted = compiled(*copies(args)), expected(function, args)
    both = [v if isinstance(v, tuple) else (v,) for v in (found, wanted)]
    for got, want in zip(*both, strict=True):
        np.testing.assert_array_equal(got, want)
        if np.asarray(want).dtype.kind == "f":
            there = ~np.isnan(want)
            signs = [np.signbit(v)[there] for v in (np.asarray(got), np.asarray(want))]
            np.testing.assert_array_equal(*signs)


def verdicts(compiled: Any) -> list[tuple[str, str, int]]:
    """(kind, message, line) of the remarks of the pass."""
    reports = json.loads(compiled.mlir_diagnostics(format="json"))
    return [
        (remark["kind"], remark["message"], remark["line"])
        for report in reports
        for remark in report["remarks"]
        if remark["pass_name"] == "parallelize"
    ]
