"""Stencils on slices agree with NumPy: bounds, steps, layouts, dtypes, arrays that overlap.

Each function is compiled once; shapes, bounds, strides and offsets vary at run time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytest
from compare import outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numba_mlir import njit


@dataclass(frozen=True)
class Case:
    """A function of ``arrays`` arrays of ``rank`` dimensions and ``numbers`` integers.

    ``blocks`` says that loops must have been made to run in blocks of rows.
    """

    function: Callable[..., Any]
    rank: int
    arrays: int = 1
    numbers: int = 0
    dtype: str = "f8"
    parallel: bool = True
    blocks: bool = False
    layout: str = "A"

    def signature(self) -> Any:
        dtype = numba.from_dtype(np.dtype(self.dtype))
        array = numba.types.Array(dtype, self.rank, self.layout)
        return (*[array] * self.arrays, *[numba.int64] * self.numbers)


# -- one statement -----------------------------------------------------------------------
def jacobi(a: Any, b: Any) -> Any:
    b[1:-1, 1:-1] = 0.25 * (a[:-2, 1:-1] + a[2:, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:])


def in_place(a: Any) -> Any:
    a[1:-1] = a[:-2] + a[2:]


def in_place_rows(a: Any) -> Any:
    a[:-1, :] = a[1:, :] - a[:-1, ::-1]


def every_second(a: Any, b: Any) -> Any:
    b[1:-1:2] = a[:-2:2] * 2 - a[2::2]


def backwards(a: Any, b: Any) -> Any:
    b[::-1] = a + b * 2
    return a[::-2] - b[::-2]


def given_bounds(a: Any, b: Any, i: Any, j: Any) -> Any:
    n = a.shape[0]
    b[i : n - i] = a[i : n - i] - a[j : n - 2 * i + j]
    return a[i:j] + b[i:j]


def given_steps(a: Any, b: Any, i: Any, j: Any) -> Any:
    if j == 0:
        j = -1
    x = a[i::j]
    b[i::j] = x * 2 + a[i::j]
    return x - b[i::j]


def seven_points(a: Any, b: Any) -> Any:
    near = a[:-2, 1:-1, 1:-1] + a[2:, 1:-1, 1:-1] + a[1:-1, :-2, 1:-1]
    far = a[1:-1, 2:, 1:-1] + a[1:-1, 1:-1, :-2] + a[1:-1, 1:-1, 2:]
    b[1:-1, 1:-1, 1:-1] = near + far - 6 * a[1:-1, 1:-1, 1:-1]


# -- several statements -------------------------------------------------------------------
def blur(a: Any) -> Any:
    t = (a[:, :-2] + a[:, 1:-1] + a[:, 2:]) / 3
    return (t[:-2] + t[1:-1] + t[2:]) / 3


def blur_into(a: Any, out: Any) -> Any:
    t = a[:, :-2] + a[:, 1:-1] - a[:, 2:]
    out[1:-1, 1:-1] = t[:-2] + t[1:-1] - t[2:]


def along_rows(a: Any) -> Any:
    t = np.sqrt(a + 1)
    return t[:, 1:] - t[:, :-1]


def three_stages(a: Any) -> Any:
    s = a[1:] - a[:-1]
    t = s[2:] * s[:-2] + a[1:-2]
    u = np.sin(t) * 2
    return u[1:] + u[:-1] + s[2:-1]


def escapes(a: Any) -> Any:
    t = a[1:] + a[:-1]
    u = t[1:] - t[:-1]
    return t, u


def read_twice(a: Any) -> Any:
    t = np.abs(a) + 1
    u = t[3:] - t[:-3]
    v = t[1:-1] * 2
    return u, v, (u * u).sum()


def sweeps(a: Any, b: Any, count: Any) -> Any:
    for _ in range(count % 4):
        b[1:-1, 1:-1] = 0.5 * (a[:-2, 1:-1] + a[2:, 1:-1]) - a[1:-1, 2:]
        a[1:-1, 1:-1] = 0.5 * (b[:-2, 1:-1] + b[2:, 1:-1]) - b[1:-1, :-2]
    return np.abs(a - b)


def residual(a: Any, b: Any) -> Any:
    b[1:-1] = a[:-2] + a[2:]
    return (b - a) * 2, np.abs(b[1:-1] - a[1:-1]).sum()


CASES = [
    Case(jacobi, 2, arrays=2, layout="C"),
    Case(jacobi, 2, arrays=2, dtype="f4", parallel=False),
    Case(in_place, 1),
    Case(in_place, 1, dtype="i4", parallel=False, layout="C"),
    Case(in_place_rows, 2, dtype="c16"),
    Case(every_second, 1, arrays=2, dtype="u1", layout="C"),
    Case(backwards, 1, arrays=2),
    Case(given_bounds, 1, arrays=2, numbers=2, layout="C"),
    Case(given_steps, 1, arrays=2, numbers=2),
    Case(seven_points, 3, arrays=2, parallel=False),
    Case(blur, 2, blocks=True, layout="C"),
    Case(blur, 2, blocks=True, parallel=False, dtype="f4"),
    Case(blur_into, 2, arrays=2, blocks=True),
    Case(along_rows, 2, blocks=True),
    Case(three_stages, 1, blocks=True, layout="C"),
    Case(escapes, 1),
    Case(read_twice, 1, dtype="i8"),
    Case(sweeps, 2, arrays=2, numbers=1, layout="C"),
    Case(residual, 1, arrays=2),
]


@functools.cache
def compiled(case: Case) -> Any:
    return njit([case.signature()], parallel=case.parallel)(case.function)


@st.composite
def arguments(draw: st.DrawFn, case: Case) -> tuple[list[Any], list[Any]]:
    """Two equal sets of arguments.  The arrays of one set may lie in one buffer, shifted."""
    sizes = [0, 1, 2, 3, 4, 5, 9]
    longest = [] if case.rank > 2 else [150, 401]
    shape = tuple(
        draw(st.sampled_from([*sizes, *longest] if axis == 0 else sizes))
        for axis in range(case.rank)
    )
    step = draw(st.sampled_from([1, 2, -1, -3])) if case.layout == "A" else 1
    shared = case.arrays > 1 and draw(st.booleans())
    shift = draw(st.integers(0, 2)) if shared else 0
    numbers = [draw(st.integers(-3, 4)) for _ in range(case.numbers)]
    sets: list[list[Any]] = []
    for _ in "ab":
        buffers = [_buffer(case, shape, step, seed) for seed in range(1 if shared else case.arrays)]
        views = [
            _part(case, buffers[number % len(buffers)], shape, step, number * shift)
            for number in range(case.arrays)
        ]
        sets.append([*views, *numbers])
    return sets[0], sets[1]


def _buffer(case: Case, shape: tuple[int, ...], step: int, seed: int) -> Any:
    """Room for arrays of a shape with a step, and for others 2 elements behind."""
    rng = np.random.default_rng(seed)
    room = [abs(step) * size + 2 for size in shape]
    if case.layout == "C":
        room[1:] = shape[1:]
    values = rng.integers(0, 9, size=room).astype(case.dtype)
    return values * np.asarray(1 + 2j, case.dtype) if case.dtype[0] == "c" else values


def _part(case: Case, buffer: Any, shape: tuple[int, ...], step: int, start: int) -> Any:
    rows = buffer[start:][:: abs(step)][: shape[0]][:: 1 if step > 0 else -1]
    if case.layout == "C":
        return rows
    others = tuple(slice(start, start + size) for size in shape[1:])
    return rows[(slice(None), *others)]


def same(got: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        for pair in zip(got, expected, strict=True):
            same(*pair)
    elif expected is not None:
        assert np.shape(got) == np.shape(expected)
        np.testing.assert_allclose(
            got, np.asarray(expected).astype(np.asarray(got).dtype), rtol=1e-6
        )


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.function.__name__}-{c.dtype}")
def test_agrees_with_numpy(case: Case) -> None:
    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(arguments(case))
    def check(sets: tuple[list[Any], list[Any]]) -> None:
        ours, theirs = sets
        got, error = outcome(compiled(case), ours)
        expected, message = outcome(case.function, theirs)
        assert error == message
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
        same(got, expected)

    check()
    report = json.loads(compiled(case).mlir_diagnostics(format="json"))
    assert ("blocks of rows" in json.dumps(report)) == case.blocks
