"""Tables in Markdown from the results of `peers`, and their place in a document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
#: column -> the implementations of which the fastest counts
COLUMNS = {
    "this project": ("mlir", "mlir-by-hand", "mlir-fastmath", "mlir-by-hand-fastmath"),
    "Numba": ("numba", "numba-by-hand", "numba-fastmath", "numba-by-hand-fastmath"),
    "NumPy": ("numpy",),
    "JAX": ("jax",),
    "numexpr": ("numexpr",),
    "C": ("c",),
}  # fmt: skip
Times = Mapping[str, float]


def seconds(row: Mapping[str, Any], threads: int) -> dict[str, float]:
    """implementation -> seconds: of the processor on one thread, else of the clock."""
    clock = "cpu" if threads == 1 else "wall"
    return {name: taken[clock] for name, taken in row["times"].items()}


def fastest(times: Times, names: tuple[str, ...]) -> float | None:
    return min((times[name] for name in names if name in times), default=None)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.3g}"


def _ratio(value: float | None, to: float | None) -> str:
    return "-" if value is None or to is None else f"{value / to:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _missing_columns(found: Mapping[str, Any]) -> list[str]:
    """Columns in which no workload has a time."""
    rows = [row for of in found["threads"].values() for row in of.values()]
    return [
        c for c, names in COLUMNS.items() if not any(n in r["times"] for r in rows for n in names)
    ]


def _times(found: Mapping[str, Any], titles: Mapping[str, str], threads: str) -> str:
    columns = [c for c in COLUMNS if c not in _missing_columns(found)]
    rows = []
    for name, row in found["threads"][threads].items():
        times = seconds(row, int(threads))
        best = {column: fastest(times, COLUMNS[column]) for column in columns}
        ours = best["this project"]
        ratios = [_ratio(best.get(column), ours) for column in ("Numba", "C")]
        rows.append([titles[name], *[_ms(best[c]) for c in columns], *ratios])
    return _table(["workload, ms", *columns, "Numba / ours", "C / ours"], rows)


def _forms(found: Mapping[str, Any], titles: Mapping[str, str], threads: str) -> str:
    """Each way to write a workload: Numba's time divided by ours, and the first calls."""
    pairs = {
        "array style": ("numba", "mlir"),
        "array style, fastmath": ("numba-fastmath", "mlir-fastmath"),
        "loops": ("numba-by-hand", "mlir-by-hand"),
        "loops, fastmath": ("numba-by-hand-fastmath", "mlir-by-hand-fastmath"),
    }
    rows = []
    for name, row in found["threads"][threads].items():
        times, first = seconds(row, int(threads)), row["first_call"]
        ratios = [_ratio(times.get(one), times.get(other)) for one, other in pairs.values()]
        compiling = [
            f"{_ms(first.get(one))} / {_ms(first.get(other))}"
            for one, other in (("numba", "mlir"), ("numba-by-hand", "mlir-by-hand"))
        ]
        rows.append([titles[name], *ratios, *compiling])
    head = ["Numba / this project", *pairs, "first call, array style, ms", "loops"]
    return _table(head, rows)


def _notes(found: Mapping[str, Any]) -> str:
    about = found["about"]
    versions = ", ".join(f"{name} {about[name]}" for name in ("numba", "numpy", "jax", "numexpr"))
    lines = [f"{about['processor']}; {versions}; C: {about['C']}."]
    if missing := _missing_columns(found):
        lines.append(f"Not installed where this was measured: {', '.join(missing)}.")
    return " ".join(lines)


def full(found: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """All tables: times for each number of threads, and forms on the first."""
    first = next(iter(found["threads"]))
    parts = [_notes(found)]
    for threads in found["threads"]:
        clock = "CPU time" if threads == "1" else "wall time"
        parts.append(f"Threads: {threads}. Least {clock} in ms.")
        parts.append(_times(found, titles, threads))
    parts.append(f"Threads: {first}. Above 1, this project is faster.")
    parts.append(_forms(found, titles, first))
    return "\n\n".join(parts)


def short(found: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """Times for the first number of threads."""
    first = next(iter(found["threads"]))
    return "\n\n".join([_notes(found), _times(found, titles, first)])


def write(path: Path, text: str, begin_mark: str = BEGIN, end_mark: str = END) -> None:
    """Replace what stands between the marks in a document.  Raises ValueError without marks."""
    document = path.read_text(encoding="utf-8")
    before, begin, rest = document.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {begin_mark} and {end_mark}")
    path.write_text(f"{before}{begin_mark}\n\n{text}\n\n{end_mark}{after}", encoding="utf-8")
