"""What `MLIRDispatcher.mlir_diagnostics` shows: remarks by source line."""

from __future__ import annotations

import html
import json
import linecache
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from numba_mlir.passes.base import Remark
from numba_mlir.roundtrip.instruments import Record

LEVELS = (1, 2, 3)
FORMATS = ("text", "json")
_SIGNS = {"applied": "+", "missed": "-", "analysis": "."}


@dataclass(frozen=True)
class Report:
    """One compiled signature: its record, or ``note``, the reason why there is none."""

    function: str
    signature: str
    file: str
    line: int
    record: Record | None
    note: str | None = None

    def remarks(self, level: int) -> list[Remark]:
        """Remarks of ``level``, each once, by file and line."""
        if self.record is None:
            return []
        wanted = [r for r in self.record.remarks if level > 1 or r.kind != "analysis"]
        return sorted(dict.fromkeys(wanted), key=lambda r: (r.file or "", r.line or 0))

    def as_dict(self, level: int) -> dict[str, Any]:
        record = self.record
        return {
            "function": self.function,
            "signature": self.signature,
            "file": self.file,
            "line": self.line,
            "note": self.note,
            "passes": record.passes if record is not None else [],
            "timings_ms": record.timings if record is not None else {},
            "remarks": [vars(remark) for remark in self.remarks(level)],
        }


class Diagnostics(str):
    """The report as text, which notebooks show as HTML; ``repr`` is one line."""

    reports: tuple[Report, ...]
    level: int

    def __new__(cls, reports: Sequence[Report], level: int = 1) -> Diagnostics:
        self = super().__new__(cls, "\n".join(_text(report, level) for report in reports))
        self.reports = tuple(reports)
        self.level = level
        return self

    def __repr__(self) -> str:
        remarks = [remark for report in self.reports for remark in report.remarks(self.level)]
        counts = ", ".join(f"{sum(r.kind == kind for r in remarks)} {kind}" for kind in _SIGNS)
        return f"<Diagnostics of {len(self.reports)} signature(s): {counts}>"

    def __reduce__(self) -> Any:
        return type(self), (self.reports, self.level)

    def _repr_html_(self) -> str:
        return "\n".join(_html(report, self.level) for report in self.reports)

    def json(self) -> str:
        return json.dumps([report.as_dict(self.level) for report in self.reports], indent=2)


def show(reports: Sequence[Report], level: int, format: str) -> Diagnostics | str:
    """The reports in ``format``; "text" is also printed where nothing else displays it."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, not {level!r}")
    if format not in FORMATS:
        raise ValueError(f"format must be one of {FORMATS}, not {format!r}")
    diagnostics = Diagnostics(reports, level)
    if format == "json":
        return diagnostics.json()
    if not _in_notebook():
        sys.stdout.write(f"{diagnostics}\n")
    return diagnostics


def _in_notebook() -> bool:
    """Whether a Jupyter kernel displays the value of a cell's last expression."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _summary(report: Report, level: int) -> list[str]:
    record = report.record
    if record is None:
        return [report.note or "nothing was recorded"]
    lines = [f"passes: {', '.join(record.passes) or 'none ran'}"]
    if level > 2:
        spent = ", ".join(f"{step} {ms:.1f} ms" for step, ms in record.timings.items())
        lines.append(f"time: {spent or 'none'}")
    if not (record.passes or record.refusals):
        lines.append("left as Numba had it: no statements on whole arrays")
    elif record.passes and not report.remarks(level):
        lines.append("nothing to say about any line")
    return lines


def _by_line(remarks: Iterable[Remark]) -> Iterable[tuple[str, int, list[Remark]]]:
    for (file, line), group in groupby(remarks, key=lambda r: (r.file or "", r.line or 0)):
        yield file, line, list(group)


def _source(file: str, line: int) -> str:
    return linecache.getline(file, line).rstrip("\n") if line else ""


def _place(report: Report, file: str, line: int) -> str:
    """How the line is named: its file only where it is not the function's."""
    if not line:
        return "(no line)"
    return f"{line:5d}" if file in ("", report.file) else f"{file}:{line}"


def _text(report: Report, level: int) -> str:
    head = f"{report.function}{report.signature}  {report.file}:{report.line}"
    lines = [head, "-" * min(len(head), 100), *_summary(report, level)]
    for file, line, remarks in _by_line(report.remarks(level)):
        lines.append(f"{_place(report, file, line)} | {_source(file, line)}".rstrip())
        lines += [f"      {_SIGNS[r.kind]} {r.pass_name} {r.kind}: {r.message}" for r in remarks]
    return "\n".join(lines) + "\n"


def _html(report: Report, level: int) -> str:
    rows: list[str] = []
    for file, line, remarks in _by_line(report.remarks(level)):
        items = "".join(
            f"<li>{_SIGNS[r.kind]} <b>{html.escape(r.pass_name)}</b> {r.kind}: "
            f"{html.escape(r.message)}</li>"
            for r in remarks
        )
        rows.append(
            f"<tr><td>{html.escape(_place(report, file, line))}</td>"
            f"<td style='text-align:left'><pre>{html.escape(_source(file, line))}</pre>"
            f"<ul style='list-style:none'>{items}</ul></td></tr>"
        )
    head = html.escape(f"{report.function}{report.signature}")
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in _summary(report, level))
    return f"<h4><code>{head}</code></h4>{notes}<table>{''.join(rows)}</table>"
