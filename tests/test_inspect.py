"""``inspect_mlir``, ``mlir_diagnostics`` and the environment variables."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from numba_mlir import config, errors, njit
from numba_mlir.passes.base import Remark
from numba_mlir.roundtrip import diagnostics
from numba_mlir.roundtrip.diagnostics import Diagnostics, Report
from numba_mlir.roundtrip.instruments import Record, record_of

VECTOR = numba.float64[::1]


def chain(a, b):
    c = a + b
    return c * c


@pytest.fixture(scope="module")
def fused() -> Any:
    signature = VECTOR(VECTOR, VECTOR)
    return njit(signature, parallel=True, mlir_fusion=True)(chain)


def test_stages_of_a_compilation(fused: Any) -> None:
    before, after = (fused.inspect_mlir(stage=s) for s in ("imported", "after-fusion"))
    assert before.count("scf.parallel") == 2
    assert after.count("scf.parallel") == 1
    head = "// chain(array(float64, 1d, C), array(float64, 1d, C)): after-fusion\nmodule"
    assert after.startswith(head)
    both = fused.inspect_mlir()
    assert both == f"{before}\n// -----\n\n{after}"


@pytest.mark.parametrize("form", [(VECTOR, VECTOR), VECTOR(VECTOR, VECTOR)])
def test_signature_as_numba_takes_it(fused: Any, form: Any) -> None:
    assert fused.inspect_mlir(form) == fused.inspect_mlir()


def test_what_is_not_there_is_named(fused: Any) -> None:
    with pytest.raises(KeyError, match=r"not compiled for int64; compiled: array"):
        fused.inspect_mlir((numba.int64,))
    with pytest.raises(KeyError, match=r"after-tiling.*stages: imported, after-fusion"):
        fused.inspect_mlir(stage="after-tiling")


def test_refused_function() -> None:
    @njit(parallel=True)
    def count(n):
        yield n

    list(count(2))
    text = count.inspect_mlir(stage="after-fusion")
    assert "left as Numba had it" in text
    assert "generator" in text


def test_text_is_kept_compressed(fused: Any) -> None:
    record = record_of(next(iter(fused.overloads.values())))
    assert record is not None
    assert record.stages == ["imported", "after-fusion"]
    kept = sum(len(packed) for packed in record._texts.values())
    assert kept < sum(len(record.text(stage)) for stage in record.stages) / 2


# -- diagnostics -----------------------------------------------------------------------


def test_report_is_printed_and_returned(fused: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = fused.mlir_diagnostics()
    assert capsys.readouterr().out == f"{report}\n"
    assert "passes: fusion" in report
    assert "c = a + b" in report, "the source line"
    assert "+ fusion applied:" in report
    assert "import" not in report
    assert "import" in fused.mlir_diagnostics(level=3)
    assert repr(report).startswith("<Diagnostics of 1 signature(s):")
    assert str(pickle.loads(pickle.dumps(report))) == str(report)


def test_json_is_returned_and_not_printed(fused: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (entry,) = json.loads(fused.mlir_diagnostics(format="json"))
    assert capsys.readouterr().out == ""
    assert (entry["function"], entry["passes"]) == ("chain", ["fusion"])
    assert entry["file"] == __file__
    kinds = {remark["kind"] for remark in entry["remarks"]}
    assert "applied" in kinds <= {"applied", "missed"}
    assert {"import", "fusion", "export"} == entry["timings_ms"].keys()


def test_wrong_level_and_format(fused: Any) -> None:
    with pytest.raises(ValueError, match="level"):
        fused.mlir_diagnostics(level=0)
    with pytest.raises(ValueError, match="format"):
        fused.mlir_diagnostics(format="xml")


def test_sequential_function_says_why_nothing_was_done() -> None:
    f = njit(lambda x: x + 1)
    f(1)
    assert "no statements on whole arrays" in f.mlir_diagnostics()
    assert "no statements on whole arrays" in f.inspect_mlir()
    switched_off = njit(mlir_broadcast=False, mlir_fusion=False, mlir_tiling=False)(lambda x: x + 1)
    switched_off(1)
    assert "no pass of numba_mlir" in switched_off.mlir_diagnostics()


def report_of(*remarks: Remark) -> Report:
    record = Record("f", "/no/such/file.py", 1, keeps_text=False, passes=["fusion"])
    record.remarks.extend(remarks)
    return Report("f", "(int64)", record.file, record.line, record)


def test_remarks_are_sorted_by_line_without_repetition() -> None:
    late = Remark("applied", "fusion", "late", 9, "/no/such/file.py")
    early = Remark("missed", "fusion", "early <b>", 3, "/no/such/file.py")
    other = Remark("applied", "fusion", "elsewhere", 5, "/another.py")
    fact = Remark("analysis", "fusion", "fact", None, None)
    report = report_of(late, early, late, other, fact)
    assert report.remarks(1) == [other, early, late]
    text = Diagnostics([report])
    assert text.index("/another.py:5") < text.index("    3 |") < text.index("    9 |")
    assert text.count("late") == 1
    assert "fact" not in text
    assert "(no line)" in Diagnostics([report], level=2)
    html = text._repr_html_()
    assert "early &lt;b&gt;" in html
    assert "<b>fusion</b>" in html


def test_notebooks_show_html_and_no_printed_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(diagnostics, "_in_notebook", lambda: True)
    diagnostics.show([report_of()], 1, "text")
    assert capsys.readouterr().out == ""


# -- environment -----------------------------------------------------------------------


class FakeModule:
    """What a Record needs of a module."""

    operation: Any

    def __init__(self, text: str) -> None:
        self.text = text
        self.operation = self

    def __str__(self) -> str:
        return self.text

    def get_asm(self, enable_debug_info: bool) -> str:
        return f"{self.text} loc"


def stages(**options: Any) -> Record:
    record = Record("outer.<locals>.f", __file__, 1, keeps_text=False, **options)
    for stage in ("imported", "after-fusion", "after-tiling"):
        record.keep_stage(stage, FakeModule(f"<{stage}>"))
    return record


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("", []),
        ("fusion", ["after-fusion"]),
        (" tiling, imported", ["imported", "after-tiling"]),
        ("all", ["imported", "after-fusion", "after-tiling"]),
    ],
)
def test_print_after(
    value: str,
    printed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NUMBA_MLIR_PRINT_AFTER", value)
    stages()
    expected = "".join(f"// ----- outer.<locals>.f: {s}\n<{s}>\n" for s in printed)
    assert capsys.readouterr().out == expected


def test_dump_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "folder"
    monkeypatch.setenv("NUMBA_MLIR_DUMP_DIR", str(folder))
    stages()
    stages()
    first, second = sorted(folder.iterdir())
    assert first.name.startswith("outer._locals_.f.")
    names = ["00-imported.mlir", "01-after-fusion.mlir", "02-after-tiling.mlir"]
    assert [path.name for path in sorted(second.iterdir())] == names
    assert (first / names[1]).read_text() == "<after-fusion> loc"


def test_a_stage_that_comes_twice_gets_a_number() -> None:
    record = Record("f", __file__, 1, keeps_text=True)
    for text in "xyz":
        record.keep_stage("imported", FakeModule(text))
    assert record.stages == ["imported", "imported-2", "imported-3"]
    assert record.text("imported-3") == "z"


def test_switch_takes_0_and_1_only(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {}
    for value in ("", "0", "1"):
        monkeypatch.setenv("NUMBA_MLIR_ROUNDTRIP_EACH", value)
        values[value] = config.roundtrip_each()
    assert values == {"": False, "0": False, "1": True}
    monkeypatch.setenv("NUMBA_MLIR_ROUNDTRIP_EACH", "yes")
    with pytest.raises(errors.InvalidFlagError, match="must be 0 or 1, not 'yes'"):
        config.roundtrip_each()


def test_dumped_modules_of_a_compilation_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba_mlir import mlir

    monkeypatch.setenv("NUMBA_MLIR_DUMP_DIR", str(tmp_path))
    njit(parallel=True)(chain)(np.ones(2), np.ones(2))
    (folder,) = tmp_path.iterdir()
    texts = [path.read_text() for path in sorted(folder.iterdir())]
    assert len(texts) == 6, "round trips of two and three stages, and the kernel of the loop"
    with mlir.context():
        for text in texts:
            assert mlir.ir.Module.parse(text).operation.verify()
    assert "test_inspect.py" in texts[0]
