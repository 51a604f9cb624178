"""One Parfor, at the point where Numba would lower it, as an MLIR function of its own.

The function ``body`` takes what the loop reads from outside as bare pointers and numbers
(:mod:`..converters.bare`), then a lower and an upper bound for each of the loop's indices:
it runs one box of the iteration space.  Reductions start at their neutral value and are its
results; ``combine0``, ``combine1``, ... combine two results of a reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters import bare, build, reductions
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes.signs import NOT_NEGATIVE
from numba_mlir.roundtrip import freshness
from numba_mlir.roundtrip.accesses import AccessTable
from numba_mlir.roundtrip.body_import import BodyImport, Captured, Ways
from numba_mlir.roundtrip.parallel import ParforImporter
from numba_mlir.roundtrip.reduction_analysis import KEPT, readable
from numba_mlir.roundtrip.regions import BlockSet


@dataclass(frozen=True)
class Reduction:
    """A variable that the loop reduces into."""

    name: str
    type: Any
    neutral: Any


@dataclass
class Kernel:
    """A Parfor in MLIR: ``captured`` are the Numba variables behind the arguments."""

    module: Any
    parfor: Any
    captured: Captured
    rank: int
    reductions: tuple[Reduction, ...]
    #: functions of Numba's that the kernel calls
    ways: Ways


class KernelImporter:
    """Imports Parfors of one function; the function is only read."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._accesses = AccessTable()
        self._live = _live_after_parfors(state.func_ir, self._accesses)
        self._fresh = freshness.find(state.func_ir, state.typemap)

    def run(self, parfor: Any) -> Kernel:
        """The kernel of a Parfor that stands in the function itself.

        Raises UnsupportedConstruct where MLIR has no form for it.
        """
        context, loc = mlir.context(), parfor.loc
        with context, mlir.ir.Location.file(loc.filename, loc.line or 0, 0):
            made = _Import(self._state, self._accesses, parfor, self._live[id(parfor)])
            return made.run(self._fresh)


def _live_after_parfors(func_ir: Any, accesses: AccessTable) -> dict[int, frozenset[str]]:
    """For each Parfor of the function, the variables that are read behind it."""
    blocks = BlockSet(accesses, func_ir.blocks, min(func_ir.blocks))
    found: dict[int, frozenset[str]] = {}
    for label, block in func_ir.blocks.items():
        live = set(blocks.live_after(label))
        for stmt in reversed(block.body):
            if hasattr(stmt, "loop_body"):
                found[id(stmt)] = frozenset(live)
            access = accesses.of_statement(stmt)
            live = (live - access.kills) | access.uses
    return found


