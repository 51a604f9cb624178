"""Leaving a function in the middle of its loops, for an exception.

Two operations, which `numba.*` has no use for elsewhere and so are of no registered dialect:

* ``pyir.leave_if %condition {raiser}``: when true, the status that ``raiser(%excinfo)`` gives;
  with ``{status}`` instead, that number;
* ``pyir.leave_with %status``: when it stands for an error, that status.

A function that has one of them gets a last argument, where the description of an exception is
put, and its first result is the status: 0, or what Numba's calling convention says.  Structured
operations have no way out in the middle, so this is for functions of basic blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import nested, operations

LEAVE_IF = "pyir.leave_if"
LEAVE_WITH = "pyir.leave_with"
_LEAVES = (LEAVE_IF, LEAVE_WITH)
#: attributes of a ``pyir.leave_if``
RAISER, STATUS = "raiser", "status"
#: another one: what comes behind it in its loops may run first (`late_failures`)
LATE = "late"
#: statuses that are no errors: a value, and None as a value
_NO_ERROR = (0, -2)


def can_fail(module: Any) -> bool:
    return any(op.name in _LEAVES for op in nested(module.operation))


def give_way_out(function: Any) -> Any:
    """Add the argument and the result to a function that returns at one place.

    Returns the argument, a pointer.
    """
    ir = mlir.ir
    kind = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    pointer, status = ir.Type.parse("!llvm.ptr"), ir.IntegerType.get_signless(32)
    entry = function.regions[0].blocks[0]
    excinfo = entry.add_argument(pointer, ir.Location.unknown())
    changed = ir.FunctionType.get([*kind.inputs, pointer], [status, *kind.results])
    function.attributes["function_type"] = ir.TypeAttr.get(changed)
    (last,) = [op for op in nested(function) if op.name == "func.return"]
    with ir.InsertionPoint(last), last.location:
        ok = mlir.arith.constant(status, 0)
        ir.Operation.create("func.return", operands=[ok, *last.operands])
    last.erase()
    return excinfo


def leave(function: Any, buffers: list[Any], zero: Callable[[Any], Any]) -> None:
    """Turn the operations of `_LEAVES` into branches to a block that returns.

    ``buffers`` are memrefs that are freed there, ``zero`` makes a value of a type for the
    results other than the status.
    """
    ir = mlir.ir
    region = function.regions[0]
    excinfo = region.blocks[0].arguments[-1]
    kind = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    status = ir.IntegerType.get_signless(32)
    way_out = region.blocks.append(status, arg_locs=[ir.Location.unknown()])
    with ir.InsertionPoint(way_out), ir.Location.unknown():
        values = [zero(result) for result in kind.results[1:]]
        for buffer in buffers:
            ir.Operation.create("memref.dealloc", operands=[buffer])
        ir.Operation.create("func.return", operands=[way_out.arguments[0], *values])
    for op in [op for op in nested(function) if op.name in _LEAVES]:
        with op.location:
            _branch(op, excinfo, region, way_out)


def _branch(op: Any, excinfo: Any, region: Any, way_out: Any) -> None:
    ir = mlir.ir
    block = op.block
    behind = block.create_after()
    following = False
    for other in operations(block):
        if following:
            behind.append(other)
        following = following or other == op
    with ir.InsertionPoint(block):
        if op.name == LEAVE_WITH:
            (code,) = op.operands
            mlir.cf.CondBranchOp(_is_error(code), [code], [], way_out, behind)
        else:
            cold = region.blocks.append()
            mlir.cf.CondBranchOp(op.operands[0], [], [], cold, behind)
            with ir.InsertionPoint(cold):
                mlir.cf.BranchOp([_status(op, excinfo)], way_out)
    op.erase()


def _status(op: Any, excinfo: Any) -> Any:
    """The status that a ``pyir.leave_if`` leaves with, at the insertion point."""
    ir = mlir.ir
    kind = ir.IntegerType.get_signless(32)
    if STATUS in op.attributes:
        return mlir.arith.constant(kind, ir.IntegerAttr(op.attributes[STATUS]).value)
    callee = {"callee": op.attributes[RAISER]}
    return ir.Operation.create("func.call", [kind], [excinfo], callee).results[0]


def _is_error(code: Any) -> Any:
    arith = mlir.arith
    tests = [arith.cmpi(arith.CmpIPredicate.ne, code, arith.constant(code.type, value))
             for value in _NO_ERROR]  # fmt: skip
    return arith.andi(*tests)
