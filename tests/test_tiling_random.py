"""Random nests behave alike before and after tiling, whatever their arrays overlap.

Every update is of the form ``x = 3 * x + y``, so that another order of the updates of one
element gives another result.  Nests whose result depends on the order of their parallel
iterations are not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from interpreter import execute
from ir_check import parse
from random_nests import NestGenerator, nest_arguments

from numba_mlir.passes import blocking, costs, dependences
from numba_mlir.passes.dependences import ordered
from numba_mlir.passes.machine import Machine
from numba_mlir.passes.tiling import Tiling

MACHINE = Machine(l1=256, l2=8, cores=2)
KINDS = 8
SEEDS = range(120)


@pytest.fixture(autouse=True)
def _sums_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take sums of integers for sums of floats, and cut into blocks of a few iterations."""
    for module in (costs, blocking):
        monkeypatch.setattr(module, "is_chain", lambda statement, dim: dim in ordered(statement))
    monkeypatch.setattr(blocking, "ORDERED_TILE", 3)


def _run(module: Any, kind: int, order: int) -> tuple[Any, int]:
    values = nest_arguments(kind)
    outcome = execute(module, values, order)
    return [np.asarray(value).tolist() for value in values], outcome.hazards


def _difference(before: Any, after: Any, kind: int, counts: Counter[str]) -> str | None:
    expected, accepted = _run(before, kind, 0)
    if any(_run(before, kind, order)[0] != expected for order in (1, 2)):
        return None
    counts["compared"] += 1
    got, hazards = _run(after, kind, 7)
    if got == expected and (accepted or not hazards):
        return None
    if any(_run(before, kind, order)[0] != expected for order in range(3, 30)):
        return None
    return f"{expected} became {got}" if got != expected else "overlapping arrays are accessed"


def _differences(sizes: tuple[int, ...], seeds: range, counts: Counter[str]) -> Iterator[str]:
    for seed in seeds:
        text = NestGenerator(seed).function()
        before, after = parse(text), parse(text)
        result = Tiling(sizes, MACHINE).run(after)
        assert after.operation.verify()
        if not result.modified:
            assert str(before) == str(after)
            continue
        counts["tiled"] += 1
        for remark in result.remarks:
            for word in ("unrolled", "innermost", "blocks", "do not overlap", "order:"):
                counts[word] += word in remark.message
        for kind in range(KINDS):
            difference = _difference(before, after, kind, counts)
            if difference is not None:
                yield f"seed {seed}, arguments {kind}: {difference}"


@pytest.mark.parametrize("sizes", [(), (3, 2, 2)])
def test_random_nests_behave_alike(sizes: tuple[int, ...]) -> None:
    counts: Counter[str] = Counter()
    assert list(_differences(sizes, SEEDS, counts)) == []
    assert counts["tiled"] > len(SEEDS) // 5, counts
    assert counts["compared"] > 2 * counts["tiled"], counts
    wanted = ("blocks", "do not overlap") if sizes else ("unrolled", "innermost", "blocks")
    assert all(counts[word] for word in wanted), counts


#: a rule that tiling must not be without -> what takes its place
BROKEN: dict[str, tuple[str, Any]] = {
    "updates of an element stay in order": ("ordered", lambda statement: ()),
    "statements keep their order where they meet": ("_check_pair", lambda *_: None),
    "arrays may overlap": ("_guards", lambda *_: ()),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_missing_rule_is_noticed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, instead = BROKEN[rule]
    for module in (dependences, costs, blocking):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, instead)
    assert any(_differences((3, 2, 2), range(1000), Counter()))
