"""Which functions of the C library have versions for vectors, and where they are.

glibc has them in libmvec (x86-64 since 2.22, most functions since 2.35; AArch64 since 2.38).
Their names follow the Vector Function ABI: ``_ZGV`` instruction set, ``N`` (no mask), number of
lanes, one ``v`` for each argument, ``_`` and the name of the scalar function.
Intel's SVML (x86-64; the package intel-cmplr-lib-rt) has ``__svml_``, the name and the number of
lanes.  ``NUMBA_MLIR_VECTOR_LIBRARY`` says which is taken: by default libmvec, and SVML where there
is no libmvec; with ``svml`` SVML first.  Where there is neither, functions stay scalar.
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm

from numba_mlir import config
from numba_mlir.errors import InvalidFlagError

_LIBMVEC, _SVML = "libmvec.so.1", "libsvml.so"
#: functions of two arguments
_BINARY = frozenset({"pow", "atan2", "hypot"})


@dataclass(frozen=True)
class InstructionSet:
    """``code`` of the ABI, bits of a vector, and the feature that LLVM knows it by."""

    code: str
    bits: int
    feature: str


_SETS = {
    "x86_64": (
        InstructionSet("e", 512, "avx512f"),
        InstructionSet("d", 256, "avx2"),
        InstructionSet("b", 128, "sse4.1"),
    ),
    "aarch64": (InstructionSet("n", 128, "neon"),),
}


@dataclass(frozen=True)
class Library:
    """Functions of a library that is loaded; ``identity`` is its name and version.

    ``name_of`` gives the name of a scalar function's version for an instruction set.
    """

    handle: ctypes.CDLL
    identity: str
    name_of: Callable[[str, InstructionSet], str]


@functools.cache
def libmvec() -> Library | None:
    """glibc's vector functions; None where there are none."""
    if platform.machine() not in _SETS:
        return None
    try:
        handle = ctypes.CDLL(_LIBMVEC)
    except OSError:
        return None
    return Library(handle, f"{_LIBMVEC} {platform.libc_ver()[1]}", _abi_name)


@functools.cache
def svml() -> Library | None:
    """Intel's vector functions; None where they are not installed."""
    path = _svml_path()
    if platform.machine() != "x86_64" or path is None:
        return None
    try:
        # the library that it needs stands beside it, where the system does not look
        ctypes.CDLL(str(path.with_name("libintlc.so.5")), ctypes.RTLD_GLOBAL)
        handle = ctypes.CDLL(str(path))
    except OSError:
        return None
    return Library(handle, f"{_SVML} of {path.stat().st_size} bytes", _svml_name)


@functools.cache
def _svml_path() -> Path | None:
    """Where pip and conda put the library."""
    path = Path(sys.prefix, "lib", _SVML)
    return path if path.exists() else None


def _libraries() -> tuple[Library, ...]:
    """The libraries to look into, in this order.

    Raises InvalidFlagError where SVML is asked for and not there.
    """
    return _chosen(config.vector_library())


@functools.cache
def _chosen(wanted: str) -> tuple[Library, ...]:
    if wanted == "none":
        return ()
    intel = svml() if wanted in ("", "svml") else None
    if wanted == "svml" and intel is None:
        raise InvalidFlagError(
            f"{config.VECTOR_LIBRARY}=svml: there is no {_SVML} in {sys.prefix}/lib; "
            "pip install intel-cmplr-lib-rt"
        )
    found = (intel, libmvec()) if wanted == "svml" else (libmvec() or intel,)
    return tuple(one for one in found if one is not None)


def available() -> bool:
    """Whether there are vector functions."""
    return bool(_libraries())


def identity() -> str:
    """The libraries and their versions, for the key of the on-disk cache."""
    return ", ".join(one.identity for one in _libraries()) or "no vector functions"


def loaders(text: str) -> Iterator[Callable[[], None]]:
    """What has to be called in every process before code with this LLVM IR runs."""
    if "@_ZGV" in text:
        yield load
    if "@__svml_" in text:
        yield load_svml


def load() -> None:
    """Make the functions of libmvec known to LLVM.  Raises OSError where there is none."""
    llvm.load_library_permanently(_LIBMVEC)


def load_svml() -> None:
    """Make the functions of SVML known to LLVM.  Raises OSError where there is none."""
    if svml() is None:
        raise OSError(f"code that calls functions of {_SVML}, which is not installed")
    llvm.load_library_permanently(str(_svml_path()))


@functools.cache
def _sets() -> tuple[InstructionSet, ...]:
    """Instruction sets of this processor."""
    features = llvm.get_host_cpu_features()
    return tuple(s for s in _SETS.get(platform.machine(), ()) if features.get(s.feature))


def width() -> int:
    """Bits of this processor's widest vectors; 0 where they are not known."""
    return max((one.bits for one in _sets()), default=0)


def dividing_width() -> int:
    """Bits of vectors for loops that wait for the divider.

    Intel's is 256 bits wide: longer vectors divide no faster, and have fewer ports for the
    rest (A. Fog, "Instruction tables": VDIVPD and VSQRTPD take twice the cycles for ZMM).
    """
    intel = platform.machine() == "x86_64" and not llvm.get_host_cpu_name().startswith("znver")
    return min(width(), 256) if intel else width()


def variants(symbol: str) -> tuple[tuple[str, str], ...]:
    """The vector versions of a scalar function: (name as LLVM's attribute has it, declaration)."""
    return _variants(symbol, _libraries())


@functools.cache
def _variants(symbol: str, libraries: tuple[Library, ...]) -> tuple[tuple[str, str], ...]:
    found = []
    for one in _sets():
        name = _name(symbol, one, libraries)
        if name is not None:
            element = "float" if _is_single(symbol) else "double"
            vector = f"<{_lanes(symbol, one)} x {element}>"
            arguments = ", ".join([vector] * _arity(symbol))
            declaration = f"declare {vector} @{name}({arguments})"
            generic = f"_ZGV_LLVM_N{_lanes(symbol, one)}{'v' * _arity(symbol)}_{symbol}({name})"
            found.append((generic, declaration))
    return tuple(found)


def widest(symbol: str) -> tuple[str, int] | None:
    """The version for the longest vectors, and how many lanes they have."""
    for one in _sets()[:1]:
        name = _name(symbol, one, _libraries())
        if name is not None:
            return name, _lanes(symbol, one)
    return None


def _name(symbol: str, one: InstructionSet, libraries: tuple[Library, ...]) -> str | None:
    """The version of ``symbol`` for an instruction set; None where no library has one."""
    for library in libraries:
        name = library.name_of(symbol, one)
        if hasattr(library.handle, name):
            return name
    return None


def _abi_name(symbol: str, one: InstructionSet) -> str:
    return f"_ZGV{one.code}N{_lanes(symbol, one)}{'v' * _arity(symbol)}_{symbol}"


def _svml_name(symbol: str, one: InstructionSet) -> str:
    return f"__svml_{symbol}{_lanes(symbol, one)}"


def _is_single(symbol: str) -> bool:
    return symbol.endswith("f") and symbol != "erf"


def _arity(symbol: str) -> int:
    name = symbol.removesuffix("f") if _is_single(symbol) else symbol
    return 2 if name in _BINARY else 1


def _lanes(symbol: str, one: InstructionSet) -> int:
    return one.bits // (32 if _is_single(symbol) else 64)
