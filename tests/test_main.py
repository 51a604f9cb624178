"""``python -m numba_mlir``: the report, and ``opt``."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

import numba_mlir
from numba_mlir import _sysinfo, errors, mlir
from numba_mlir.__main__ import main

ADD = """\
func.func @f(%a: i64) -> i64 {
  %c = arith.constant 0 : i64
  %b = arith.addi %a, %c : i64
  return %b : i64
}
"""
BAD = "func.func @f(%a: i64) -> i64 { return }\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mlir"
    path.write_text(ADD)
    return path


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-s"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("System info:")
    rows = dict(line.split(" : ") for line in out.splitlines() if " : " in line)
    rows = {key.strip(): value for key, value in rows.items()}
    assert rows["numba-mlir-roundtrip"] == numba_mlir.__version__
    assert rows["Bindings"] == mlir.version()
    assert rows["numba dialect"] == "loaded"
    assert rows["mlir_fusion"] == "available"
    assert "dpctl" in rows
    assert "NUMBA_MLIR_DUMP_DIR" in rows


def test_the_report_without_bindings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> str:
        raise errors.MissingMLIRError("no MLIR Python bindings found")

    monkeypatch.setattr(_sysinfo.mlir, "package", missing)
    assert main(["-s"]) == 0
    assert "Error                                         : no MLIR" in capsys.readouterr().out


def test_as_a_program() -> None:
    code = [sys.executable, "-P", "-m", "numba_mlir"]
    ran = subprocess.run(
        [*code, "opt", "-", "--pass-pipeline=builtin.module(canonicalize)"],
        input=ADD,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "return %arg0 : i64" in ran.stdout


def test_nothing_to_do_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_steps_run_in_the_given_order(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--numba-pass=identity{cleanup=false}", "--pass-pipeline=builtin.module(cse)"]
    assert main(["opt", str(source), *both]) == 0
    assert "arith.addi" in capsys.readouterr().out
    assert main(["opt", str(source), "--numba-pass=identity"]) == 0
    assert "arith.addi" not in capsys.readouterr().out


def test_output_file_and_locations(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mlir"
    assert main(["opt", str(source), "-o", str(out), "--mlir-print-debuginfo"]) == 0
    assert "loc(" in out.read_text()


def test_dialect_and_unregistered_operations_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.mlir"
    path.write_text('"pyir.stmt"() {stmt = 1 : i64} : () -> ()\n%0 = "numba.undef"() : () -> f64\n')
    assert main(["opt", str(path)]) == 0
    assert "pyir.stmt" in capsys.readouterr().out


def test_split_input_reports_lines_of_the_whole_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.mlir"
    path.write_text(f"{ADD}// -----\n{ADD}")
    assert main(["opt", str(path), "--split-input-file"]) == 0
    assert capsys.readouterr().out.count("// -----") == 1
    path.write_text(f"{ADD}// -----\n{BAD}")
    assert main(["opt", str(path), "--split-input-file"]) == 1
    assert f'"{path}":7:' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pass-pipeline=builtin.module(nonsense)"], "'nonsense' does not refer"),
        (["--pass-pipeline=canonicalize"], "builtin.module"),
        (
            ["--numba-pass=nonsense"],
            "no pass 'nonsense'; there are broadcast, fusion, gpu, identity",
        ),
        (["--numba-pass=identity{clean=1}"], "no pass option 'clean=1'; options: cleanup"),
        (["-o", "/no/such/folder/out.mlir"], "cannot write /no/such/folder"),
    ],
)
def test_wrong_arguments(
    source: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["opt", str(source), *arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_invalid_module_and_missing_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(BAD))
    assert main(["opt", "-"]) == 1
    assert "'func.return' op has 0 operands" in capsys.readouterr().err
    assert main(["opt", "/no/such/file.mlir"]) == 1
    assert "cannot read /no/such/file.mlir" in capsys.readouterr().err


def test_remarks_go_to_stderr(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["opt", str(source), "--numba-pass=fusion", "--remarks"]) == 0
    assert "func.func @f" in capsys.readouterr().out


def test_the_face() -> None:
    assert set(numba_mlir.__all__) <= set(dir(numba_mlir))
    assert all(getattr(numba_mlir, name) is not None for name in numba_mlir.__all__)
    assert numba_mlir.errors is errors
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        numba_mlir.nonsense  # noqa: B018
