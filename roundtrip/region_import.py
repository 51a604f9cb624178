"""A piece of a sequential function in MLIR, as a function of its own.

``body`` takes what the piece reads from outside and returns the numbers that are read behind
it.  Its iterations keep their order.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from typing import Any

from numba.core import types
from numba.parfors.parfor import Parfor

from numba_mlir import mlir
from numba_mlir.converters import bare, build, scalars
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes import failures
from numba_mlir.roundtrip.accesses import AccessTable
from numba_mlir.roundtrip.body_import import BodyImport, Captured, Ways
from numba_mlir.roundtrip.outline import RESULT, Function, LeaveIf, Region, is_argument
from numba_mlir.roundtrip.parallel import ParforImporter
from numba_mlir.roundtrip.reduction_analysis import readable
from numba_mlir.roundtrip.regions import BlockSet, StructuredImporter

#: status of the first `LeaveIf`; Numba's own are above
FIRST_LEAVE = -1000


@dataclass(frozen=True)
class Piece:
    """A region in MLIR: its arguments, and the types of the numbers behind each of its outs."""

    module: Any
    region: Region
    captured: Captured
    outs: tuple[tuple[str, Any], ...]
    ways: Ways


class RegionImport(BodyImport):
    """One import; the function is only read."""

    def __init__(self, state: Any, accesses: AccessTable, region: Region) -> None:
        frame = Frame(
            ChainMap(region.types, state.typemap),
            ChainMap(region.calltypes, state.calltypes),
            state.flags.error_model,
            ParforImporter([]),
            accesses,
        )
        super().__init__(state, frame, region.loc)
        frame.typingctx, frame.stage = state.typingctx, _leave
        self._region, self._accesses = region, accesses

    def run(self, outside: Function, fresh: frozenset[str]) -> Piece:
        """Raises UnsupportedConstruct where MLIR has no form for the piece."""
        region, loc = self._region, self._loc
        self._check()
        with mlir.context(), mlir.ir.Location.file(loc.filename, loc.line or 0, 0):
            module = mlir.ir.Module.create()
            blocks = BlockSet(
                self._accesses, region.blocks, region.entry, frozenset(region.outs)
            )  # fmt: skip
            read = self._defined_outside(blocks.live[region.entry], outside)
            known = self.captured(read)
            inputs = [leaf.mlir() for _, kind in known for leaf in bare.leaves(kind) or ()]
            with mlir.ir.InsertionPoint(module.body):
                made = self.function("body", inputs)
            entry, body = self.blocks(made.regions[0], inputs)
            env = self.variables(read, known, entry)
            with mlir.ir.InsertionPoint(body):
                StructuredImporter(self._frame, blocks).run(env)
                results = [leaf for name in region.outs for leaf in self._leaves(env, name)]
                build.op("func.return", results)
            kind = mlir.ir.FunctionType.get(inputs, [value.type for value in results])
            made.attributes["function_type"] = mlir.ir.TypeAttr.get(kind)
            ways = self.call_back(module)
            self.mark_alone(module, known, fresh)
        outs = tuple((name, self._frame.type_of(name)) for name in region.outs)
        return Piece(module, region, known, outs, ways)

    def _check(self) -> None:
        for block in self._region.blocks.values():
            for stmt in block.body:
                if isinstance(stmt, Parfor):
                    raise UnsupportedConstruct("a parallel loop in a sequential one", stmt.loc)
        for name in self._region.outs:
            if number_types(self._frame.type_of(name)) is None:
                what = f"{readable({name})}, which is read behind the loop,"
                what = "the function's result" if name.startswith(RESULT) else what
                raise UnsupportedConstruct(f"{what} is no number", self._loc)

    def _defined_outside(self, live: frozenset[str], outside: Function) -> set[str]:
        """Of the variables that are read, those that can have a value by then."""
        region, blocks = self._region, outside.func_ir.blocks
        inside = {id(s) for n in region.labels for s in blocks[n].body
                  if not (region.whole and is_argument(s))}  # fmt: skip
        return {name for name in live
                if any(id(stmt) not in inside for stmt in outside.defs.get(name, ()))}  # fmt: skip

    def _leaves(self, env: Env, name: str) -> list[Any]:
        """The numbers of a variable in the end."""
        kind = self._frame.type_of(name)
        return _numbers(self._frame, self._frame.use(env, name), kind, self._loc)


def _numbers(frame: Frame, slot: Slot, kind: Any, loc: Any) -> list[Any]:
    if isinstance(kind, types.BaseTuple):
        if slot.elements is None:
            raise UnsupportedConstruct("a tuple that is made on several paths", loc)
        pairs = zip(slot.elements, kind, strict=True)
        return [value for pair in pairs for value in _numbers(frame, *pair, loc)]
    if isinstance(kind, (types.Literal, types.NoneType)):
        return []
    found = frame.coerce(slot, kind)
    if found is None:
        raise UnsupportedConstruct("a result that is no number", loc)
    number = frame.scalar(found)
    assert number is not None
    return [number[0]]


def number_types(kind: Any) -> tuple[Any, ...] | None:
    """The types of the numbers that a value is returned as; None for other values."""
    if isinstance(kind, types.BaseTuple):
        members = [number_types(member) for member in kind]
        if any(member is None for member in members):
            return None
        return tuple(number for member in members for number in member or ())
    if isinstance(kind, types.NoneType):
        return ()
    if isinstance(kind, types.Literal):
        return () if scalars.kind(types.unliteral(kind)) else None
    if scalars.kind(kind) is None or kind == types.float16:
        return None
    return (kind,)


def _leave(frame: Frame, env: Env, stmt: Any) -> bool:
    """Converts a `LeaveIf`."""
    if not isinstance(stmt, LeaveIf):
        return False
    number = frame.scalar(env.get(stmt.cond.name))
    if number is None or str(number[0].type) != "i1":
        raise UnsupportedConstruct("a condition that is not a boolean", stmt.loc)
    condition = number[0]
    if not stmt.value:
        condition = mlir.arith.xori(condition, frame.constant(True, condition.type))
    kind = mlir.ir.IntegerType.get_signless(32)
    status = mlir.ir.IntegerAttr.get(kind, FIRST_LEAVE - stmt.number)
    build.op(failures.LEAVE_IF, [condition], (), {failures.STATUS: status})
    return True
