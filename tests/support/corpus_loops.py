"""Parallel loops with every supported kind of statement: `LOOPS`, functions with arguments.

Without Numba the functions give the same results: ``prange`` is ``range`` then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange

Make = Callable[[], tuple[Any, ...]]
LOOPS: list[Any] = []


def corpus(cases: list[Any], make: Make) -> Callable[[Any], Any]:
    """Decorator: the function and what makes new arguments for each call."""

    def add(function: Any) -> Any:
        cases.append((function, make))
        return function

    return add


def ramp(*shape: int, dtype: Any = np.float64, order: Any = "C") -> Any:
    """1, 2, 3, ... in an array of any shape, dtype and order."""
    values = np.arange(1, math.prod(shape) + 1).reshape(shape)
    return np.asarray(values, dtype=dtype, order=order)


@corpus(LOOPS, lambda: (ramp(37, dtype=np.int64), ramp(37) / 8))
def reductions(x, y):
    total, product, largest, smallest = 5, 1, -1, 1000
    ones, both, odd = 1 << 62, 0, 3
    mixed, some = 10.0, 0
    for i in prange(x.shape[0]):
        total += x[i]
        product *= 1 + x[i] % 2
        largest = max(largest, x[i])
        smallest = min(x[i], smallest)
        ones |= x[i] * 4
        odd ^= x[i]
        mixed += y[i]
        mixed -= 0.5
        if x[i] % 3 == 0:
            some += 2
        elif x[i] > 30:
            some -= x[i]
        for j in range(i % 4):
            both += j * x[i]
    return total, product, largest, smallest, ones, odd, mixed, some, both


@corpus(LOOPS, lambda: (ramp(11, dtype=np.int64) | 3, ramp(11, dtype=np.float32)))
def more_reductions(x, y):
    common = -1
    f32 = np.float32(1.5)
    lowest, highest = np.inf, -np.inf
    quotient = 1.0
    for i in prange(-3, x.shape[0] - 3):
        common &= x[i + 3]
        f32 += y[i]
        lowest = min(lowest, y[i - 1] - 4)
        highest = max(highest, y[i])
        quotient /= 2.0
        quotient *= 3.0
    return common, f32, lowest, highest, quotient


@corpus(LOOPS, lambda: (ramp(9, 6), ramp(6)))
def arrays_summed(x, first):
    r = first.copy()
    for i in prange(x.shape[0]):
        r += x[i]
    return r


@corpus(LOOPS, lambda: (ramp(7, 5), ramp(5, 4)))
def nested(a, b):
    out = np.zeros((7, 4))
    rows = np.zeros(7)
    for i in prange(a.shape[0]):
        for j in prange(b.shape[1]):
            s = 0.0
            for k in range(a.shape[1]):
                s += a[i, k] * b[k, j]
            out[i, j] = s
        for j in range(4):
            rows[i] += out[i, j]
    return out, rows


@corpus(LOOPS, lambda: (ramp(6, 8), 3))
def ranges(x, n):
    out = np.zeros((6, 7))
    for i in prange(6):
        for j in range(x.shape[1]):
            out[i, 0] += x[i, j]
        for j in range(x.shape[1] - 1, -1, -1):
            out[i, 1] = out[i, 1] * 0.5 + x[i, j]
        for j in range(1, 8, 3):
            out[i, 2] += j * x[i, j]
        for j in range(i - n, n):
            out[i, 3] += x[i, j]
        for j in range(5, 2):
            out[i, 4] += x[i, j]
        for j in range(-5, -1, 2):
            out[i, 4] += j
        for j in range(-1, -4, -1):
            out[i, 4] += x[i, j] * j
        for j in range(7, 0, -2):
            for k in range(j):
                if k == n:
                    continue
                out[i, 5] += x[i, k] * j
        a, b = 0.0, 1.0
        for _ in range(i + 1):
            a, b = b, a + b
        out[i, 6] = a
    return out


@corpus(LOOPS, lambda: (ramp(20) % 7, 2.5))
def branches(x, limit):
    out = np.zeros((5, x.size))
    for i in prange(x.size):
        k = 0
        while k < 10:
            if x[k] * k > x[i] * limit:
                break
            if k % 2:
                k += 2
                continue
            k += 1
        out[0, i] = k
        z = complex(x[i] / 7, 0.2)
        n = 0
        while abs(z) < 2 and n < 30:
            z = z * z + 0.3
            n += 1
        out[1, i] = n
        if x[i] > limit:
            v, w = x[i], 1
        elif x[i] < 1:
            v, w = -1.0, 2
        else:
            v, w = 0.25, 3
        out[2, i] = v * w
        if v > 3 and w == 1:
            v = w = 7
        out[3, i] = v - w
        for j in range(4):
            for m in range(4):
                if j * m > x[i]:
                    out[4, i] += 1
                    break
            else:
                out[4, i] -= 1
    return out


@corpus(LOOPS, lambda: (
    np.array(2.5), ramp(12), ramp(3, 4), ramp(2, 3, 4), ramp(2, 2, 3, 4),
    np.array([-1, 3, -12, 0]), np.array([1, 255, 0, 7], np.uint8),
))  # fmt: skip
def subscripts(a0, a1, a2, a3, a4, signed, unsigned):
    out = np.zeros((4, 10))
    lookup = np.zeros(256)
    lookup[255] = 9
    cell = np.zeros(())
    start = a0[()]
    for i in prange(4):
        out[i, 0] = start + i
        out[i, 1] = a1[signed[i]] + a1[-i - 1]
        out[i, 2] = a2[i % 3, -1] + a2[-1, i]
        out[i, 3] = a3[-1, i % 3, i]
        out[i, 4] = a4[0, 1, i % 3, -i]
        out[-i - 1, 5] = lookup[unsigned[i]]
        t = (i, 6)
        out[t] = a2[2][i]
        out[i, 7] = a3[1, :, i][-2]
        out[i][8] = len(a4) + a3.shape[1]
        out[i, 9] = a1[np.uint64(i) + np.uint64(1)] + a1[np.int8(i)]
    cell[()] = start + 1
    return out, cell


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


@corpus(LOOPS, lambda: (
    ramp(4, 5), ramp(4, 5, order="F"), ramp(8, 10)[::2, ::-2], _read_only(ramp(4, 5)),
    ramp(10)[::-2], ramp(5, 4).T,
))  # fmt: skip
def layouts(c, f, a, fixed, reverse, turned):
    sums = c + f * 2 - a / fixed + turned
    column = np.empty(5)
    for i in prange(5):
        column[i] = reverse[i] + c[-1, i] * f[0, i]
        a[1, i] = -1
    view = c[1:, ::-1]
    view[0, :2] = 77
    part = view[:, 1:3]
    f[::2] = 0
    return sums, column, view, part, f, a, c.T, fixed[::-1]


@corpus(LOOPS, lambda: (ramp(15) / 16,))
def functions(x):
    out = np.empty((x.size, 12))
    for i in prange(x.size):
        v = x[i]
        out[i, 0] = math.sqrt(v) + np.sqrt(v)
        out[i, 1] = math.exp(v) - np.log(v) + math.log1p(v) + np.expm1(v)
        out[i, 2] = math.sin(v) + np.cos(v) + math.tan(v)
        out[i, 3] = np.arctan2(v, 2.0) + math.asin(v) + math.acosh(1 + v)
        out[i, 4] = math.floor(v * 9) + math.ceil(v * 9) + math.trunc(-v * 9)
        out[i, 5] = math.hypot(v, 1.0) + math.copysign(v, -1.0) + abs(-v) + round(v * 5)
        out[i, 6] = math.erf(v) + math.gamma(v + 1) + math.pow(v, 3) + v**2 + v**0.5
        out[i, 7] = np.sign(v - 0.5) + np.maximum(v, 0.5) + np.fmin(v, 0.2) + np.square(v)
        out[i, 8] = 1 + int(np.isfinite(v)) + int(not v) + int(v > 0.1 and v < 0.5)
        out[i, 9] = int(v * 10) % 3 + int(v * -10) // 3 + (i << 2) + (i >> 1) + (~i)
        out[i, 10] = v % 0.3 + (-v) // 0.25 + divmod(i, 4)[1]
        out[i, 11] = (complex(v, 1) * 1j).real + abs(complex(3, 4 * v)) + float(np.int8(i * 5))
    return out
