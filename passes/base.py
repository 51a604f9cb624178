"""What a pass is: a frozen dataclass whose fields are its options.

A pass takes an MLIR module in the interchange form, changes it in place and says
whether it changed anything.  ``modified=False`` lets the round trip skip the export.
Every decision that a user may ask about is a `Remark` at the user's line.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from numba_mlir import mlir

RemarkKind = Literal["applied", "missed", "analysis"]


@dataclasses.dataclass(frozen=True)
class Remark:
    """One decision of a pass, for ``dispatcher.mlir_diagnostics()``.

    ``kind`` is "applied" (something was done), "missed" (it was not, ``message`` says
    why) or "analysis" (a fact worth knowing).  ``line`` and ``file`` are the user's,
    None where the operation came from nowhere in the user's source.
    """

    kind: RemarkKind
    pass_name: str
    message: str
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = f"{self.file or '<unknown>'}:{self.line}: " if self.line is not None else ""
        return f"{where}{self.pass_name} {self.kind}: {self.message}"


@dataclasses.dataclass(frozen=True)
class PassResult:
    """What `MLIRPass.run` returns."""

    modified: bool
    remarks: tuple[Remark, ...] = ()


@dataclasses.dataclass(frozen=True)
class MLIRPass:
    """Base of all passes.  A subclass sets ``name`` (kebab-case) and defines `run`."""

    name: ClassVar[str]
    #: whether what is missed is a NumbaPerformanceWarning too, for those who read no report
    warns: ClassVar[bool] = False

    @property
    def range_loops(self) -> bool:
        """Whether the function's own loops over ``range`` around parallel loops shall be
        ``scf.for``."""
        return False

    def applies(self, module: Any) -> bool:
        """Whether there is anything to look at; where not, the pass does not run at all."""
        return True

    def run(self, module: Any) -> PassResult:
        """Transform ``module`` (an ``ir.Module`` in the interchange form) in place."""
        raise NotImplementedError(f"{type(self).__name__}.run")

    def remark(self, kind: RemarkKind, message: str, location: Any = None) -> Remark:
        """A `Remark` of this pass at an MLIR location (None: nowhere)."""
        file, line = (None, None) if location is None else source_position(location)
        return Remark(kind, self.name, message, line, file)


@dataclasses.dataclass(frozen=True, order=True)
class SourceLine:
    """A line of the user's source."""

    file: str
    line: int


def source_lines(location: Any) -> list[SourceLine]:
    """All source lines inside an MLIR location, in order, without repetition.

    Looks through NameLoc and FusedLoc; other kinds (unknown, call sites) have none.
    """
    ir = mlir.ir
    found: dict[SourceLine, None] = {}
    todo = [location]
    while todo:
        loc = todo.pop()
        if isinstance(loc, ir.FileLineColLoc):
            found.setdefault(SourceLine(str(loc.filename), loc.start_line))
        elif isinstance(loc, ir.NameLoc):
            todo.append(loc.child_loc)
        elif isinstance(loc, ir.FusedLoc):
            todo.extend(reversed(loc.locations))
    return list(found)


def source_position(location: Any) -> tuple[str | None, int | None]:
    """File and line of the first source line inside ``location``, or (None, None)."""
    lines = source_lines(location)
    return (lines[0].file, lines[0].line) if lines else (None, None)


def location_name(location: Any) -> str | None:
    """The variable's name that a NameLoc inside ``location`` carries, or None."""
    ir = mlir.ir
    todo = [location]
    while todo:
        loc = todo.pop()
        if isinstance(loc, ir.NameLoc):
            return str(loc.name_str)
        if isinstance(loc, ir.FusedLoc):
            todo.extend(reversed(loc.locations))
    return None
