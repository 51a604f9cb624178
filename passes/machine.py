"""The machine's caches and registers, as the model of `tiling` needs to know them.

Sizes come from ``/sys/devices/system/cpu/cpu0/cache`` (Linux), else from ``sysconf``, else
they are the defaults below, which are on the small side of what is sold: a block that is
too small costs little, one that does not fit costs a lot.  The number of vector registers
follows from the instruction sets in ``/proc/cpuinfo``, else from the architecture.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import platform

_CPU = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
_CPUINFO = pathlib.Path("/proc/cpuinfo")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Bytes of the data caches that one core can use and of a cache line; lines in a set of
    L1; vector registers of one core; number of cores."""

    l1: int = 32 << 10
    l2: int = 256 << 10
    l3: int = 4 << 20
    line: int = 64
    ways: int = 8
    registers: int = 16
    cores: int = 1

    def __str__(self) -> str:
        sizes = ", ".join(
            f"{name} {size >> 10} KiB"
            for name, size in (("L1", self.l1), ("L2", self.l2), ("L3", self.l3))
        )
        return f"{sizes}, lines of {self.line} bytes, {self.registers} vector registers"


@functools.cache
def this_machine() -> Machine:
    """The machine that compiles."""
    found = _from_sysfs(_CPU) or _from_sysconf()
    registers = _registers(platform.machine(), _CPUINFO)
    return dataclasses.replace(Machine(), **found, registers=registers, cores=os.cpu_count() or 1)


def _registers(architecture: str, cpuinfo: pathlib.Path) -> int:
    """32 with AVX-512 (VL) and outside x86, where all common ones have 32; else 16."""
    if architecture not in ("x86_64", "AMD64", "i686", "i386"):
        return 32
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return 16
    flags = next((line for line in lines if line.startswith("flags")), "")
    return 32 if "avx512vl" in flags.split() else 16


def _from_sysfs(folder: pathlib.Path) -> dict[str, int]:
    """Sizes by field name from a folder in the layout of Linux's; {} when there is none."""
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")):
        try:
            if (index / "type").read_text().strip() == "Instruction":
                continue
            level = int((index / "level").read_text())
            size = _bytes((index / "size").read_text().strip())
            line = int((index / "coherency_line_size").read_text())
        except (OSError, ValueError):
            continue  # virtual machines hide some of these files
        if size > 0 and 1 <= level <= 3:
            found[f"l{level}"] = size
        if line > 0:
            found["line"] = line
        if level == 1 and (ways := _number(index / "ways_of_associativity")) > 0:
            found["ways"] = ways
    return found


def _number(file: pathlib.Path) -> int:
    """What a file says, 0 where there is none: fewer machines tell this than tell sizes."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _bytes(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text)


def _from_sysconf() -> dict[str, int]:
    """What C's library knows, which is nothing on some systems."""
    names = {
        "l1": "SC_LEVEL1_DCACHE_SIZE",
        "l2": "SC_LEVEL2_CACHE_SIZE",
        "l3": "SC_LEVEL3_CACHE_SIZE",
        "line": "SC_LEVEL1_DCACHE_LINESIZE",
        "ways": "SC_LEVEL1_DCACHE_ASSOC",
    }
    known = getattr(os, "sysconf_names", {})
    found = {field: os.sysconf(name) for field, name in names.items() if name in known}
    return {field: size for field, size in found.items() if size > 0}
