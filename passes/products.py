"""Products of a matrix and a vector as loops, where two passes over the matrix become one.

``A @ x`` is a call of BLAS, which reads the matrix once at the speed of memory; a loop is not
faster.  But when two loops that read the same matrix can become one, the matrix comes from
memory once instead of twice.  So a product becomes a loop when, in one block,

1. another product or a loop over rows uses the same matrix in the same order;
2. nothing between the two writes the matrix, or may do anything;
3. the later one's vector does not depend on the earlier one, or depends on it element by
   element and is only needed for the row at hand: ``A.T @ (A @ x)``, but not
   ``A @ (A.T @ x)``, which needs all of the first result.

What is tested here is whether it pays; whether loops may become one is for `fusion` to say.
A product of a matrix and a matrix stays with BLAS: it computes n times for each element that
it reads, and BLAS does that at the speed of the processor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import for_loop, index, load_at, parallel_loop, size_of
from numba_mlir.passes.effects import Effects, summarise
from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.provenance import Provenance, Root
from numba_mlir.passes.shapes import untested
from numba_mlir.passes.small_products import Group, separate_small
from numba_mlir.passes.values import ACCESSES, nested, operations, owner
from numba_mlir.passes.views import view_base

PRODUCT = "numba.product"
COPIES = "numba.product_copies"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """An operation of a block that goes over a matrix in C order once.

    ``by_rows``: it makes one result for each row (or writes the matrix); else one for each
    column.
    """

    op: Any
    matrix: Any
    by_rows: bool


class Block:
    """What the operations of a block do, and which of them go over one matrix together."""

    def __init__(self, block: Any) -> None:
        self.order = operations(block)
        self.provenance = Provenance()
        self._effects: dict[Any, Effects] = {}

    def effects(self, op: Any) -> Effects:
        found = self._effects.get(op)
        if found is None:
            found = self._effects[op] = summarise(op, self.provenance)
        return found

    def together(self, first: Sweep, second: Sweep) -> str | None:
        """How ``second`` depends on ``first``, "no" or "by rows", where both sweeps, in this
        order, can read the rows of the matrix at once; else None."""
        between = self.order[self.order.index(first.op) + 1 : self.order.index(second.op)]
        matrix = self.provenance.root(first.matrix)
        for op in between:
            effects = self.effects(op)
            if effects.opaque:
                return None
            for access in effects.writes():
                if self.provenance.may_alias(access.root, matrix, op):
                    return None
        written = [a.root for a in self.effects(second.op).writes()]
        if any(self.provenance.may_alias(root, matrix, second.op) for root in written):
            return None
        depends = self._dependence(first, second, between, matrix)
        if depends == "by rows" and first.by_rows and not second.by_rows:
            return depends
        return depends if depends == "no" else None

    def _dependence(self, first: Sweep, second: Sweep, between: list[Any], matrix: Root) -> str:
        """How ``second`` depends on ``first``: "no", "by rows" or "yes"."""
        clean = _Traces(self, first.op, matrix)
        for op in between:
            clean.follow(op)
        return clean.kind(second.op)


class _Traces:
    """What depends on the results of an operation, through values and arrays."""

    def __init__(self, block: Block, source: Any, matrix: Root) -> None:
        self._block = block
        self._kinds: dict[Any, str] = dict.fromkeys(source.results, "by rows")
        if len(source.results) and source.name == "scf.parallel":
            self._kinds = dict.fromkeys(source.results, "yes")
        for root in self._written(source):
            if root is not matrix:
                self._kinds[root.value] = "by rows"

    def _written(self, op: Any) -> set[Root]:
        return {access.root for access in self._block.effects(op).writes()}

    def kind(self, op: Any) -> str:
        """How an operation's operands and reads depend on the source."""
        if op.name == "memref.dim":
            return "no"
        values = {value for inner in (op, *nested(op)) for value in inner.operands}
        values |= {access.root.value for access in self._block.effects(op).accesses}
        kinds = {self._kinds.get(value, "no") for value in values}
        return "yes" if "yes" in kinds else "by rows" if "by rows" in kinds else "no"

    def follow(self, op: Any) -> None:
        kind = self.kind(op)
        if kind == "no":
            return
        if not self._is_row_by_row(op):
            kind = "yes"
        for result in op.results:
            self._kinds[result] = kind
        for root in self._written(op):
            self._kinds[root.value] = kind

    def _is_row_by_row(self, op: Any) -> bool:
        """Whether an operation makes element i of its results from elements i alone."""
        if op.name.startswith("numba.expr"):
            return any(view_base(result) is not None for result in op.results)
        if op.name != "scf.parallel" or len(op.results):
            return False
        (*ivs,) = op.regions[0].blocks[0].arguments
        for access in self._block.effects(op).accesses:
            if access.write or access.root.value in self._kinds:
                indices = None if access.indices is None else list(map(untested, access.indices))
                if len(ivs) != 1 or indices != ivs:
                    return False
        return True


