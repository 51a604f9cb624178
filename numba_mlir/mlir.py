"""The only module that imports MLIR's Python bindings.

An upstream ``mlir`` package is taken where there is one, else ``torch_mlir``
(the PyPI wheel of LLVM's torch-mlir project, which carries the upstream
bindings and dialects and does not need PyTorch).  Nothing is imported before
first use, so that a function that comes from the on-disk cache never pays for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import threading
from types import ModuleType
from typing import Any

from numba_mlir.errors import MissingMLIRError

#: import name of the package -> name of its distribution on PyPI
CANDIDATES = {"mlir": "mlir", "torch_mlir": "torch-mlir"}

_local = threading.local()


def _has_bindings(package: str) -> bool:
    try:
        return importlib.util.find_spec(f"{package}.ir") is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def package() -> str:
    """Import name of the package that provides the bindings.

    Raises MissingMLIRError when none is installed.
    """
    for name in CANDIDATES:
        if _has_bindings(name):
            return name
    raise MissingMLIRError(
        "no MLIR Python bindings found: install them with 'pip install torch-mlir' "
        f"(looked for the packages {', '.join(CANDIDATES)})"
    )


@functools.cache
def version() -> str:
    """Distribution name and version of the bindings, for cache keys and reports.

    Does not import the bindings.  ``"none"`` when they are not installed.
    """
    try:
        name = package()
    except MissingMLIRError:
        return "none"
    distribution = CANDIDATES[name]
    try:
        return f"{distribution} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name} (unknown version)"


def _module(path: str) -> ModuleType:
    return importlib.import_module(f"{package()}.{path}")


#: what ``from numba_mlir.mlir import X`` may ask for, and where it is
_MODULES = {
    "ir": "ir",
    "passmanager": "passmanager",
    "rewrite": "rewrite",
    **{
        d: f"dialects.{d}"
        for d in (
            "affine", "arith", "bufferization", "builtin", "cf", "complex", "ext", "func",
            "gpu", "index", "irdl", "linalg", "llvm", "math", "memref", "scf", "tensor",
            "transform", "ub", "vector",
        )
    },
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        module = _module(_MODULES[name])
        globals()[name] = module
        return module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def context() -> Any:
    """This thread's MLIR context, with the ``numba`` dialect loaded.

    A context is reused for every compilation of its thread and never across a fork.
    """
    owner = os.getpid()
    held = getattr(_local, "context", None)
    if held is not None and held[0] == owner:
        return held[1]
    if held is not None:
        # a parent's context: its threads and locks are not ours; never freed here
        _FORKED.append((held[1], _local.managers))
    from numba_mlir import dialect

    made = _module("ir").Context()
    made.allow_unregistered_dialects = True
    with made, _module("ir").Location.unknown(made):
        dialect.load()
    _local.context = (owner, made)
    _local.managers = {}
    return made


_FORKED: list[Any] = []


def run_pipeline(op: Any, pipeline: str) -> None:
    """Run a textual pass pipeline, e.g. ``"builtin.module(canonicalize,cse)"``, on ``op``.

    Raises MLIRError of the bindings, with its diagnostics, when a pass fails.
    """
    _manager(op.context, pipeline).run(op)


def _manager(context: Any, pipeline: str) -> Any:
    """The pass manager of a pipeline; for this thread's context it is kept.

    One that is made again collects and sorts the rewrite patterns of all dialects, which
    takes longer than to apply them to a function of usual size.
    """
    held = getattr(_local, "context", None)
    managers = _local.managers if held == (os.getpid(), context) else {}
    if pipeline not in managers:
        with context:
            managers[pipeline] = _module("passmanager").PassManager.parse(pipeline)
    return managers[pipeline]
