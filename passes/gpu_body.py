"""The body of a loop made legal in a kernel: what is kept, rewritten, and refused."""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import building
from numba_mlir.passes.gpu_loops import Refused, sequential
from numba_mlir.passes.gpu_reduce import as_stored, truth
from numba_mlir.passes.gpu_scatter import make_atomic
from numba_mlir.passes.values import is_memref, nested

_DIALECTS = frozenset({"arith", "math", "complex", "index", "ub"})
_OPERATIONS = frozenset(
    {
        "scf.for", "scf.while", "scf.if", "scf.yield", "scf.condition", "scf.execute_region",
        "scf.parallel", "scf.reduce", "scf.reduce.return", "cf.br", "cf.cond_br",
        "memref.load", "memref.store", "memref.dim", "memref.atomic_rmw",
        "memref.generic_atomic_rmw", "memref.atomic_yield",
    }
)  # fmt: skip


def legalize(loop: Any) -> None:
    """Rewrite the body of ``loop``, in place; raises Refused with the first obstacle."""
    erase_unused(loop)
    for op in list(nested(loop)):
        if op.name == "numba.wrap_index":
            _wrap(op)
        elif op.name == "numba.undef":
            _undefined(op)
        elif op.name in ("memref.load", "memref.store"):
            _truth_values(op)
    make_atomic(loop)
    for op in nested(loop):
        _check(op)
    for op in reversed(list(nested(loop))):  # inner loops first
        if op.name == "scf.parallel":
            sequential(op)


def erase_unused(loop: Any) -> None:
    """Operations of the numba dialect whose results nobody needs: tuples of indices."""
    for op in reversed(list(nested(loop))):
        pure = op.name.startswith("numba.expr") or op.name == "numba.undef"
        if pure and not any(len(list(result.uses)) for result in op.results):
            op.erase()


def _check(op: Any) -> None:
    name = op.name
    if name in _OPERATIONS or name.split(".")[0] in _DIALECTS:
        if any(is_memref(result) for result in op.results):
            raise Refused("an array is chosen or carried inside the loop")
        if any(str(value.type) == "f16" for value in (*op.results, *op.operands)):
            raise Refused("float16 has no arithmetic in Numba")
        return
    if name == "memref.alloc":
        raise Refused("an array is allocated in each iteration")
    text = op.attributes["text"].value if "text" in op.attributes else name
    raise Refused(f"{text!r} has no form in a kernel")


def _replace(op: Any, value: Any) -> None:
    op.results[0].replace_all_uses_with(value)
    op.erase()


def _wrap(op: Any) -> None:
    """``i + n if i < 0 else i``"""
    arith, index = mlir.arith, mlir.ir.IndexType.get()
    with mlir.ir.InsertionPoint(op), op.location:
        number, size = (
            v if str(v.type) == "index" else arith.index_cast(index, v) for v in op.operands
        )
        negative = arith.cmpi(arith.CmpIPredicate.slt, number, building.index(0))
        _replace(op, arith.select(negative, arith.addi(number, size), number))


def _undefined(op: Any) -> None:
    """A variable without a value on this path: nothing reads it there."""
    kind = op.results[0].type
    if str(kind).startswith("!numba.ref") or is_memref(op.results[0]):
        raise Refused("a variable that is no number is not assigned on every path")
    attributes = {"value": mlir.ir.Attribute.parse("#ub.poison")}
    with mlir.ir.InsertionPoint(op), op.location:
        _replace(
            op, mlir.ir.Operation.create("ub.poison", [kind], attributes=attributes).results[0]
        )


def _truth_values(op: Any) -> None:
    """Arrays of truth values are arrays of bytes in a kernel."""
    loads = op.name == "memref.load"
    array = op.operands[0 if loads else 1]
    number = op.results[0] if loads else op.operands[0]
    if str(number.type) != "i1" or str(array.type.element_type) != "i8":
        return
    with mlir.ir.InsertionPoint(op), op.location:
        if loads:
            _replace(op, truth(mlir.memref.load(array, list(op.operands)[1:])))
        else:
            op.operands[0] = as_stored(number)