# -- products ------------------------------------------------------------------------
def matrix_of(product: Any) -> Sweep | None:
    """The sweep that a kept product is; None where its matrix has not the rows in C order."""
    number, _, axis = list(product.attributes[PRODUCT])
    matrix = product.operands[number]
    base, flipped = _untransposed(matrix)
    if not isinstance(base.type.layout, mlir.ir.AffineMapAttr):
        return None
    return Sweep(product, base, by_rows=(axis == 1) != flipped)


def _untransposed(matrix: Any) -> tuple[Any, bool]:
    """The array that a matrix is the transpose of, if it is one."""
    op = owner(matrix)
    if op is not None and "window" in op.attributes and matrix.type.rank == 2:
        base = view_base(matrix)
        if base is not None and list(op.attributes["window"]) == [1, 0, 0, 0]:
            return base, True
    return matrix, False


def row_loops(block: Any) -> list[Sweep]:
    """The parallel loops that go over matrices row by row, with each of these."""
    found: list[Sweep] = []
    for op in operations(block):
        if op.name == "scf.parallel":
            iv = op.regions[0].blocks[0].arguments[0]
            seen: dict[Any, None] = {}
            for inner in nested(op):
                first = ACCESSES.get(inner.name)
                if first is None or inner.operands[first].type.rank != 2:
                    continue
                row, column = map(untested, list(inner.operands)[first + 1 :])
                if row == iv and column != iv:
                    seen.setdefault(inner.operands[first])
            found += [Sweep(op, matrix, by_rows=True) for matrix in seen]
    return found


def expand_products(block: Any, copies: bool) -> list[tuple[str, Any]]:
    """Make loops of the products of ``block`` for which that pays; messages with locations.

    ``copies`` says whether a loop is faster than a copy of the matrix and BLAS.
    """
    kept = [op for op in operations(block) if PRODUCT in op.attributes]
    if not kept:
        return []
    about = Block(block)
    products = [sweep for op in kept if (sweep := matrix_of(op)) is not None]
    groups = _groups(products, row_loops(block), about)
    for product in products:
        if any(product.op in group.products for group in groups):
            _use_sizes_of_matrix(product)
    done: list[tuple[str, Any]] = []
    for op, limit in separate_small(block, groups):
        if (product := matrix_of(op)) is not None:
            where = "" if limit is None else f" where the matrix has more than {limit >> 10} KiB"
            message = f"the product is a loop{where}, because another one reads the same matrix"
            done.append((message, op.location))
            _expand(product)
    if copies:
        for op in [op for op in operations(block) if COPIES in op.attributes]:
            message = "the product is a loop, because BLAS would need a copy of the matrix"
            done.append((message, op.location))
            number, _, axis = list(op.attributes[PRODUCT])
            # in order: of sums beside each other `tiling` makes vectors
            _expand(Sweep(op, op.operands[number], by_rows=axis == 1), any_order=axis == 1)
    return done


