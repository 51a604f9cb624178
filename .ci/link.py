"""Lay out what the type checker reads, in build/types.

package/numba_mlir   the package as an installation has it, made of links to the files
untyped              stubs for the imported modules of Numba and llvmlite: their classes,
                     for isinstance, and "anything" for all else.  Both are hardly
                     annotated, Numba has a py.typed file all the same, and what is
                     inferred from their sources is mostly a base class without the
                     attribute in use

usage: python .ci/link.py      (with the Python of an environment that has Numba)
"""

from __future__ import annotations

import ast
import importlib.util
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TYPES = ROOT / "build" / "types"
UNTYPED = {"numba", "llvmlite"}
STUB = "from typing import Any\ndef __getattr__(name: str) -> Any: ...\n"
CLASS = "class {name}(Any): ...\n"


def mapped_folders() -> dict[str, str]:
    """Package -> top-level folder, from pyproject.toml."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"]["setuptools"]["package-dir"]


def link_package(folders: dict[str, str]) -> None:
    """Folders as packages will be, with links to the files in the checkout."""
    for name, folder in folders.items():
        package = (TYPES / "package").joinpath(*name.split("."))
        package.mkdir(parents=True)
        for path in (ROOT / folder).iterdir():
            if path.suffix in (".py", ".typed"):
                (package / path.name).symlink_to(path)


def imported(path: Path) -> Iterator[str]:
    """Dotted names that may be modules, of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in names if name.split(".")[0] in UNTYPED and source_of(name))


def source_of(module: str) -> Path | None:
    """The Python file of an installed module; None for one that is not Python."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{first} is not installed in this environment")
    path = Path(spec.origin).parent.joinpath(*rest)
    return next((p for p in (path / "__init__.py", path.with_suffix(".py")) if p.is_file()), None)


def stub_of(module: str) -> str:
    source = source_of(module)
    if source is None:
        return STUB
    tree = ast.parse(source.read_text(encoding="utf-8"), filename=str(source))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    public = [name for name in classes if not name.startswith("_")]
    return STUB + "".join(CLASS.format(name=name) for name in public)


def write_stubs(folders: dict[str, str]) -> None:
    """A stub for each imported module and for the packages around it."""
    files = [path for folder in folders.values() for path in (ROOT / folder).rglob("*.py")]
    names = {name for path in files for name in imported(path) if name.split(".")[0] in UNTYPED}
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            folder = (TYPES / "untyped").joinpath(*parts[:depth])
            folder.mkdir(parents=True, exist_ok=True)
            stub = stub_of(".".join(parts[:depth]))
            (folder / "__init__.pyi").write_text(stub, encoding="utf-8")


if __name__ == "__main__":
    shutil.rmtree(TYPES, ignore_errors=True)
    link_package(mapped_folders())
    write_stubs(mapped_folders())
