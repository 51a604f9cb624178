"""The on-disk cache: its key, damaged files, processes that load from it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.core.errors import NumbaWarning

from numba_mlir import njit
from numba_mlir.roundtrip import caching
from numba_mlir.roundtrip.caching import canonical, identity_of, package_version


class Marked(CompilerBase):
    """A user's compiler class; says in the metadata that it compiled."""

    def define_pipelines(self) -> list[PassManager]:
        self.state.metadata["marked"] = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


def increase(a):
    return a + 1


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    numba.core.config.reload_config()
    return tmp_path


def hits(dispatcher: Any) -> int:
    return sum(dispatcher.stats.cache_hits.values())


def cached(func: Any = increase, **options: Any) -> Any:
    """The function, compiled or loaded for one int; ours is sequential: quick to compile."""
    made = njit(cache=True, **options)(func)
    assert made(2) == 3
    return made


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.rglob(f"*{suffix}"))


def test_second_dispatcher_loads_what_the_first_has_stored() -> None:
    assert [hits(cached()), hits(cached())] == [0, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"fastmath": True},
        {"fastmath": {"nnan", "arcp"}},
        {"boundscheck": True},
        {"mlir_fusion": True},
        {"mlir_fusion": False},
        {"error_model": "numpy"},
        {"locals": {"a": numba.int32}},
        {"parallel": False, "nogil": True},
        {"pipeline_class": Marked},
    ],
)
def test_other_options_are_another_function(other: dict[str, Any]) -> None:
    cached()
    assert hits(cached(**other)) == 0
    assert hits(cached(**other)) == 1
    assert hits(cached()) == 1


def test_a_new_pipeline_class_is_not_served_with_old_code() -> None:
    cached()
    (metadata,) = cached(pipeline_class=Marked).get_metadata().values()
    assert metadata["marked"]


def test_stock_numba_and_ours_do_not_share_entries() -> None:
    stock = numba.njit(cache=True)(increase)
    stock(2)
    assert hits(cached()) == 0
    again = numba.njit(cache=True)(increase)
    again(2)
    assert hits(again) == 1


@pytest.mark.parametrize("what", ["numba", "package", "mlir"])
def test_other_versions_are_another_function(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cached()
    if what == "numba":
        monkeypatch.setattr(numba, "__version__", "0.68.99")
    elif what == "package":
        monkeypatch.setattr(caching, "package_version", lambda: "another")
    else:
        monkeypatch.setattr(caching.mlir, "version", lambda: "another")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NumbaWarning)
        assert hits(cached()) == 0


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 50)


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [_empty, _garbage, _cut, _flip])
def test_damaged_files_mean_compile_again(folder: Path, suffix: str, damage: Any) -> None:
    cached()
    (path,) = files(folder, suffix)
    damage(path)
    with pytest.warns(NumbaWarning, match="cannot be read"):
        assert hits(cached()) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", NumbaWarning)
        assert hits(cached()) == 1, "the damage is repaired"


def test_missing_data_file_is_no_damage(folder: Path) -> None:
    cached()
    for path in files(folder, ".nbc"):
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", NumbaWarning)
        assert [hits(cached()), hits(cached())] == [0, 1]


def test_data_of_another_key_is_not_loaded(folder: Path) -> None:
    """Two processes that store at once can give one file name to two keys."""
    cached()
    (first,) = files(folder, ".nbc")
    cached(fastmath=True)
    (second,) = set(files(folder, ".nbc")) - {first}
    second.write_bytes(first.read_bytes())
    assert hits(cached(fastmath=True)) == 0


def test_recompile_flushes() -> None:
    f = cached()
    f.recompile()
    assert f(2) == 3
    assert hits(cached()) == 1


SCRIPT = """
    import sys, numpy as np
    from numba_mlir import njit

    @njit(parallel=True, cache=True, mlir_fusion=True)
    def f(a, b):
        c = a + b
        return c * c

    assert f(np.ones(3), np.ones(3)).tolist() == [4.0, 4.0, 4.0]
    bindings = any(name.endswith("_mlir_libs") for name in sys.modules)
    print("hits", sum(f.stats.cache_hits.values()), "bindings", bindings)
    f.mlir_diagnostics()
    print(f.inspect_mlir(stage="after-fusion"))
"""


def run(script: Path, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
    )
    return result.stdout


def test_new_process_loads_without_importing_mlir(folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    first, second = run(script, folder), run(script, folder)
    assert first.startswith("hits 0 bindings True")
    assert "scf.parallel" in first
    assert second.startswith("hits 1 bindings False")
    assert second.count("loaded from the on-disk cache") == 2
    assert "scf.parallel" not in second


def text_length(x):
    with numba.objmode(n="int64"):
        n = len(str(x))
    return n + 2


def test_functions_with_object_mode_blocks_are_cached() -> None:
    """Numba stores the lifted block with its compiler flags, which are ours."""
    assert [hits(cached(text_length, mlir_fusion=True)) for _ in range(2)] == [0, 1]


# -- the key ---------------------------------------------------------------------------


def test_text_of_options_does_not_depend_on_order_or_process() -> None:
    one = {"fastmath": {"nnan", "arcp"}, "parallel": {"fusion": False, "prange": True}}
    two = {"parallel": {"prange": True, "fusion": False}, "fastmath": {"arcp", "nnan"}}
    assert canonical(one) == canonical(two)
    assert canonical({"a": 1}) != canonical({"a": True})
    assert " at 0x" not in canonical({"inline": increase, "pipeline": type("P", (), {})})


def test_functions_and_classes_are_told_apart_by_their_code() -> None:
    def make(value: int) -> Any:
        def chosen(expr: Any, caller: Any, callee: Any) -> Any:
            return 1 if value else 2

        return chosen

    assert canonical(make(1)) == canonical(make(2)), "closures are not looked into"
    classes = [type("P", (), {"run": lambda self: 1}), type("P", (), {"run": lambda self: 2})]
    assert canonical(classes[0]) != canonical(classes[1])


def test_identity_has_all_versions() -> None:
    text = "\n".join(identity_of({"mlir_fusion": True}, {}, object))
    assert "mlir_fusion" in text
    assert f"numba {numba.__version__}" in text
    assert package_version() in text
    assert "torch-mlir" in text or "mlir" in text
    assert package_version().startswith("numba-mlir-roundtrip 0.")


def test_arrays_of_a_cached_parallel_function(folder: Path) -> None:
    results = [njit(parallel=True, cache=True)(increase)(np.ones(2)).tolist() for _ in range(2)]
    assert results == [[2.0, 2.0]] * 2
