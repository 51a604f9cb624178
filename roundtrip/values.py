"""MLIR values on their way back: which Numba type and variable each one has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numba.core import types
from numba.parfors.parfor import Parfor

from numba_mlir import dialect, mlir
from numba_mlir.converters import scalars
from numba_mlir.converters.frame import TYPE
from numba_mlir.converters.sidetable import SideTable
from numba_mlir.errors import MLIRRoundtripError
from numba_mlir.passes.base import location_name

#: operations without a Numba type that give an array of what their MLIR type says
_MADE_BY_PASSES = frozenset(
    f"numba.device_{name}" for name in ("alloc", "landing", "place", "counter")
)


def walk(region: Any) -> Iterator[Any]:
    """Every operation under a region, parents first."""
    for block in region.blocks:
        for op in block.operations:
            op = op.operation
            yield op
            for inner in op.regions:
                yield from walk(inner)


def defining(value: Any) -> Any:
    """The operation that makes a value; None for a block argument."""
    owner = value.owner
    return None if isinstance(owner, mlir.ir.Block) else owner.operation


def integer_constant(value: Any) -> int | None:
    """The number behind a constant integer or index; None for anything else."""
    op = defining(value)
    if op is None or op.name != "arith.constant":
        return None
    attribute = op.attributes["value"]
    return attribute.value if isinstance(attribute, mlir.ir.IntegerAttr) else None


def name_hint(location: Any) -> str | None:
    """The variable name that a location carries."""
    return location_name(location)


def alloc_sizes(op: Any) -> list[Any]:
    """Sizes of a ``memref.alloc``: a number where its type is static, else an MLIR value."""
    dynamic = iter(op.operands)
    shape = mlir.ir.MemRefType(op.results[0].type)
    return [
        next(dynamic) if shape.is_dynamic_dim(axis) else shape.get_dim_size(axis)
        for axis in range(shape.rank)
    ]


class Types:
    """Numba types of MLIR values.

    Numbers have the canonical type of their MLIR type.  Arrays and references are followed
    to where they come from: an attribute, or the values that flow into a block argument.
    """

    def __init__(self, table: SideTable) -> None:
        self.table = table
        self._known: dict[Any, Any] = {}
        self._visiting: set[Any] = set()

    def of(self, value: Any) -> Any:
        found = self._known.get(value)
        if found is None:
            found = scalars.canonical(value.type) or self._followed(value)
            if found is None:
                raise MLIRRoundtripError(f"the Numba type of {value} is not known")
            self._known[value] = found
        return found

    def _followed(self, value: Any) -> Any:
        if value in self._visiting:
            return None
        self._visiting.add(value)
        try:
            op = defining(value)
            if op is None:
                return self._of_argument(value)
            return self._of_result(op, mlir.ir.OpResult(value).result_number)
        finally:
            self._visiting.discard(value)

    def _first(self, values: Any) -> Any:
        for value in values:
            found = self._known.get(value) or scalars.canonical(value.type)
            found = found or self._followed(value)
            if found is not None:
                return found
        return None

    def _of_result(self, op: Any, number: int) -> Any:
        attributes = op.attributes
        if TYPE in attributes:
            return self.table.type_of(attributes[TYPE].value)
        # (not where a carried value has been removed since)
        if "numba.types" in attributes and len(attributes["numba.types"]) == len(op.results):
            return self.table.type_of(attributes["numba.types"][number].value)
        if op.name == "memref.alloc" and isinstance(op.location, mlir.ir.FusedLoc):
            metadata = op.location.metadata
            if metadata is not None:
                return self.table.type_of(mlir.ir.StringAttr(metadata).value)
        if op.name == "memref.alloc" or op.name in _MADE_BY_PASSES:
            made = op.results[0].type
            dtype = scalars.canonical(made.element_type)
            return None if dtype is None else types.Array(dtype, made.rank, "C")
        if op.name == "arith.select":
            return self._first(list(op.operands)[1:])
        if op.name.startswith("memref.") and len(op.operands):
            return self._first([op.operands[0]])
        if op.name == "scf.parallel":  # a reduction has the type of its initial value
            return self._first([list(op.operands)[number - len(op.results)]])
        yielded = []
        for region in op.regions:
            for block in region.blocks:
                last = block.operations[len(block.operations) - 1].operation
                if last.name in ("scf.yield", "scf.condition"):
                    skip = 1 if last.name == "scf.condition" else 0
                    operands = list(last.operands)[skip:]
                    if number < len(operands):
                        yielded.append(operands[number])
        return self._first(yielded)

    def _of_argument(self, value: Any) -> Any:
        argument = mlir.ir.BlockArgument(value)
        block, number = argument.owner, argument.arg_number
        parent = block.owner.operation
        first = parent.regions[0].blocks[0] == block
        if parent.name == "func.func" and first:
            attributes = parent.attributes["arg_attrs"][number]
            return self.table.type_of(attributes[TYPE].value)
        if parent.name == "scf.for" and first:
            return self._first([parent.operands[3 + number - 1]])
        if parent.name == "scf.while":
            if first:
                return self._first([parent.operands[number]])
            condition = parent.regions[0].blocks[0].operations
            return self._first([condition[len(condition) - 1].operation.operands[1 + number]])
        return self._first(incoming(block, number))


def incoming(block: Any, number: int) -> list[Any]:
    """The values that branches pass for argument ``number`` of a block."""
    found = []
    for other in block.region.blocks:
        last = other.operations[len(other.operations) - 1].operation
        for successor, operands in branch_targets(last):
            if successor == block:
                found.append(operands[number])
    return found


def branch_targets(op: Any) -> list[tuple[Any, list[Any]]]:
    """(successor block, operands passed to it) of a ``cf`` branch."""
    operands = list(op.operands)
    if op.name == "cf.br":
        return [(op.successors[0], operands)]
    if op.name == "cf.cond_br":
        _, yes, _ = list(op.attributes["operandSegmentSizes"])
        return [
            (op.successors[0], operands[1 : 1 + yes]),
            (op.successors[1], operands[1 + yes :]),
        ]
    return []


def bound_names(region: Any, table: SideTable) -> tuple[dict[str, Any], set[str]]:
    """Variable names that opaque Parfors use or assign.

    Returns those that stand for one value in the whole function, with it, and all of them.
    A Parfor is put back as it is, so its variables must have their old names around it.
    """
    values: dict[str, set[Any]] = {}
    for op in walk(region):
        if op.name != dialect.STMT:
            continue
        record = table.statements[op.attributes["stmt"].value]
        if isinstance(record.stmt, Parfor):
            pairs = [*zip(record.uses, op.operands, strict=True)]
            pairs += zip(record.defs, op.results, strict=True)
            for name, value in pairs:
                values.setdefault(name, set()).add(value)
    owned = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    return owned, set(values)


def index_like(numba_type: Any) -> bool:
    return numba_type in (types.int64, types.uint64)
