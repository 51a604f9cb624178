"""Run tests of Numba's own with our passes in every compilation of the process.

    python numba_tests.py HOOK PART PARTS

``HOOK`` is one of `numba_mlir.testing`.  Of the tests of `MODULES` those run whose name's CRC
is ``PART`` modulo ``PARTS``.  Prints JSON: how many ran, what failed and why, and how much the
passes did.  ``numba_suite.json`` has the tests that may fail, with reasons.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import unittest
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# test_parfors runs most of its classes in processes of their own, unless this is one.
os.environ["SUBPROC_TEST"] = "1"

from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import DefaultPassBuilder

from numba_mlir import testing
from numba_mlir.roundtrip import threads

MODULES = (
    "test_array_analysis", "test_array_exprs", "test_array_reductions", "test_comprehension",
    "test_ir_inlining", "test_parfors", "test_parfors_caching", "test_parfors_passes",
    "test_remove_dead", "test_stencils",
)  # fmt: skip
REASONS = Path(__file__).parents[1] / "numba_suite.json"
#: what many tests look for in LLVM IR to see that a loop is parallel
_SCHEDULERS = "; @do_scheduling_signed @do_scheduling_unsigned"


def main(name: str, part: int, parts: int) -> dict[str, Any]:
    hook = getattr(testing, name)
    _install(hook)
    tests = [t for t in _all_tests() if zlib.crc32(t.id().encode()) % parts == part]
    result = _Result()
    with contextlib.redirect_stdout(io.StringIO()):
        unittest.TestSuite(tests).run(result)
    listed = json.loads(REASONS.read_text()).get(name, {})
    failed = {t.id(): text for t, text in (*result.failures, *result.errors)}
    return {
        "ran": result.testsRun - len(result.skipped),
        "failed": {
            one: text
            for one, text in failed.items()
            if one not in listed or "@do_scheduling" in listed[one]
        },
        "stats": hook.stats(),
    }


class _Result(unittest.TestResult):
    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, test, err)  # named as the whole test


def _install(hook: Any) -> None:
    original = DefaultPassBuilder.define_nopython_pipeline

    def define(state: Any, name: str = "nopython") -> Any:
        pm = original(state, name)
        pm._finalized = False
        hook(pm, state)
        pm.finalize()
        return pm

    DefaultPassBuilder.define_nopython_pipeline = staticmethod(define)  # pyright: ignore
    plain = CPUCodeLibrary.get_llvm_str

    def text(self: Any) -> str:
        found = plain(self)
        return f"{found}\n{_SCHEDULERS}\n" if f"@{threads.RUN}(" in found else found

    CPUCodeLibrary.get_llvm_str = text


def _all_tests() -> list[unittest.TestCase]:
    loader = unittest.defaultTestLoader
    suites = [loader.loadTestsFromName(f"numba.tests.{module}") for module in MODULES]
    return sorted({t.id(): t for suite in suites for t in _flat(suite)}.values(), key=_id)


def _id(test: unittest.TestCase) -> str:
    return test.id()


def _flat(suite: Any) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flat(item)
        else:
            yield item


if __name__ == "__main__":
    report = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(report))
