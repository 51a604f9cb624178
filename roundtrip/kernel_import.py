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
from numba_mlir.converters import arithmetic, bare, build, reductions
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes import failures
from numba_mlir.passes.base import source_position
from numba_mlir.passes.bounds import OUT_OF_BOUNDS, check_bounds
from numba_mlir.passes.buffers import NEGATIVE_SIZE, NO_MEMORY
from numba_mlir.passes.signs import NOT_NEGATIVE
from numba_mlir.passes.to_llvm import function
from numba_mlir.passes.values import nested
from numba_mlir.roundtrip import freshness
from numba_mlir.roundtrip.accesses import AccessTable
from numba_mlir.roundtrip.callbacks import Callback, Callbacks, Raiser, declare_raisers
from numba_mlir.roundtrip.parallel import ParforImporter
from numba_mlir.roundtrip.reduction_analysis import KEPT, readable
from numba_mlir.roundtrip.regions import BlockSet

#: stands for a variable that the function does not get
OUTSIDE = "pyir.outside"
#: operations that need a way out of the function
_MAY_FAIL = frozenset({"pyir.stmt", "memref.alloc", failures.LEAVE_IF})
_ALLOCATION_ERRORS: dict[str, tuple[type[Exception], str]] = {
    NO_MEMORY: (MemoryError, "Allocation failed (probably too large)."),
    NEGATIVE_SIZE: (ValueError, "negative dimensions not allowed"),
}
_ERRORS: dict[str, tuple[type[Exception], str]] = {
    arithmetic.ZERO_DIVISION: (ZeroDivisionError, "integer division or modulo by zero"),
    OUT_OF_BOUNDS: (IndexError, "index is out of bounds"),
}


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
    captured: tuple[tuple[str, Any], ...]
    rank: int
    reductions: tuple[Reduction, ...]
    #: functions of Numba's that the kernel calls
    callbacks: tuple[Callback | Raiser, ...] = ()
    fails: bool = False


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


