"""Times on a CUDA device beside CuPy, torch and JAX, as JSON and as a table.

usage: python benchmarks/gpu_results.py [--log2 27] [--json FILE] [--write]

Every time is the smallest of several; each covers enough calls for about 30 ms and ends with
a synchronisation.  "of copy" is the bandwidth by the bytes that have to be moved once,
relative to a copy from device to device on the same machine.  A reduction gives a Python number
with every implementation, so each call of one waits for its result.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cupy
import numpy as np
import peers_table
from numba import prange

import numba_mlir


# -- what is measured ----------------------------------------------------------------------
def elementwise(a: Any, b: Any) -> Any:
    return a * b + a


def total(a: Any, b: Any) -> Any:
    return np.sum(a)


def distance(a: Any, b: Any) -> Any:
    return np.sum((a - b) ** 2)


def loop(a: Any, b: Any) -> Any:
    c = np.float32(0)
    for i in prange(a.size):
        c += a[i] * b[i]
    return c


def softmax(a: Any, b: Any) -> Any:
    e = np.exp(a - np.max(a, axis=1).reshape(-1, 1))
    return e / np.sum(e, axis=1).reshape(-1, 1)


def stencil(a: Any, b: Any) -> Any:
    quarter = np.float32(0.25)
    return (a[1:-1, :-2] + a[1:-1, 2:] + a[:-2, 1:-1] + a[2:, 1:-1]) * quarter


#: function, whether its arrays have two dimensions, and bytes moved for each element
CASES: dict[str, tuple[Any, bool, int]] = {
    "a * b + a": (elementwise, False, 12),
    "sum(a)": (total, False, 4),
    "sum((a - b)**2)": (distance, False, 8),
    "prange a . b": (loop, False, 8),
    "softmax of rows": (softmax, True, 8),
    "stencil": (stencil, True, 8),
}


def peers(name: str) -> dict[str, Callable[[Any, Any], Any]]:
    """Other implementations, on cupy arrays; torch and JAX see the same memory."""
    made = {"cupy": _cupy(name)}
    with contextlib.suppress(ImportError):
        made |= _torch(name)
    with contextlib.suppress(ImportError):
        made["jax"] = _jax(name)
    if name in ("a * b + a",):
        made["cupy.fuse"] = cupy.fuse()(_fused)
    return made


def _fused(a: Any, b: Any) -> Any:
    return a * b + a


def _array_api(xp: Any, name: str, **axis: Any) -> Callable[[Any, Any], Any]:
    def soft(a: Any, b: Any) -> Any:
        e = xp.exp(a - xp.amax(a, **axis))
        return e / xp.sum(e, **axis)

    return {
        "a * b + a": lambda a, b: a * b + a,
        "sum(a)": lambda a, b: xp.sum(a),
        "sum((a - b)**2)": lambda a, b: xp.sum((a - b) ** 2),
        "prange a . b": lambda a, b: xp.sum(a * b),
        "softmax of rows": soft,
        "stencil": lambda a, b: (a[1:-1, :-2] + a[1:-1, 2:] + a[:-2, 1:-1] + a[2:, 1:-1]) * 0.25,
    }[name]


def _cupy(name: str) -> Callable[[Any, Any], Any]:
    function = _array_api(cupy, name, axis=1, keepdims=True)
    return lambda a, b: _number(function(a, b))


def _number(value: Any) -> Any:
    return value.item() if value.ndim == 0 else value


def _torch(name: str) -> dict[str, Callable[[Any, Any], Any]]:
    import torch

    function = _array_api(torch, name, dim=1, keepdim=True)
    compiled = torch.compile(function, dynamic=False)
    cache: dict[int, Any] = {}

    def run(chosen: Any, a: Any, b: Any) -> Any:
        pair = [cache.setdefault(id(x), torch.from_dlpack(x)) for x in (a, b)]
        return _number(chosen(*pair))

    return {
        "torch": lambda a, b: run(function, a, b),
        "torch.compile": lambda a, b: run(compiled, a, b),
    }


def _jax(name: str) -> Callable[[Any, Any], Any]:
    import jax
    import jax.numpy as jnp

    compiled = jax.jit(_array_api(jnp, name, axis=1, keepdims=True))
    cache: dict[int, Any] = {}

    def run(a: Any, b: Any) -> Any:
        pair = [cache.setdefault(id(x), jax.dlpack.from_dlpack(x)) for x in (a, b)]
        result = compiled(*pair)
        return _number(result)  # as the others, JAX does not wait for an array

    return run


# -- measuring -----------------------------------------------------------------------------
def best(call: Callable[[], Any], repeats: int = 5) -> float:
    """Milliseconds of one call."""
    call()
    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    call()
    cupy.cuda.Device().synchronize()
    count = max(1, int(0.03 / max(time.perf_counter() - start, 1e-6)))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(count):
            call()
        cupy.cuda.Device().synchronize()
        times.append((time.perf_counter() - start) / count)
    return min(times) * 1e3


def copy_bandwidth(size: int) -> float:
    """Bytes a millisecond of a copy from device to device, read and written."""
    source, target = cupy.zeros(size, np.float32), cupy.empty(size, np.float32)
    return 2 * source.nbytes / best(lambda: cupy.copyto(target, source))


def measure(log2: int) -> dict[str, Any]:
    size = 2**log2
    flat = [cupy.random.random(size, dtype=np.float32) for _ in range(2)]
    table = [x.reshape(-1, 4096) for x in flat]
    speed = copy_bandwidth(size)
    rows: dict[str, Any] = {}
    for name, (function, two, width) in CASES.items():
        args = table if two else flat
        compiled = numba_mlir.njit(parallel=True)(function)
        times = {"numba_mlir": best(lambda f=compiled, a=args: f(*a))}
        for peer, call in peers(name).items():
            try:
                times[peer] = best(lambda f=call, a=args: f(*a))
            except Exception as exc:  # a peer that cannot run here is not a result
                print(f"{peer}: {name}: {type(exc).__name__}: {exc}"[:300])
        rows[name] = {"ms": times, "of copy": width * size / times["numba_mlir"] / speed}
    return {"elements": size, "copy TB/s": speed / 1e9, "cases": rows, "launch us": launch_cost()}


def launch_cost() -> dict[str, float]:
    """Microseconds of a call on a small array, and of the parts of ours."""
    a = cupy.ones(256, np.float32)
    ours = numba_mlir.njit(parallel=True)(_increment)
    nothing = numba_mlir.njit(parallel=True)(lambda a: None)
    whole = numba_mlir.njit(parallel=True)(lambda a: a.sum())
    return {
        "numba_mlir, in place": best(lambda: ours(a)) * 1e3,
        "numba_mlir, a function that does nothing": best(lambda: nothing(a)) * 1e3,
        "cupy, in place": best(lambda: cupy.add(a, a, a)) * 1e3,
        "numba_mlir, sum": best(lambda: whole(a)) * 1e3,
        "cupy, sum": best(lambda: cupy.sum(a).item()) * 1e3,
    }


def _increment(a: Any) -> None:
    for i in prange(a.size):
        a[i] += a[i]


#: names of cases in the document, in its order
TITLES = {
    "a * b + a": "`a * b + a`",
    "sum(a)": "`sum(a)`",
    "sum((a - b)**2)": "`sum((a - b)**2)`",
    "prange a . b": "`prange` loop, `c += a[i] * b[i]`",
    "softmax of rows": "softmax of rows of 4096",
    "stencil": "stencil of four slices",
}
COLUMNS = ("numba_mlir", "cupy", "cupy.fuse", "torch", "torch.compile", "jax")
BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"


def table(results: dict[str, Any]) -> str:
    """Milliseconds, relative to the best peer and to a copy; and the small calls."""
    lines = [
        f"{results['device']}, {results['date']}: float32, {results['elements']} elements, a copy "
        f"moves {results['copy TB/s']:.2f} TB/s.",
        "",
        f"| | {' | '.join(COLUMNS)} | of the best peer | of a copy |",
        f"|---|{'---|' * (len(COLUMNS) + 2)}",
    ]
    for name, title in TITLES.items():
        row = results["cases"][name]
        times = row["ms"]
        ratio = times["numba_mlir"] / min(v for k, v in times.items() if k != "numba_mlir")
        cells = [f"{times[k]:.3f}" if k in times else "" for k in COLUMNS]
        lines.append(f"| {title} | {' | '.join(cells)} | {ratio:.2f} | {row['of copy']:.0%} |")
    lines += ["", "| a call on 256 elements | µs |", "|---|---|"]
    lines += [f"| {name} | {value:.1f} |" for name, value in results["launch us"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log2", type=int, default=27)
    parser.add_argument("--json", default=None)
    parser.add_argument("--write", action="store_true", help="into docs/gpu-results.md")
    options = parser.parse_args()
    results = measure(options.log2)
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    results |= {"device": name, "date": datetime.date.today().isoformat()}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    print(table(results))
    if options.write:
        path = Path(__file__).resolve().parents[1] / "docs" / "gpu-results.md"
        peers_table.write(path, table(results), BEGIN, END)


if __name__ == "__main__":
    main()
