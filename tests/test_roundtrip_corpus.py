"""Functions go to MLIR and come back unchanged in behaviour, with and without clean-up."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from corpus_dtypes import DTYPES
from corpus_functions import FUNCTIONS
from corpus_loops import LOOPS

from numba_mlir import njit

MODES = ["exact", True]
#: functions without loops of Numba's own library, which clean-up would see most of
CLEANED = ["scalars", "several_returns", "stencil"]


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


def compare(function: Any, make: Any, mode: Any) -> Any:
    """Call ``function`` compiled and plain on new arguments; results and arguments must agree."""
    compiled = njit(parallel=True, mlir_identity=mode)(function)
    plain, ours = make(), make()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = function(*plain)
        found = compiled(*ours)
    same(found, expected)
    same(ours, plain, "argument")
    (record,) = (cres.metadata["mlir"] for cres in compiled.overloads.values())
    assert not record.refusals
    return record


def names(cases: list[Any]) -> list[str]:
    return [function.__name__ for function, *_ in cases]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("function", "make"), LOOPS, ids=names(LOOPS))
def test_loops(function: Any, make: Any, mode: Any) -> None:
    record = compare(function, make, mode)
    assert [r.message for r in record.remarks if r.kind == "missed"] == [], "loops left alone"


@pytest.mark.parametrize(("case", "mode"), list(zip(DTYPES, ["exact", True, "exact"], strict=True)),
                         ids=names(DTYPES))  # fmt: skip
def test_dtypes(case: Any, mode: Any) -> None:
    record = compare(*case, mode)
    assert [r.message for r in record.remarks if r.kind == "missed"] == [], "loops left alone"


@pytest.mark.parametrize(("function", "make"), FUNCTIONS, ids=names(FUNCTIONS))
def test_functions(function: Any, make: Any) -> None:
    compare(function, make, "exact")


@pytest.mark.parametrize(
    ("function", "make"), [f for f in FUNCTIONS if f[0].__name__ in CLEANED], ids=CLEANED
)
def test_functions_with_clean_up(function: Any, make: Any) -> None:
    compare(function, make, True)