class _Import:
    def __init__(
        self, state: Any, accesses: AccessTable, parfor: Any, live_after: frozenset[str]
    ) -> None:
        self._state, self._parfor, self._live_after = state, parfor, live_after
        self._importer = ParforImporter([])
        self._frame = Frame(
            state.typemap, state.calltypes, state.flags.error_model, self._importer, accesses
        )
        self._frame.typingctx = state.typingctx
        self._frame.checks_divisions = state.flags.error_model == "python"

    def run(self, fresh: frozenset[str]) -> Kernel:
        frame, parfor = self._frame, self._parfor
        module = mlir.ir.Module.create()
        read = self._read_from_outside()
        types_ = {name: frame.type_of(name) for name in sorted(read)}
        known = [(n, t) for n, t in types_.items() if bare.leaves(t) is not None]
        given = [leaf.mlir() for _, kind in known for leaf in bare.leaves(kind) or ()]
        index = build.index_type()
        rank = len(parfor.loop_nests)
        with mlir.ir.InsertionPoint(module.body):
            made = self._function("body", [*given, *[index] * (2 * rank)])
        region = made.regions[0]
        entry, body = self._blocks(region, [*given, *[index] * (2 * rank)])
        frame.entry = entry
        env = self._variables(read, known, entry)
        with mlir.ir.InsertionPoint(body):
            kinds = self._importer.import_loop(frame, env, parfor, self._live_after)
            (loop,) = [op for op in body.operations if op.operation.name == "scf.parallel"]
            found = self._reductions(kinds)
            self._set_operands(loop.operation, entry, rank, found)
            build.op("func.return", list(loop.operation.results))
        native = [frame.mlir_type(r.type) for r in found]
        kind = mlir.ir.FunctionType.get([*given, *[index] * (2 * rank)], native)
        made.attributes["function_type"] = mlir.ir.TypeAttr.get(kind)
        with mlir.ir.InsertionPoint(module.body):
            self._combiners(loop.operation, native)
        kernel = Kernel(module, parfor, tuple(known), rank, found)
        self._call_back(kernel)
        self._mark_alone(kernel, fresh)
        return kernel

    def _mark_alone(self, kernel: Kernel, alone: frozenset[str]) -> None:
        """Tell LLVM which arrays share no memory with others."""
        ir_ = mlir.ir
        body = function(kernel.module, "body")
        plain, marked = ir_.DictAttr.get({}), ir_.DictAttr.get({"llvm.noalias": ir_.UnitAttr.get()})
        given = [marked if leaf.role == "data" and name in alone else plain
                 for name, kind in kernel.captured for leaf in bare.leaves(kind) or ()]  # fmt: skip
        rest = len(body.regions[0].blocks[0].arguments) - len(given)
        body.attributes["arg_attrs"] = ir_.ArrayAttr.get([*given, *[plain] * rest])

    def _call_back(self, kernel: Kernel) -> None:
        """Calls of Numba's code for what has no MLIR form, and exceptions."""
        mlir.run_pipeline(kernel.module.operation, "builtin.module(canonicalize,cse)")
        body = function(kernel.module, "body")
        if self._state.flags.boundscheck:
            check_bounds(body)
        for op in list(nested(body)):
            if op.name == OUTSIDE and not list(op.results[0].uses):
                op.erase()
        if not any(op.name in _MAY_FAIL or op.name.startswith("numba.expr") for op in nested(body)):
            return
        excinfo = failures.give_way_out(body)
        callbacks = Callbacks(self._frame)
        callbacks.replace(body, excinfo)
        raisers = self._raisers(body)
        declare_raisers(kernel.module, raisers)
        kernel.callbacks = (*callbacks.made, *raisers)
        kernel.fails = True

    def _raisers(self, body: Any) -> list[Raiser]:
        """The exceptions of operations inside ``body``."""
        name, loc = self._state.func_id.func_qualname, self._parfor.loc
        found = {}
        for op in nested(body):
            if op.name == "memref.alloc":
                for symbol, (kind, message) in _ALLOCATION_ERRORS.items():
                    found[symbol] = Raiser(symbol, kind, message, loc, name)
            elif op.name == failures.LEAVE_IF:
                raiser = self._at_line(op, name)
                found[raiser.symbol] = raiser
        return list(found.values())

    def _at_line(self, op: Any, name: str) -> Raiser:
        """The exception of a ``pyir.leave_if``, raised at the user's line."""
        file, line = source_position(op.location)
        loc = self._parfor.loc if file is None or line is None else ir.Loc(file, line)
        which = mlir.ir.FlatSymbolRefAttr(op.attributes["raiser"]).value
        symbol = f"{which}_{loc.line}"
        op.attributes["raiser"] = mlir.ir.FlatSymbolRefAttr.get(symbol)
        return Raiser(symbol, *_ERRORS[which], loc, name)

    def _read_from_outside(self) -> set[str]:
        """Variables that the loop body needs; the bounds are arguments of their own."""
        live = self._frame.accesses.body_liveness(self._parfor)
        indices = {nest.index_variable.name for nest in self._parfor.loop_nests}
        return set(live[min(self._parfor.loop_body)]) - indices

    def _function(self, name: str, inputs: list[Any], results: tuple[Any, ...] = ()) -> Any:
        ir_ = mlir.ir
        attributes = {
            "sym_name": ir_.StringAttr.get(name),
            "function_type": ir_.TypeAttr.get(ir_.FunctionType.get(inputs, list(results))),
        }
        return build.op("func.func", (), (), attributes, regions=1)

    def _blocks(self, region: Any, inputs: list[Any]) -> tuple[Any, Any]:
        """The entry block, which takes constants, and the block of the loop behind it."""
        here = mlir.ir.Location.unknown()
        entry = region.blocks.append(*inputs, arg_locs=[here] * len(inputs))
        body = region.blocks.append()
        with mlir.ir.InsertionPoint(entry), here:
            mlir.cf.BranchOp([], body)
        return entry, body

    def _variables(self, read: set[str], known: list[tuple[str, Any]], entry: Any) -> Env:
        frame, env = self._frame, Env()
        arguments = iter(entry.arguments)
        with mlir.ir.InsertionPoint.at_block_terminator(entry):
            for name, kind in known:
                env[name] = bare.receive(frame, kind, arguments)
            for name in sorted(read - {name for name, _ in known}):
                kind = frame.type_of(name)
                attributes = {"variable": mlir.ir.StringAttr.get(name)}
                value = build.value(OUTSIDE, (), frame.mlir_type(kind), attributes)
                env[name] = Slot(kind, value)
            for nest in self._parfor.loop_nests:
                self._bounds(env, nest)
        return env

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
            made = self._function(f"combine{number}", [kind, kind], (kind,))
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
