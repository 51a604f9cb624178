"""Who may know whom: the imports of every module, read with ``ast``, against one table."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
BINDINGS = {"mlir", "torch_mlir"}
#: modules of the face package that everything may build on
GROUND = {f"numba_mlir.{name}" for name in ("errors", "config", "mlir", "dialect")}
#: room -> the rooms of this project it may import
MAY_IMPORT = {
    "ground": {"ground"},
    "converters": {"ground", "converters"},
    "passes": {"ground", "passes"},
    "roundtrip": {"ground", "converters", "passes", "gpu", "roundtrip"},
    "gpu": {"ground", "gpu"},
    "face": {"ground", "converters", "passes", "roundtrip", "gpu", "face"},
}
#: the rest of the ground (``errors``) is built on Numba, which passes do not know
GROUND_FOR_PASSES = {"numba_mlir.mlir", "numba_mlir.dialect"}


class Import(NamedTuple):
    """One imported module, and whether the import runs when its file is imported."""

    target: str
    line: int
    at_import: bool


def _settings() -> dict[str, object]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["tool"]["setuptools"]


def _packages() -> dict[str, Path]:
    """Package name -> folder, as the wheel will have them."""
    settings = _settings()
    folders = settings["package-dir"]
    assert isinstance(folders, dict)

    def folder(package: str) -> Path:
        if package in folders:
            return ROOT / folders[package]
        parent, _, last = package.rpartition(".")
        return folder(parent) / last

    packages = settings["packages"]
    assert isinstance(packages, list)
    return {package: folder(package) for package in packages}


def _modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the project."""
    return {
        package if path.stem == "__init__" else f"{package}.{path.stem}": path
        for package, folder in _packages().items()
        for path in sorted(folder.glob("*.py"))
    }


MODULES = _modules()


def _room(module: str) -> str:
    if module in GROUND:
        return "ground"
    second = module.split(".")[1] if "." in module else ""
    return second if second in MAY_IMPORT else "face"


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module named by a ``from`` import that stands in a module of ``package``."""
    if not node.level:
        return node.module or ""
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _runs_later(node: ast.AST) -> bool:
    """Functions, and what is only for the type checker."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _found(node: ast.AST, package: str, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, at_import)
    elif isinstance(node, ast.ImportFrom):
        source = _absolute(node, package)
        for alias in node.names:
            full = f"{source}.{alias.name}"
            yield Import(full if full in MODULES else source, node.lineno, at_import)
    for child in ast.iter_child_nodes(node):
        yield from _found(child, package, at_import and not _runs_later(node))


def _imports(module: str) -> list[Import]:
    path = MODULES[module]
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return list(_found(tree, package, at_import=True))


def _top(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_rooms_it_may_know(module: str) -> None:
    room = _room(module)
    wrong = [
        f"line {found.line}: {found.target} (room {_room(found.target)})"
        for found in _imports(module)
        if _top(found.target) == "numba_mlir" and _room(found.target) not in MAY_IMPORT[room]
    ]
    assert not wrong, f"{module} (room {room}) imports {wrong}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_only_one_module_imports_the_bindings(module: str) -> None:
    wrong = [found for found in _imports(module) if _top(found.target) in BINDINGS]
    assert not wrong or module == "numba_mlir.mlir"


@pytest.mark.parametrize("module", sorted(m for m in MODULES if _room(m) == "passes"))
def test_passes_do_not_know_numba(module: str) -> None:
    targets = {found.target for found in _imports(module)}
    assert not {t for t in targets if _top(t) in {"numba", "llvmlite"}}
    assert not {t for t in targets if _room(t) == "ground" and t in GROUND - GROUND_FOR_PASSES}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_gpu_back_ends_are_imported_only_when_chosen(module: str) -> None:
    backends = "numba_mlir.gpu.backends"
    drivers = {"dpctl", "dpnp", "cuda"}
    if module.startswith(backends):
        return
    eager = [found for found in _imports(module) if found.at_import]
    assert not [f for f in eager if f.target.startswith(backends) or _top(f.target) in drivers]


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some cycle of the graph as a list of its nodes, or an empty list."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if found := visit(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {
        module: {
            found.target
            for found in _imports(module)
            if found.at_import and found.target in MODULES and found.target != module
        }
        for module in MODULES
    }
    assert not _cycle(graph)


def test_every_package_of_the_mapped_folders_is_listed() -> None:
    packages = _packages()
    folders = _settings()["package-dir"]
    assert isinstance(folders, dict)
    on_disk = {
        init.parent for folder in folders.values() for init in (ROOT / folder).rglob("__init__.py")
    }
    assert on_disk == set(packages.values())


def test_no_module_stands_outside_a_package() -> None:
    listed = set(MODULES.values())
    folders = _settings()["package-dir"]
    assert isinstance(folders, dict)
    files = {path for folder in folders.values() for path in (ROOT / folder).rglob("*.py")}
    assert files == listed


def test_the_table_of_rooms_has_no_exceptions_left_over() -> None:
    """The names in GROUND are modules; a renamed one must not go unnoticed."""
    assert set(MODULES) >= GROUND


def test_importing_the_package_does_not_import_the_bindings() -> None:
    code = "import sys, numba_mlir; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert not BINDINGS & set(result.stdout.split())
