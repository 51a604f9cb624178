"""Loops over ``range`` around parallel loops, in the function itself, as ``scf.for``.

The function's control flow is imported as blocks.  A loop that `interchange` may move into
the parallel loops inside it is one operation instead, as it would be in a parallel body.
It is such a loop when

1. it goes over integers, ``for k in range(...)``, with a step known when compiling, and
   is left only where the range ends (no ``break``, ``return`` or ``raise``);
2. it contains a parallel loop;
3. everything else in it is computing with numbers, and sizes and views of arrays.

What the variable (or any other) is behind the loop is a result of the operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numba.core import ir, types
from numba.parfors.parfor import Parfor

from numba_mlir import mlir
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env
from numba_mlir.dialect import STMT
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.roundtrip import graph, ranges
from numba_mlir.roundtrip.regions import BlockSet, StructuredImporter

#: expressions that may stand in such a loop
_EXPRESSIONS = frozenset(
    {"binop", "inplace_binop", "unary", "cast", "getattr", "getitem", "static_getitem", "call"}
    | {"build_tuple", "exhaust_iter", "getiter", "iternext", "pair_first", "pair_second"}
)


class NotStructured(Exception):
    """The loop with this ``header`` has to be imported as blocks."""

    def __init__(self, header: int) -> None:
        super().__init__(header)
        self.header = header


@dataclass
class LoopsOfRange:
    """See `regions.RangeLoops`."""

    loops: Mapping[int, graph.Loop]
    iterators: ranges.Ranges
    exits: Mapping[int, int]

    def collapse(self, control: dict[int, list[int]]) -> None:
        for header, loop in self.loops.items():
            for label in loop.body - {header}:
                control.pop(label, None)
            control[header] = [self.exits[header]]

    def build(self, frame: Frame, blocks: BlockSet, header: int, env: Env) -> int:
        """Raises NotStructured where there is something else in the loop."""
        before = len(mlir.ir.InsertionPoint.current.block.operations)
        try:
            importer = StructuredImporter(frame, blocks)
            importer.ranges = importer.ranges.only(importer.ranges.loops)
            behind = importer.loop(header, env)
        except UnsupportedConstruct as refusal:
            raise NotStructured(header) from refusal
        made = list(mlir.ir.InsertionPoint.current.block.operations)[before:]
        if any(map(_has_statements, made)):
            raise NotStructured(header)
        return behind


def find(frame: Frame, blocks: BlockSet, without: frozenset[int]) -> LoopsOfRange | None:
    """The outermost loops of a function that may be structured; ``without`` these headers."""
    if not any(isinstance(s, Parfor) for b in blocks.blocks.values() for s in b.body):
        return None
    idom = graph.immediate_dominators(blocks.graph, blocks.entry)
    natural = graph.natural_loops(blocks.graph, idom)
    counted = ranges.find(frame, blocks.blocks, blocks.graph, natural)
    chosen: dict[int, graph.Loop] = {}
    for header, loop in sorted(natural.items(), key=lambda pair: -len(pair[1].body)):
        inside = [other for other in natural if other in loop.body]
        if any(header in other.body for other in chosen.values()) or header in without:
            continue
        if all(other in counted.loops for other in inside) and _is_simple(frame, blocks, loop):
            chosen[header] = loop
    if not chosen:
        return None
    own = counted.only(chosen)
    exits = {header: loop.exits(blocks.graph)[0][1] for header, loop in chosen.items()}
    return LoopsOfRange(chosen, own, exits)


def _is_simple(frame: Frame, blocks: BlockSet, loop: graph.Loop) -> bool:
    statements = [stmt for label in loop.body for stmt in blocks.blocks[label].body]
    has_loop = any(isinstance(stmt, Parfor) for stmt in statements)
    return has_loop and all(_is_simple_statement(frame, stmt) for stmt in statements)


def _is_simple_statement(frame: Frame, stmt: Any) -> bool:
    if not isinstance(stmt, ir.Assign):
        return isinstance(stmt, (Parfor, ir.Jump, ir.Branch, ir.Del))
    value = stmt.value
    if not isinstance(value, ir.Expr):
        return not isinstance(value, ir.Yield)
    if value.op == "call" and not isinstance(
        frame.type_of(value.func.name), (types.Function, types.NumberClass)
    ):
        return False
    return value.op in _EXPRESSIONS


def _has_statements(op: Any) -> bool:
    """Whether there is a statement of unknown effect in an operation."""
    op = op.operation
    if op.name == STMT:
        return "raises" not in op.attributes
    return any(_has_statements(o) for r in op.regions for b in r.blocks for o in b.operations)
