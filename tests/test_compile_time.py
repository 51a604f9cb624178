"""What makes compilation slow without changing any result, and so shows in no other test."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pytest
from ir_check import parse
from numba import prange

from numba_mlir import mlir, njit
from numba_mlir.passes import streams
from numba_mlir.passes.reductions import Reductions
from numba_mlir.roundtrip import nontemporal, threads

MATRIX = numba.float64[:, ::1]


def statements(a, b):
    c = a + b
    return np.exp(c) * c.sum(axis=1).reshape(-1, 1)


def loops(a, b):
    total = 0.0
    for i in prange(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * b[-i, j]
    return total


class Lookups:
    """Imports that found no loaded module; goes in front of ``sys.meta_path``."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        self.names.append(name)


@pytest.mark.parametrize("function", [statements, loops])
def test_no_dialect_is_looked_for_on_disk(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    njit(parallel=True)(function).compile((MATRIX, MATRIX))  # loads what there is
    lookups = Lookups()
    monkeypatch.setattr(sys, "meta_path", [lookups, *sys.meta_path])
    njit(parallel=True, fastmath=True)(function).compile((MATRIX, MATRIX))
    assert [name for name in lookups.names if name.startswith(mlir.package())] == []


SUM = """
func.func @f(%a: memref<?xf64>, %n: index) -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant -0.0 : f64
  %s = scf.for %i = %c0 to %n step %c1 iter_args(%t = %zero) -> (f64) {
    %x = memref.load %a[%i] : memref<?xf64>
    %u = arith.addf %t, %x fastmath<reassoc> : f64
    scf.yield %u : f64
  }
  return %s : f64
}
"""


def test_blocks_of_sums_are_not_cut_again() -> None:
    module = parse(SUM)
    assert Reductions(parallel=False).run(module).modified
    once = str(module)
    assert once.count("scf.for") == 3  # over blocks, inside a block, over what is left
    assert not Reductions(parallel=False).run(module).modified
    assert str(module) == once


def test_longer_blocks_are_cut() -> None:
    module = parse(SUM)
    Reductions(parallel=False).run(module)
    longer = parse(str(module).replace("512", "1024"))
    assert Reductions(parallel=False).run(longer).modified
    assert str(longer).count("scf.for") == 5


def test_pass_managers_are_made_once() -> None:
    runs = [parse(SUM) for _ in range(2)]
    kept = []
    for module in runs:
        mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
        kept.append(mlir._local.managers["builtin.module(canonicalize,cse)"])
    assert kept[0] is kept[1]


def test_a_module_of_another_context_has_a_pass_manager_of_its_own() -> None:
    other = mlir.ir.Context()
    module = mlir.ir.Module.parse("func.func @f() { return }", other)
    mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
    assert module.operation.verify()


def four_loops(a, b):
    for i in prange(a.shape[0]):
        a[i] += b[i]
    print()
    for i in prange(a.shape[0]):
        a[i] += b[i]
    print()
    for i in prange(a.shape[0]):
        a[i] *= b[i]
    print()
    first, second = np.empty_like(a), np.empty_like(a)
    for i in prange(a.shape[0]):
        first[i] = a[i] + 1
    print()
    for i in prange(a.shape[0]):
        second[i] = first[i] * b[i]
    return first, second


def definitions(compiled: Any, pattern: str) -> int:
    (text,) = compiled.inspect_llvm().values()
    return len(re.findall(rf'^define [^\n]*@"?{pattern}"?\(', text, re.MULTILINE))


def test_kernels_of_a_function_share_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nontemporal, "least", lambda: 100)
    compiled = njit(parallel=True, mlir_codegen=True)(four_loops)
    a, b = np.arange(1000.0), np.linspace(0, 1, 1000)
    got = compiled(a, b)
    expected = (np.arange(1000.0) + b + b) * b
    np.testing.assert_array_equal(a, expected)
    np.testing.assert_array_equal(got[0], expected + 1)
    np.testing.assert_array_equal(got[1], (expected + 1) * b)
    assert definitions(compiled, r"mlir\.[^\n(]*\.body") == 4  # two of the loops are the same
    for shared in (threads.RUN, threads.BOXES, streams.COPY):
        assert definitions(compiled, rf"{re.escape(shared)}[^\n(]*") == 1


def test_kernels_that_call_different_shared_functions() -> None:
    """A reduction asks for no number of boxes; the loop behind it, which does, comes second."""

    def normalise(a: Any) -> Any:
        return a / a.sum()

    for size in (0, 5, 1_000_000):
        a = np.random.default_rng(0).random(size)
        compiled = njit(parallel=True, mlir_codegen=True)(normalise)
        np.testing.assert_allclose(compiled(a), a / a.sum())
        for shared in (threads.RUN, threads.BOXES):
            assert definitions(compiled, rf"{re.escape(shared)}[^\n(]*") == 1


def same_name(inner: Any) -> Any:
    @njit(parallel=True)
    def function(x: Any) -> None:
        for i in prange(x.shape[0]):
            x[i] = x[i] * 2 + 1
        if inner is not None:
            inner(x)

    return function


def test_functions_with_the_same_kernel_call_each_other() -> None:
    x = np.arange(5.0)
    same_name(same_name(same_name(None)))(x)
    np.testing.assert_array_equal(x, np.arange(5.0) * 8 + 7)
