"""Control-flow facts about Numba IR blocks: dominators, loops, liveness.

Graphs are plain ``{label: [labels of successors]}`` dicts, so that the same code serves
a function, the body of a Parfor and the reversed graph (post-dominators).
Dominators: Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Graph = Mapping[int, list[int]]

#: label of the virtual node behind every block without a successor
EXIT = -1


def reverse_postorder(graph: Graph, entry: int) -> list[int]:
    """Labels reachable from ``entry``, each before its successors except along back edges."""
    order: list[int] = []
    seen = {entry}
    stack = [(entry, iter(graph.get(entry, ())))]
    while stack:
        label, successors = stack[-1]
        for successor in successors:
            if successor not in seen:
                seen.add(successor)
                stack.append((successor, iter(graph.get(successor, ()))))
                break
        else:
            order.append(label)
            stack.pop()
    order.reverse()
    return order


def between(graph: Graph, label: int, stop: int) -> set[int]:
    """Blocks on paths from ``label`` that do not go through ``stop``."""
    found: set[int] = set()
    work = [label]
    while work:
        block = work.pop()
        if block != stop and block not in found:
            found.add(block)
            work.extend(graph[block])
    return found


def predecessors(graph: Graph) -> dict[int, list[int]]:
    result: dict[int, list[int]] = {label: [] for label in graph}
    for label, successors in graph.items():
        for successor in successors:
            result.setdefault(successor, []).append(label)
    return result


def immediate_dominators(graph: Graph, entry: int) -> dict[int, int]:
    """Immediate dominator of every label reachable from ``entry`` (of ``entry``: itself)."""
    order = reverse_postorder(graph, entry)
    number = {label: i for i, label in enumerate(order)}
    preds = predecessors(graph)
    idom = {entry: entry}

    def meet(a: int, b: int) -> int:
        while a != b:
            while number[a] > number[b]:
                a = idom[a]
            while number[b] > number[a]:
                b = idom[b]
        return a

    changed = True
    while changed:
        changed = False
        for label in order[1:]:
            new: int | None = None
            for pred in preds[label]:
                if pred in idom:
                    new = pred if new is None else meet(pred, new)
            assert new is not None
            if idom.get(label) != new:
                idom[label] = new
                changed = True
    return idom


def dominates(idom: Mapping[int, int], a: int, b: int) -> bool:
    """Whether ``a`` is on every path from the entry to ``b``."""
    while b != a:
        parent = idom[b]
        if parent == b:
            return False
        b = parent
    return True


def dominance_frontiers(graph: Graph, idom: Mapping[int, int]) -> dict[int, set[int]]:
    """Where the dominance of each label ends.  The entry must have no predecessor."""
    frontiers: dict[int, set[int]] = {label: set() for label in idom}
    for label, preds in predecessors(graph).items():
        if label not in idom:
            continue
        reachable = [p for p in preds if p in idom]
        if len(reachable) < 2:
            continue
        for runner in reachable:
            while runner != idom[label]:
                frontiers[runner].add(label)
                runner = idom[runner]
    return frontiers


def reversed_graph(graph: Graph) -> dict[int, list[int]]:
    """The graph with edges turned round and ``EXIT`` in front of every block without successor."""
    result: dict[int, list[int]] = {label: [] for label in graph}
    result[EXIT] = []
    for label, successors in graph.items():
        for successor in successors:
            result[successor].append(label)
        if not successors:
            result[EXIT].append(label)
    return result


@dataclass
class Loop:
    """A natural loop: every block from which ``header`` is reached without leaving it."""

    header: int
    body: set[int] = field(default_factory=set)
    latches: list[int] = field(default_factory=list)

    def exits(self, graph: Graph) -> list[tuple[int, int]]:
        """Edges that leave the loop, as (block inside, block outside)."""
        return [(b, s) for b in sorted(self.body) for s in graph[b] if s not in self.body]


def natural_loops(graph: Graph, idom: Mapping[int, int]) -> dict[int, Loop]:
    """Loops by header label.  Edges into the middle of a cycle (irreducible) make none."""
    loops: dict[int, Loop] = {}
    preds = predecessors(graph)
    for label in idom:
        for successor in graph.get(label, ()):
            if not dominates(idom, successor, label):
                continue
            loop = loops.setdefault(successor, Loop(successor, {successor}))
            loop.latches.append(label)
            work = [label]
            while work:
                block = work.pop()
                if block not in loop.body:
                    loop.body.add(block)
                    work.extend(p for p in preds[block] if p in idom)
    return loops


@dataclass(frozen=True)
class Accesses:
    """What one statement or block does to variables, by name.

    ``uses`` are read before any definition of it; ``kills`` are always assigned;
    ``defs`` may be assigned (a superset of ``kills``).
    """

    uses: frozenset[str]
    kills: frozenset[str]
    defs: frozenset[str]


def summarise(statements: Iterable[Accesses]) -> Accesses:
    uses: set[str] = set()
    kills: set[str] = set()
    defs: set[str] = set()
    for access in statements:
        uses |= access.uses - kills
        kills |= access.kills
        defs |= access.defs
    return Accesses(frozenset(uses), frozenset(kills), frozenset(defs))


def live_in(
    graph: Graph,
    access: Callable[[int], Accesses],
    live_at_exit: frozenset[str] = frozenset(),
) -> dict[int, frozenset[str]]:
    """Variables that some path from the start of each block reads before assigning.

    ``live_at_exit`` are read behind the blocks without successor.
    """
    live: dict[int, frozenset[str]] = {label: frozenset() for label in graph}
    preds = predecessors(graph)
    work = list(reversed(list(graph)))
    queued = set(work)
    while work:
        label = work.pop(0)
        queued.discard(label)
        behind: set[str] = set() if graph[label] else set(live_at_exit)
        for successor in graph[label]:
            behind |= live[successor]
        summary = access(label)
        new = summary.uses | (behind - summary.kills)
        if new != live[label]:
            live[label] = frozenset(new)
            for pred in preds[label]:
                if pred not in queued:
                    queued.add(pred)
                    work.append(pred)
    return live
