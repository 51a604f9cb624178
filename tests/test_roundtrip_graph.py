"""Dominators, frontiers, loops and liveness of small graphs; no Numba in sight."""

from __future__ import annotations

import itertools
import random

import pytest

from numba_mlir.roundtrip import graph
from numba_mlir.roundtrip.graph import EXIT, Accesses, Loop

#   0 → 1 → 2 → 4, 1 → 3 → 4 → 1, 4 → 5: an if inside a loop
BRANCH_IN_LOOP = {0: [1], 1: [2, 3], 2: [4], 3: [4], 4: [1, 5], 5: []}
#   0 → 1 → 2 → 3 → 2, 3 → 1, 1 → 4: a loop in a loop
NESTED = {0: [1], 1: [2, 4], 2: [3], 3: [2, 1], 4: []}
#   0 → 1, 0 → 2, 1 ↔ 2, 2 → 3: a cycle with two ways in
IRREDUCIBLE = {0: [1, 2], 1: [2], 2: [1, 3], 3: []}


def random_graph(seed: int, size: int = 9) -> dict[int, list[int]]:
    """A graph with some unreachable blocks; nothing jumps to the entry, 0."""
    rng = random.Random(seed)
    return {
        label: sorted(rng.sample(range(1, size), rng.choice((0, 1, 1, 2, 2))))
        for label in range(size)
    }


def reachable(edges: dict[int, list[int]], start: int, without: int | None = None) -> set[int]:
    seen: set[int] = set()
    work = [start]
    while work:
        label = work.pop()
        if label not in seen and label != without:
            seen.add(label)
            work.extend(edges[label])
    return seen


def dominators(edges: dict[int, list[int]], entry: int) -> dict[int, set[int]]:
    """By definition: ``a`` dominates ``b`` if removing ``a`` makes ``b`` unreachable."""
    alive = reachable(edges, entry)
    return {b: {a for a in alive if a == b or b not in reachable(edges, entry, a)} for b in alive}


def test_reverse_postorder_has_blocks_behind_their_dominators() -> None:
    order = graph.reverse_postorder(BRANCH_IN_LOOP, 0)
    assert order[:2] == [0, 1] and order[-1] == 5
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    assert order.index(4) > max(order.index(2), order.index(3))


def test_unreachable_blocks_are_left_out() -> None:
    edges = {0: [2], 1: [2], 2: []}
    assert graph.reverse_postorder(edges, 0) == [0, 2]
    assert graph.immediate_dominators(edges, 0) == {0: 0, 2: 0}
    assert graph.predecessors(edges) == {0: [], 1: [], 2: [0, 1]}


def test_long_chain_needs_no_recursion() -> None:
    chain = {label: [label + 1] for label in range(5000)} | {5000: []}
    assert graph.reverse_postorder(chain, 0) == list(range(5001))
    assert graph.immediate_dominators(chain, 0)[5000] == 4999


@pytest.mark.parametrize(
    ("edges", "idom"),
    [
        (BRANCH_IN_LOOP, {0: 0, 1: 0, 2: 1, 3: 1, 4: 1, 5: 4}),
        (NESTED, {0: 0, 1: 0, 2: 1, 3: 2, 4: 1}),
        (IRREDUCIBLE, {0: 0, 1: 0, 2: 0, 3: 2}),
    ],
)
def test_immediate_dominators(edges: dict[int, list[int]], idom: dict[int, int]) -> None:
    assert graph.immediate_dominators(edges, 0) == idom


@pytest.mark.parametrize("seed", range(30))
def test_dominance_is_what_its_definition_says(seed: int) -> None:
    edges = random_graph(seed)
    idom = graph.immediate_dominators(edges, 0)
    expected = dominators(edges, 0)
    assert idom.keys() == expected.keys()
    for a, b in itertools.product(idom, repeat=2):
        assert graph.dominates(idom, a, b) == (a in expected[b])


@pytest.mark.parametrize("seed", range(30))
def test_frontiers_are_what_their_definition_says(seed: int) -> None:
    """``b`` is in the frontier of ``a``: ``a`` dominates a predecessor of it, but not itself."""
    edges = random_graph(seed)
    idom = graph.immediate_dominators(edges, 0)
    dominated_by = dominators(edges, 0)
    expected = {
        a: {
            b
            for b in idom
            if any(p in idom and b in edges[p] and a in dominated_by[p] for p in edges)
            and not (a in dominated_by[b] and a != b)
        }
        for a in idom
    }
    assert graph.dominance_frontiers(edges, idom) == expected


