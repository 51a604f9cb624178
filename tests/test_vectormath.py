"""Where vector functions come from, and that the cache knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import run

from numba_mlir import config
from numba_mlir.errors import InvalidFlagError
from numba_mlir.roundtrip import vectormath

needs_svml = pytest.mark.skipif(vectormath.svml() is None, reason="SVML is not installed")

PROGRAM = """
    import math
    import numpy as np
    from numba_mlir import njit

    @njit(cache=True)
    def f(x, out):
        for i in range(x.shape[0]):
            out[i] = math.pow(x[i], 1.5) + math.exp(x[i])
        return out

    x = np.linspace(0, 3, 2003)
    np.testing.assert_allclose(f(x, np.empty_like(x)), x**1.5 + np.exp(x), rtol=1e-14)
    hits = sum(f.stats.cache_hits.values())
    (text,) = f.inspect_asm().values() if not hits else ("",)
    print(hits, "__svml_exp" in text, "_ZGV" in text)
"""


def asked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(config.VECTOR_LIBRARY, name)


def test_other_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, "mkl")
    with pytest.raises(InvalidFlagError, match="must be libmvec, svml or none, not 'mkl'"):
        vectormath.identity()


def test_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, "none")
    assert (vectormath.identity(), vectormath.available()) == ("no vector functions", False)
    assert vectormath.variants("exp") == ()
    assert vectormath.widest("exp") is None


@pytest.mark.skipif(vectormath.svml() is not None, reason="SVML is installed")
def test_svml_has_to_be_there_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(monkeypatch, "svml")
    with pytest.raises(InvalidFlagError, match="pip install intel-cmplr-lib-rt"):
        vectormath.identity()
    with pytest.raises(OSError, match="not installed"):
        vectormath.load_svml()


def test_what_must_be_loaded_is_read_from_the_code() -> None:
    assert [*vectormath.loaders("call @exp")] == []
    both = vectormath.loaders("@_ZGVeN8v_exp and @__svml_pow8")
    assert [*both] == [vectormath.load, vectormath.load_svml]


def test_code_of_another_library_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    first = run(tmp_path, PROGRAM)
    assert first.startswith("0 ")
    assert run(tmp_path, PROGRAM).startswith("1 ")
    assert run(tmp_path, PROGRAM, NUMBA_MLIR_VECTOR_LIBRARY="none") == "0 False False"


@needs_svml
def test_svml(tmp_path: Path) -> None:
    assert run(tmp_path, PROGRAM, NUMBA_MLIR_VECTOR_LIBRARY="svml") == "0 True False"
    assert run(tmp_path, PROGRAM, NUMBA_MLIR_VECTOR_LIBRARY="svml").startswith("1 ")
    assert run(tmp_path, PROGRAM).startswith("0 False ")
