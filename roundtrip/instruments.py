"""What is recorded of a compilation, and how the user gets to see it.

A `Record` is kept in Numba's metadata of the compilation (``dispatcher.get_metadata()``)
under ``"mlir"``.  Numba does not write metadata to its on-disk cache, so a function
that comes from there has no record.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numba.core import ir as numba_ir

from numba_mlir import config
from numba_mlir.passes.base import Remark

METADATA_KEY = "mlir"


@dataclass
class Record:
    """What the round trips of one compilation did.

    ``timings`` are milliseconds by step ("import", the passes' names, "export"), summed
    over round trips.  ``passes`` are those that ran, ``exports`` counts the round trips
    that changed the function, ``refusals`` says why the others did not take place.
    ``array_statements`` says whether some became loops, ``keeps_text`` whether the MLIR text of
    the stages is kept: compressed, about a tenth of its length.
    """

    function: str
    file: str
    line: int
    keeps_text: bool
    passes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    exports: int = 0
    array_statements: bool = False
    _texts: dict[str, bytes] = field(default_factory=dict, repr=False)
    _folder: Path | None = field(default=None, repr=False)

    @classmethod
    def of(cls, state: Any) -> Record:
        """The record of the compilation that ``state`` belongs to; made at its first use."""
        found = cls.made(state)
        if found is None:
            func = state.func_id
            keeps = getattr(state.flags, "keeps_mlir_text", False)
            found = cls(func.func_qualname, func.filename, func.firstlineno, keeps)
            state.metadata[METADATA_KEY] = found
        return found

    @classmethod
    def made(cls, state: Any) -> Record | None:
        """The record, where some pass has made it."""
        return state.metadata.get(METADATA_KEY)

    def loc(self, line: int | None = None) -> numba_ir.Loc:
        """Numba's location of a line of the function, or of the function."""
        return numba_ir.Loc(self.file, self.line if line is None else line)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1e3
            self.timings[step] = self.timings.get(step, 0.0) + spent

    def refuse(self, passes: Sequence[str], reason: str, loc: numba_ir.Loc | None = None) -> None:
        """The whole function stays as Numba had it; ``passes`` are those that did not run."""
        self.refusals.append(reason)
        where = self.loc() if loc is None else loc
        remark = Remark("missed", "+".join(passes), reason, where.line, where.filename)
        self.remarks.append(remark)

    @property
    def stages(self) -> list[str]:
        """Names of the stages whose text is kept, in order."""
        return list(self._texts)

    def text(self, stage: str) -> str:
        """MLIR text of a stage.  Raises KeyError with the names of those that there are."""
        try:
            return zlib.decompress(self._texts[stage]).decode()
        except KeyError:
            there = ", ".join(self._texts) or "none"
            raise KeyError(
                f"no MLIR of stage {stage!r} for {self.function!r}; stages: {there}"
            ) from None

    def keep_stage(self, stage: str, module: Any) -> None:
        """Keep, print and write the module's text, each where it is asked for."""
        printed = _is_printed(stage)
        if self.keeps_text or printed:
            text = str(module)
            if self.keeps_text:
                self._texts[self._unique(stage)] = zlib.compress(text.encode(), 1)
            if printed:
                sys.stdout.write(f"// ----- {self.function}: {stage}\n{text}\n")
        folder = config.dump_dir()
        if folder is not None:
            self._dump(folder, stage, module)

    def _unique(self, stage: str) -> str:
        """``stage``, or with a number when a round trip of this compilation had it before."""
        if stage not in self._texts:
            return stage
        return next(s for n in itertools.count(2) if (s := f"{stage}-{n}") not in self._texts)

    def _dump(self, folder: Path, stage: str, module: Any) -> None:
        """Write the module, with its locations: ``<function>.<process>.<n>/<k>-<stage>.mlir``."""
        if self._folder is None:
            name = re.sub(r"[^\w.]+", "_", self.function).strip("_")
            self._folder = _new_folder(folder, f"{name}.{os.getpid()}")
        number = len(list(self._folder.iterdir()))
        text = module.operation.get_asm(enable_debug_info=True)
        path = self._folder / f"{number:02d}-{stage}.mlir"
        path.write_text(text, encoding="utf-8")


def _is_printed(stage: str) -> bool:
    wanted = config.print_after()
    return "all" in wanted or stage in wanted or stage.removeprefix("after-") in wanted


def _new_folder(parent: Path, stem: str) -> Path:
    """``parent/stem.<n>`` with the first n that is free."""
    for number in itertools.count():
        made = parent / f"{stem}.{number}"
        try:
            made.mkdir(parents=True)
        except FileExistsError:
            continue
        return made
    raise AssertionError("unreachable")


def record_of(cres: Any) -> Record | None:
    """The record of a compile result; None when it came from the on-disk cache or when
    no pass of ours was in its pipeline."""
    return (cres.metadata or {}).get(METADATA_KEY)
