"""Views of arrays that array statements or loops made: results in every place of the view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba.parfors import parfor

from numba_mlir import njit, prange

VIEWS = ["np.expand_dims(t, 0)", "np.expand_dims(t, 1)", "t.T", "np.transpose(t)", "np.ravel(t)",
         "t.reshape(1, -1)", "t.reshape((t.size, 1))", "t[None]", "t[:, None]", "t[::-2]",
         "np.flip(t)", "np.broadcast_to(t, (2,) + t.shape)", "np.atleast_2d(t)", "np.asarray(t)",
         "t.view(np.int64)", "np.real(t)", "np.split(t, 1)[0]", "(t, a)[0]"]  # fmt: skip
FORMS = [
    "t = np.sqrt(a); v = {}; return v",
    "t = np.sqrt(a); u = a + t; v = {}; w = u * 2; return v",
    "t = np.sqrt(a); v = {}; u = t * 2; return v, u",
    "t = np.empty_like(a); t[:] = a * 2; v = {}; u = a * 3; return v, u",
    "t = np.sqrt(a); v = {}; w = v + 1; return w",
    "t = np.sqrt(a)\n for i in prange(a.size): t[i] = a[i] * 3\n v = {}; return v",
]


def made(text: str) -> Any:
    scope: dict[str, Any] = {"np": np, "prange": prange}
    exec(f"def f(a):\n {text}", scope)
    return scope["f"]


@pytest.mark.parametrize("view", VIEWS)
def test_views(view: str) -> None:
    a = np.array([2.0, 5.0, 1.0, 7.0])
    for form in FORMS:
        function = made(form.format(view))
        expected = function(a)
        for flags in ({}, {"mlir_fusion": True}):
            got = njit(parallel=True, **flags)(function)(a)
            pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
            for one, other in pairs:
                np.testing.assert_allclose(one, other, err_msg=f"{form.format(view)} {flags}")


def test_numba_knows_no_more_of_them() -> None:
    """Where it does, a view can go where it likes (`UNKNOWN_VIEW`)."""
    names = parfor.get_parfor_writes.__globals__["find_potential_aliases"].__code__.co_consts
    assert ("ravel", "transpose", "reshape") in names
