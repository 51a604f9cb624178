"""Tests of passes on MLIR text that carries its own FileCheck comments."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import Any

import pytest

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult

#: what nearly every function starts with
CONSTANTS = """
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f64
"""


def parse(text: str) -> Any:
    """The verified module that MLIR text holds, in this thread's context."""
    with mlir.context():
        return mlir.ir.Module.parse(text)


@contextlib.contextmanager
def parsed(text: str) -> Iterator[Any]:
    """The module of some MLIR text, with its context and an unknown location current."""
    with mlir.context(), mlir.ir.Location.unknown():
        yield mlir.ir.Module.parse(text)


def filecheck(output: str, checks: str) -> None:
    """Fail unless ``output`` matches the FileCheck comments in ``checks``.

    A machine that only runs the tests on its GPU may lack the package: the test is skipped.
    """
    parser = pytest.importorskip("filecheck.parser", reason="filecheck is not installed")
    matcher = importlib.import_module("filecheck.matcher")
    source = importlib.import_module("filecheck.finput").FInput("output", output)
    options = importlib.import_module("filecheck.options").Options(match_filename="checks")
    directives = parser.Parser(options, io.StringIO(checks), *parser.pattern_for_opts(options))
    with contextlib.redirect_stderr(io.StringIO()) as complaints:
        failed = matcher.Matcher(options, source, directives).run()
    assert not failed, f"{complaints.getvalue()}\n--- the module ---\n{output}"


def run_and_check(text: str, a_pass: MLIRPass) -> PassResult:
    """Run a pass on MLIR text and check the result against the text's own CHECK comments."""
    module = parse(text)
    result = a_pass.run(module)
    assert module.operation.verify()
    filecheck(str(module), text)
    return result


def messages(result: PassResult, kind: str) -> list[str]:
    """The texts of a result's remarks of one kind."""
    return [remark.message for remark in result.remarks if remark.kind == kind]
