"""Which functions of the C library have versions for vectors, and where they are.

glibc has them in libmvec (x86-64 since 2.22, most functions since 2.35; AArch64 since 2.38).
Their names follow the Vector Function ABI: ``_ZGV`` instruction set, ``N`` (no mask), number of
lanes, one ``v`` for each argument, ``_`` and the name of the scalar function.
Where there is no such library, functions stay scalar.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from dataclasses import dataclass

import llvmlite.binding as llvm

_LIBRARY = "libmvec.so.1"
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


@functools.cache
def library() -> ctypes.CDLL | None:
    """glibc's vector functions; None where there are none."""
    if platform.machine() not in _SETS:
        return None
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def identity() -> str:
    """The library and its version, for the key of the on-disk cache."""
    if library() is None:
        return "no vector functions"
    return f"{_LIBRARY} {platform.libc_ver()[1]}"


def load() -> None:
    """Make the functions known to LLVM, in every process before code that calls them runs.

    Raises OSError where there is no such library.
    """
    llvm.load_library_permanently(_LIBRARY)


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


@functools.cache
def variants(symbol: str) -> tuple[tuple[str, str], ...]:
    """The vector versions of a scalar function: (name as LLVM's attribute has it, declaration)."""
    found = []
    for one in _sets():
        name = vector_name(symbol, one)
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
        name = vector_name(symbol, one)
        if name is not None:
            return name, _lanes(symbol, one)
    return None


def vector_name(symbol: str, one: InstructionSet) -> str | None:
    """The version of ``symbol`` for an instruction set; None where the library has none."""
    name = f"_ZGV{one.code}N{_lanes(symbol, one)}{'v' * _arity(symbol)}_{symbol}"
    known = library()
    return name if known is not None and hasattr(known, name) else None


def _is_single(symbol: str) -> bool:
    return symbol.endswith("f") and symbol != "erf"


def _arity(symbol: str) -> int:
    name = symbol.removesuffix("f") if _is_single(symbol) else symbol
    return 2 if name in _BINARY else 1


def _lanes(symbol: str, one: InstructionSet) -> int:
    return one.bits // (32 if _is_single(symbol) else 64)
