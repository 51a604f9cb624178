"""Programs in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run(folder: Path, text: str, **environment: str) -> str:
    """What the program prints; its on-disk cache is in ``folder``."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    settings = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, "-P", str(file)], capture_output=True, text=True, env=settings, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
