"""Truth values computed by logic alone.

LLVM's SPIR-V target has no form for the minimum, the maximum or an order of truth values: it
crashes, or gives code that Intel's OpenCL compiler crashes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import nested

#: arithmetic of one bit (true is 1 without a sign, and -1 with one) -> logic
_ARITHMETIC = {
    "arith.maxui": "arith.ori", "arith.minui": "arith.andi", "arith.maxsi": "arith.andi",
    "arith.minsi": "arith.ori", "arith.addi": "arith.xori", "arith.subi": "arith.xori",
    "arith.muli": "arith.andi",
}  # fmt: skip


def by_logic(kernels: Any) -> None:
    """Rewrite operations on truth values in the functions of a ``gpu.module``, in place."""
    for op in list(nested(kernels)):
        if not op.operands or str(op.operands[0].type) != "i1":
            continue
        if op.name == "arith.cmpi":
            predicate = mlir.ir.IntegerAttr(op.attributes["predicate"]).value
            _replace(op, lambda a, b, number=predicate: _COMPARISONS[number](a, b))
        elif op.name in _ARITHMETIC:
            name = _ARITHMETIC[op.name]
            _replace(op, lambda a, b, name=name: _made(name, a, b))


def _replace(op: Any, make: Callable[[Any, Any], Any]) -> None:
    with mlir.ir.InsertionPoint(op), op.location:
        value = make(*op.operands)
    op.results[0].replace_all_uses_with(value)
    op.erase()


def _made(name: str, a: Any, b: Any) -> Any:
    return mlir.ir.Operation.create(name, [a.type], [a, b]).results[0]


def _and(a: Any, b: Any) -> Any:
    return _made("arith.andi", a, b)


def _or(a: Any, b: Any) -> Any:
    return _made("arith.ori", a, b)


def _differ(a: Any, b: Any) -> Any:
    return _made("arith.xori", a, b)


def _not(a: Any) -> Any:
    return _differ(a, mlir.arith.constant(a.type, 1))


#: MLIR's number of a comparison -> what it is: eq, ne, slt, sle, sgt, sge, ult, ule, ugt, uge
_COMPARISONS: dict[int, Callable[[Any, Any], Any]] = {
    0: lambda a, b: _not(_differ(a, b)),
    1: _differ,
    2: lambda a, b: _and(a, _not(b)),
    3: lambda a, b: _or(a, _not(b)),
    4: lambda a, b: _and(_not(a), b),
    5: lambda a, b: _or(_not(a), b),
    6: lambda a, b: _and(_not(a), b),
    7: lambda a, b: _or(_not(a), b),
    8: lambda a, b: _and(a, _not(b)),
    9: lambda a, b: _or(a, _not(b)),
}
