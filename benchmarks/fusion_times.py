"""Array style under fusion, beside the array style of Numba and loops written by hand.

    python benchmarks/fusion_times.py [workload ...]
    NUMBA_NUM_THREADS=2 python benchmarks/fusion_times.py     # wall time

Run times as factors: how many times faster than Numba's array style, and how many times the
time of the loop by hand (plain Numba).  Compile times: by plain Numba's for the same function.
On one thread times are CPU time; all are the minimum of interleaved repeats, so that other
work on the machine matters little.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # read when Numba is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ["NUMBA_NUM_THREADS"])

import numba
import numpy as np

import numba_mlir
from harness import Workload, again, assert_same, best_times, best_within, by_modes, calls
from workloads import WORKLOADS

#: Numba's own lowering of the loops, and the whole pipeline
MODES: dict[str, dict[str, bool]] = {"lowered by Numba": {"mlir_codegen": False}, "all": {}}
NAMES = (
    "softmax-rows", "layernorm", "row-normalise", "mean-var", "atax", "bicg", "pairwise", "blur"
)  # fmt: skip


def clock() -> float:
    """CPU time on one thread, which others on the machine change little; else wall time."""
    alone = numba.config.NUMBA_NUM_THREADS == 1  # pyright: ignore[reportAttributeAccessIssue]
    return time.process_time() if alone else time.perf_counter()


def compile_times(workload: Workload, repeats: int) -> dict[str, float]:
    """Seconds to compile (and run once) for each of `MODES`, and "numba"; nothing where
    Numba refuses it."""
    args = workload.arguments(workload.sizes["tiny"], np.random.default_rng(1))
    style = workload.array_style
    runs: dict[str, Any] = {
        name: lambda f=flags: numba_mlir.njit(parallel=True, **f)(again(style))(*args)
        for name, flags in MODES.items()
    }
    if reference(workload)[0] == "NumPy":
        return {}
    runs["numba"] = lambda: numba.njit(parallel=True)(again(style))(*args)
    best_times(runs, 1, time.process_time)  # what is loaded once a process
    return best_times(runs, repeats, time.process_time)


def reference(workload: Workload) -> tuple[str, Any]:
    """Numba's array style; NumPy where Numba refuses the shapes of parallel functions."""
    args = workload.arguments(workload.sizes["tiny"], np.random.default_rng(1))
    function = numba.njit(parallel=True)(workload.array_style)
    try:
        function(*args)
    except AssertionError:  # sizes of 1 that are stretched
        return "NumPy", workload.array_style
    return "Numba", function


def run_times(workload: Workload, size: int, seconds: float) -> dict[str, float]:
    """Seconds of a call for each of `MODES`, "numba" (see `reference`) and "by hand"."""
    args = workload.arguments(size, np.random.default_rng(1))
    functions = by_modes(workload.array_style, MODES)
    functions["numba"] = reference(workload)[1]
    functions["by hand"] = numba.njit(parallel=True)(workload.by_hand)
    expected = workload.array_style(*args)
    for function in functions.values():
        assert_same(expected, function(*args), workload.rtol)
    return best_within(calls(functions, args), seconds, clock)


def line(workload: Workload, run: dict[str, float], compilation: dict[str, float]) -> str:
    """One line of the report."""
    parts = [f"{workload.name:14}"]
    for name in MODES:
        faster, hand = run["numba"] / run[name], run[name] / run["by hand"]
        text = f"{name}: {faster:.2f}x, {hand:.2f} of by hand"
        if compilation:
            text += f", compile {compilation[name] / compilation['numba']:.2f}"
        parts.append(text)
    name = reference(workload)[0]
    times = f"{name} {run['numba'] * 1e3:.2f} ms, by hand {run['by hand'] * 1e3:.2f}"
    if compilation:
        times += f"; compiles {compilation['numba'] * 1e3:.0f}"
    return " | ".join([*parts, times])


def main() -> None:
    """Print one line for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("workload", nargs="*", help="all when none is given")
    parser.add_argument("--size", type=int, help="instead of each workload's own")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each workload")
    parser.add_argument("--compilations", type=int, default=3, help="timed compilations")
    options = parser.parse_args()
    for name in options.workload or NAMES:
        workload = WORKLOADS[name]
        compilation = compile_times(workload, options.compilations) if options.compilations else {}
        size = options.size or workload.sizes["full"]
        print(line(workload, run_times(workload, size, options.seconds), compilation), flush=True)


if __name__ == "__main__":
    main()