class _Import(BodyImport):
    def __init__(
        self, state: Any, accesses: AccessTable, parfor: Any, live_after: frozenset[str]
    ) -> None:
        self._parfor, self._live_after = parfor, live_after
        self._importer = ParforImporter([])
        frame = Frame(
            state.typemap, state.calltypes, state.flags.error_model, self._importer, accesses
        )
        super().__init__(state, frame, parfor.loc)
        self._frame.typingctx = state.typingctx
        self._frame.checks_divisions = state.flags.error_model == "python"

    def run(self, fresh: frozenset[str]) -> Kernel:
        frame, parfor = self._frame, self._parfor
        module = mlir.ir.Module.create()
        read = self._read_from_outside()
        known = self.captured(read)
        given = [leaf.mlir() for _, kind in known for leaf in bare.leaves(kind) or ()]
        index = build.index_type()
        rank = len(parfor.loop_nests)
        inputs = [*given, *[index] * (2 * rank)]
        with mlir.ir.InsertionPoint(module.body):
            made = self.function("body", inputs)
        entry, body = self.blocks(made.regions[0], inputs)
        env = self.variables(read, known, entry)
        with mlir.ir.InsertionPoint.at_block_terminator(entry):
            for nest in parfor.loop_nests:
                self._bounds(env, nest)
        with mlir.ir.InsertionPoint(body):
            kinds = self._importer.import_loop(frame, env, parfor, self._live_after)
            (loop,) = [op for op in body.operations if op.operation.name == "scf.parallel"]
            found = self._reductions(kinds)
            self._set_operands(loop.operation, entry, rank, found)
            build.op("func.return", list(loop.operation.results))
        native = [frame.mlir_type(r.type) for r in found]
        kind = mlir.ir.FunctionType.get(inputs, native)
        made.attributes["function_type"] = mlir.ir.TypeAttr.get(kind)
        with mlir.ir.InsertionPoint(module.body):
            self._combiners(loop.operation, native)
        ways = self.call_back(module)
        self.mark_alone(module, known, fresh)
        return Kernel(module, parfor, known, rank, found, ways)

    def _read_from_outside(self) -> set[str]:
        """Variables that the loop body needs; the bounds are arguments of their own."""
        live = self._frame.accesses.body_liveness(self._parfor)
        indices = {nest.index_variable.name for nest in self._parfor.loop_nests}
        return set(live[min(self._parfor.loop_body)]) - indices

    def _bounds(self, env: Env, nest: Any) -> None:
        """Bounds that no statement of the body reads: replaced by the box's in the end."""
        for bound in (nest.start, nest.stop):
            if isinstance(bound, ir.Var) and env.get(bound.name) is None:
                kind = self._frame.type_of(bound.name)
                zero = None if isinstance(kind, types.Literal) else self._zero(kind, bound)
                # sizes are never negative, and neither is a range that begins at one
                env[bound.name] = Slot(kind, zero)

    def _zero(self, kind: Any, bound: Any) -> Any:
        if not isinstance(kind, types.Integer):
            raise UnsupportedConstruct("a bound that is not an integer", bound.loc)
        return self._frame.constant(0, self._frame.mlir_type(kind))

    def _reductions(self, kinds: dict[str, str]) -> tuple[Reduction, ...]:
        found = []
        for name, kind in kinds.items():
            if kind == KEPT:
                raise UnsupportedConstruct(f"the reduction into the array {readable({name})}")
            numba_type = self._frame.type_of(name)
            found.append(Reduction(name, numba_type, reductions.neutral(kind, numba_type)))
        return tuple(found)

    def _set_operands(self, loop: Any, entry: Any, rank: int, found: Any) -> None:
        """The box's bounds and neutral values instead of the loop's own."""
        nests = self._parfor.loop_nests
        loop.attributes[NOT_NEGATIVE] = mlir.ir.DenseBoolArrayAttr.get(
            [self._begins_at_zero_or_more(nest.start) for nest in nests]
        )
        box = list(entry.arguments)[-2 * rank :]
        for axis in range(rank):
            loop.operands[axis] = box[2 * axis]
            loop.operands[rank + axis] = box[2 * axis + 1]
        for number, reduction in enumerate(found):
            native = self._frame.mlir_type(reduction.type)
            neutral = self._frame.constant(reduction.neutral, native)
            loop.operands[3 * rank + number] = neutral

    def _begins_at_zero_or_more(self, start: Any) -> bool:
        if not isinstance(start, ir.Var):
            return start >= 0
        kind = self._frame.type_of(start.name)
        if isinstance(kind, types.IntegerLiteral):
            return kind.literal_value >= 0
        return isinstance(kind, types.Integer) and not kind.signed

    def _combiners(self, loop: Any, native: list[Any]) -> None:
        """The combiner of each reduction as a function."""
        *_, reduce = [op.operation for op in loop.regions[0].blocks[0].operations]
        for number, (kind, region) in enumerate(zip(native, reduce.regions, strict=True)):
            made = self.function(f"combine{number}", [kind, kind], (kind,))
            here = [mlir.ir.Location.unknown()] * 2
            block = made.regions[0].blocks.append(kind, kind, arg_locs=here)
            old = region.blocks[0]
            values = dict(zip(old.arguments, block.arguments, strict=True))
            with mlir.ir.InsertionPoint(block):
                *body, last = [op.operation for op in old.operations]
                for op in body:
                    clone = op.clone().operation
                    for place, value in enumerate(clone.operands):
                        clone.operands[place] = values.get(value, value)
                    values.update(zip(op.results, clone.results, strict=True))
                result = last.operands[0]
                build.op("func.return", [values.get(result, result)])
