"""Functions that compare sizes; apart from tests, whose ``assert`` statements pytest rewrites."""

from __future__ import annotations

from typing import Any


def by_assert_of_shapes(a: Any, b: Any) -> Any:
    assert a.shape == b.shape
    return a + b * 2


def by_raise(a: Any, b: Any) -> Any:
    if a.shape != b.shape:
        raise ValueError("shapes differ")
    return a + b * 2


def by_not(a: Any, b: Any) -> Any:
    if not (a.shape == b.shape):
        raise ValueError("shapes differ")
    return a + b * 2


def by_each_size(a: Any, b: Any) -> Any:
    n, m = a.shape
    if len(b) != n or m != b.shape[1]:
        raise ValueError("shapes differ")
    return a + b * 2


def by_a_tuple(a: Any, b: Any) -> Any:
    n, m = a.shape
    assert b.shape == (n, m)
    return a + b * 2


def by_one_row(a: Any, b: Any) -> Any:
    assert b.shape[0] == 1 and b.shape[1] == a.shape[1]
    return a - b


#: raise where the shapes of two arrays are not equal
EQUAL_SHAPES = [by_assert_of_shapes, by_raise, by_not, by_each_size, by_a_tuple]
