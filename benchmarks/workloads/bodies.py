"""Forces between all pairs of bodies: in array style matrices of all pairs, by hand two loops."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba import prange

from harness import Function, Workload

SOFTENING = 1e-3


def _array_style(xp: ModuleType) -> Function:
    def forces(x: Any, y: Any, z: Any, mass: Any) -> Any:
        dx, dy, dz = x - x[:, None], y - y[:, None], z - z[:, None]
        r2 = dx * dx + dy * dy + dz * dz + SOFTENING
        pull = mass / (r2 * xp.sqrt(r2))
        return (dx * pull).sum(axis=1), (dy * pull).sum(axis=1), (dz * pull).sum(axis=1)

    return forces


def by_hand(x: Any, y: Any, z: Any, mass: Any) -> Any:
    n = x.size
    ax, ay, az = np.empty(n), np.empty(n), np.empty(n)
    for i in prange(n):
        fx = fy = fz = 0.0
        for j in range(n):
            dx, dy, dz = x[j] - x[i], y[j] - y[i], z[j] - z[i]
            r2 = dx * dx + dy * dy + dz * dz + SOFTENING
            pull = mass[j] / (r2 * np.sqrt(r2))
            fx += dx * pull
            fy += dy * pull
            fz += dz * pull
        ax[i], ay[i], az[i] = fx, fy, fz
    return ax, ay, az


BODIES = Workload(
    name="nbody",
    array_style=_array_style(np),
    by_hand=by_hand,
    arguments=lambda n, rng: tuple(rng.random(n) for _ in range(4)),
    sizes={"full": 2048, "quick": 200, "tiny": 9},
    jax=_array_style,
    stretches=True,
)
