"""How many steps points of the complex plane take to leave the Mandelbrot set's circle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from harness import Workload

STEPS = 50


def array_style(real: Any, imaginary: Any) -> Any:
    c = real + 1j * imaginary[:, None]
    z, steps = np.zeros_like(c), np.full(c.shape, STEPS)
    for step in range(STEPS):
        inside = steps == STEPS
        z[inside] = z[inside] ** 2 + c[inside]
        left = inside & (z.real * z.real + z.imag * z.imag > 4)
        steps[left] = step
    return steps


def by_hand(real: Any, imaginary: Any) -> Any:
    out = np.empty((imaginary.size, real.size), np.int64)
    for i in prange(imaginary.size):
        for j in range(real.size):
            x = y = 0.0
            steps = STEPS
            for step in range(STEPS):
                x, y = x * x - y * y + real[j], 2 * x * y + imaginary[i]
                if x * x + y * y > 4:
                    steps = step
                    break
            out[i, j] = steps
    return out


MANDELBROT = Workload(
    name="mandelbrot",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (np.linspace(-2, 0.6, n), np.linspace(-1.2, 1.2, n)),
    sizes={"full": 600, "quick": 100, "tiny": 20},
    loops=True,
)
