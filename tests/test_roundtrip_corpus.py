"""Functions go to MLIR and come back unchanged in behaviour, with and without clean-up."""

from __future__ import annotations

from typing import Any

import pytest
from compare import beside_python, names
from corpus_dtypes import DTYPES
from corpus_functions import FUNCTIONS
from corpus_loops import LOOPS

from numba_mlir import njit

MODES = ["exact", True]
#: functions without loops of Numba's own library, which clean-up would see most of
CLEANED = ["scalars", "several_returns", "stencil"]


def compare(function: Any, make: Any, mode: Any) -> Any:
    """Call ``function`` compiled and plain on new arguments; results and arguments must agree."""
    compiled = njit(parallel=True, mlir_identity=mode)(function)
    beside_python(function, compiled, make)
    (record,) = (cres.metadata["mlir"] for cres in compiled.overloads.values())
    assert not record.refusals
    return record


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
