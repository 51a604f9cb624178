"""Small questions about MLIR values and operations that all passes ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.base import location_name, source_position

#: accesses to elements, and which of their operands is the array; the indices follow it
ACCESSES = {"memref.load": 0, "memref.store": 1}
#: the number of an array's first byte, as an index
ADDRESS = "memref.extract_aligned_pointer_as_index"
_LOOPS = frozenset({"scf.for", "scf.while", "scf.parallel"})


def operations(block: Any) -> list[Any]:
    """The operations of a block, terminator included."""
    return [op.operation for op in block.operations]


def nested(op: Any) -> list[Any]:
    """All operations inside ``op``'s regions, outer before inner, in textual order."""
    found: list[Any] = []
    if len(op.regions):
        ir = mlir.ir
        go_on = ir.WalkResult.ADVANCE

        def visit(inner: Any) -> Any:
            found.append(inner)
            return go_on

        op.walk(visit, ir.WalkOrder.PRE_ORDER)
        del found[0]  # op itself
    return found


def has_inner_loop(op: Any) -> bool:
    """Whether there is a loop inside ``op``."""
    return any(child.name in _LOOPS for child in nested(op))


def loop_indices(loop: Any) -> list[Any]:
    """The indices of an ``scf.parallel`` or ``scf.for``; not what the latter carries."""
    arguments = list(loop.regions[0].blocks[0].arguments)
    return arguments[:1] if loop.name == "scf.for" else arguments


def owner(value: Any) -> Any | None:
    """The operation that defines ``value``; None for a block argument."""
    found = value.owner
    return None if isinstance(found, mlir.ir.Block) else found.operation


def ancestor_in(op: Any, block: Any) -> Any | None:
    """The operation of ``block`` that is or contains ``op``, or None."""
    return _ancestor(op, lambda one: one.block == block)


def ancestor_in_region(op: Any, region: Any) -> Any | None:
    """The operation directly in ``region`` that is or contains ``op``, or None."""
    return _ancestor(op, lambda one: one.block.region == region)


def _ancestor(op: Any, is_there: Callable[[Any], bool]) -> Any | None:
    while op is not None and op.parent is not None:
        if is_there(op):
            return op
        op = op.parent
    return None


def defined_inside(value: Any, op: Any) -> bool:
    """Whether ``value`` is defined in a region of ``op``."""
    block = value.owner if isinstance(value.owner, mlir.ir.Block) else value.owner.operation.block
    while True:
        parent = block.owner.operation
        if parent == op:
            return True
        if parent.parent is None:
            return False
        block = parent.block


def definition(value: Any) -> Any:
    """The operation that defines ``value``, which must not be a block argument."""
    op = owner(value)
    if op is None:
        raise ValueError(f"{value} is a block argument")
    return op


def is_memref(value: Any) -> bool:
    return isinstance(value.type, mlir.ir.MemRefType)


def is_ref(value: Any) -> bool:
    """Whether ``value`` is a ``!numba.ref``: a Numba value without MLIR type."""
    return str(value.type).startswith("!numba.ref<")


def is_scalar(value: Any) -> bool:
    return not (is_memref(value) or is_ref(value))


def constant_int(value: Any) -> int | None:
    """The integer that an ``arith.constant`` of index or integer type holds, or None."""
    op = owner(value)
    if op is None or op.name != "arith.constant":
        return None
    attribute = op.attributes["value"]
    return attribute.value if isinstance(attribute, mlir.ir.IntegerAttr) else None


def constant_bool(value: Any) -> bool | None:
    """The truth value that an ``arith.constant`` of type ``i1`` holds, or None."""
    op = owner(value)
    if op is None or op.name != "arith.constant":
        return None
    attribute = op.attributes["value"]
    if isinstance(attribute, mlir.ir.BoolAttr):
        return bool(attribute.value)
    is_bit = isinstance(attribute, mlir.ir.IntegerAttr) and str(attribute.type) == "i1"
    return bool(attribute.value) if is_bit else None


_INDEX_CASTS = frozenset({"arith.index_cast", "arith.index_castui"})


def strip_casts(value: Any) -> Any:
    """Look through lossless index casts, between index and 64-bit integers."""
    while (op := owner(value)) is not None and op.name in _INDEX_CASTS:
        source = op.operands[0]
        if not (_is_wide(source.type) and _is_wide(value.type)):
            break
        value = source
    return value


def _is_wide(type_: Any) -> bool:
    ir = mlir.ir
    return isinstance(type_, ir.IndexType) or (
        isinstance(type_, ir.IntegerType) and type_.width == 64
    )


def line_of(op: Any) -> int | None:
    """The user's line of an operation, None where it has none."""
    return source_position(op.location)[1]


def at_line(op: Any) -> str:
    """ " at line 7", or "" for an operation without a line."""
    line = line_of(op)
    return "" if line is None else f" at line {line}"


def display_name(value: Any) -> str:
    """What the user calls a value: a variable's name, or "a temporary array"."""
    return variable_name(value) or (
        "a temporary array" if is_memref(value) else "a temporary value"
    )


def variable_name(value: Any) -> str | None:
    """The name of the user's variable that holds ``value``, or None.

    Numba's own names contain ``$`` (temporaries) or ``__`` (inlined functions); a number
    behind a dot tells versions of one variable apart.
    """
    op = owner(value)
    if op is None:
        name = _argument_name(value)
    elif op.name == "scf.parallel" and "numba.names" in op.attributes:
        names = list(op.attributes["numba.names"])
        name = names[value.result_number].value if len(names) == len(op.results) else None
    else:
        name = location_name(op.location)
    if not name or name.startswith("$") or "__" in name:
        return None
    return name.split(".")[0]


def _argument_name(value: Any) -> str | None:
    parent = value.owner.owner
    if parent is None or parent.operation.name != "func.func":
        return None
    attributes = parent.operation.attributes
    if "arg_attrs" not in attributes or value.owner != parent.operation.regions[0].blocks[0]:
        return None
    named = attributes["arg_attrs"][value.arg_number]
    return str(named["numba.name"].value) if "numba.name" in named else None


def describe(op: Any) -> str:
    """What to call an operation in a message: its kind and the user's line."""
    kinds = {
        "scf.parallel": "the loop",
        "numba.assert_equal": "the check of sizes",
        "numba.broadcast": "the check of sizes",
        "numba.broadcast_into": "the check of sizes",
    }
    place = at_line(op)
    if op.name in kinds or place:
        return kinds.get(op.name, "the statement") + place
    return f"'{op.attributes['text'].value}'" if "text" in op.attributes else op.name
