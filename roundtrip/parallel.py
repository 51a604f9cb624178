"""Import of a Parfor: ``scf.parallel`` with ``scf.reduce``, an ordered ``scf.for``, or one
opaque statement.

A reduction variable enters the loop as an ``init`` operand with its value before the loop.
Inside, it starts from the operation's neutral value, so that what the body makes of it is
this iteration's contribution, which ``scf.reduce`` combines.

A user's loop that carries a variable from one iteration to another in any other way, or
assigns one that is read after it, is an ``scf.for`` with the attribute ``numba.ordered``: the
loop as the user wrote it.  `numba_mlir.passes.parallelize` finds out which of them can run in
parallel.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from numba.core import ir, types
from numba.core.analysis import compute_cfg_from_blocks

from numba_mlir import mlir
from numba_mlir.converters import build, reductions, scalars
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.dialect import ORDERED
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.roundtrip.reduction_analysis import (
    KEPT,
    LeftToNumba,
    beyond_numba,
    family_statements,
    in_any_order,
    kept_step,
    readable,
    reduction_kind,
    user_line,
)
from numba_mlir.roundtrip.regions import (
    BlockSet,
    StructuredImporter,
    carried_attributes,
    convert_statements,
)

#: what happened to one Parfor: (Parfor, reason it stayed opaque or None)
Outcome = tuple[Any, "str | None"]


@dataclass
class ParforImporter:
    """Callable that the frame uses for Parfors; collects what became of each.

    ``blocks`` are those of the function, which say what Parfors stand in loops.
    """

    outcomes: list[Outcome]
    blocks: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._depth = 0

    def _is_repeated(self, parfor: Any) -> bool:
        """Whether a loop around a Parfor runs it again and again."""
        return self._depth > 1 or id(parfor) in self._in_loops

    @functools.cached_property
    def _in_loops(self) -> set[int]:
        """Ids of statements, made where the first loop asks."""
        loops = compute_cfg_from_blocks(self.blocks).loops().values() if self.blocks else ()
        labels = {label for loop in loops for label in loop.body}
        return {id(stmt) for label in labels for stmt in self.blocks[label].body}

    def __call__(self, frame: Frame, env: Env, parfor: Any) -> None:
        live_after = frame.live_after
        marker = _Marker()
        trial = Env(env)
        refused: str | None = None
        names: list[str] = []
        pending = len(self.outcomes)
        outer, frame.user_line = frame.user_line, frame.user_line or user_line(parfor)
        self._depth += 1
        try:
            names = self._import(frame, trial, parfor, live_after)
        except UnsupportedConstruct as reason:
            refused = reason.msg
        finally:
            frame.user_line = outer
            self._depth -= 1
        if refused is None:
            for name in names:
                slot = trial.get(name)
                assert slot is not None
                env[name] = slot
        else:
            marker.rewind()
            del self.outcomes[pending:]
            self._opaque(frame, env, parfor, live_after)
        self.outcomes.append((parfor, refused))

    def _opaque(self, frame: Frame, env: Env, parfor: Any, live_after: frozenset[str]) -> None:
        access = frame.accesses.of_parfor(parfor)
        defs = tuple(sorted(access.defs & live_after))
        # a variable that only some iteration assigns keeps its value otherwise
        maybe = {n for n in defs if n not in access.kills and env.get(n) is not None}
        frame.opaque(env, parfor, tuple(sorted(access.uses | maybe)), defs)

    def _import(self, frame: Frame, env: Env, parfor: Any, live_after: frozenset[str]) -> list[str]:
        """Returns the variables that are visible behind the loop."""
        body_reads = frame.accesses.of_parfor(parfor).uses
        before = frame.accesses.of_block(parfor.init_block.body).defs
        bounds_names = {n.name for nest in parfor.loop_nests for n in nest.list_vars()}
        convert_statements(
            frame, env, parfor.init_block.body, live_after | body_reads | before | bounds_names
        )
        names = self._in_order(frame, env, parfor, live_after)
        if names is None:
            names = [*self.import_loop(frame, env, parfor, live_after)]
        return [*before, *names]

    def import_loop(
        self, frame: Frame, env: Env, parfor: Any, live_after: frozenset[str]
    ) -> dict[str, str]:
        """Import without the init block; returns the kinds of the reductions by variable."""
        kinds = self._kinds(frame, env, parfor, *_across(frame, parfor, live_after))
        self._loop(frame, env, parfor, kinds)
        for name, kind in kinds.items():
            what = beyond_numba(frame, env, parfor, name, kind)
            if what is not None:
                frame.repairs.append((frame.user_line or parfor.loc, what))
        return kinds

    def _in_order(
        self, frame: Frame, env: Env, parfor: Any, live_after: frozenset[str]
    ) -> list[str] | None:
        """Import a user's loop whose variables are no reductions; None for other loops."""
        carried, lost = _across(frame, parfor, live_after)
        if not _users_own(parfor) or not carried | lost:
            return None
        try:
            kinds = self._kinds(frame, env, parfor, carried, lost)
            # Numba's lowering frees the array of a reduction that a loop runs again
            arrays = [n for n, kind in kinds.items() if _is_array_sum(frame, n, kind)]
            if arrays and self._is_repeated(parfor):
                raise UnsupportedConstruct(f"{readable(set(arrays))} is carried by two loops")
        except UnsupportedConstruct as reason:
            if isinstance(reason, LeftToNumba) and not self._is_repeated(parfor):
                raise
            names = sorted(carried | lost)
            self._ordered(frame, env, parfor, names)
            what = f"{readable(set(names))}: what the loop gives when run in order"
            frame.repairs.append((parfor.loc, what))
            return names
        return None

    def _kinds(
        self, frame: Frame, env: Env, parfor: Any, carried: set[str], lost: set[str]
    ) -> dict[str, str]:
        """The reduction that each of ``carried`` is; UnsupportedConstruct where one is none."""
        if lost:
            raise UnsupportedConstruct(
                f"{readable(lost)} is assigned in the parallel loop and read after it", parfor.loc
            )
        return {n: reduction_kind(frame, env, parfor, n, carried) for n in sorted(carried)}

    def _ordered(self, frame: Frame, env: Env, parfor: Any, names: list[str]) -> None:
        """One iteration after the other; ``names`` go from each to the next."""
        (lower,), (upper,), not_negative = self._bounds(frame, env, parfor)
        index = parfor.loop_nests[0].index_variable.name
        initial = [frame.use(env, name).value for name in names]
        kinds = [v.type for v in initial]
        attributes = {ORDERED: mlir.ir.UnitAttr.get(), **self._origin(frame, parfor)}
        if names:
            attributes |= carried_attributes(frame, names)
        operands = [lower, upper, frame.index_constant(1), *initial]
        with frame.location(parfor.loc):
            made = build.op("scf.for", operands, kinds, attributes, regions=1)
        locs = [mlir.ir.Location.name(name) for name in (index, *names)]
        block = made.regions[0].blocks.append(build.index_type(), *kinds, arg_locs=locs)
        inner = Env(env)
        with mlir.ir.InsertionPoint(block), frame.location(parfor.loc):
            iv, *values = block.arguments
            self._indices(frame, inner, parfor, [iv], not_negative)
            for name, value in zip(names, values, strict=True):
                inner[name] = Slot(frame.type_of(name), value)
            self._body(frame, inner, parfor, names)
            build.op("scf.yield", [frame.use(inner, name).value for name in names])
        for name, result in zip(names, made.results, strict=True):
            env[name] = Slot(frame.type_of(name), result)

    def _origin(self, frame: Frame, parfor: Any) -> dict[str, Any]:
        """The attribute that says which Parfor a loop was."""
        ir_ = mlir.ir
        number = frame.table.add_parfor(parfor)
        handle = ir_.IntegerAttr.get(ir_.IntegerType.get_signless(64), number)
        return {"numba.parfors": ir_.ArrayAttr.get([handle])}

    def _loop(self, frame: Frame, env: Env, parfor: Any, kinds: dict[str, str]) -> None:
        lower, upper, not_negative = self._bounds(frame, env, parfor)
        one = frame.index_constant(1)
        initial = [frame.use(env, name).value for name in kinds]
        rank = len(lower)
        ir_ = mlir.ir
        attributes = {
            "operandSegmentSizes": ir_.DenseI32ArrayAttr.get([rank, rank, rank, len(initial)]),
            **self._origin(frame, parfor),
        }
        if kinds:
            attributes["numba.names"] = ir_.ArrayAttr.get([ir_.StringAttr.get(n) for n in kinds])
        operands = [*lower, *upper, *[one] * rank, *initial]
        with frame.location(parfor.loc):
            results = [v.type for v in initial]
            made = build.op("scf.parallel", operands, results, attributes, regions=1)
        names = [nest.index_variable.name for nest in parfor.loop_nests]
        block = made.regions[0].blocks.append(
            *[build.index_type()] * rank, arg_locs=[ir_.Location.name(n) for n in names]
        )
        inner = Env(env)
        with ir_.InsertionPoint(block):
            self._indices(frame, inner, parfor, block.arguments, not_negative)
            for name, kind in kinds.items():
                if kind == KEPT:
                    self._take_out(frame, env, parfor, name)
                else:
                    inner[name] = self._neutral(frame, name, kind)
            self._body(frame, inner, parfor, list(kinds))
            sums = [name for name, kind in kinds.items() if kind in _REORDERED]
            free = {name for name in sums if in_any_order(frame, env, parfor, name)}
            self._reduce(frame, inner, kinds, free)
        for name, result in zip(kinds, made.results, strict=True):
            env[name] = Slot(frame.type_of(name), result)

    def _bounds(
        self, frame: Frame, env: Env, parfor: Any
    ) -> tuple[list[Any], list[Any], list[bool]]:
        lower, upper, not_negative = [], [], []
        for nest in parfor.loop_nests:
            if nest.step != 1:
                raise UnsupportedConstruct("a parallel loop with a step", parfor.loc)
            start, stop = _bound(frame, env, nest.start), _bound(frame, env, nest.stop)
            low, high = frame.size(start), frame.size(stop)
            if low is None or high is None:
                raise UnsupportedConstruct("a bound that is not an integer", parfor.loc)
            lower.append(low)
            upper.append(high)
            literal = isinstance(start.type, types.IntegerLiteral)
            not_negative.append(
                start.index is not None or (literal and start.type.literal_value >= 0)
            )
        return lower, upper, not_negative

    def _indices(
        self, frame: Frame, env: Env, parfor: Any, ivs: Any, not_negative: list[bool]
    ) -> None:
        members = []
        for nest, iv, positive in zip(parfor.loop_nests, ivs, not_negative, strict=True):
            numba_type = frame.type_of(nest.index_variable.name)
            value = build.index_cast(iv, scalars.to_mlir(numba_type))
            slot = Slot(numba_type, value, index=iv if positive else None)
            env[nest.index_variable.name] = slot
            members.append(slot)

    def _neutral(self, frame: Frame, name: str, kind: str) -> Slot:
        numba_type = frame.type_of(name)
        neutral = reductions.neutral(kind, numba_type)
        if neutral is None:
            raise UnsupportedConstruct(
                f"the reduction of {readable({name})} has no neutral {numba_type} to start from"
            )
        return Slot(numba_type, frame.constant(neutral, scalars.to_mlir(numba_type)), neutral)

    def _take_out(self, frame: Frame, env: Env, parfor: Any, name: str) -> None:
        """Move a kept step from the body to the loop's ``scf.reduce``."""
        step, family = kept_step(frame, env, parfor, name)
        frame.kept_steps[name] = step
        frame.taken_out |= family_statements(frame, parfor, family)

    def _body(self, frame: Frame, env: Env, parfor: Any, names: list[str]) -> None:
        blocks = BlockSet(frame.accesses, parfor.loop_body, min(parfor.loop_body), frozenset(names))
        outer = frame.error_model
        frame.error_model = "checked" if frame.checks_divisions and _is_users(parfor) else "numpy"
        try:
            StructuredImporter(frame, blocks).run(env)
        finally:
            frame.error_model = outer

    def _reduce(self, frame: Frame, env: Env, kinds: dict[str, str], free: set[str]) -> None:
        """The loop's ``scf.reduce``; sums and products in ``free`` may have any order."""
        contributions = [
            frame.use(env, frame.kept_steps[name].own if kind == KEPT else name).value
            for name, kind in kinds.items()
        ]
        made = build.op("scf.reduce", contributions, regions=len(kinds))
        for (name, kind), region in zip(kinds.items(), made.regions, strict=True):
            numba_type = frame.type_of(name)
            native = frame.mlir_type(numba_type)
            block = region.blocks.append(native, native, arg_locs=[mlir.ir.Location.unknown()] * 2)
            with mlir.ir.InsertionPoint(block):
                if kind == KEPT:
                    result = self._kept_combiner(frame, name, block.arguments)
                elif name in free and isinstance(numba_type, types.Float):
                    reassoc = mlir.ir.Attribute.parse("#arith.fastmath<reassoc>")
                    flags = {"fastmath": reassoc}
                    result = build.value(_REORDERED[kind], block.arguments, native, flags)
                else:
                    lhs, rhs = block.arguments
                    result = reductions.combiner(kind, lhs, rhs, numba_type)
                build.op("scf.reduce.return", [result])

    def _kept_combiner(self, frame: Frame, name: str, arguments: Any) -> Any:
        step, local = frame.kept_steps[name], Env()
        names, target = (step.running, step.own), step.stmt.target.name
        for operand, value in zip(names, arguments, strict=True):
            local[operand] = Slot(frame.type_of(operand), value)
        extremum = {} if step.extremum is None else {step.extremum: True}
        frame.opaque(local, step.stmt, names, (target,), **extremum)
        return local.names[target].value


