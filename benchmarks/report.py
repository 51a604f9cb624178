"""Print the ratios of a benchmark run side by side, and draw them.

usage: python benchmarks/report.py RESULTS.json [--chart FILE.png] [--base IMPLEMENTATION]

RESULTS.json is pytest-benchmark's; the time of an implementation is the smallest of all
its rounds (``--statistic median``: the median of its visits' medians).  A ratio is that
time divided by the time of the base: above 1, the base is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

JOIN: dict[str, Callable[[list[float]], float]] = {"min": min, "median": statistics.median}
Times = dict[str, dict[str, float]]


def times(results: Mapping[str, Any], statistic: str) -> Times:
    """workload -> implementation -> seconds, the visits joined."""
    visits: dict[str, dict[str, list[float]]] = {}
    for run in results["benchmarks"]:
        info = run["extra_info"]
        of_workload = visits.setdefault(info["workload"], {})
        of_workload.setdefault(info["implementation"], []).append(run["stats"][statistic])
    join = JOIN[statistic]
    return {
        workload: {implementation: join(found) for implementation, found in of.items()}
        for workload, of in visits.items()
    }


def columns(found: Times) -> list[str]:
    """The implementations in the order in which they ran."""
    return list(dict.fromkeys(name for of in found.values() for name in of))


def table(found: Times, base: str) -> str:
    """Ratios to ``base`` and the base's own time; ``-`` where there is no time."""
    names = columns(found)
    rows = [["workload", *names, f"{base} [ms]"]]
    for workload, of in found.items():
        own = of.get(base, math.nan)
        ratios = [f"{of[name] / own:.2f}" if name in of else "-" for name in names]
        rows.append([workload, *ratios, f"{own * 1e3:.2f}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
    return "\n".join(lines)


def reasons(results: Mapping[str, Any]) -> str:
    """Why an implementation has no time, a line each."""
    missing: Mapping[str, Mapping[str, str]] = results.get("unavailable", {})
    by_reason: dict[tuple[str, str], list[str]] = {}
    for workload, of in missing.items():
        for implementation, reason in of.items():
            by_reason.setdefault((implementation, reason), []).append(workload)
    return "\n".join(
        f"- {implementation}: {reason} ({', '.join(workloads)})"
        for (implementation, reason), workloads in by_reason.items()
    )


def chart(found: Times, base: str, path: Path) -> None:
    """A bar for each implementation, grouped by workload; ratio to ``base``, log scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = columns(found)
    figure, axes = pyplot.subplots(figsize=(1.8 * len(found) + 3, 5), layout="constrained")
    width = 0.8 / len(names)
    for column, name in enumerate(names):
        places = [
            row + (column - (len(names) - 1) / 2) * width
            for row, of in enumerate(found.values())
            if name in of and base in of
        ]
        ratios = [of[name] / of[base] for of in found.values() if name in of and base in of]
        axes.bar(places, ratios, width, label=name)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylabel(f"time / time of {base}")
    axes.set_xticks(range(len(found)), list(found))
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="ratios of a benchmark run")
    parser.add_argument("results", type=Path)
    parser.add_argument("--base", default="mlir-parallel", help="what the ratios refer to")
    parser.add_argument("--statistic", choices=[*JOIN], default="min")
    parser.add_argument("--chart", type=Path, help="write a PNG chart there")
    options = parser.parse_args()

    results = json.loads(options.results.read_text(encoding="utf-8"))
    found = times(results, options.statistic)
    if options.base not in columns(found):
        parser.error(f"no times of {options.base!r}; there are {', '.join(columns(found))}")
    print(f"time / time of {options.base} (above 1: {options.base} is faster)\n")
    print(table(found, options.base))
    if missing := reasons(results):
        print(f"\nwithout a time:\n{missing}")
    if options.chart is not None:
        chart(found, options.base, options.chart)
        print(f"\nwritten: {options.results}, {options.chart}")


if __name__ == "__main__":
    main()
