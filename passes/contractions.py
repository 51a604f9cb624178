"""Statements that combine rows of one operand with columns of another: matrix products.

A *contraction* is a statement that updates one element in each iteration,

    c[..i..j..] = f(c[..i..j..], x(i, k), y(k, j))

where ``i`` (rows) and ``j`` (columns) are free loops, ``k`` (terms) is the innermost of those
whose order has to stay, and ``f`` is floating-point arithmetic of a few operations.  What
depends on rows or on columns only, such as ``alpha * a[i, k]`` or ``exp(b[j, k])``, is an
operand, however it is computed and wherever it lies in memory; it is used again for all
iterations of the other loop.  Products of matrices and of transposed matrices, batches of
them, ``a @ a.T`` and squared distances are contractions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.dependences import ordered
from numba_mlir.passes.nests import Dim, Nest, Statement
from numba_mlir.passes.strides import Reference, step
from numba_mlir.passes.values import constant_int, nested, owner

#: arithmetic that may combine operands
_COMBINING = frozenset({"arith.addf", "arith.subf", "arith.mulf", "arith.negf",
                        "arith.maximumf", "arith.minimumf"})  # fmt: skip
#: the most operations of ``f``, and operands of either side
_MOST_OPS = 4
_MOST_OPERANDS = 2
#: iterations of a loop from which on it pays, where the number is known when compiling
LEAST = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Contraction:
    """The loops of a contraction and its operands.

    ``outside`` are the other loops in their order.  ``left`` depends on rows, ``right`` on
    columns; ``shared`` on neither of them nor on the nest.  ``ops`` are the operations of
    ``f`` in order, ``update`` the value that is stored.
    """

    statement: Statement
    rows: Dim
    columns: Dim
    terms: Dim
    outside: tuple[Dim, ...]
    left: tuple[Any, ...]
    right: tuple[Any, ...]
    shared: tuple[Any, ...]
    ops: tuple[Any, ...]

    @property
    def update(self) -> Any:
        return self.statement.events[-1].values[0]

    @property
    def cell(self) -> Any:
        """The element that is updated."""
        return self.statement.events[-1].cell

    @property
    def before(self) -> set[Any]:
        """Values that are the element before the update."""
        return {v for event in self.statement.events[:-1] for v in event.values}

    @property
    def element(self) -> Any:
        """The type of the element, f32 or f64."""
        return self.cell.memref.type.element_type

    @property
    def fused(self) -> dict[Any, int]:
        """Sums and differences with a product that nobody else needs, and which operand it is:
        they are rounded once where that is allowed."""
        found: dict[Any, int] = {}
        for op in self.ops:
            if op.name in ("arith.addf", "arith.subf"):
                places = [number for number in (1, 0) if self._is_product(op.operands[number])]
                found.update({op: places[0]} if places else {})
        return found

    def _is_product(self, value: Any) -> bool:
        op = owner(value)
        if op is None or op.name != "arith.mulf" or op not in self.ops:
            return False
        return len(list(value.uses)) == 1


def rounded_once(name: str, op: Any, place: int, factors: Sequence[Any], other: Any) -> Any:
    """The sum or difference ``op`` whose operand ``place`` is a product (`Contraction.fused`), by
    the operation ``name``, which rounds once; ``other`` is the other operand."""
    left, right = factors
    if op.name == "arith.subf":
        negative = mlir.arith.negf(left if place else other)
        left, other = (negative, other) if place else (left, negative)
    return mlir.ir.Operation.create(name, [left.type], [left, right, other]).result


def contraction(statement: Statement, nest: Nest) -> Contraction | None:
    """``statement`` as a contraction; None when it is none."""
    kept = ordered(statement)
    if not kept or not _updates_one_element(statement):
        return None
    uneven = {dim for outer in nest.outer.values() for dim in outer}
    even = [d for d in statement.dims if d not in uneven and not nest.outer[d] and _is_long(d)]
    terms = kept[-1]
    free = [d for d in even if d not in kept]
    if terms not in even:
        return None
    cell = statement.events[-1].cell
    reference = Reference(cell.memref, cell.indices, True)
    # last: the innermost, and among all the one along which the element's neighbours lie
    free.sort(key=lambda d: (step(reference, d.iv) == "next", statement.dims.index(d)))
    for columns in reversed(free):
        for rows in reversed(free):
            found = None if rows is columns else _split(statement, nest, rows, columns, terms)
            if found is not None:
                return found
    return None


def _is_long(dim: Dim) -> bool:
    lower, upper = constant_int(dim.lower), constant_int(dim.upper)
    return lower is None or upper is None or upper - lower >= LEAST


def _updates_one_element(statement: Statement) -> bool:
    *reads, last = statement.events
    kind = str(last.cell.memref.type.element_type)
    return (
        kind in ("f32", "f64")
        and last.write
        and bool(reads)
        and not any(event.write for event in reads)
        and all(event.cell.memref == last.cell.memref for event in reads)
    )


def _split(
    statement: Statement, nest: Nest, rows: Dim, columns: Dim, terms: Dim
) -> Contraction | None:
    split = _Split(statement, rows, columns)
    if not split.visit(statement.events[-1].values[0]):
        return None
    uses = split.uses
    if any(terms in uses(index) for index in statement.events[-1].cell.indices):
        return None
    if not any(rows in uses(v) for v in split.left) or len(split.left) > _MOST_OPERANDS:
        return None
    if not any(columns in uses(v) for v in split.right) or len(split.right) > _MOST_OPERANDS:
        return None
    if not any(terms in uses(v) for v in (*split.left, *split.right)):
        return None
    if not split.ops or len(split.ops) > _MOST_OPS:
        return None
    outside = tuple(d for d in statement.dims if d not in (rows, columns, terms))
    parts = (tuple(one) for one in (split.left, split.right, split.shared, split.ops))
    return Contraction(statement, rows, columns, terms, outside, *parts)


class _Split:
    """Takes the stored value apart into operands and the operations that combine them."""

    def __init__(self, statement: Statement, rows: Dim, columns: Dim) -> None:
        self._rows, self._columns = rows, columns
        self._element = statement.events[-1].cell.memref.type.element_type
        self._before = {v for event in statement.events[:-1] for v in event.values}
        self._dims = {dim.iv: dim for dim in statement.dims}
        self._inside = set(statement.slice.ops)
        self._uses: dict[Any, frozenset[Any]] = {}
        self.left: dict[Any, None] = {}
        self.right: dict[Any, None] = {}
        self.shared: dict[Any, None] = {}
        self.ops: dict[Any, None] = {}

    def uses(self, value: Any) -> frozenset[Any]:
        """The loops that a value depends on, and None where it is made of the element."""
        found = self._uses.get(value)
        if found is None:
            found = self._uses[value] = self._find(value)
        return found

    def _find(self, value: Any) -> frozenset[Any]:
        if value in self._before:
            return frozenset({None})
        if value in self._dims:
            return frozenset({self._dims[value]})
        op = owner(value)
        if op is None or op not in self._inside:
            return frozenset()
        inner = {result for child in nested(op) for result in child.results}
        operands = {v for child in (op, *nested(op)) for v in child.operands} - inner
        return frozenset().union(*(self.uses(operand) for operand in operands))

    def visit(self, value: Any) -> bool:
        """Whether ``value`` is understood."""
        if value in self._before:
            return True
        if value.type != self._element:
            return False
        op, used = owner(value), self.uses(value)
        if None not in used and not {self._rows, self._columns} <= used:
            constant = op is not None and op.name == "arith.constant"
            shared = constant or op not in self._inside
            side = self.right if self._columns in used else self.left
            (self.shared if shared else side)[value] = None
            return True
        if op is None or op.name not in _COMBINING:
            return False
        if not all(self.visit(operand) for operand in op.operands):
            return False
        self.ops[op] = None
        return True
