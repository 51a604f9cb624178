"""Random functions behave alike before and after fusion, whatever their arguments overlap.

Compared are results, the caller's arrays, what opaque statements saw, what was raised,
and that no loop newly accesses overlapping arrays through different values.  A function
whose result depends on the order of its parallel iterations is not compared.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from interpreter import Outcome, execute
from ir_check import parse
from random_ir import Generator, arguments

from numba_mlir.passes import fusion, legality, motion
from numba_mlir.passes.forwarding import Forwarder
from numba_mlir.passes.fusion import Fusion
from numba_mlir.passes.provenance import Provenance

SEEDS = range(96)
ARGUMENT_KINDS = 5
ARRAYS = 4


def _run(module: Any, kind: int, order: int) -> tuple[Outcome, list[Any]] | None:
    """One execution and the arguments after it; None when an access is out of bounds."""
    values = arguments(kind)
    try:
        return execute(module, values, order), values
    except IndexError:
        return None


def _lists(values: list[Any]) -> list[Any]:
    return [np.asarray(value).tolist() for value in values]


def _visible(run: tuple[Outcome, list[Any]]) -> Any:
    outcome, values = run
    return outcome.raised, _lists(outcome.results), _lists(values[:ARRAYS]), outcome.log


def _depends_on_order(module: Any, kind: int, orders: range) -> bool:
    first, *others = (_run(module, kind, order) for order in orders)
    return any(run is None or first is None or _visible(run) != _visible(first) for run in others)


def _difference(before: Any, after: Any, kind: int, counts: Counter[str]) -> str | None:
    """What differs between two modules for one kind of arguments."""
    reference = _run(before, kind, 0)
    if reference is None or _depends_on_order(before, kind, range(3)):
        return None
    counts["compared"] += 1
    run = _run(after, kind, 7)
    if run is None:
        return "an access is out of bounds"
    old, new = reference[0], run[0]
    if not old.hazards and new.hazards:
        return "a loop accesses overlapping arrays"
    if old.raised is None:
        same = _visible(reference) == _visible(run)
    else:
        counts["raised"] += 1
        same = (old.raised, old.log) == (new.raised, new.log) and not _new_stores(
            arguments(kind), reference[1], run[1]
        )
    # A rare order of iterations may show a race that three orders did not.
    if same or _depends_on_order(before, kind, range(40)):
        return None
    return f"{_visible(reference)} became {_visible(run)}"


def _new_stores(start: list[Any], old: list[Any], new: list[Any]) -> bool:
    """Whether ``new`` has a changed element that ``old``, which raised too, has not."""
    for a, b, c in zip(start[:ARRAYS], old[:ARRAYS], new[:ARRAYS], strict=True):
        changed = np.asarray(a) != np.asarray(c)
        if (np.asarray(b)[changed] != np.asarray(c)[changed]).any():
            return True
    return False


def _differences(seeds: range, counts: Counter[str]) -> list[str]:
    found = []
    for seed in seeds:
        text = Generator(seed).function()
        before, after = parse(text), parse(text)
        result = Fusion().run(after)
        assert after.operation.verify()
        if not result.modified:
            assert str(before) == str(after)
            continue
        counts["fused"] += 1
        counts["guarded"] += "numba.disjoint" in str(after)
        for kind in range(ARGUMENT_KINDS):
            difference = _difference(before, after, kind, counts)
            if difference is not None:
                found.append(f"seed {seed}, arguments {kind}: {difference}")
    return found


@pytest.mark.parametrize("part", range(4))
def test_random_functions_behave_alike(part: int) -> None:
    counts: Counter[str] = Counter()
    size = len(SEEDS) // 4
    assert _differences(SEEDS[part * size : (part + 1) * size], counts) == []
    assert counts["fused"] > size // 3, counts
    assert counts["compared"] > size, counts
    assert counts["guarded"] > 0, counts


#: a rule that fusion must not be without -> what takes its place
BROKEN: dict[str, tuple[Any, str, Any]] = {
    "equal elements mean equal iterations": (legality, "_same_iteration", lambda *_: True),
    "arguments may overlap": (Provenance, "may_alias", lambda _, left, right, at: left is right),
    "memory orders operations": (motion, "_memory_obstacle", lambda *_: None),
    "statements stay in order": (motion, "_opaque_obstacle", lambda *_: None),
    "stores forget what was known": (Forwarder, "_forget_root", lambda *_: None),
    "bounds are equal": (fusion, "_bounds_differ", lambda a, b, _: a.rank - b.rank or None),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_the_comparison_notices_a_missing_rule(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BROKEN[rule])
    more = range(10 * len(SEEDS))  # few of the functions need the rule; the first one will do
    assert any(_differences(range(seed, seed + 1), Counter()) for seed in more)
