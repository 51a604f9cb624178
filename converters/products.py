"""Products of a matrix and a vector: ``A @ x``, ``x @ A``, ``np.dot``.

The statement is kept as it is, a call of BLAS, with an attribute from which the pass
`numba_mlir.passes.products` may make a loop.  That the sizes fit is checked in front of it,
by a check of its own with the message of Numba.  Taken are products of two arrays of
float32 or of float64.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import (
    arrays,
    build,
    elementwise,
    kept,
    reduction_calls,
    scalars,
    windows,
)
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import hashable, names_read
from numba_mlir.converters.slots import Env, Slot

#: attribute of a kept product: operand numbers of the matrix and the vector, and the axis of
#: the matrix that is added up
PRODUCT = "numba.product"
#: attribute of a kept product: Numba copies the matrix for BLAS, and a loop reads it as it lies in
#: memory
COPIES = "numba.product_copies"
_MESSAGE = "incompatible array sizes for np.dot(a, b) ({} * {})"
_NAMES = {1: "vector", 2: "matrix"}
_NUMBERS = (types.float32, types.float64)


def convert(frame: Frame, env: Env, stmt: Any) -> bool:
    """Keep ``x = <such a product>`` with what is known about it; False for anything else."""
    names = _operands(env, stmt.value)
    if names is None:
        return False
    left, right = (env.get(name) for name in names)
    if not arrays.is_native(left) or not arrays.is_native(right):
        return False
    ranks = left.type.ndim, right.type.ndim
    wanted = frame.type_of(stmt.target.name)
    if ranks not in ((1, 2), (2, 1)) or left.type.dtype not in _NUMBERS:
        return False
    if not left.type.dtype == right.type.dtype == wanted.dtype or names[0] == names[1]:
        return False
    added = ranks[0] - 1, 0  # the last axis of the left one and the first of the right one
    sizes = [
        elementwise.sizes(frame, slot)[axis]
        for slot, axis in zip((left, right), added, strict=True)
    ]
    message = _MESSAGE.format(*map(_NAMES.get, ranks))
    _check_equal(frame, sizes, message, stmt.loc)
    uses, matrix = names_read(stmt), ranks.index(2)
    target = stmt.target.name
    frame.opaque(env, stmt, uses, (target,), pure=True, fresh=True)
    made = frame.use(env, target).value.owner.operation
    if "fresh" in made.attributes and made.name.startswith("numba.expr"):
        positions = [uses.index(names[matrix]), uses.index(names[1 - matrix]), added[matrix]]
        made.attributes[PRODUCT] = mlir.ir.DenseI64ArrayAttr.get(positions)
        if _is_better_as_it_is((left, right)[matrix], added[matrix]):
            made.attributes[COPIES] = mlir.ir.UnitAttr.get()
    return True


def _is_better_as_it_is(matrix: Slot, added: int) -> bool:
    """Whether Numba would copy a matrix that a loop reads in the order of memory: sums along
    columns are done for neighbouring ones at once, sums along rows need these contiguous."""
    return matrix.type.layout == "A" and (added == 0 or _has_contiguous_rows(matrix))


def _has_contiguous_rows(matrix: Slot) -> bool:
    """Whether a matrix is known to be a part of an array in C order, with whole runs of rows."""
    window = arrays.definition(matrix.value)
    if window is None or window.name != windows.WINDOW:
        return False
    axes, steps = (list(window.attributes[name]) for name in ("axes", "steps"))
    view = arrays.definition(window.operands[0])
    if view is None or "view_of" not in view.attributes or (axes[-1], steps[-1]) != (1, 1):
        return False
    array = view.operands[view.attributes["view_of"].value]
    return isinstance(array.type.layout, mlir.ir.AffineMapAttr)


def is_product(expr: Any, typemap: Any) -> bool:
    """Whether an expression is a product of a matrix and a vector."""
    kinds = _kinds(expr, typemap)
    return all(isinstance(kind, types.Array) for kind in kinds) and {k.ndim for k in kinds} == {
        1,
        2,
    }


def needs_copy(product: Any, typemap: Any) -> bool:
    """Whether Numba copies the matrix of a product for BLAS."""
    return any(kind.ndim == 2 and kind.layout == "A" for kind in _kinds(product, typemap))


def _kinds(expr: Any, typemap: Any) -> list[Any]:
    """The types of the operands of ``@`` or ``np.dot``; [] for anything else."""
    if expr.op == "binop" and expr.fn is operator.matmul:
        return [typemap[expr.lhs.name], typemap[expr.rhs.name]]
    if expr.op == "call" and len(expr.args) == 2:
        callee = typemap[expr.func.name]
        if isinstance(callee, types.Function) and callee.typing_key is np.dot:
            return [typemap[arg.name] for arg in expr.args]
    return []


def _operands(env: Env, expr: Any) -> tuple[str, str] | None:
    if expr.op == "binop" and expr.fn is operator.matmul:
        return expr.lhs.name, expr.rhs.name
    if expr.op != "call" or expr.kws or expr.vararg is not None or len(expr.args) != 2:
        return None
    callee = env.get(expr.func.name)
    if callee is None or not hashable(callee.python) or callee.python is not np.dot:
        return None
    return expr.args[0].name, expr.args[1].name


def _check_equal(frame: Frame, sizes: list[Any], message: str, loc: Any) -> None:
    """Numba's ValueError where two sizes differ."""
    if arrays.same_size(*sizes):
        return
    arith, intp = mlir.arith, scalars.to_mlir(types.intp)
    equal = arith.cmpi(arith.CmpIPredicate.eq, *sizes)
    number = build.value("arith.extui", (equal,), intp)
    check = reduction_calls.checker(message, loc.filename, loc.line)
    kept.check(frame, loc, check, (number, types.intp))