def _groups(products: list[Sweep], loops: list[Sweep], about: Block) -> list[Group]:
    """The products for which a loop pays, by their matrix."""
    full = [loop for loop in loops if _goes_over_all(loop)]
    groups: list[Group] = []
    for matrix in dict.fromkeys(product.matrix for product in products):
        mine = [product for product in products if product.matrix == matrix]
        found = {p: _partners(p, [*mine, *full], about) for p in mine}
        ops = tuple(product.op for product, partners in found.items() if partners)
        if ops:
            dependent = any(how == "by rows" for several in found.values() for _, how in several)
            lonely = all(loop.matrix != matrix for loop in loops)
            groups.append(Group(matrix, ops, dependent, lonely))
    return groups


def _goes_over_all(loop: Sweep) -> bool:
    """Whether a loop has one iteration for each row of the matrix."""
    keys = Equalities()
    rank = len(loop.op.regions[0].blocks[0].arguments)
    return keys.key(loop.op.operands[rank]) == keys.size_key(loop.matrix, 0)


def _partners(product: Sweep, others: Sequence[Sweep], about: Block) -> list[tuple[Sweep, str]]:
    """What can go over the rows of the matrix together with a product, and how one depends
    on the other."""
    place = about.order.index(product.op)
    found: list[tuple[Sweep, str]] = []
    for other in others:
        if other.op == product.op or other.matrix != product.matrix:
            continue
        earlier = about.order.index(other.op) < place
        how = about.together(*((other, product) if earlier else (product, other)))
        if how is not None:
            found.append((other, how))
    return found


def _use_sizes_of_matrix(product: Sweep) -> None:
    """Let nothing ask the result of a product for its size: it may become one of two arrays."""
    op, axis = product.op, 0 if product.by_rows else 1
    users = {use.owner.operation: None for use in op.results[0].uses}
    for dim in [user for user in users if user.name == "memref.dim"]:
        with mlir.ir.InsertionPoint(op), op.location:
            dim.results[0].replace_all_uses_with(size_of(product.matrix, axis))
        dim.erase()


def _expand(product: Sweep, any_order: bool = True) -> None:
    """Replace a kept product by a new array and a loop that fills it."""
    ir, op, matrix = mlir.ir, product.op, product.matrix
    vector = op.operands[list(op.attributes[PRODUCT])[1]]
    kept, added = (0, 1) if product.by_rows else (1, 0)
    kind = op.attributes["numba.type"]
    with ir.InsertionPoint(op), ir.Location.fused([op.location], kind):
        size = size_of(matrix, kept)
        segments = ir.DenseI32ArrayAttr.get([1, 0])
        attributes = {"numba.type": kind, "operandSegmentSizes": segments}
        made = ir.Operation.create("memref.alloc", [op.results[0].type], [size], attributes)
    with ir.InsertionPoint(op), op.location:
        arrays = matrix, vector, made.results[0]
        _loop(size, size_of(matrix, added), arrays, product.by_rows, any_order)
    op.results[0].replace_all_uses_with(made.results[0])
    op.erase()


def _loop(
    size: Any, length: Any, arrays: tuple[Any, Any, Any], by_rows: bool, any_order: bool
) -> None:
    """``for i in parallel: target[i] = sum of matrix[i, k] * vector[k]`` (or [k, i])."""
    ir, arith = mlir.ir, mlir.arith
    matrix, vector, target = arrays
    element = target.type.element_type
    flags = {"fastmath": ir.Attribute.parse("#arith.fastmath<reassoc>")} if any_order else {}
    zero = arith.constant(element, ir.FloatAttr.get(element, 0.0))
    low, one = index(0), index(1)

    def body(i: Any) -> None:
        def step(k: Any, total: Any) -> list[Any]:
            where = (i, k) if by_rows else (k, i)
            term = arith.mulf(load_at(matrix, *where), load_at(vector, k))
            return [ir.Operation.create("arith.addf", [element], [total, term], flags).result]

        (total,) = for_loop((low, length, one), step, [zero])
        ir.Operation.create("memref.store", operands=[total, target, i])

    parallel_loop((low, size, one), body)