_REORDERED = {"add": "arith.addf", "mul": "arith.mulf"}


def _across(frame: Frame, parfor: Any, live_after: frozenset[str]) -> tuple[set[str], set[str]]:
    """Variables that go from one iteration to another, and those only read after the loop."""
    assigned = frame.accesses.assigned(parfor)
    live = frame.accesses.body_liveness(parfor, frozenset(assigned & live_after))
    carried = assigned & live[min(parfor.loop_body)]
    return carried, (assigned & live_after) - carried


def _is_array_sum(frame: Frame, name: str, kind: str) -> bool:
    return kind == KEPT and isinstance(frame.type_of(name), types.Array)


def _users_own(parfor: Any) -> bool:
    """Whether the loop is a ``prange`` that the user wrote, over one index."""
    written = any(pattern[:2] == ("prange", "user") for pattern in parfor.patterns)
    return written and len(parfor.loop_nests) == 1


def _is_users(parfor: Any) -> bool:
    """Whether the user wrote the loop, rather than a statement on whole arrays or NumPy."""
    return all(tuple(p[:2]) == ("prange", "user") and p[2] == "" for p in parfor.patterns)


class _Marker:
    """Where the current block ends now; ``rewind`` erases what was built behind it."""

    def __init__(self) -> None:
        self.block = mlir.ir.InsertionPoint.current.block
        operations = self.block.operations
        self.count = len(operations)

    def rewind(self) -> None:
        operations = list(self.block.operations)
        for operation in reversed(operations[self.count :]):
            operation.erase()


def _bound(frame: Frame, env: Env, bound: Any) -> Slot:
    if isinstance(bound, ir.Var):
        return frame.use(env, bound.name)
    return Slot(types.IntegerLiteral(int(bound)), None, int(bound))
