"""The sum of the elements that a mask selects."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from numba import prange

from harness import Function, Workload


def array_style(x: Any, w: Any) -> Any:
    y = x * w
    return y[y > 0.3].sum()


def by_hand(x: Any, w: Any) -> Any:
    total = 0.0
    for i in prange(x.size):
        y = x[i] * w[i]
        if y > 0.3:
            total += y
    return total


def jax(jnp: ModuleType) -> Function:
    def function(x: Any, w: Any) -> Any:
        y = x * w
        return jnp.where(y > 0.3, y, 0.0).sum()

    return function


def numexpr(ne: ModuleType) -> Function:
    def function(x: Any, w: Any) -> Any:
        return ne.evaluate("sum(where(x * w > 0.3, x * w, 0))", {"x": x, "w": w})

    return function


MASKED_SUM = Workload(
    name="masked-sum",
    array_style=array_style,
    by_hand=by_hand,
    arguments=lambda n, rng: (rng.random(n), rng.random(n)),
    sizes={"full": 10_000_000, "quick": 100_000, "tiny": 1000},
    jax=jax,
    numexpr=numexpr,
)
