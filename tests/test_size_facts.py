"""Comparisons of sizes in a program: what they say is used, where they hold and only there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import size_checks
from ir_check import parse
from numba import prange

from numba_mlir import njit
from numba_mlir.passes.facts import use_known_sizes
from numba_mlir.passes.values import operations


def fill(*shape: int) -> Any:
    return np.random.default_rng(3).integers(-9, 9, shape) / 2


def after_broadcast(dispatcher: Any) -> str:
    return dispatcher.inspect_mlir(stage="after-broadcast")


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("function", size_checks.EQUAL_SHAPES)
def test_equal_sizes_need_no_test(function: Callable[..., Any], parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    a, b = fill(4, 5), fill(4, 5)
    np.testing.assert_array_equal(compiled(a, b), function(a, b))
    text = after_broadcast(compiled)
    assert "arith.select" not in text and "numba.broadcast" not in text
    for other in (fill(1, 5), fill(4, 1), fill(1, 1), fill(3, 5)):
        with pytest.raises((AssertionError, ValueError)):
            compiled(a, other)


def test_a_size_that_is_one_is_index_zero() -> None:
    row = njit(parallel=True)(size_checks.by_one_row)
    a, b = fill(4, 5), fill(1, 5)
    np.testing.assert_array_equal(row(a, b), a - b)
    text = after_broadcast(row)
    assert "arith.select" not in text and re.search(r"memref.load %arg1\[%c0,", text)
    with pytest.raises(AssertionError):
        row(a, fill(4, 5))


def in_one_branch(a: Any, b: Any) -> Any:
    if a.shape == b.shape:  # noqa: SIM108
        c = a + b
    else:
        c = a - b
    return c, a * b


def by_either_of_two(a: Any, b: Any, flag: Any) -> Any:
    if flag or a.shape == b.shape:
        return a + b
    return a - b


def after_a_loop(a: Any, b: Any) -> Any:
    total = 0.0
    for _ in range(3):
        if a.shape[0] == b.shape[0]:
            total += (a + b).sum()
        total += (a * b).sum()
    return total


def other_number(a: Any, b: Any) -> Any:
    n = len(a)
    if n == 1:
        n = len(b)
    c = np.zeros((n, 5))
    c += a
    return c + b


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("shapes", [((4, 5), (4, 5)), ((4, 5), (1, 5)), ((1, 5), (4, 5))])
def test_what_holds_in_one_branch_holds_nowhere_else(
    shapes: tuple[tuple[int, int], tuple[int, int]], parallel: bool
) -> None:
    a, b = fill(*shapes[0]), fill(*shapes[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)
        calls = [(in_one_branch, (a, b)), (after_a_loop, (a, b)), (other_number, (a, b))]
        calls += [(by_either_of_two, (a, b, flag)) for flag in (True, False)]
        for function, args in calls:
            found, expected = njit(parallel=parallel)(function)(*args), function(*args)
            for one, other in zip(np.atleast_1d(found), np.atleast_1d(expected), strict=True):
                np.testing.assert_array_equal(one, other)


def test_loops_over_sizes_that_were_compared_are_fused() -> None:
    @njit(parallel=True, mlir_fusion=True)
    def sums(a: Any, b: Any) -> Any:
        if len(a) != len(b):
            raise ValueError("lengths differ")
        s = 0.0
        for i in prange(len(a)):
            s += a[i]
        t = 0.0
        for i in prange(b.shape[0]):
            t += a[i] * b[i]
        return s, t

    a, b = fill(50), fill(50)
    np.testing.assert_allclose(sums(a, b), (a.sum(), a @ b), rtol=1e-12)
    assert sums.inspect_mlir(stage="after-fusion").count("scf.parallel") == 1
    with pytest.raises(ValueError, match="lengths differ"):
        sums(a, fill(51))


def test_facts_in_mlir_replace_what_they_dominate() -> None:
    module = parse("""
      func.func @f(%n: index, %m: index, %k: index, %flag: i1) {
        %c1 = arith.constant 1 : index
        "pyir.stmt"(%n, %m, %k) : (index, index, index) -> ()
        cf.cond_br %flag, ^yes, ^no
      ^yes:
        "pyir.stmt"(%m) : (index) -> ()
        "numba.assert_equal"(%n, %m) {known, message = ""} : (index, index) -> ()
        "numba.assert_equal"(%k, %c1) {known, message = ""} : (index, index) -> ()
        "pyir.stmt"(%m, %k) : (index, index) -> ()
        cf.br ^last(%m : index)
      ^no:
        cf.br ^last(%k : index)
      ^last(%x: index):
        "pyir.stmt"(%m, %k, %x) : (index, index, index) -> ()
        return
      }""")
    function = operations(module.body)[0]
    assert use_known_sizes(function) and not use_known_sizes(function)
    text = str(module)
    statements = re.findall(r'"pyir.stmt"\((.*?)\)', text)
    assert statements == ["%arg0, %arg1, %arg2", "%arg1", "%arg0, %c1", "%arg1, %arg2, %0"]
    assert "cf.br ^bb3(%arg0 : index)" in text and "numba.assert_equal" not in text
