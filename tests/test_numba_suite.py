"""Tests of Numba's own with our passes in every compilation, each part in a process.

A sample; ``make numba-tests`` runs all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).parent / "support" / "numba_tests.py"
HOOKS = ("add_all", "add_codegen", "add_fusion", "add_tiling", "add_broadcast", "add_identity")
#: into how many parts the tests are cut; what a hook's sample begins with is its own number
PARTS = 40
SAMPLES = {"add_codegen": 2}


def pytest_generate_tests(metafunc: Any) -> None:
    everything = metafunc.config.getoption("--numba-tests") == "all"
    cases = []
    for number, hook in enumerate(HOOKS):
        count = PARTS if everything else SAMPLES.get(hook, 1)
        cases += [(hook, (number * 2 + part) % PARTS) for part in range(count)]
    metafunc.parametrize("hook, part", cases)


def test_numbas_tests_pass_with_our_passes(hook: str, part: int) -> None:
    command = [sys.executable, str(RUNNER), hook, str(part), str(PARTS)]
    # the tests of the cache look into folders of their own
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=1200, check=False, env=env
    )
    assert done.returncode == 0, done.stderr[-5000:]
    report = json.loads(done.stdout.splitlines()[-1])
    failed = [f"{name}\n{text}" for name, text in report["failed"].items()]
    assert not failed, "\n".join(failed)
    assert report["ran"] > 5
    stats = report["stats"]
    assert stats["kernels"] if hook == "add_codegen" else stats["functions_round_tripped"]
