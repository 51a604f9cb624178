"""Typed Numba IR → MLIR, for whole functions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from numba.core import ir
from numba.core import types as ntypes

from numba_mlir import mlir
from numba_mlir.converters import build
from numba_mlir.converters.frame import TYPE, Frame
from numba_mlir.converters.sidetable import SideTable
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.roundtrip.accesses import AccessTable
from numba_mlir.roundtrip.parallel import ParforImporter
from numba_mlir.roundtrip.range_loops import NotStructured
from numba_mlir.roundtrip.range_loops import find as find_loops
from numba_mlir.roundtrip.regions import BlockSet, CfgImporter


@dataclass
class Imported:
    """A function in MLIR with what is needed to bring it back.

    ``parfors`` is the number of Parfors met; ``opaque`` has the Numba location of each one
    that stayed one statement, and why.  ``converted`` counts statements that are no Numba
    loops yet (a function that has some must be exported), ``kept`` says which could not be.
    """

    module: Any
    table: SideTable
    parfors: int = 0
    opaque: list[tuple[Any, str]] = field(default_factory=list)
    #: reductions that Numba refuses or computes differently from NumPy: (location, which)
    repairs: list[tuple[Any, str]] = field(default_factory=list)
    converted: int = 0
    kept: list[tuple[Any, str]] = field(default_factory=list)
    #: kernels of the module's ``gpu.module`` in machine code, by name
    kernels: dict[str, Any] = field(default_factory=dict)

    @property
    def function(self) -> Any:
        return self.module.body.operations[0]


def import_function(state: Any, stage: Any = None, range_loops: bool = False) -> Imported:
    """Import ``state.func_ir``; nothing of ``state`` is changed.

    ``stage`` converts statements before the common rules do (see `Frame`).  With
    ``range_loops``, loops over ``range`` around parallel loops are structured.
    Raises UnsupportedConstruct when the whole function has to stay as it is.
    """
    func_ir = state.func_ir
    check_importable(func_ir)
    context = mlir.context()
    with context, mlir.ir.Location.file(func_ir.loc.filename, func_ir.loc.line or 0, 0):
        without: frozenset[int] = frozenset()
        while True:
            try:
                return _Importer(state, stage).run(range_loops, without)
            except NotStructured as refusal:
                without |= {refusal.header}


def check_importable(func_ir: Any) -> None:
    """Refuse functions whose variables or blocks other structures refer to."""
    if func_ir.is_generator:
        raise UnsupportedConstruct("a generator keeps its state in named variables", func_ir.loc)
    for block in func_ir.blocks.values():
        for stmt in block.body:
            if isinstance(stmt, (ir.EnterWith, ir.PopBlock)):
                raise UnsupportedConstruct("a with or try block", stmt.loc)
            if isinstance(stmt, (ir.TryRaise, ir.StaticTryRaise, ir.DynamicTryRaise)):
                raise UnsupportedConstruct("an exception raised inside try", stmt.loc)
            value = stmt.value if isinstance(stmt, ir.Assign) else None
            if isinstance(value, (ir.Global, ir.FreeVar)) and _marks_try(value.value):
                raise UnsupportedConstruct("a try block", stmt.loc)


def _marks_try(function: Any) -> bool:
    from numba.core.unsafe import eh

    return any(function is f for f in (eh.mark_try_block, eh.end_try_block, eh.exception_check))


class _Importer:
    def __init__(self, state: Any, stage: Any) -> None:
        self.state = state
        self.parallel = ParforImporter([], state.func_ir.blocks)
        self.frame = Frame(
            state.typemap, state.calltypes, state.flags.error_model, self.parallel, AccessTable()
        )
        self.frame.typingctx, self.frame.stage = state.typingctx, stage

    def run(self, range_loops: bool, without: frozenset[int]) -> Imported:
        func_ir, frame = self.state.func_ir, self.frame
        blocks = BlockSet(frame.accesses, func_ir.blocks, min(func_ir.blocks))
        # Structured loops move into parallel bodies, where Numba loses exceptions.
        wanted = range_loops and not self.state.flags.boundscheck
        loops = find_loops(frame, blocks, without) if wanted else None
        frame.table.definitions = _definitions(func_ir.blocks)
        module = mlir.ir.Module.create()
        arguments = _arguments(func_ir.blocks, blocks.entry)
        with mlir.ir.InsertionPoint(module.body):
            function = self._function(arguments)
        region = function.regions[0]
        kinds = [frame.mlir_type(frame.type_of(stmt.target.name)) for stmt in arguments]
        locs = [frame.location(stmt.loc, stmt.target.name) for stmt in arguments]
        entry = region.blocks.append(*kinds, arg_locs=locs)
        frame.entry = entry
        env = Env()
        for stmt, value in zip(arguments, entry.arguments, strict=True):
            name = stmt.target.name
            env[f"arg.{stmt.value.index}.{name}"] = Slot(frame.type_of(name), value)
        labels = set(func_ir.blocks)
        CfgImporter(frame, blocks, labels, blocks.entry, loops=loops).run(region, env, entry)
        imported = Imported(module, frame.table, len(self.parallel.outcomes))
        imported.repairs = frame.repairs
        imported.opaque = [
            (parfor.loc, reason) for parfor, reason in self.parallel.outcomes if reason is not None
        ]
        return imported

    def _function(self, arguments: list[Any]) -> Any:
        ir_, frame = mlir.ir, self.frame
        inputs = [frame.mlir_type(frame.type_of(stmt.target.name)) for stmt in arguments]
        function_type = ir_.FunctionType.get(inputs, self._results())
        attributes = {
            "sym_name": ir_.StringAttr.get(self.state.func_id.func_name),
            "function_type": ir_.TypeAttr.get(function_type),
        }
        if arguments:
            attributes["arg_attrs"] = ir_.ArrayAttr.get(
                [self._argument_attributes(stmt) for stmt in arguments]
            )
        return build.op("func.func", (), (), attributes, regions=1)

    def _argument_attributes(self, stmt: Any) -> Any:
        ir_ = mlir.ir
        return ir_.DictAttr.get(
            {
                "numba.arg": ir_.IntegerAttr.get(
                    ir_.IntegerType.get_signless(64), stmt.value.index
                ),
                "numba.name": ir_.StringAttr.get(stmt.target.name),
                TYPE: self.frame.type_attribute(self.frame.type_of(stmt.target.name)),
            }
        )

    def _results(self) -> list[Any]:
        for block in self.state.func_ir.blocks.values():
            if block.body and isinstance(block.body[-1], ir.Return):
                returned = self.frame.type_of(block.body[-1].value.name)
                return [self.frame.mlir_type(returned)]
        return [self.frame.mlir_type(ntypes.none)]


def _arguments(blocks: dict[int, Any], entry: int) -> list[Any]:
    """The assignments of function arguments, which stand in the first block."""
    return [
        stmt
        for stmt in blocks[entry].body
        if isinstance(stmt, ir.Assign) and isinstance(stmt.value, ir.Arg)
    ]


def _definitions(blocks: dict[int, Any]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for block in blocks.values():
        for stmt in block.body:
            counts.update(_assigned(stmt))
    return counts


def _assigned(stmt: Any) -> list[str]:
    if isinstance(stmt, ir.Assign):
        return [stmt.target.name]
    if not hasattr(stmt, "loop_body"):
        return []
    names = [n.index_variable.name for n in stmt.loop_nests]
    for block in (stmt.init_block, *stmt.loop_body.values()):
        for inner in block.body:
            names.extend(_assigned(inner))
    return names
