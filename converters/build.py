"""Short forms for building MLIR operations in the current context and insertion point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numba_mlir import mlir


class Mark:
    """Where the current block ends now."""

    def __init__(self) -> None:
        self._block = mlir.ir.InsertionPoint.current.block
        self._count = len(self._block.operations)

    def behind(self) -> list[Any]:
        """What was built here since the mark was made."""
        return [op.operation for op in list(self._block.operations)[self._count :]]

    def erase_behind(self) -> None:
        """Erase what was built here since the mark was made."""
        for operation in reversed(self.behind()):
            operation.erase()


def op(
    name: str,
    operands: Sequence[Any] = (),
    results: Sequence[Any] = (),
    attributes: Mapping[str, Any] | None = None,
    regions: int = 0,
) -> Any:
    """A generic operation at the current insertion point and location."""
    return mlir.ir.Operation.create(
        name,
        results=list(results),
        operands=list(operands),
        attributes=dict(attributes) if attributes else None,
        regions=regions,
    )


def value(
    name: str, operands: Sequence[Any], result: Any, attributes: Mapping[str, Any] | None = None
) -> Any:
    """The result of a generic operation with one result."""
    return op(name, operands, (result,), attributes).results[0]


def wrap_int(number: int, bits: int) -> int:
    """``number`` as the signed two's complement of ``bits`` bits, as MLIR attributes want it."""
    number &= (1 << bits) - 1
    return number - (1 << bits) if bits > 1 and number >> (bits - 1) else number


def constant(number: Any, type_: Any) -> Any:
    """``arith.constant`` (or ``complex.constant``) of a Python number."""
    ir = mlir.ir
    text = str(type_)
    if text == "index" or text[0] == "i":
        bits = 64 if text == "index" else int(text[1:])
        attribute = ir.IntegerAttr.get(type_, wrap_int(int(number), bits))
    elif text.startswith("complex<"):
        element = ir.ComplexType(type_).element_type
        number = complex(number)
        parts = [ir.FloatAttr.get(element, number.real), ir.FloatAttr.get(element, number.imag)]
        return value("complex.constant", (), type_, {"value": ir.ArrayAttr.get(parts)})
    else:
        attribute = ir.FloatAttr.get(type_, float(number))
    return value("arith.constant", (), type_, {"value": attribute})


def index_type() -> Any:
    return mlir.ir.IndexType.get()


def index_constant(number: int) -> Any:
    return constant(number, index_type())


def index_cast(number: Any, type_: Any) -> Any:
    """Between ``index`` and a signless integer, reading it as signed."""
    return number if number.type == type_ else value("arith.index_cast", (number,), type_)


def for_loop(
    bounds: tuple[Any, Any, Any],
    body: Callable[..., Sequence[Any]],
    start: Sequence[Any] = (),
) -> list[Any]:
    """``scf.for`` with ``bounds`` (lower, upper, step); returns its results.

    ``body(iv, *carried)`` builds the body and gives the new values of what is carried.
    """
    kinds = [value.type for value in start]
    made = op("scf.for", [*bounds, *start], kinds, regions=1)
    types = [index_type(), *kinds]
    here = mlir.ir.Location.current
    block = made.regions[0].blocks.append(*types, arg_locs=[here] * len(types))
    with mlir.ir.InsertionPoint(block):
        op("scf.yield", body(*block.arguments))
    return list(made.results)
