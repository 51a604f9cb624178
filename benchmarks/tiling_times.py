"""Nests of loops under tiling and under the whole pipeline, beside plain Numba's own code of them.

    python benchmarks/tiling_times.py [workload ...]
    NUMBA_NUM_THREADS=2 python benchmarks/tiling_times.py     # wall time

How many times faster than plain Numba the same loops are.  On one thread times are CPU time;
all are the minimum of interleaved repeats, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse

from fusion_times import clock  # first: it sets the number of threads  # isort: skip

import numba
import numpy as np

from harness import Workload, assert_same, best_within, by_modes, calls
from workloads.nests import NESTS

#: lowered by Numba, and the whole pipeline
MODES: dict[str, dict[str, bool]] = {"tiling": {"mlir_tiling": True}, "all": {}}
#: where rows are far apart, which is where the order of loops matters most
SIZES = {"matmul-ijk": 1024, "matmul-ikj": 1024, "transposed-add": 8192}


def run_times(workload: Workload, size: int, seconds: float) -> dict[str, float]:
    """Seconds of a call for each of `MODES`, and "numba"."""
    args = workload.arguments(size, np.random.default_rng(1))
    functions = by_modes(workload.by_hand, MODES)
    functions["numba"] = numba.njit(parallel=True)(workload.by_hand)
    expected = workload.array_style(*args)
    for function in functions.values():
        assert_same(expected, function(*args), workload.rtol)
    del expected
    return best_within(calls(functions, args), seconds, clock)


def line(workload: Workload, size: int, run: dict[str, float]) -> str:
    """One line of the report."""
    parts = [f"{name}: {run['numba'] / run[name]:.2f}x" for name in MODES]
    times = ", ".join(f"{name} {run[name] * 1e3:.2f} ms" for name in ("numba", *MODES))
    return " | ".join([f"{workload.name:14} {size:5}", *parts, times])


def main() -> None:
    """Print one line for each workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("workload", nargs="*", help="all when none is given")
    parser.add_argument("--size", type=int, help="instead of each workload's own")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each workload")
    options = parser.parse_args()
    for workload in NESTS:
        if options.workload and workload.name not in options.workload:
            continue
        size = options.size or SIZES.get(workload.name, workload.sizes["full"])
        print(line(workload, size, run_times(workload, size, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
