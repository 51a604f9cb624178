"""Complex numbers as pairs of numbers where control flow meets.

LLVM's SPIR-V target cannot have structures there, and MLIR lowers complex numbers to those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import nested, operations


def split(function: Any) -> None:
    """Rewrite block arguments and selections of complex numbers of a function of blocks."""
    for op in list(nested(function)):
        if op.name == "arith.select" and _is_complex(op.results[0]):
            _split_select(op)
    blocks = list(function.regions[0].blocks)
    for block in blocks:
        _split_operands(operations(block)[-1])
    for block in blocks[1:]:
        _split_arguments(block)


def _is_complex(value: Any) -> bool:
    return str(value.type).startswith("complex<")


def _parts(value: Any) -> tuple[Any, Any]:
    return mlir.complex.re(value), mlir.complex.im(value)


def _split_select(op: Any) -> None:
    condition, yes, no = op.operands
    with mlir.ir.InsertionPoint(op), op.location:
        pairs = zip(_parts(yes), _parts(no), strict=True)
        parts = [mlir.arith.select(condition, *pair) for pair in pairs]
        made = mlir.complex.create_(op.results[0].type, *parts)
    op.results[0].replace_all_uses_with(made)
    op.erase()


def _split_arguments(block: Any) -> None:
    """Other arguments stay in front; those of complex numbers become pairs behind them."""
    ir = mlir.ir
    complexes = [argument for argument in block.arguments if _is_complex(argument)]
    for argument in complexes:
        part = ir.ComplexType(argument.type).element_type
        pair = [block.add_argument(part, argument.location) for _ in range(2)]
        with ir.InsertionPoint.at_block_begin(block), argument.location:
            made = mlir.complex.create_(argument.type, *pair)
        argument.replace_all_uses_with(made)
    for argument in reversed(complexes):
        block.erase_argument(argument.arg_number)


def _split_operands(last: Any) -> None:
    """A branch that passes what `_split_arguments` makes of the arguments."""
    ir = mlir.ir
    if last.name not in ("cf.br", "cf.cond_br") or not any(map(_is_complex, last.operands)):
        return
    operands = list(last.operands)
    with ir.InsertionPoint(last), last.location:
        if last.name == "cf.br":
            ir.Operation.create("cf.br", [], _expanded(operands), successors=last.successors)
        else:
            _, yes, _ = list(last.attributes["operandSegmentSizes"])
            groups = [list(_expanded(g)) for g in (operands[1 : 1 + yes], operands[1 + yes :])]
            sizes = ir.DenseI32ArrayAttr.get([1, *map(len, groups)])
            ir.Operation.create(
                "cf.cond_br",
                [],
                [operands[0], *groups[0], *groups[1]],
                {"operandSegmentSizes": sizes},
                successors=last.successors,
            )
    last.erase()


def _expanded(operands: Iterable[Any]) -> list[Any]:
    operands = list(operands)
    pairs = [part for value in operands if _is_complex(value) for part in _parts(value)]
    return [value for value in operands if not _is_complex(value)] + pairs