def test_frontier_of_a_loop_header_is_itself() -> None:
    frontiers = graph.dominance_frontiers(
        BRANCH_IN_LOOP, graph.immediate_dominators(BRANCH_IN_LOOP, 0)
    )
    assert frontiers == {0: set(), 1: {1}, 2: {4}, 3: {4}, 4: {1}, 5: set()}


def test_postdominators_meet_at_the_exit() -> None:
    edges = {0: [1, 2], 1: [], 2: [3], 3: []}
    reverse = graph.reversed_graph(edges)
    assert reverse == {0: [], 1: [0], 2: [0], 3: [2], EXIT: [1, 3]}
    assert graph.immediate_dominators(reverse, EXIT) == {
        EXIT: EXIT,
        1: EXIT,
        3: EXIT,
        2: 3,
        0: EXIT,
    }


def test_endless_loop_has_no_postdominator() -> None:
    reverse = graph.reversed_graph({0: [1, 2], 1: [1], 2: []})
    assert graph.immediate_dominators(reverse, EXIT) == {EXIT: EXIT, 2: EXIT, 0: 2}


def test_natural_loops() -> None:
    loops = graph.natural_loops(NESTED, graph.immediate_dominators(NESTED, 0))
    assert loops == {1: Loop(1, {1, 2, 3}, [3]), 2: Loop(2, {2, 3}, [3])}
    assert loops[1].exits(NESTED) == [(1, 4)]
    assert loops[2].exits(NESTED) == [(3, 1)]


def test_continue_makes_a_second_latch_and_break_a_second_exit() -> None:
    edges = {0: [1], 1: [2, 5], 2: [1, 3], 3: [5, 4], 4: [1], 5: []}
    (loop,) = graph.natural_loops(edges, graph.immediate_dominators(edges, 0)).values()
    assert loop.body == {1, 2, 3, 4} and sorted(loop.latches) == [2, 4]
    assert loop.exits(edges) == [(1, 5), (3, 5)]


def test_irreducible_cycle_is_no_loop() -> None:
    assert graph.natural_loops(IRREDUCIBLE, graph.immediate_dominators(IRREDUCIBLE, 0)) == {}


def test_block_that_jumps_to_itself() -> None:
    edges = {0: [1], 1: [1, 2], 2: []}
    loops = graph.natural_loops(edges, graph.immediate_dominators(edges, 0))
    assert loops == {1: Loop(1, {1}, [1])}


def access(uses: str = "", kills: str = "", maybe: str = "") -> Accesses:
    return Accesses(frozenset(uses), frozenset(kills), frozenset(kills + maybe))


def test_a_read_behind_an_assignment_is_no_use_of_a_block() -> None:
    block = graph.summarise([access("a", "b"), access("bc", maybe="d"), access("d", "a")])
    assert block == access("acd", "ab", "d")


def test_liveness() -> None:
    summaries = {
        0: access("", "xn"),
        1: access("n"),
        2: access("x", "y"),
        3: access("", "y"),
        4: access("y", "x"),
        5: access("x"),
    }
    live = graph.live_in(BRANCH_IN_LOOP, summaries.__getitem__)
    assert {label: "".join(sorted(names)) for label, names in live.items()} == {
        0: "", 1: "nx", 2: "nx", 3: "n", 4: "ny", 5: "x",
    }  # fmt: skip


def test_what_may_be_assigned_stays_alive() -> None:
    edges: dict[int, list[int]] = {0: [1], 1: []}
    summaries = {0: access(maybe="s"), 1: access("s")}
    assert graph.live_in(edges, summaries.__getitem__)[0] == {"s"}


def test_live_at_exit_reaches_every_block_without_successor() -> None:
    edges: dict[int, list[int]] = {0: [1, 2], 1: [], 2: []}
    summaries = {0: access(), 1: access(kills="s"), 2: access()}
    live = graph.live_in(edges, summaries.__getitem__, frozenset("s"))
    assert live == {0: {"s"}, 1: frozenset(), 2: {"s"}}
