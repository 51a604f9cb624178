"""A blur in two stages, written with slices: a temporary array between them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numba import prange

from harness import Function, Workload


def array_style(image: Any) -> Any:
    across = (image[:, :-2] + image[:, 1:-1] + image[:, 2:]) / 3.0
    return (across[:-2] + across[1:-1] + across[2:]) / 3.0


def by_hand(image: Any) -> Any:
    rows, columns = image.shape
    out = np.empty((rows - 2, columns - 2))
    for i in prange(rows - 2):
        for j in range(columns - 2):
            first = (image[i, j] + image[i, j + 1] + image[i, j + 2]) / 3.0
            second = (image[i + 1, j] + image[i + 1, j + 1] + image[i + 1, j + 2]) / 3.0
            third = (image[i + 2, j] + image[i + 2, j + 1] + image[i + 2, j + 2]) / 3.0
            out[i, j] = (first + second + third) / 3.0
    return out


def jax(jnp: ModuleType) -> Function:
    return array_style


def numexpr(ne: ModuleType) -> Function:
    def function(image: Any) -> Any:
        near = {"a": image[:, :-2], "b": image[:, 1:-1], "c": image[:, 2:]}
        across = ne.evaluate("(a + b + c) / 3.0", near)
        near = {"a": across[:-2], "b": across[1:-1], "c": across[2:]}
        return ne.evaluate("(a + b + c) / 3.0", near)

    return function


BLUR = Workload(
    name="blur",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.random((n, n)),),
    sizes={"full": 3000, "quick": 300, "tiny": 12},
    jax=jax,
    numexpr=numexpr,
)
