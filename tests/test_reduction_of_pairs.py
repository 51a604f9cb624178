"""Numba's own loops for argmin and argmax, which reduce pairs of index and value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from numba_mlir import njit


def positions(a):
    return np.argmin(a), a.argmax(), np.argmin(a * 2)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float64", (101,)), ("int8", (7, 9)), ("uint64", (2, 3, 4))], ids=str
)
def test_argmin_and_argmax(dtype: str, shape: tuple[int, ...]) -> None:
    a = np.random.default_rng(2).integers(0, 200, shape).astype(dtype)
    compiled = njit(parallel=True, mlir_identity="exact")(positions)
    wide = a.astype("int64") * 2 if a.dtype.kind in "iu" else a * 2
    assert compiled(a) == (np.argmin(a), np.argmax(a), np.argmin(wide))
    (report,) = json.loads(compiled.mlir_diagnostics(format="json"))
    assert not [remark for remark in report["remarks"] if remark["kind"] == "missed"]
    pairs = [line for line in compiled.inspect_mlir(stage="imported").splitlines()
             if "scf.parallel" in line and "IndexValueType" in line]  # fmt: skip
    assert len(pairs) == 3


def test_joined_with_other_loops() -> None:
    def f(a, b):
        c = a + b
        return c.argmin(), c.sum()

    a = np.random.default_rng(4).integers(0, 100, 500).astype(float)
    found = njit(parallel=True, mlir_fusion=True)(f)(a, a[::-1])
    assert found == (np.argmin(a + a[::-1]), (a + a[::-1]).sum())


def test_empty() -> None:
    compiled: Any = njit(parallel=True, mlir_identity=True)(positions)
    with pytest.raises(ValueError, match="empty sequence"):
        compiled(np.empty(0))


def doubled(a):
    b = a * 2
    return b, np.argmin(b), b.argmax()


def beside(a):
    return a + 1, np.argmin(a)


@pytest.mark.parametrize("function", [doubled, beside])
@pytest.mark.parametrize("flags", [{}, {"mlir_broadcast": True},
                                   {"mlir_broadcast": True, "mlir_fusion": True}])  # fmt: skip
def test_behind_array_statements_that_became_loops(function: Any, flags: Any) -> None:
    """Numba makes these loops parallel after the statements have been in MLIR."""
    compiled = njit(parallel=True, **flags)(function)
    for shape in ((101,), (7, 9), (2, 3, 4)):
        a = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape)
        for x in (a, a.astype(float), a.astype(np.int16)[::-1]):
            first, *positions = compiled(x)
            expected, *others = function(x)
            np.testing.assert_array_equal(first, expected)
            assert positions == others
