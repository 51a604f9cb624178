"""The table of other compilers: its workloads, the C code, the tables themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import c_peers
import peers
import peers_table
import pytest
import scaling

from harness import Prepared, Unavailable
from workloads import ALL, WORKLOADS

WITH_C = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@WITH_C
@pytest.mark.parametrize("name", c_peers.KERNELS)
def test_the_c_code_agrees_with_numpy(name: str) -> None:
    for size in ("tiny", "quick"):
        Prepared.at(ALL[name], size, {"c": lambda w: c_peers.kernel(w.name)}).runner("c")


@pytest.mark.parametrize("name", [name for name in ALL if name not in WORKLOADS])
def test_workloads_agree_with_numpy(name: str) -> None:
    made = peers.implementations()
    prepared = Prepared.at(ALL[name], "tiny", made)
    prepared.runner("mlir-by-hand")
    if not ALL[name].loops:
        prepared.runner("mlir")
    for other in ("numexpr", "jax"):
        try:
            prepared.runner(other)
        except Unavailable as reason:
            assert "no " in str(reason) or "not installed" in str(reason)


def test_every_row_of_the_table_is_a_workload() -> None:
    assert peers.ROWS.keys() <= ALL.keys()
    assert peers.ROWS.keys() <= c_peers.KERNELS.keys()


def _results(times: dict[str, float], threads: tuple[str, ...] = ("1",)) -> dict[str, Any]:
    row = {
        "times": {name: {"cpu": s, "wall": 2 * s} for name, s in times.items()},
        "first_call": {"numba": 0.5, "mlir": 0.25},
        "missing": {},
    }
    about = dict.fromkeys(("processor", "processors", "numba", "numpy", "jax", "numexpr", "C"), "x")
    return {"about": about, "threads": {n: {"add": row} for n in threads}}


def test_the_table_takes_the_fastest_form() -> None:
    found = _results({"mlir": 0.004, "mlir-by-hand": 0.002, "numba": 0.006, "c": 0.001})
    line = peers_table.short(found, {"add": "sum"}).splitlines()[-1]
    assert line == "| sum | 2 | 6 | 1 | 3.00 | 0.50 |"
    assert "Not installed where this was measured: NumPy, JAX, numexpr." in peers_table.short(
        found, {"add": "sum"}
    )
    assert "| sum | 1.50 | - | - | - | 500 / 250 |" in peers_table.full(found, {"add": "sum"})


def test_more_threads_are_compared_with_the_first() -> None:
    lines = scaling.table(_results({"mlir": 0.004}, ("1", "2"))).splitlines()
    assert "| `a + b`, fresh result | this project | 8 (1.0x) | 8 (1.0x) |" in lines


def test_a_table_goes_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{peers_table.BEGIN}\nold\n{peers_table.END}\nbehind\n")
    for _ in range(2):
        peers_table.write(path, "new")
        assert path.read_text() == (
            f"before\n{peers_table.BEGIN}\n\nnew\n\n{peers_table.END}\nbehind\n"
        )
    path.write_text("no marks")
    with pytest.raises(ValueError, match="no lines"):
        peers_table.write(path, "new")
