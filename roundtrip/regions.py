"""Import of control flow.

``import_cfg`` keeps a control-flow graph as blocks with ``cf`` branches and turns variables
into SSA values (Cytron et al., "Efficiently computing static single assignment form", 1991,
pruned by liveness).  It serves the function itself and those pieces of a parallel body that
have no structured form.

``StructuredImporter`` turns the body of a Parfor into ``scf.for``, ``scf.while`` and
``scf.if``; a piece that it cannot structure (a loop left by ``break``) becomes an
``scf.execute_region`` around blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters import build, sizefacts, statements
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import names_read
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.roundtrip import graph, ranges
from numba_mlir.roundtrip.accesses import AccessTable, block_graph
from numba_mlir.roundtrip.graph import EXIT, Accesses

#: label of the block in front of the entry block
START = -2


@dataclass
class BlockSet:
    """Numba blocks with what is known about their control flow and variables."""

    accesses: AccessTable
    blocks: Mapping[int, Any]
    entry: int
    live_at_exit: frozenset[str] = frozenset()
    graph: dict[int, list[int]] = field(init=False)
    summaries: dict[int, Accesses] = field(init=False)
    live: dict[int, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.graph = block_graph(self.blocks)
        self.summaries = {n: self.accesses.of_block(b.body) for n, b in self.blocks.items()}
        self.live = graph.live_in(self.graph, self.summaries.__getitem__, self.live_at_exit)

    def live_after(self, label: int) -> frozenset[str]:
        """Variables read behind the end of a block."""
        successors = self.graph[label]
        if not successors:
            return self.live_at_exit
        return frozenset().union(*(self.live[s] for s in successors))

    def assigned(self, labels: set[int]) -> set[str]:
        return set().union(*(self.summaries[n].defs for n in labels))


def convert_statements(
    frame: Frame,
    env: Env,
    body: list[Any],
    live_behind: frozenset[str],
    iterators: ranges.Ranges | None = None,
) -> None:
    """Import straight-line statements; Parfors learn which variables are read behind them.

    Statements of ``iterators`` become part of an ``scf.for`` later and are passed over.
    """
    needed: list[frozenset[str]] = []
    live = set(live_behind)
    for stmt in reversed(body):
        needed.append(frozenset(live))
        access = frame.accesses.of_statement(stmt)
        live = (live - access.kills) | access.uses
    for stmt, live_after in zip(body, reversed(needed), strict=True):
        if iterators is not None and id(stmt) in iterators.absorbed:
            iterators.remember(env, stmt)
            continue
        frame.live_after = live_after
        statements.convert(frame, env, stmt)


class RangeLoops(Protocol):
    """Loops of a control-flow graph that are imported as one structured operation each."""

    loops: Mapping[int, graph.Loop]
    iterators: ranges.Ranges

    def collapse(self, control: dict[int, list[int]]) -> None:
        """Leave of each loop its header, from which control goes behind the loop."""
        ...

    def build(self, frame: Frame, blocks: BlockSet, header: int, env: Env) -> int:
        """Import a loop at the insertion point; returns the label of the block behind it."""
        ...


# -- control-flow graphs -------------------------------------------------------
class CfgImporter:
    """Imports blocks into the blocks of one MLIR region, with block arguments for variables.

    ``exit_label`` is a block outside the set to which control leaves (``None``: the blocks
    end in ``return`` or ``raise``); ``results`` are the variables needed there.
    Headers of ``counted`` loops take a counter as their last argument.
    """

    def __init__(
        self,
        frame: Frame,
        blocks: BlockSet,
        labels: set[int],
        entry: int,
        exit_label: int | None = None,
        results: tuple[str, ...] = (),
        loops: RangeLoops | None = None,
        counted: ranges.Ranges | None = None,
    ) -> None:
        self.frame, self.blocks, self.entry = frame, blocks, entry
        self.loops = loops
        self.counted: Mapping[int, ranges.Counted] = {} if counted is None else counted.loops
        self.iterators = counted if loops is None else loops.iterators
        self.bounds: dict[int, ranges.Bounds] = {}
        self.exit, self.results = exit_label, results
        inner = set(labels) | ({exit_label} if exit_label is not None else set())
        self.graph: dict[int, list[int]] = {START: [entry]}
        for label in labels:
            self.graph[label] = [s for s in blocks.graph[label] if s in inner]
        if exit_label is not None:
            self.graph[exit_label] = []
        if loops is not None:
            loops.collapse(self.graph)
        self.idom = graph.immediate_dominators(self.graph, START)
        self.ways = Counter(target for targets in self.graph.values() for target in targets)
        self.params = self._place_params()
        self.mlir_blocks: dict[int, Any] = {}
        self.envs: dict[int, Env] = {}

    def _defs(self, label: int) -> set[str] | frozenset[str]:
        loop = None if self.loops is None else self.loops.loops.get(label)
        own = self.blocks.summaries[label].defs
        return own if loop is None else self.blocks.assigned(loop.body)

    def _live(self, label: int) -> set[str] | frozenset[str]:
        return set(self.results) if label == self.exit else self.blocks.live[label]

    def _place_params(self) -> dict[int, list[str]]:
        """Which variables each block takes as arguments."""
        frontiers = graph.dominance_frontiers(self.graph, self.idom)
        sites: dict[str, set[int]] = {}
        for label in self.idom:
            if label in (START, self.exit):
                continue
            for name in self._defs(label):
                sites.setdefault(name, set()).add(label)
        params: dict[int, set[str]] = {label: set() for label in self.idom}
        for name, labels in sites.items():
            work = list(labels)
            while work:
                for label in frontiers[work.pop()]:
                    if name not in params[label] and name in self._live(label):
                        params[label].add(name)
                        if label not in labels:
                            work.append(label)
        return {label: sorted(names) for label, names in params.items()}

    def run(self, region: Any, env: Env, entry_block: Any) -> Any:
        """Fill ``region``; ``entry_block`` is its (empty) first block.

        Returns the MLIR block of ``exit_label``, whose arguments are its params.
        """
        frame = self.frame
        order = graph.reverse_postorder(self.graph, START)
        for label in order[1:]:
            kinds = [frame.mlir_type(frame.type_of(n)) for n in self.params[label]]
            locs = [mlir.ir.Location.name(n) for n in self.params[label]]
            if label in self.counted:
                kinds.append(build.index_type())
                locs.append(mlir.ir.Location.name(self.counted[label].variable))
            self.mlir_blocks[label] = region.blocks.append(*kinds, arg_locs=locs)
        self.envs[START] = env
        with mlir.ir.InsertionPoint(entry_block), mlir.ir.Location.unknown():
            self._branch(env, self.entry)
        for label in order[1:]:
            block_env = Env(self.envs[self.idom[label]])
            self.envs[label] = block_env
            # without the counter
            arguments = list(self.mlir_blocks[label].arguments)[: len(self.params[label])]
            for name, argument in zip(self.params[label], arguments, strict=True):
                block_env[name] = Slot(frame.type_of(name), argument)
            if label != self.exit:
                with mlir.ir.InsertionPoint(self.mlir_blocks[label]):
                    self._block(label, block_env)
        return None if self.exit is None else self.mlir_blocks.get(self.exit)

    def _block(self, label: int, env: Env) -> None:
        if self.loops is not None and label in self.loops.loops:
            self._branch(env, self.loops.build(self.frame, self.blocks, label, env))
            return
        *body, last = self.blocks.blocks[label].body
        if label in self.counted:
            self._count(label, env, last)
        convert_statements(self.frame, env, body, self._needed_by(label, last), self.iterators)
        with self.frame.location(last.loc):
            self._terminator(label, env, last)

    def _count(self, header: int, env: Env, branch: Any) -> None:
        """The variable of a loop over ``range``, whether it has one, and the next count."""
        counted, steps = self.counted[header], self.bounds[header]
        count = self.mlir_blocks[header].arguments[-1]
        with self.frame.location(branch.loc):
            more = mlir.arith.cmpi(mlir.arith.CmpIPredicate.slt, count, steps.upper)
            env[branch.cond.name] = Slot(types.boolean, more)
            env[counted.variable] = steps.variable(self.frame, counted, count)
            following = build.value("arith.addi", (count, steps.step), count.type)
            env[_counter(header)] = Slot(types.intp, following)

    def _counts(self, env: Env, header: int) -> list[Any]:
        """What a branch to the header of a counted loop hands over as its counter."""
        if header not in self.counted:
            return []
        known = env.get(_counter(header))
        if known is not None:
            return [known.value]
        self.bounds[header] = ranges.bounds(self.frame, env, self.counted[header])
        return [self.bounds[header].lower]

    def _needed_by(self, label: int, last: Any) -> frozenset[str]:
        live = self.blocks.live_after(label) | self.blocks.accesses.of_statement(last).uses
        return live | frozenset(self.results) if self.exit is not None else live

    def _terminator(self, label: int, env: Env, last: Any) -> None:
        frame = self.frame
        if isinstance(last, ir.Jump):
            self._branch(env, last.target)
        elif isinstance(last, ir.Branch):
            condition = condition_value(frame, env, last)
            yes, no = (self._operands(env, t) for t in (last.truebr, last.falsebr))
            targets = self.mlir_blocks[last.truebr], self.mlir_blocks[last.falsebr]
            mlir.cf.CondBranchOp(condition, yes, no, *targets)
            if last.truebr != last.falsebr:
                self._tell_sizes(env.get(last.cond.name), last)
        elif isinstance(last, ir.Return):
            build.op("func.return", [frame.use(env, last.value.name).value])
        elif isinstance(last, (ir.Raise, ir.StaticRaise, ir.DynamicRaise)):
            frame.opaque(env, last, names_read(last), ())
            build.op("ub.unreachable")
        else:
            raise UnsupportedConstruct(f"{type(last).__name__} at the end of a block", last.loc)

    def _tell_sizes(self, slot: Slot | None, branch: Any) -> None:
        """Note what the condition of a branch says in blocks that have no other way to them."""
        for target, value in ((branch.truebr, True), (branch.falsebr, False)):
            if self.ways[target] == 1:
                sizefacts.tell(slot, self.mlir_blocks[target], value)

    def _operands(self, env: Env, target: int) -> list[Any]:
        values = [self.frame.use(env, name).value for name in self.params[target]]
        return values + self._counts(env, target)

    def _branch(self, env: Env, target: int) -> None:
        block = self.mlir_blocks[target]
        mlir.cf.BranchOp(self._operands(env, target), block)


def _counter(header: int) -> str:
    """Under which name the next count of a loop is found; no variable has it."""
    return f"range.{header}.count"


def carried_attributes(frame: Frame, names: list[str]) -> dict[str, Any]:
    """The variables and Numba types behind the results of a structured operation."""
    if not names:
        return {}
    ir_ = mlir.ir
    kinds = [frame.type_attribute(frame.type_of(name)) for name in names]
    return {
        "numba.names": ir_.ArrayAttr.get([ir_.StringAttr.get(name) for name in names]),
        "numba.types": ir_.ArrayAttr.get(kinds),
    }


def condition_value(frame: Frame, env: Env, branch: Any) -> Any:
    """The i1 of a branch; Numba has made it a boolean before this point."""
    slot = env.get(branch.cond.name)
    number = frame.scalar(slot)
    if number is None or str(number[0].type) != "i1":
        raise UnsupportedConstruct("a condition that is not a boolean", branch.loc)
    return number[0]


# -- structured bodies ---------------------------------------------------------
def import_body(
    frame: Frame, env: Env, blocks: Mapping[int, Any], live_at_exit: frozenset[str]
) -> None:
    """Import blocks that end in one without a terminator into the current MLIR block."""
    body = BlockSet(frame.accesses, blocks, min(blocks), live_at_exit)
    StructuredImporter(frame, body).run(env)


class StructuredImporter:
    """Imports the loop body of a Parfor into one MLIR block."""

    def __init__(self, frame: Frame, blocks: BlockSet) -> None:
        self.frame, self.blocks = frame, blocks
        idom = graph.immediate_dominators(blocks.graph, blocks.entry)
        self.loops = graph.natural_loops(blocks.graph, idom)
        reverse = graph.reversed_graph({n: blocks.graph[n] for n in idom})
        self.ipdom = graph.immediate_dominators(reverse, EXIT)
        self.reachable = set(idom)
        self.ranges = ranges.find(
            frame, blocks.blocks, blocks.graph, self.loops, blocks.live_at_exit
        )

    def run(self, env: Env) -> None:
        self._sequence(self.blocks.entry, EXIT, env)

    def _sequence(self, label: int, stop: int, env: Env, inside: int | None = None) -> None:
        """Import from block ``label`` up to, and without, ``stop``.

        ``inside`` is the header of the loop whose body is being imported.
        """
        while label != stop:
            if label in self.loops and label != inside:
                label = self._loop(self.loops[label], env)
                continue
            inside = None
            block = self.blocks.blocks[label]
            last = block.body[-1] if block.body else None
            terminated = isinstance(last, ir.Terminator)
            self._statements(label, env, block.body[:-1] if terminated else block.body)
            if not terminated:
                label = EXIT
            elif isinstance(last, ir.Jump):
                label = last.target
            elif isinstance(last, ir.Branch):
                label = self._branch(label, last, stop, env)
            else:
                raise UnsupportedConstruct(
                    f"{type(last).__name__} inside a parallel loop", last.loc
                )
        return

    def _statements(self, label: int, env: Env, body: list[Any]) -> None:
        live = self.blocks.live_after(label)
        last = self.blocks.blocks[label].body[-1:]
        if last and isinstance(last[0], ir.Terminator):
            live = live | self.blocks.accesses.of_statement(last[0]).uses
        convert_statements(self.frame, env, body, live, self.ranges)

    # -- if ------------------------------------------------------------------
    def _branch(self, label: int, branch: Any, stop: int, env: Env) -> int:
        """An ``scf.if`` up to the block where both arms meet, whose label is returned."""
        join = self._join(label)
        arms = (branch.truebr, branch.falsebr)
        inside = set().union(*(graph.between(self.blocks.graph, arm, join) for arm in arms))
        live = self._live(join)
        names = sorted(self.blocks.assigned(inside) & live)
        with self.frame.location(branch.loc):
            condition = condition_value(self.frame, env, branch)
            types = [self.frame.mlir_type(self.frame.type_of(n)) for n in names]
            made = build.op("scf.if", [condition], types, self._names(names), regions=2)
        for region, arm in zip(made.regions, arms, strict=True):
            self._yielding(region.blocks.append(), arm, join, Env(env), names, branch.loc)
        self._bind(env, names, made.results)
        return join

    def _join(self, label: int) -> int:
        join = self.ipdom.get(label)
        if join is None:
            raise UnsupportedConstruct("control flow that does not meet again")
        return join

    def _live(self, label: int) -> frozenset[str]:
        return self.blocks.live_at_exit if label == EXIT else self.blocks.live[label]

    def _yielding(
        self, block: Any, label: int, stop: int, env: Env, names: list[str], loc: Any
    ) -> None:
        with mlir.ir.InsertionPoint(block):
            self._sequence(label, stop, env)
            with self.frame.location(loc):
                build.op("scf.yield", self._values(env, names))

    def _values(self, env: Env, names: list[str]) -> list[Any]:
        return [self.frame.use(env, name).value for name in names]

    def _bind(self, env: Env, names: list[str], values: Any) -> None:
        for name, result in zip(names, values, strict=True):
            env[name] = Slot(self.frame.type_of(name), result)

    def _names(self, names: list[str]) -> dict[str, Any]:
        return carried_attributes(self.frame, names)

    # -- loops ---------------------------------------------------------------
    def loop(self, header: int, env: Env) -> int:
        """Import one loop; returns the label of the block behind it."""
        return self._loop(self.loops[header], env)

    def _loop(self, loop: graph.Loop, env: Env) -> int:
        exits = loop.exits(self.blocks.graph)
        assigned = self.blocks.assigned(loop.body)
        if len(exits) != 1 or not self._single_test(loop, exits[0][0]):
            return self._execute_region(loop, env)
        (leaving, behind), header = exits[0], loop.header
        carried = sorted(assigned & (self._live(header) | self._live(behind)))
        counted = self.ranges.loops.get(header)
        loc = self.blocks.blocks[header].loc
        with self.frame.location(loc):
            if counted is not None and leaving == header:
                self._for(loop, counted, carried, env)
            else:
                self._while(loop, leaving, behind, carried, env)
        return behind

    def _for(self, loop: graph.Loop, counted: ranges.Counted, carried: list[str], env: Env) -> None:
        """A loop over ``range``: ``scf.for`` over an index."""
        frame = self.frame
        carried = [n for n in carried if n not in counted.private]
        steps = ranges.bounds(frame, env, counted)
        initial = self._values(env, carried)
        made = build.op(
            "scf.for",
            [steps.lower, steps.upper, steps.step, *initial],
            [v.type for v in initial],
            self._names(carried),
            regions=1,
        )
        body = made.regions[0].blocks.append(
            build.index_type(), *[v.type for v in initial],
            arg_locs=[mlir.ir.Location.name(counted.variable)]
            + [mlir.ir.Location.name(n) for n in carried],
        )  # fmt: skip
        inner = Env(env)
        self._bind(inner, carried, list(body.arguments)[1:])
        with mlir.ir.InsertionPoint(body):
            inner[counted.variable] = steps.variable(frame, counted, body.arguments[0])
            self._sequence(counted.body, loop.header, inner)
            build.op("scf.yield", self._values(inner, carried))
        self._bind(env, carried, made.results)

    def _while(
        self, loop: graph.Loop, leaving: int, behind: int, carried: list[str], env: Env
    ) -> None:
        """Any other loop with one way out: ``scf.while``."""
        header, frame = loop.header, self.frame
        branch = self.blocks.blocks[leaving].body[-1]
        stays = branch.truebr if branch.falsebr == behind else branch.falsebr
        # what the test computes anew is handed to the body beside the carried variables
        new = self.blocks.assigned(loop.body) & self._live(stays)
        forwarded = carried + sorted(new - set(carried))
        initial = self._values(env, carried)
        types = [v.type for v in initial]
        result_types = [frame.mlir_type(frame.type_of(n)) for n in forwarded]
        made = build.op("scf.while", initial, result_types, self._names(forwarded), regions=2)
        locs = [mlir.ir.Location.name(n) for n in carried]
        before = made.regions[0].blocks.append(*types, arg_locs=locs)
        inner = Env(env)
        self._bind(inner, carried, before.arguments)
        with mlir.ir.InsertionPoint(before):
            self._up_to_test(header, leaving, inner)
            condition = condition_value(frame, inner, branch)
            if branch.truebr == behind:
                condition = build.value(
                    "arith.xori", (condition, frame.constant(True, condition.type)), condition.type
                )
            build.op("scf.condition", [condition, *self._values(inner, forwarded)])
        locs = [mlir.ir.Location.name(n) for n in forwarded]
        after = made.regions[1].blocks.append(*result_types, arg_locs=locs)
        inner = Env(env)
        self._bind(inner, forwarded, after.arguments)
        with mlir.ir.InsertionPoint(after):
            if stays != header:
                self._sequence(stays, header, inner)
            build.op("scf.yield", self._values(inner, carried))
        self._bind(env, carried, list(made.results)[: len(carried)])

    def _single_test(self, loop: graph.Loop, leaving: int) -> bool:
        """Whether every iteration goes through the test in ``leaving`` exactly once."""
        if not isinstance(self.blocks.blocks[leaving].body[-1], ir.Branch):
            return False
        for header, other in self.loops.items():
            if header != loop.header and leaving in other.body and other.body < loop.body:
                return False
        seen: set[int] = set()
        work = [loop.header]
        while work:
            block = work.pop()
            if block == leaving or block in seen:
                continue
            seen.add(block)
            if loop.header in self.blocks.graph[block]:
                return False
            work.extend(self.blocks.graph[block])
        return True

    def _up_to_test(self, header: int, leaving: int, env: Env) -> None:
        if header != leaving:
            self._sequence(header, leaving, env, inside=header)
        self._statements(leaving, env, self.blocks.blocks[leaving].body[:-1])

    def _execute_region(self, loop: graph.Loop, env: Env) -> int:
        """A loop with several ways out: blocks inside an ``scf.execute_region``."""
        join = loop.header
        while join in loop.body:  # a block that all iterations go through is no way out
            join = self._join(join)
        if join == EXIT:
            raise UnsupportedConstruct("a loop that leaves the parallel body")
        labels = graph.between(self.blocks.graph, loop.header, join)
        names = sorted(self.blocks.assigned(labels) & self._live(join))
        types = [self.frame.mlir_type(self.frame.type_of(n)) for n in names]
        made = build.op("scf.execute_region", (), types, self._names(names), regions=1)
        region = made.regions[0]
        counted = self.ranges.as_blocks(labels)
        cfg = CfgImporter(
            self.frame, self.blocks, labels, loop.header, join, tuple(names), counted=counted
        )
        behind = cfg.run(region, env, region.blocks.append())
        with mlir.ir.InsertionPoint(behind), mlir.ir.Location.unknown():
            build.op("scf.yield", self._values(cfg.envs[join], names))
        self._bind(env, names, made.results)
        return join
