"""Building a planned nest: loops over blocks, loops inside them, bodies side by side.

Bodies of several iterations side by side (`Level.size` of a "point" level) share what they
compute and read alike; elements of written arrays are kept in values inside a body, and
across the innermost loop where they stay in place along it.  Iterations of one element
come in their old order (`dependences`), so every sum is computed as it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.blocking import Blocks, Level, Plan
from numba_mlir.passes.dependences import At, Vector, ordered, vector
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.lines import Lines, lines
from numba_mlir.passes.nests import Dim, Event, Nest, Statement
from numba_mlir.passes.pitches import not_stretched, rows_meet
from numba_mlir.passes.strides import Reference, step
from numba_mlir.passes.values import constant_int, nested, owner

_SEGMENTS = "operandSegmentSizes"

#: values of the original nest -> values of the new one, in one iteration
Env = dict[Any, Any]
#: the part of a loop that is run: first iteration, and behind the last
Ranges = dict[Dim, tuple[Any, Any]]
#: what identifies an element inside a body
Element = tuple[Any, ...]


def build(nest: Nest, plan: Plan) -> Any:
    """Build the planned form of ``nest`` at the insertion point; the nest stays as it is."""
    return NestBuilder(nest, plan).build()


def permute(op: Any, order: list[int]) -> None:
    """Give an ``scf.parallel`` without reductions its indices in another order, in place."""
    rank = len(order)
    operands = list(op.operands)
    for start in range(0, 3 * rank, rank):
        for position, source in enumerate(order):
            op.operands[start + position] = operands[start + source]
    block = op.regions[0].blocks[0]
    old = list(block.arguments)
    new = [block.add_argument(old[source].type, old[source].location) for source in order]
    for position, source in enumerate(order):
        old[source].replace_all_uses_with(new[position])
    for _ in range(rank):
        block.erase_argument(0)


def condition(nest: Nest, plan: Plan) -> Any | None:
    """An i1 at the insertion point: the planned form pays; None where it always does."""
    builder, arith = NestBuilder(nest, plan), mlir.arith
    tests: list[Any] = []
    with builder.location:
        i1 = mlir.ir.IntegerType.get_signless(1)
        for memref in plan.strided:
            test = mlir.ir.Operation.create("numba.column_major", [i1], [memref]).result
            if plan.order != "F":
                test = arith.xori(test, arith.constant(i1, 1))
            tests.append(test)
        for dims, least in plan.least.items():
            spans = [builder.span(*(builder.value(bound, {}) for bound in (dim.lower, dim.upper)))
                     for dim in dims]  # fmt: skip
            iterations = functools.reduce(arith.muli, spans)
            predicate = arith.CmpIPredicate.sge
            tests.append(arith.cmpi(predicate, iterations, builder.constant(least)))
        for crossing in plan.crossings.values():
            ivs = crossing.best.iv, crossing.other.iv
            tests += [test for read in crossing.reads for test in not_stretched(read, ivs)]
    with builder.location:
        return functools.reduce(arith.andi, tests) if tests else None


@dataclasses.dataclass
class _Held:
    """Elements of written arrays that live in values: where they are and if they changed."""

    values: dict[Element, Any] = dataclasses.field(default_factory=dict)
    places: dict[Element, tuple[Any, list[Any]]] = dataclasses.field(default_factory=dict)
    changed: dict[Element, None] = dataclasses.field(default_factory=dict)


class NestBuilder:
    def __init__(self, nest: Nest, plan: Plan) -> None:
        self.nest = nest
        self.plan = plan
        self.location = nest.op.location
        inside = set(nested(nest.op))
        self.inside = {value for op in inside for value in op.results}
        for op in (nest.op, *inside):
            for region in op.regions:
                for block in region.blocks:
                    self.inside |= set(block.arguments)
        self.scopes: list[dict[Any, Any]] = [{}]
        self.meet: dict[int, Any] = {}
        self.lines: dict[Dim, Lines] = {}

    # -- the parallel loop -----------------------------------------------------------
    def build(self) -> Any:
        ir = mlir.ir
        with self.location:
            sizes = {dim: self._block_size(dim, blocks) for dim, blocks in self.plan.blocks.items()}
            zero, one = self.constant(0), self.constant(1)
            lower, upper = [], []
            for dim in self.nest.dims:
                cut = dim in sizes
                lower.append(zero if cut else dim.lower)
                upper.append(self._count(dim, sizes[dim]) if cut else dim.upper)
            self.meet = {
                number: rows_meet(crossing.reads, crossing.best.iv, crossing.machine)
                for number, crossing in self.plan.crossings.items()
                if crossing.meeting
            }
            self.lines = {
                dim: lines(aligned.references, dim.iv, aligned.machine)
                for dim, aligned in self.plan.aligned.items()
            }
            rank = len(lower)
            attributes = {name: self.nest.op.attributes[name] for name in self.nest.op.attributes}
            attributes[_SEGMENTS] = ir.DenseI32ArrayAttr.get([rank, rank, rank, 0])
            loop = ir.Operation.create(
                "scf.parallel",
                operands=[*lower, *upper, *[one] * rank],
                attributes=attributes,
                regions=1,
            )
            locations = [dim.iv.location for dim in self.nest.dims]
            types = [ir.IndexType.get()] * rank
            body = ir.Block.create_at_start(loop.regions[0], types, locations)
            with ir.InsertionPoint(body):
                self._fill(list(body.arguments), sizes)
                ir.Operation.create("scf.reduce")
        return loop

    def _block_size(self, dim: Dim, blocks: Blocks) -> Any:
        arith = mlir.arith
        if blocks.fixed is not None:
            return self.constant(blocks.fixed)
        span = self.span(dim.lower, dim.upper)
        if blocks.long:
            share = arith.ceildivsi(span, self.constant(self.plan.cores))
            share = arith.maxsi(share, self.constant(1))
            count = arith.ceildivsi(share, self.constant(blocks.most))
            size = arith.ceildivsi(share, count)
        else:
            size = arith.ceildivsi(span, self.constant(self.plan.pieces))
        size = arith.maxsi(size, self.constant(blocks.least))
        size = arith.minsi(size, self.constant(blocks.most))
        if blocks.multiple == 1:
            return size
        multiple = self.constant(blocks.multiple)
        return arith.muli(arith.ceildivsi(size, multiple), multiple)

    def _count(self, dim: Dim, size: Any) -> Any:
        return mlir.arith.ceildivsi(self.span(dim.lower, dim.upper), size)

    def span(self, lower: Any, upper: Any) -> Any:
        """``max(upper - lower, 0)``."""
        arith = mlir.arith
        if constant_int(lower) != 0:
            upper = arith.subi(upper, lower)
        return arith.maxsi(upper, self.constant(0))

    def _fill(self, arguments: list[Any], sizes: dict[Dim, Any]) -> None:
        arith = mlir.arith
        env: Env = {}
        ranges: Ranges = {}
        for dim, argument in zip(self.nest.dims, arguments, strict=True):
            if dim not in sizes:
                env[dim.iv] = argument
                continue
            start = arith.muli(argument, sizes[dim])
            if constant_int(dim.lower) != 0:
                start = arith.addi(start, dim.lower)
            stop = arith.minsi(arith.addi(start, sizes[dim]), dim.upper)
            ranges[dim] = start, stop
        for number, levels in enumerate(self.plan.levels):
            if number in self.meet:
                self._either(number, env, ranges)
            else:
                StatementBuilder(self, self.nest.statements[number], levels).level(0, [env], ranges)

    def _either(self, number: int, env: Env, ranges: Ranges) -> None:
        """A statement in its order of loops for rows that meet in the cache, or in the other."""
        ir = mlir.ir
        both = self.plan.crossings[number].meeting, self.plan.levels[number]
        branch = ir.Operation.create("scf.if", operands=[self.meet[number]], regions=2)
        for region, levels in zip(branch.regions, both, strict=True):
            with self.scope(ir.Block.create_at_start(region)):
                statement = StatementBuilder(self, self.nest.statements[number], levels)
                statement.level(0, [dict(env)], ranges)
                ir.Operation.create("scf.yield")

    # -- values ----------------------------------------------------------------------
    def constant(self, number: int) -> Any:
        key = ("constant", number)
        found = self.find(key)
        if found is None:
            index = mlir.ir.IndexType.get()
            found = self.scopes[-1][key] = mlir.arith.constant(index, number)
        return found

    def find(self, key: Any) -> Any | None:
        for scope in reversed(self.scopes):
            if key in scope:
                return scope[key]
        return None

    @contextlib.contextmanager
    def scope(self, block: Any) -> Iterator[None]:
        """Insert into ``block``; what is computed there is forgotten behind it."""
        self.scopes.append({})
        with mlir.ir.InsertionPoint(block):
            yield
        self.scopes.pop()

    def value(self, value: Any, env: Env) -> Any:
        """A value of the original nest in the iteration that ``env`` says."""
        found = env.get(value)
        if found is not None or value not in self.inside:
            return value if found is None else found
        op = owner(value)
        if op is None:
            raise AssertionError(f"{value} is not bound")
        if op.regions:
            results = self._with_regions(op, env)
        else:
            operands = [self.value(operand, env) for operand in op.operands]
            key = (op.name, *operands, *((n, op.attributes[n]) for n in op.attributes))
            key = (*key, *(result.type for result in op.results))
            results = self.find(key)
            if results is None:
                results = self.scopes[-1][key] = self._clone(op, operands)
        for old, new in zip(op.results, results, strict=True):
            env[old] = new
        return env[value]

    def _clone(self, op: Any, operands: list[Any]) -> list[Any]:
        new = op.clone().operation
        for number, operand in enumerate(operands):
            new.operands[number] = operand
        return list(new.results)

    def _with_regions(self, op: Any, env: Env) -> list[Any]:
        """A copy of an ``scf.if`` with what it uses from the nest."""
        defined = {result for child in nested(op) for result in child.results}
        operands: dict[Any, Any] = {}
        for child in (op, *nested(op)):
            for operand in child.operands:
                if operand not in defined:
                    operands[operand] = self.value(operand, env)
        new = op.clone().operation
        for child in (new, *nested(new)):
            for number, operand in enumerate(list(child.operands)):
                if operand in operands:
                    child.operands[number] = operands[operand]
        return list(new.results)


class StatementBuilder:
    """Builds the loops of one statement; of the loops ``exact`` there is no rest."""

    def __init__(
        self,
        base: NestBuilder,
        statement: Statement,
        levels: tuple[Level, ...],
        exact: frozenset[Dim] = frozenset(),
    ) -> None:
        self.base = base
        self.statement = statement
        self.levels = levels
        self.exact = exact
        keys = Equalities()
        self.vectors: list[Vector] = [
            vector(event.cell, statement.dims, keys) for event in statement.events
        ]
        self.steady = self._steady()
        self.kept = ordered(statement)

    def _steady(self) -> list[Event]:
        """Events on elements that stay in place along the innermost loop."""
        if not self.levels:
            return []
        iv = self.levels[-1].dim.iv
        return [
            event
            for event in self.statement.events
            if step(Reference(event.cell.memref, event.cell.indices, True), iv) == "none"
        ]

    def level(self, number: int, envs: list[Env], ranges: Ranges) -> None:
        """Build the loops from level ``number`` on, for the iterations ``envs`` at once."""
        if number == len(self.levels):
            held = _Held()
            self._bodies(envs, held)
            self._store(held)
            return
        level, dim = self.levels[number], self.levels[number].dim
        if dim.iv in envs[0]:  # a parallel index that is not cut
            self.level(number + 1, envs, ranges)
            return
        start, stop = self._limits(dim, envs, ranges)
        if level.kind == "tile":
            with self._blocks(level, envs, start, stop) as block:
                self.level(number + 1, envs, {**ranges, dim: block})
        elif level.size == 1 or dim in self.exact:
            self._points(number, envs, ranges, (start, stop), level.size)
        elif (other := self._next_jam(number)) is not None:
            self._corner(number, other, envs, ranges)
        else:
            middle = self._middle(level, start, stop)
            self._points(number, envs, ranges, (start, middle), level.size)
            self._points(number, envs, ranges, (middle, stop), 1)

    @contextlib.contextmanager
    def _blocks(
        self, level: Level, envs: list[Env], start: Any, stop: Any
    ) -> Iterator[tuple[Any, Any]]:
        """A loop over blocks; gives the first iteration of one, and the one behind its last."""
        arith, base, dim = mlir.arith, self.base, level.dim
        size, zero = base.constant(level.size), base.constant(0)
        if dim not in base.lines:
            with self._loop(dim, start, stop, size) as iv:
                yield iv, arith.minsi(arith.addi(iv, size), stop)
            return
        # iterations of a first block that are left out: as if it began so much earlier
        found = base.lines[dim]
        first = [base.value(place, {**envs[0], dim.iv: start}) for place in found.places]
        skipped = found.skipped(first, base.span(start, stop))
        all_run = arith.cmpi(arith.CmpIPredicate.eq, skipped, zero)
        missing = arith.select(all_run, zero, arith.subi(size, skipped))
        with self._loop(dim, start, arith.addi(stop, missing), size) as iv:
            low = arith.subi(arith.maxsi(iv, arith.addi(start, missing)), missing)
            high = arith.minsi(arith.addi(iv, arith.subi(size, missing)), stop)
            yield low, high

    def _limits(self, dim: Dim, envs: list[Env], ranges: Ranges) -> tuple[Any, Any]:
        if dim in ranges:
            return ranges[dim]
        return tuple(self.base.value(bound, dict(envs[0])) for bound in (dim.lower, dim.upper))

    def _middle(self, level: Level, start: Any, stop: Any) -> Any:
        """Where the last iteration at which ``level.size`` fit side by side ends."""
        base, arith = self.base, mlir.arith
        rest = arith.remui(base.span(start, stop), base.constant(level.size))
        return arith.subi(arith.maxsi(start, stop), rest)

    def _next_jam(self, number: int) -> int | None:
        """The next level of iterations side by side, where only free loops lie between."""
        for later in range(number + 1, len(self.levels)):
            if self.levels[later].size > 1:
                return later
            if self.levels[later].dim in self.kept:
                return None
        return None

    def _corner(self, number: int, other: int, envs: list[Env], ranges: Ranges) -> None:
        """Two levels of iterations side by side, and all that is left over in one loop:
        first the rest of the inner one, then the rest of the outer one with all of the inner.
        Each element still sees the inner iterations in their order.
        """
        arith, base = mlir.arith, self.base
        levels = self.levels
        outer, inner = levels[number].dim, levels[other].dim
        limits = {dim: self._limits(dim, envs, ranges) for dim in (outer, inner)}
        middle = {levels[n].dim: self._middle(levels[n], *limits[levels[n].dim])
                  for n in (number, other)}  # fmt: skip
        main = {dim: (limits[dim][0], middle[dim]) for dim in (outer, inner)}
        builder = StatementBuilder(base, self.statement, levels, frozenset({outer, inner}))
        builder.level(number, envs, {**ranges, **main})
        with self._loop(outer, base.constant(0), base.constant(2), base.constant(1)) as phase:
            first = arith.cmpi(arith.CmpIPredicate.eq, phase, base.constant(0))
            rest = {
                outer: (arith.select(first, limits[outer][0], middle[outer]),
                        arith.select(first, middle[outer], limits[outer][1])),
                inner: (arith.select(first, middle[inner], limits[inner][0]), limits[inner][1]),
            }  # fmt: skip
            plain = tuple(dataclasses.replace(level, size=1) if level.kind == "point" else level
                          for level in levels)  # fmt: skip
            builder = StatementBuilder(base, self.statement, plain)
            builder.level(number, envs, {**ranges, **rest})

    def _points(
        self,
        number: int,
        envs: list[Env],
        ranges: Ranges,
        limits: tuple[Any, Any],
        count: int,
    ) -> None:
        """A loop over iterations, ``count`` of them at once."""
        dim = self.levels[number].dim
        if number == len(self.levels) - 1 and self.steady and count == 1:
            self._carrying(dim, envs, limits)
            return
        with self._loop(dim, *limits, self.base.constant(count)) as iv:
            self.level(number + 1, self._at(envs, dim, iv, count), ranges)

    def _at(self, envs: list[Env], dim: Dim, iv: Any, count: int) -> list[Env]:
        """Each of ``envs`` at ``count`` neighbouring iterations of ``dim``."""
        base = self.base
        index = mlir.ir.IndexType.get()
        points = [iv]
        for offset in range(1, count):
            points.append(mlir.arith.addi(iv, base.constant(offset)))
        assert all(point.type == index for point in points)
        return [{**env, dim.iv: point} for env in envs for point in points]

    @contextlib.contextmanager
    def _loop(self, dim: Dim, start: Any, stop: Any, by: Any) -> Iterator[Any]:
        """An ``scf.for`` without carried values; gives its index."""
        ir = mlir.ir
        loop = ir.Operation.create("scf.for", operands=[start, stop, by], regions=1)
        types = [ir.IndexType.get()]
        block = ir.Block.create_at_start(loop.regions[0], types, [dim.iv.location])
        with self.base.scope(block):
            yield block.arguments[0]
            ir.Operation.create("scf.yield")

    # -- elements --------------------------------------------------------------------
    def _element(self, number: int, env: Env) -> Element:
        places = []
        for place in self.vectors[number]:
            if isinstance(place, At):
                places.append(("index", env[place.dim.iv], place.constant, place.shift))
            else:
                places.append(place)
        return (self.statement.events[number].cell.memref, *places)

    def _bodies(self, envs: list[Env], held: _Held) -> None:
        """The statement in each of ``envs``, elements being kept in ``held``."""
        for env in envs:
            for number, event in enumerate(self.statement.events):
                element = self._element(number, env)
                if event.write:
                    held.values[element] = self.base.value(event.values[0], env)
                    held.changed[element] = None
                    held.places.setdefault(element, self._place(event, env))
                    continue
                if element not in held.values:
                    held.places[element] = self._place(event, env)
                    held.values[element] = self._load(*held.places[element])
                for value in event.values:
                    env[value] = held.values[element]

    def _place(self, event: Event, env: Env) -> tuple[Any, list[Any]]:
        return event.cell.memref, [self.base.value(index, env) for index in event.cell.indices]

    def _load(self, array: Any, indices: list[Any]) -> Any:
        type_ = array.type.element_type
        operands = [array, *indices]
        return mlir.ir.Operation.create("memref.load", results=[type_], operands=operands).result

    def _store(self, held: _Held, skip: frozenset[Element] = frozenset()) -> None:
        for element in held.changed:
            if element not in skip:
                array, indices = held.places[element]
                operands = [held.values[element], array, *indices]
                mlir.ir.Operation.create("memref.store", operands=operands)

    def _carrying(self, dim: Dim, envs: list[Env], limits: tuple[Any, Any]) -> None:
        """The innermost loop, with elements that stay in place carried from one
        iteration to the next.  They are read and written only where it runs at all."""
        ir, arith, base = mlir.ir, mlir.arith, self.base
        start, stop = limits
        runs = arith.cmpi(arith.CmpIPredicate.slt, start, stop)
        branch = ir.Operation.create("scf.if", operands=[runs], regions=2)
        then = ir.Block.create_at_start(branch.regions[0])
        with base.scope(then):
            outside = _Held()
            for env in envs:
                for number, event in enumerate(self.statement.events):
                    if event in self.steady:
                        element = self._element(number, env)
                        if element not in outside.places:
                            outside.places[element] = self._place(event, env)
                            outside.values[element] = self._load(*outside.places[element])
            elements = list(outside.values)
            inits = [outside.values[element] for element in elements]
            results = self._carrying_loop(dim, envs, limits, elements, inits, outside)
            for element, result in zip(elements, results, strict=True):
                outside.values[element] = result
            self._store(outside)
            ir.Operation.create("scf.yield")

    def _carrying_loop(
        self,
        dim: Dim,
        envs: list[Env],
        limits: tuple[Any, Any],
        elements: list[Element],
        inits: list[Any],
        outside: _Held,
    ) -> list[Any]:
        ir, base = mlir.ir, self.base
        types = [init.type for init in inits]
        operands = [*limits, base.constant(1), *inits]
        loop = ir.Operation.create("scf.for", results=types, operands=operands, regions=1)
        locations = [dim.iv.location, *[self.base.location] * len(types)]
        arguments = [ir.IndexType.get(), *types]
        block = ir.Block.create_at_start(loop.regions[0], arguments, locations)
        with base.scope(block):
            iv, *carried = block.arguments
            held = _Held(dict(zip(elements, carried, strict=True)), dict(outside.places))
            self._bodies(self._at(envs, dim, iv, 1), held)
            outside.changed.update({e: None for e in elements if e in held.changed})
            self._store(held, frozenset(elements))
            ir.Operation.create("scf.yield", operands=[held.values[e] for e in elements])
        return list(loop.results)
