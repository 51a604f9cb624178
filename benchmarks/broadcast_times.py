"""Broadcasting beside a loop written by hand, and its compilation beside Numba's.

    python benchmarks/broadcast_times.py [workload ...]

Run times: this project's code of the array expression, by the same function as an
explicit loop under plain Numba.  Compile times: by plain Numba's for the same function with
arguments of one shape (it has no code for others).  All times are CPU time on one thread,
the minimum of interleaved repeats, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # read when Numba is imported

import numba
import numpy as np

import numba_mlir
from harness import Timed, Workload, again, best_times, by_modes, calls
from workloads.broadcasts import BROADCASTS

MODES: dict[str, dict[str, bool]] = {"all passes": {}, "mlir_broadcast": {"mlir_broadcast": True}}
SIZE = 1000


def compile_times(workload: Workload, repeats: int) -> dict[str, float]:
    """Seconds to compile (and run once) for each of `MODES`, and "numba"."""
    args = workload.arguments(20, np.random.default_rng(1))
    whole = tuple(np.array(array) for array in np.broadcast_arrays(*args))
    style = workload.array_style

    def ours(flags: dict[str, bool]) -> Timed:
        return lambda: numba_mlir.njit(parallel=True, **flags)(again(style))(*args)

    runs = {name: ours(flags) for name, flags in MODES.items()}
    runs["numba"] = lambda: numba.njit(parallel=True)(again(style))(*whole)
    return best_times(runs, repeats)


def run_times(workload: Workload, size: int, repeats: int) -> dict[str, float]:
    """Seconds of a call for each of `MODES`, and "by hand"."""
    args = workload.arguments(size, np.random.default_rng(1))
    functions = by_modes(workload.array_style, MODES)
    functions["by hand"] = numba.njit(parallel=True)(workload.by_hand)
    for function in functions.values():
        np.testing.assert_allclose(function(*args), workload.array_style(*args))
    return best_times(calls(functions, args), repeats)


def line(workload: Workload, run: dict[str, float], compilation: dict[str, float]) -> str:
    """One line of the report."""
    parts = [f"{workload.name:12}"]
    for name in MODES:
        running = run[name] / run["by hand"]
        compiling = compilation[name] / compilation["numba"]
        parts.append(f"{name}: run {running:.2f}, compile {compiling:.2f}")
    hand, own = run["by hand"] * 1e3, compilation["numba"] * 1e3
    parts.append(f"(by hand {hand:.3f} ms; Numba compiles {own:.0f} ms)")
    return " | ".join(parts)


def main() -> None:
    """Print one line for each workload: ratios, 1.00 is as fast as the other side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("workload", nargs="*", help="all when none is given")
    parser.add_argument("--size", type=int, default=SIZE, help="n and m")
    parser.add_argument("--repeats", type=int, default=100, help="timed calls")
    parser.add_argument("--compilations", type=int, default=5, help="timed compilations")
    options = parser.parse_args()
    for workload in BROADCASTS:
        if options.workload and workload.name not in options.workload:
            continue
        compile_times(workload, 1)  # what is loaded once a process is no compile time
        compilation = compile_times(workload, options.compilations)
        print(line(workload, run_times(workload, options.size, options.repeats), compilation))


if __name__ == "__main__":
    main()
