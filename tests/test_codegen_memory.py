"""What the compiled loops may assume about memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from codegen_support import codegen
from compare import same
from numba import prange

from numba_mlir.roundtrip import freshness


def noalias(compiled: Any) -> int:
    """How many arguments of the loops' bodies are known to be alone in their memory."""
    (text,) = compiled.inspect_llvm().values()
    bodies = [line for line in text.splitlines() if re.match(r'define .*\.body"?\(', line)]
    assert bodies
    return sum(line.count("noalias") for line in bodies)


def into_fresh(a, b):
    out = np.empty(a.shape[0])
    for i in prange(a.shape[0]):
        out[i] = a[i] + b[i]
    return out


def into_argument(a, b):
    for i in prange(a.shape[0]):
        b[i] = a[i] + 1
    return b


def through_view(a, b):
    out = np.empty(a.shape[0] + 1)
    view = out[1:]
    for i in prange(a.shape[0]):
        out[i] = a[i]
        view[i] = b[i]
    return out


def swapped(a, b):
    one, two = np.empty(a.shape[0]), np.empty(a.shape[0])
    one[:] = a
    for _ in range(3):
        for i in prange(a.shape[0]):
            two[i] = one[i] + b[i]
        one, two = two, one
    return one


def kept(a, b):
    out = np.empty(a.shape[0])
    for i in prange(a.shape[0]):
        out[i] = b[i] * 2
    pair = (out, a)
    other = pair[0]
    other[0] = 1
    return other


def returned(a, b):
    out, square = np.empty(a.shape[0]), np.empty(a.shape[0])
    for i in prange(a.shape[0]):
        out[i] = b[i] * 2
        square[i] = b[i] * b[i]
    return (out, a), square


@pytest.mark.parametrize(
    ("function", "expected"), [(into_fresh, 1), (into_argument, 0), (returned, 2)]
)
def test_only_fresh_arrays_are_assumed_to_be_alone(function: Any, expected: int) -> None:
    compiled = codegen(function)
    a, b = np.random.rand(100), np.random.rand(100)
    same(compiled(a, b.copy()), function(a, b.copy()))
    assert noalias(compiled) == expected


def test_arguments_may_overlap() -> None:
    compiled = codegen(into_argument)
    x = np.arange(1000.0)
    np.testing.assert_array_equal(compiled(x, x), np.arange(1, 1001))
    x = np.arange(1000.0)
    expected = x[1:] + 1
    np.testing.assert_array_equal(compiled(x[1:], x[:-1]), expected)


@pytest.mark.parametrize("function", [through_view, swapped, kept])
def test_arrays_that_something_else_reaches_are_not_fresh(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[frozenset[str]] = []
    original = freshness.find
    monkeypatch.setattr(freshness, "find", lambda *args: found.append(original(*args)) or found[-1])
    compiled = codegen(function)
    a, b = np.random.rand(100), np.random.rand(100)
    if function is through_view:  # iterations write one another's elements: only no crash
        compiled(a, b)
    else:
        same(compiled(a, b), function(a, b))
    assert [name for fresh in found for name in fresh if not name.startswith("$")] == []
