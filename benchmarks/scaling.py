"""More threads: times of some workloads on 1, 2, 4, ... processors.

    python benchmarks/scaling.py [--threads 1 2 4 8 16] [--json FILE] [--write]
    python benchmarks/scaling.py --read FILE [--write]

Measured by `peers`; ``--write`` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import peers
import peers_table

ROWS = ("three-statements", "softmax-rows", "matmul-ikj")
ONLY = ("numpy", "numba", "numba-by-hand", "mlir", "mlir-by-hand", "c")
BEGIN, END = "<!-- scaling: begin -->", "<!-- scaling: end -->"
COLUMNS = ("this project", "Numba", "NumPy", "C")


def table(found: dict[str, Any]) -> str:
    """Wall time in ms, and how many times faster than on the first number of threads."""
    threads = [*found["threads"]]
    head = ["workload, ms", "", *threads]
    rows: list[list[str]] = []
    for name in found["threads"][threads[0]]:
        for column in COLUMNS:
            taken = [_wall(found["threads"][n][name], column) for n in threads]
            cells = [_cell(value, taken[0]) for value in taken]
            rows.append([peers.ROWS[name], column, *cells])
    lines = [head, ["---", "---", *["---:"] * len(threads)], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = found["about"]
    return f"{about['processor']}, {about['processors']} processors.\n\n{text}"


def _wall(row: dict[str, Any], column: str) -> float | None:
    times = {name: taken["wall"] for name, taken in row["times"].items()}
    return peers_table.fastest(times, peers_table.COLUMNS[column])


def _cell(value: float | None, first: float | None) -> str:
    if value is None or first is None:
        return "-"
    return f"{value * 1e3:.3g} ({first / value:.1f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description="times on more and more processors")
    peers.arguments(parser)
    parser.set_defaults(threads=[1, 2, 4, 8, 16], row=[*ROWS], only=[*ONLY], seconds=4.0)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--read", type=Path, help="results of an earlier run")
    options = parser.parse_args()
    found = json.loads(options.read.read_text()) if options.read else peers.results(options)
    print(table(found))
    if options.write:
        path = peers.ROOT / "docs" / "performance.md"
        peers_table.write(path, table(found), BEGIN, END)


if __name__ == "__main__":
    main()
