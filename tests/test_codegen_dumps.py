"""``NUMBA_DUMP_*`` shows the code that MLIR made, where it shows Numba's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba.core import config

from numba_mlir import njit
from numba_mlir.roundtrip import vectormath

#: what each dump begins with
HEADERS = {
    "DUMP_IR": "IR DUMP: ",
    "DUMP_LLVM": "LLVM DUMP ",
    "DUMP_FUNC_OPT": "FUNCTION OPTIMIZED DUMP ",
    "DUMP_OPTIMIZED": "OPTIMIZED DUMP ",
    "DUMP_ASSEMBLY": "ASSEMBLY ",
}
#: where code of a kernel is: a function of LLVM, a label of the assembler
CODE = {
    "DUMP_LLVM": r"^define .*@\"?(mlir\.[\w.]+\.body)",
    "DUMP_FUNC_OPT": r"^define .*@\"?(mlir\.[\w.]+\.body)",
    "DUMP_OPTIMIZED": r"^define .*@\"?(mlir\.[\w.]+\.body)",
    "DUMP_ASSEMBLY": r"^\"?(mlir\.[\w.]+\.body)\"?:",
}
VECTOR_FUNCTION = re.compile(r"_ZGV[bcde]N\d+v_exp|__svml_exp\d")


def statement(a):
    return np.exp(a) * 2


def loop(a):
    out = np.empty_like(a)
    for i in range(a.size):
        out[i] = np.exp(a[i]) * 2
    return out


def number(x):
    return np.exp(x) * 2


@pytest.fixture(params=["parallel", "sequential", "whole"])
def program(request: pytest.FixtureRequest) -> tuple[Callable[..., Any], Any]:
    """A function whose loop, or all of it, MLIR compiles, and an argument."""
    a = np.linspace(0, 1, 37)
    if request.param == "parallel":
        return njit(parallel=True)(statement), a
    return (njit(loop), a) if request.param == "sequential" else (njit(number), 0.5)


def dumped(
    name: str,
    program: tuple[Callable[..., Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    f, a = program
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(config, name, 1)
        np.testing.assert_allclose(f(a), np.exp(a) * 2, rtol=1e-14)
    return capsys.readouterr().out


@pytest.mark.parametrize("name", HEADERS)
def test_function_is_dumped(name: str, program: Any, monkeypatch: Any, capsys: Any) -> None:
    out = dumped(name, program, monkeypatch, capsys)
    assert re.search(rf"^-+{HEADERS[name]}.*\b{program[0].__name__}\b", out, re.MULTILINE)


@pytest.mark.parametrize("name", CODE)
def test_code_by_mlir_is_dumped_once(
    name: str, program: Any, monkeypatch: Any, capsys: Any
) -> None:
    out = dumped(name, program, monkeypatch, capsys)
    found = re.findall(CODE[name], out, re.MULTILINE)
    assert len(found) == 1, found


def test_llvm_dump_names_the_kernel(program: Any, monkeypatch: Any, capsys: Any) -> None:
    out = dumped("DUMP_LLVM", program, monkeypatch, capsys)
    (body,) = re.findall(CODE["DUMP_LLVM"], out, re.MULTILINE)
    assert re.search(rf"^-+LLVM DUMP {re.escape(body.removesuffix('.body'))}-+$", out, re.MULTILINE)
    assert "@exp(" in out, "as it is before vectors are made"


@pytest.mark.skipif(not vectormath.variants("exp"), reason="no vector functions on this machine")
@pytest.mark.parametrize("name", ["DUMP_OPTIMIZED", "DUMP_ASSEMBLY"])
def test_optimized_code_has_vectors(name: str, monkeypatch: Any, capsys: Any) -> None:
    for program in ((njit(parallel=True)(statement), np.ones(9)), (njit(loop), np.ones(9))):
        out = dumped(name, program, monkeypatch, capsys)
        assert VECTOR_FUNCTION.search(out)


def test_nothing_is_printed_unasked(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    f, a = program
    capsys.readouterr()
    f(a)
    assert capsys.readouterr() == ("", "")
