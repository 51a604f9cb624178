"""The workloads beside Numba, NumPy, JAX, numexpr and C: ``make peers``.

    python benchmarks/peers.py [--threads 1 2] [--row NAME ...] [--json FILE] [--write]

For each number of threads a process of its own runs on as many processors.  In it the
implementations of a workload take turns, in changing order; what counts is
the least time: CPU time of the process on one thread, else wall time.  All results are compared
with NumPy's first.  ``--write`` puts the tables into README.md and docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: workload -> what the table calls it
ROWS = {
    "three-statements": "three statements, fresh result",
    "add": "`a + b`, fresh result",
    "options-f64": "Black-Scholes, float64",
    "options-f32": "Black-Scholes, float32",
    "softmax-rows": "softmax of rows",
    "layernorm": "layer normalisation",
    "row-normalise": "`a / a.sum(axis=1)`",
    "mean-var": "mean and variance",
    "jacobi": "Jacobi, 10 sweeps",
    "blur": "blur in two stages",
    "atax": "`a.T @ (a @ x)`",
    "bicg": "`a @ x, a.T @ y`",
    "mvt": "the same as loops (mvt)",
    "gemver": "gemver",
    "matmul-ikj": "matrix product",
    "pairwise": "pairwise distances",
    "mandelbrot": "Mandelbrot set",
    "sum": "sum",
    "dot": "dot product",
    "outer-sum": "(n, 1) + (1, m)",
    "add-row": "(n, m) + (m,)",
    "scale-rows": "(n, m) * (n, 1)",
    "nbody": "all-pairs forces",
}
#: seconds of timing for one workload, and the most rounds in them
_SECONDS, _ROUNDS = 8.0, 20
_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
              "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS")  # fmt: skip


def implementations() -> dict[str, Callable[[Any], Any]]:
    """name -> how to make it; the names of ours begin with ``mlir``."""
    import c_peers
    import numba

    import harness
    import numba_mlir

    def compiled(njit: Any, by_hand: bool, **flags: Any) -> Callable[[Any], Any]:
        def make(workload: Any) -> Any:
            function = workload.by_hand if by_hand else harness.array_style(workload)
            return njit(parallel=True, **flags)(function)

        return make

    found: dict[str, Callable[[Any], Any]] = {"numpy": harness.IMPLEMENTATIONS["numpy"]}
    for name, njit in (("numba", numba.njit), ("mlir", numba_mlir.njit)):
        for suffix, by_hand in (("", False), ("-by-hand", True)):
            found[f"{name}{suffix}"] = compiled(njit, by_hand)
            found[f"{name}{suffix}-fastmath"] = compiled(njit, by_hand, fastmath=True)
    found["c"] = lambda workload: c_peers.kernel(workload.name)
    return found | {name: harness.IMPLEMENTATIONS[name] for name in ("jax", "numexpr")}


def measure_row(name: str, size: str, seconds: float, only: Sequence[str]) -> dict[str, Any]:
    """Times of a workload, seconds of first calls, and why there are none."""
    from harness import Prepared, Unavailable
    from workloads import ALL

    every = implementations()
    prepared = Prepared.at(ALL[name], size, every)
    runs: dict[str, Callable[[], Any]] = {}
    missing: dict[str, str] = {}
    for implementation in only or every:
        try:
            runs[implementation] = prepared.runner(implementation)
        except Unavailable as reason:
            missing[implementation] = str(reason)
    times = _take_turns(runs, seconds)
    return {"times": times, "first_call": prepared.first_call, "missing": missing}


def _take_turns(
    runs: Mapping[str, Callable[[], Any]], seconds: float
) -> dict[str, dict[str, float]]:
    from harness import turns

    best = {name: {"wall": float("inf"), "cpu": float("inf")} for name in runs}
    end = time.perf_counter() + seconds
    for number, order in enumerate(itertools.islice(turns(runs), _ROUNDS)):
        for name, run in order:
            cpu, wall = time.process_time(), time.perf_counter()
            result = run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            del result
            best[name] = {"wall": min(wall, best[name]["wall"]), "cpu": min(cpu, best[name]["cpu"])}
        if number >= 2 and time.perf_counter() > end:
            break
    return best


def measure(threads: int, rows: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """The rows on ``threads`` processors, in this process."""
    found: dict[str, Any] = {}
    for row in rows:
        found[row] = measure_row(row, options.size, options.seconds, options.only)
        best = min(t["wall"] for t in found[row]["times"].values())
        print(f"{threads} threads, {row}: fastest {best * 1e3:.2f} ms", file=sys.stderr, flush=True)
    return found


def in_process(threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a process of its own, which has ``threads`` processors."""
    processors = sorted(os.sched_getaffinity(0))[:threads]
    if len(processors) < threads:
        raise SystemExit(f"{threads} threads: there are {len(processors)} processors")
    command = [sys.executable, __file__, "--here", "--threads", str(threads),
               "--size", options.size, "--seconds", str(options.seconds)]  # fmt: skip
    command += ["--row", *options.row] if options.row else []
    command += ["--only", *options.only] if options.only else []
    environment = {**os.environ, **dict.fromkeys(_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, processors),
    )  # fmt: skip
    return json.loads(done.stdout)


def about() -> dict[str, str]:
    """The machine and the versions."""
    import importlib.metadata as metadata

    import c_peers

    from harness import Unavailable

    found = {"processor": _processor(), "processors": str(os.cpu_count())}
    for package in ("numba", "numpy", "jax", "numexpr"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    try:
        found["C"] = c_peers.version()
    except Unavailable as reason:
        found["C"] = str(reason)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--row", nargs="+", choices=[*ROWS], help="only these workloads")
    parser.add_argument("--only", nargs="+", default=[], help="only these implementations")
    parser.add_argument("--size", choices=["full", "quick", "tiny"], default="full")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="timing of a workload")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)


def results(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of threads: ``{"about": ..., "threads": {"1": {row: ...}}}``."""
    found = {str(n): in_process(n, options) for n in options.threads}
    made = {"about": about(), "size": options.size, "threads": found}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return made


def main() -> None:
    import peers_table

    parser = argparse.ArgumentParser(description="times beside other compilers")
    arguments(parser)
    parser.add_argument("--write", action="store_true", help="into README.md and docs/")
    parser.add_argument("--read", type=Path, help="results of an earlier run instead of measuring")
    options = parser.parse_args()
    if options.here:
        json.dump(measure(options.threads[0], options.row or [*ROWS], options), sys.stdout)
        return
    found = json.loads(options.read.read_text()) if options.read else results(options)
    print(peers_table.full(found, ROWS))
    if options.write:
        peers_table.write(ROOT / "docs" / "performance.md", peers_table.full(found, ROWS))
        peers_table.write(ROOT / "README.md", peers_table.short(found, ROWS))


if __name__ == "__main__":
    main()
