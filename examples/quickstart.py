"""The main job on real input: fuse a function of array statements, look at the MLIR on
the way, check the result against NumPy and time it beside plain Numba.

usage: python examples/quickstart.py [--size N]      (default: 10 million elements)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np

from numba_mlir import njit


def statistics(a: Any, b: Any) -> Any:
    """Four array statements: three temporaries and two reductions in NumPy."""
    c = a + b
    d = np.sqrt(np.abs(c)) * 2
    return d.sum(), (d - a).max()


def title(text: str) -> None:
    print(f"\n=== {text} {'=' * max(0, 90 - len(text))}")


def loops(mlir: str) -> int:
    return mlir.count("scf.parallel")


def show_the_road(fused: Any) -> None:
    """Print the MLIR of the compiled function before and after, and what was done."""
    before = fused.inspect_mlir(stage="imported")
    after = fused.inspect_mlir(stage="after-fusion")
    title(f"MLIR as imported from Numba: {loops(before)} parallel loops")
    print(before)
    title(f"MLIR after fusion: {loops(after)} parallel loop(s)")
    print(after)
    title("what was done, line by line")
    fused.mlir_diagnostics()


def check(fused: Any, args: tuple[Any, ...]) -> None:
    """Compare with NumPy; the sum is taken in another order, hence the tolerance."""
    expected, got = statistics(*args), fused(*args)
    title("check against NumPy")
    print(f"NumPy {expected[0]:.6f} {expected[1]:.6f}\nfused {got[0]:.6f} {got[1]:.6f}")
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    print("equal (relative tolerance 1e-9)")


def best_times(
    functions: Mapping[str, Callable[..., Any]], args: tuple[Any, ...], rounds: int
) -> dict[str, float]:
    """The smallest time of each, in seconds; rounds are interleaved, so that noise of the
    machine hits all alike."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function(*args)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def compare(fused: Any, args: tuple[Any, ...], rounds: int = 7) -> None:
    functions = {
        "NumPy": statistics,
        "Numba": numba.njit(statistics),
        "Numba, parallel": numba.njit(parallel=True)(statistics),
        "fused, sequential": njit(mlir_fusion=True)(statistics),
        "fused, parallel": fused,
    }
    for function in functions.values():
        function(*args)  # compile
    best = best_times(functions, args, rounds)
    title(f"time, best of {rounds} rounds, {numba.get_num_threads()} threads")
    own = best["fused, parallel"]
    for name, seconds in best.items():
        print(f"{name:18} {seconds * 1e3:8.2f} ms   {seconds / own:6.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description="fuse a chain of array statements")
    parser.add_argument("--size", type=int, default=10_000_000, help="number of elements")
    size = parser.parse_args().size
    rng = np.random.default_rng(2026)
    args = (rng.random(size), rng.random(size))

    fused = njit(parallel=True, mlir_fusion=True)(statistics)  # this pass and no other
    fused(*args)
    show_the_road(fused)
    check(fused, args)
    compare(fused, args)


if __name__ == "__main__":
    main()
