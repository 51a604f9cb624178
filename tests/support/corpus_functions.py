"""What is not a parallel loop: `FUNCTIONS`, functions with arguments."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from corpus_loops import corpus, ramp

FUNCTIONS: list[Any] = []


@numba.njit
def twice(value):
    return value * 2


@numba.njit
def fill(array, value):
    array[:] = value
    return array


@corpus(FUNCTIONS, lambda: (9, 2.5, np.uint8(200), True))
def scalars(n, x, small, flag):
    s = 0
    for i in range(n):
        if i % 2 == 0:
            continue
        if i > 6:
            break
        s += i * i
    while s < 100:
        s += 7
    a, b = 1, 2
    for _ in range(n):
        a, b = b, a
    p, q, r = 1, 2, 3
    while p < 50:
        p, q, r = q + r, p, q
    t = (n, x, small, flag)
    first, second, third, fourth = t
    kind = "big" if n > 5 else "small"
    return (s, n / 2, n // 4, -n // 4, n % 4, -n % 4, n**2, n << 3, a, b, p, q, r, t[1] + first,
            second, third, not fourth, kind, 2**63, -(2**62), i, len(t), math.pi * x, x // 1,
            1j * x, n & 5 | 8 ^ 3, -x, +n, ~n, n > x, x == 2.5, n != 9, complex(n, x))  # fmt: skip


@corpus(FUNCTIONS, lambda: (6, "ab"))
def objects(n, text):
    numbers = []
    for i in range(n):
        numbers.append(i * 2)
    table = {}
    for v in numbers:
        table[v] = str(v) + text
    joined = ""
    for key in range(n):
        if key in table:
            joined += table[key]
    words = [text for _ in range(2)]
    total = 0
    for a, b in zip(numbers, numbers[2:]):  # noqa: B905
        total += a * b
    print("n is", n)
    return len(numbers), table[4], joined, words[1], total


@corpus(FUNCTIONS, lambda: (ramp(3, 4), 1, None))
def several_returns(x, k, nothing):
    result = None
    if k > 0:
        result = x[k, 0] + 1
    if nothing is None:
        rows, columns = x.shape
    else:
        rows, columns = 0, 0
    if result is None:
        return -1.0, rows
    for i in range(rows):
        for j in range(columns):
            if x[i, j] > 6:
                return x[i, j] * 10 + result, i
    return 0.0, columns


@corpus(FUNCTIONS, lambda: (ramp(5), ramp(12).reshape(3, 4)))
def calls(x, y):
    copy = x.copy()
    fill(copy[1:3], 8.0)
    same = fill(copy, copy[4]) is copy
    z = y.T
    z[0] = 4
    part = y[1:, -2:]
    part += 1
    stacked = np.concatenate((x, part.ravel()))
    last = 0.0
    for row in y:
        last = last * 2 + row[-1]
    total = 0.0
    for v in y.flat:
        total += twice(v)
    for index, v in np.ndenumerate(y):
        total -= v * index[0]

    def inner(v):
        return v + x[0]

    return copy, z, stacked, last, total, inner(3.0), twice(2), np.argmax(y), same


@corpus(FUNCTIONS, lambda: (ramp(30).reshape(5, 6), 3))
def stencil(x, steps):
    y = x.copy()
    for _ in range(steps):
        y[1:-1, 1:-1] = (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]) * 0.25
        x, y = y, x
    return x, y


@corpus(FUNCTIONS, lambda: (np.array([3.0, np.nan, -1.0, 8.0]), ramp(4, dtype=np.complex64)))
def whole_arrays(x, z):
    picked = x[x > 0]
    return (np.where(np.isnan(x), 0.5, x), picked, x.min(), z.sum(), z * z.conj() + z.real,
            np.arange(3, 9, 2), (x > 0) & ~(x > 5), np.array(2) + 1)  # fmt: skip
