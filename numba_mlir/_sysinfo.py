"""The report of ``python -m numba_mlir -s``: what a bug report needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator

from numba_mlir import config, mlir
from numba_mlir.errors import MissingMLIRError

_ABSENT = "not installed"
#: distributions that decide what this project can do
_REQUIRED = ("numba-mlir-roundtrip", "numba", "llvmlite", "numpy")
_OPTIONAL = ("dpctl", "dpnp", "intel-opencl-rt", "cuda-core", "cuda-bindings")
_OTHER_VARIABLES = ("OCL_ICD_FILENAMES", "ONEAPI_DEVICE_SELECTOR", "CUDA_VISIBLE_DEVICES")


def report() -> str:
    """Sections of ``name : value`` lines, as ``numba -s`` writes them."""
    lines = ["System info:", "-" * 80]
    for title, rows in _sections():
        lines.append(f"__{title}__")
        lines += [f"{name:<45} : {value}" for name, value in rows]
        lines.append("")
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    yield (
        "Hardware and Python",
        [
            ("Machine", platform.machine()),
            ("CPU count", str(os.cpu_count())),
            ("Platform", platform.platform()),
            ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
            ("Executable", sys.executable),
        ],
    )
    yield "Versions", [(name, _version(name)) for name in _REQUIRED]
    yield "MLIR", list(_mlir())
    yield "Passes", list(_passes())
    yield "GPU back ends", [(name, _version(name)) for name in _OPTIONAL]
    yield "Environment variables", list(_variables())


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return _ABSENT


def _mlir() -> Iterator[tuple[str, str]]:
    yield "Bindings", mlir.version()
    try:
        yield "Import name", mlir.package()
        mlir.context()
    except MissingMLIRError as exc:
        yield "Error", str(exc)
    except Exception as exc:  # a report about a broken installation has to be complete
        yield "Error", f"the bindings do not load: {type(exc).__name__}: {exc}"
    else:
        yield "numba dialect", "loaded"


def _passes() -> Iterator[tuple[str, str]]:
    from numba_mlir.roundtrip.flags import FLAGS
    from numba_mlir.roundtrip.pipeline import STAGES

    for flag in FLAGS.values():
        if flag.stage is not None:
            yield flag.name, "available" if flag.stage in STAGES else "not in this version"


def _variables() -> Iterator[tuple[str, str]]:
    numba_ones = sorted(name for name in os.environ if name.startswith("NUMBA_"))
    names = dict.fromkeys((*config.VARIABLES, *numba_ones, *_OTHER_VARIABLES))
    for name in names:
        yield name, os.environ.get(name, "not set")
