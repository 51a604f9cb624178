"""Prices of European options (Black and Scholes, 1973), in float64 and float32.

The normal distribution is formula 26.2.17 of Abramowitz and Stegun, "Handbook of Mathematical
Functions", whose error is below 7.5e-8.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numba
import numpy as np
from numba import prange

from harness import Function, Workload

RATE, VOLATILITY = 0.02, 0.3


def _array_style(xp: ModuleType, kind: Any) -> Function:
    """The prices with functions of ``xp`` (NumPy or jax.numpy), constants of type ``kind``."""
    rate, volatility = kind(RATE), kind(VOLATILITY)
    half, one, scale = kind(0.5), kind(1), kind(0.3989422804014327)
    p, b1, b2 = kind(0.2316419), kind(0.319381530), kind(-0.356563782)
    b3, b4, b5 = kind(1.781477937), kind(-1.821255978), kind(1.330274429)
    drift = rate + half * volatility * volatility

    def prices(price: Any, strike: Any, years: Any) -> Any:
        root = volatility * xp.sqrt(years)
        d1 = (xp.log(price / strike) + drift * years) / root
        d2 = d1 - root
        k1 = one / (one + p * xp.abs(d1))
        k2 = one / (one + p * xp.abs(d2))
        tail1 = (
            scale
            * xp.exp(-half * d1 * d1)
            * (k1 * (b1 + k1 * (b2 + k1 * (b3 + k1 * (b4 + k1 * b5)))))
        )
        tail2 = (
            scale
            * xp.exp(-half * d2 * d2)
            * (k2 * (b1 + k2 * (b2 + k2 * (b3 + k2 * (b4 + k2 * b5)))))
        )
        n1 = xp.where(d1 > 0, one - tail1, tail1)
        n2 = xp.where(d2 > 0, one - tail2, tail2)
        discounted = strike * xp.exp(-rate * years)
        call = price * n1 - discounted * n2
        return call, call - price + discounted

    return prices


def _by_hand(kind: Any) -> Function:
    rate, volatility = kind(RATE), kind(VOLATILITY)
    half, one, scale = kind(0.5), kind(1), kind(0.3989422804014327)
    p, b1, b2 = kind(0.2316419), kind(0.319381530), kind(-0.356563782)
    b3, b4, b5 = kind(1.781477937), kind(-1.821255978), kind(1.330274429)
    drift = rate + half * volatility * volatility

    @numba.njit
    def normal(d: Any) -> Any:
        k = one / (one + p * np.abs(d))
        tail = scale * np.exp(-half * d * d) * (k * (b1 + k * (b2 + k * (b3 + k * (b4 + k * b5)))))
        return one - tail if d > 0 else tail

    def prices(price: Any, strike: Any, years: Any) -> Any:
        calls, puts = np.empty_like(price), np.empty_like(price)
        for i in prange(price.size):
            root = volatility * np.sqrt(years[i])
            d1 = (np.log(price[i] / strike[i]) + drift * years[i]) / root
            discounted = strike[i] * np.exp(-rate * years[i])
            call = price[i] * normal(d1) - discounted * normal(d1 - root)
            calls[i] = call
            puts[i] = call - price[i] + discounted
        return calls, puts

    return prices


_CALL = "price * where(d1 > 0, 1 - t1, t1) - discounted * where(d2 > 0, 1 - t2, t2)"
_TAIL = (
    "0.3989422804014327 * exp(-0.5 * d * d) * (k * (0.319381530 + k * (-0.356563782 + k * "
    "(1.781477937 + k * (-1.821255978 + k * 1.330274429)))))"
)


def numexpr(ne: ModuleType) -> Function:
    def prices(price: Any, strike: Any, years: Any) -> Any:
        inputs = {"price": price, "strike": strike, "years": years, "r": RATE, "v": VOLATILITY}
        root = ne.evaluate("v * sqrt(years)", inputs)
        inputs["root"] = root
        d1 = ne.evaluate("(log(price / strike) + (r + 0.5 * v * v) * years) / root", inputs)
        d2 = d1 - root
        found = []
        for d in (d1, d2):
            k = ne.evaluate("1 / (1 + 0.2316419 * abs(d))", {"d": d})
            found.append(ne.evaluate(_TAIL, {"d": d, "k": k}))
        discounted = ne.evaluate("strike * exp(-r * years)", inputs)
        inputs |= {"d1": d1, "d2": d2, "t1": found[0], "t2": found[1], "discounted": discounted}
        call = ne.evaluate(_CALL, inputs)
        return call, call - price + discounted

    return prices


def _workload(name: str, kind: Any, rtol: float, form: Any) -> Workload:
    def arguments(n: int, rng: np.random.Generator) -> tuple[Any, ...]:
        price, strike, years = (
            rng.uniform(5, 30, n),
            rng.uniform(1, 100, n),
            rng.uniform(0.25, 10, n),
        )
        return price.astype(kind), strike.astype(kind), years.astype(kind)

    return Workload(
        name=name,
        array_style=_array_style(np, kind),
        by_hand=_by_hand(kind),
        arguments=arguments,
        sizes={"full": 2_000_000, "quick": 50_000, "tiny": 100},
        jax=lambda jnp: _array_style(jnp, kind),
        numexpr=form,
        rtol=rtol,
    )


OPTIONS = (
    _workload("options-f64", np.float64, 1e-9, numexpr),
    _workload("options-f32", np.float32, 2e-4, None),  # numexpr computes in float64
)
