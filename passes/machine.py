"""The machine's caches, as the cache model of `tiling` needs to know them.

Sizes come from ``/sys/devices/system/cpu/cpu0/cache`` (Linux), else from ``sysconf``, else
they are the defaults below, which are on the small side of what is sold: a block that is
too small costs little, one that does not fit costs a lot.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib

_CPU = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Bytes of the data caches that one core can use and of a cache line; number of cores."""

    l1: int = 32 << 10
    l2: int = 256 << 10
    l3: int = 4 << 20
    line: int = 64
    cores: int = 1

    def __str__(self) -> str:
        sizes = ", ".join(
            f"{name} {size >> 10} KiB"
            for name, size in (("L1", self.l1), ("L2", self.l2), ("L3", self.l3))
        )
        return f"{sizes}, lines of {self.line} bytes"


@functools.cache
def this_machine() -> Machine:
    """The caches of the machine that compiles."""
    found = _from_sysfs(_CPU) or _from_sysconf()
    return dataclasses.replace(Machine(), **found, cores=os.cpu_count() or 1)


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
    return found


def _bytes(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text)


def _from_sysconf() -> dict[str, int]:
    """What C's library knows, which is nothing on some systems."""
    names = {
        "l1": "SC_LEVEL1_DCACHE_SIZE",
        "l2": "SC_LEVEL2_CACHE_SIZE",
        "l3": "SC_LEVEL3_CACHE_SIZE",
        "line": "SC_LEVEL1_DCACHE_LINESIZE",
    }
    known = getattr(os, "sysconf_names", {})
    found = {field: os.sysconf(name) for field, name in names.items() if name in known}
    return {field: size for field, size in found.items() if size > 0}
