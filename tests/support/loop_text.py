"""Functions with loops over ``%a`` and ``%b``, as text, and fusion run on them."""

from __future__ import annotations

from ir_check import CONSTANTS, messages, parse, run_and_check

from numba_mlir.passes.base import PassResult
from numba_mlir.passes.fusion import Fusion


def fused(body: str, arguments: str = "", results: str = "") -> PassResult:
    """Fuse ``func.func @f(%a, %b: memref<?xf64>, %n: index, <arguments>) <results> {body}``."""
    return run_and_check(_function(body, arguments, results), Fusion())


def _function(body: str, arguments: str, results: str) -> str:
    head = '%a: memref<?xf64> {numba.name = "a"}, %b: memref<?xf64> {numba.name = "b"}, %n: index'
    more = f", {arguments}" if arguments else ""
    return f"func.func @f({head}{more}) {results} {{\n{CONSTANTS}\n{body}\n}}"


def untouched(body: str, arguments: str = "", results: str = "") -> list[str]:
    """Fusion must change nothing; returns the reasons that it gives."""
    module = parse(_function(body, arguments, results))
    before = str(module)
    result = Fusion().run(module)
    assert not result.modified
    assert str(module) == before
    assert messages(result, "applied") == []
    return messages(result, "missed")


def fill(array: str, line: int, bounds: str = "(%c0) to (%n)", number: int = 0) -> str:
    """A loop that sets a one-dimensional array to zero."""
    return f"""scf.parallel (%i) = {bounds} step (%c1) {{
      memref.store %zero, {array}[%i] : memref<?xf64>
      scf.reduce
    }} {{numba.parfors = [{number} : i64]}} loc("u.py":{line}:1)"""
