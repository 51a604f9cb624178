"""Loops that are left early, side by side in the lanes of vectors, and as blocks elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

import numba_mlir
from numba_mlir.roundtrip import vectormath

needs_vectors = pytest.mark.skipif(not vectormath.width(), reason="a processor without vectors")
RNG = np.random.default_rng(7)
#: whole vectors, and a part of one
N, M = 41, 37


def escape(x, y, steps):
    zx = zy = x * 0
    for step in range(steps):
        zx, zy = zx * zx - zy * zy + x, 2 * zx * zy + y
        if zx * zx + zy * zy > 4:
            return step
    return steps


def escape_complex(x, y, steps):
    c, z = complex(x, y), 0j
    for step in range(steps):
        z = z * z + c
        if z.real * z.real + z.imag * z.imag >= 4:
            return step
    return steps


def escape_length(x, y, steps):
    c, z = complex(x, y), 0j
    for step in range(steps):
        if abs(z) > 2:
            return step
        z = z**2 + c
    return -1


ESCAPES = [escape, escape_complex, escape_length]


def _image(njit: Any, pixel: Any, parallel: bool = True) -> Any:
    one = njit(pixel)

    @njit(parallel=parallel)
    def image(x, y, steps, out):
        for i in numba.prange(y.size):
            for j in range(x.size):
                out[i, j] = one(x[j], y[i], steps)

    return image


def _columns(njit: Any, pixel: Any) -> Any:
    one = njit(pixel)

    @njit(parallel=True)
    def image(x, y, steps, out):
        for j in numba.prange(x.size):
            for i in range(y.size):
                out[i, j] = one(x[j], y[i], steps)

    return image


@pytest.mark.parametrize("made", [_image, _columns], ids=["rows", "columns"])
@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.float64])
@pytest.mark.parametrize("pixel", ESCAPES, ids=lambda f: f.__name__)
def test_images(pixel: Any, kind: Any, made: Any) -> None:
    x, y = np.linspace(-2, 1, M), np.linspace(-1.2, 1.2, N)
    expected = np.array([[pixel(a, b, 60) for a in x] for b in y]).astype(kind)
    ours = made(numba_mlir.njit, pixel)
    for steps in (60, 0):
        out = np.zeros((N, M), kind)
        ours(x, y, steps, out)
        if steps == 0:
            expected = np.full((N, M), pixel(0.0, 0.0, 0)).astype(kind)
        np.testing.assert_array_equal(out, expected)


def until_close(a, out):
    for i in numba.prange(a.size):
        x = 1.0
        while abs(x * x - a[i]) > 1e-9 * a[i]:
            x = 0.5 * (x + a[i] / x)
        out[i] = x


def collatz(a, out):
    for i in numba.prange(a.size):
        n, steps = int(a[i] * 1000) + 1, 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        out[i] = steps


def stores_and_leaves(a, out):
    for i in numba.prange(a.size):
        for k in range(25):
            if a[i] * k > 1.5:
                out[i] = k
                break
        else:
            out[i] = -1


def sums_until(a, out):
    w = np.sqrt(np.arange(30.0))
    for i in numba.prange(a.size):
        s = a[i]
        for k in range(30):
            if k % 3 == 1:
                continue
            s += a[i] * w[k]
            if s > 20:
                break
            if s < 2 and k > 5:
                s += out[i]
        out[i] = s


def two_loops(a, out):
    for i in numba.prange(a.size):
        found = 0.0
        for k in range(12):
            s = a[i]
            for m in range(k):
                s = s * 1.5 + m
                if s > 30:
                    break
            found += s
            if found > 100:
                break
        out[i] = found


def a_loop_in_an_arm(a, out):
    for i in numba.prange(a.size):
        s = a[i]
        if s > 0.95:
            while s < 10:
                s *= 1.7
        elif s < 0.1:
            for k in range(5):
                s += math.exp(s) * k
        out[i] = s


def functions(a, out):
    for i in numba.prange(a.size):
        x = a[i]
        for _ in range(100):
            new = math.cos(x)
            if abs(new - x) < 1e-3:
                break
            x = new
        out[i] = x + math.sin(x)


def never_assigned(a, out):
    for i in numba.prange(a.size):
        for k in range(20):
            if a[i] * 20 < k:
                where = k
                break
        out[i] = where if a[i] < 0.9 else -1


def searches(a, out):
    rows = a.reshape(-1, 5)
    for i in numba.prange(rows.shape[0]):
        where = -1
        for k in range(4, -1, -1):
            if rows[i, k] > 0.5:
                where = k
                break
        out[i] = where


def from_to(a, out):
    for i in numba.prange(3, a.size - 2):
        s = 0.0
        for k in range(2, 40, 3):
            s += a[i + 1] + a[i - 3] * k
            if s > 15:
                break
        out[i] = s


def floats_of_32_bits(a, out):
    for i in numba.prange(a.size):
        x = np.float32(a[i])
        count = np.int32(0)
        while x < np.float32(3):
            x = x * np.float32(1.1) + np.float32(0.01)
            count += np.int32(1)
        out[i] = x + count


LOOPS = [until_close, collatz, stores_and_leaves, sums_until, two_loops, a_loop_in_an_arm,
         functions, never_assigned, searches, from_to, floats_of_32_bits]  # fmt: skip
FLAGS: dict[str, dict[str, Any]] = {
    "all": {}, "codegen": {"mlir_codegen": True}, "identity": {"mlir_identity": True},
    "sequential": {"parallel": False, "mlir_codegen": True},
}  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_loops(loop: Callable[..., None], flags: dict[str, Any]) -> None:
    ours = numba_mlir.njit(**{"parallel": True, "error_model": "numpy", **flags})(loop)
    plain = numba.njit(loop, error_model="numpy")
    for size in (75, 0, 5, 160):
        a = RNG.random(size) + 1e-3
        out, expected = np.full((2, size), 0.25)
        ours(a, out)
        plain(a, expected)
        np.testing.assert_allclose(out, expected, rtol=1e-14 if loop is functions else 0)


def in_lanes(ours: Any) -> bool:
    """Whether a loop of the machine code has a mask of the lanes that are in it."""
    (text,) = ours.inspect_llvm().values()
    return re.search(r"phi <\d+ x i1>", text) is not None


@needs_vectors
@pytest.mark.parametrize("pixel", ESCAPES, ids=lambda f: f.__name__)
def test_images_are_in_lanes(pixel: Any) -> None:
    x, y = np.linspace(-2, 1, M), np.linspace(-1.2, 1.2, N)
    for made in (_image, _columns):
        ours = made(numba_mlir.njit, pixel)
        ours(x, y, 20, np.zeros((N, M), np.uint8))
        # what is read and written may be the same memory, so rows keep their order
        assert in_lanes(ours) == (made is _columns)


def rows_of_fresh(x, y):
    out = np.empty((y.size, x.size), np.int64)
    for i in numba.prange(y.size):
        for j in range(x.size):
            steps = 0
            s = x[j]
            while s < y[i]:
                s += s * s
                steps += 1
            out[i, j] = steps
    return out


@needs_vectors
def test_fresh_rows_are_in_lanes() -> None:
    ours = numba_mlir.njit(parallel=True)(rows_of_fresh)
    x, y = RNG.random(M) + 0.1, RNG.random(N) * 20
    np.testing.assert_array_equal(ours(x, y), rows_of_fresh(x, y))
    assert in_lanes(ours)


@needs_vectors
@pytest.mark.parametrize("loop", [until_close, collatz, stores_and_leaves, sums_until, two_loops,
                                  a_loop_in_an_arm, functions, floats_of_32_bits],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_what_is_in_lanes(loop: Callable[..., None]) -> None:
    ours = numba_mlir.njit(parallel=True, error_model="numpy")(loop)
    ours(np.ones(40), np.ones(40))
    assert in_lanes(ours)


def along_overlapping_rows(a, b):
    for i in numba.prange(a.shape[0]):
        for j in range(a.shape[1]):
            s = a[i, j]
            while s < 1:
                s += s
            b[i, j] = s + 0.1


def test_rows_that_overlap_keep_their_order() -> None:
    ours = numba_mlir.njit(parallel=True)(along_overlapping_rows)
    start = RNG.random((5, 60))
    ours_memory, expected = start.copy(), start.copy()
    ours(ours_memory[:, :-1], ours_memory[:, 1:])
    along_overlapping_rows(expected[:, :-1], expected[:, 1:])
    np.testing.assert_array_equal(ours_memory, expected)


def neighbours(a):
    out = np.zeros((a.shape[0], a.shape[1] + 1))
    for i in numba.prange(a.shape[0]):
        for j in range(a.shape[1]):
            s = out[i, j] + a[i, j]
            while s < 1:
                s += s
            out[i, j + 1] = s
    return out


def test_rows_that_read_what_they_wrote_keep_their_order() -> None:
    a = RNG.random((4, 70)) + 0.01
    ours = numba_mlir.njit(parallel=True)(neighbours)
    np.testing.assert_array_equal(ours(a), neighbours(a))


def by_remainders(a, b, out):
    for i in numba.prange(a.size):
        n, d = a[i], b[i]
        while n > d:
            n = n // d
        out[i] = n


def test_lanes_that_have_left_divide_by_nothing() -> None:
    a, b = np.arange(64) * 5, np.full(64, 3)
    b[::2] = 1 << 40
    a[1], b[1] = -5, 0
    ours = numba_mlir.njit(parallel=True, error_model="numpy")(by_remainders)
    out, expected = np.zeros((2, 64), np.int64)
    ours(a, b, out)
    by_remainders(a, b, expected)
    np.testing.assert_array_equal(out, expected)
