"""Rows that broadcasting stretches, put beside the others before they are combined.

Where broadcasting has many shapes to choose from, an element is read at ``j * s``, with an ``s``
of 1 for a row and of 0 for a row of one element (:mod:`.masks`), where it has few at
``select(n == 1, 0, j)``.  LLVM makes vectors of such a loop only where every ``s`` is 1, if at all.
So the innermost loop gets a version without factors for that case, and, if they are few, one for
each set of factors that are 0.  Where there are more, it gets one in blocks: the rows of a block
are copied to buffers in L1, a single element as often as there is room, and all are read there
at ``j``.

    for j:  a[i, j] = b[i, j * s] + c[j * t]      becomes
    for blocks:  for j in block:  p[j] = b[i, 0] or b[i, j]
                 for j in block:  q[j] = c[0] or c[j]
                 for j in block:  a[i, j] = p[j] + q[j]

Short rows, and factors that are something else, keep the loop as it was.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import (
    LOOP_ANNOTATION,
    clone_all,
    either,
    for_loop,
    index,
    load_at,
    on_stack,
    only,
)
from numba_mlir.passes.distribute import is_number
from numba_mlir.passes.streams import is_alone
from numba_mlir.passes.values import (
    ACCESSES,
    constant_int,
    defined_inside,
    nested,
    operations,
    owner,
)

#: elements of a block, and of the shortest row that is worth it
_BLOCK, _LEAST = 256, 16
#: factors that versions are made for, in bodies of at most so many operations
_VERSIONED, _SHORT = 3, 40
#: rows that are put into buffers at a time
_MOST = 8
_HARMLESS = ("arith.", "math.", "index.")
_AS_IT_IS = "#llvm.loop_annotation<vectorize = <disable = true>>"


def side_by_side(function: Any) -> None:
    """Rewrite innermost ``scf.for`` loops of ``function``, in place."""
    for loop in [op for op in nested(function) if op.name == "scf.for"]:
        rows = _rows(loop, function)
        if rows:
            with loop.location, mlir.ir.InsertionPoint(loop):
                _rewrite(loop, rows, function)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A load at ``shift + iv * factor`` of the last axis; a factor that is a truth value says
    whether the row has one element."""

    load: Any
    product: Any
    factor: Any
    shift: Any
    """None for 0"""
    is_stored: bool
    """elements of the array are stored in the loop"""


def _rows(loop: Any, function: Any) -> list[_Row]:
    """The loads of a loop that can be done earlier, a block at a time; [] where not all can."""
    block = loop.regions[0].blocks[0]
    body = operations(block)[:-1]
    if len(loop.results) or constant_int(loop.operands[2]) != 1:
        return []
    if not all(map(_is_harmless, body)):
        return []
    stores = [op for op in body if op.name == "memref.store"]
    found: list[_Row] = []
    for op in body:
        terms = _terms(op, loop)
        if terms is None:
            continue
        array = op.operands[0]
        same = [store for store in stores if store.operands[1] == array]
        is_at = terms[2] is None and all(_is_at(one, op, block.arguments[0]) for one in same)
        if same and not is_at:
            return []
        others = (store.operands[1] for store in stores if store not in same)
        if not all(is_alone(array, function) or is_alone(one, function) for one in others):
            return []
        found.append(_Row(op, *terms, bool(same)))
    # a single factor is that of a vector, which seldom has one element
    several = len({row.factor for row in found}) > 1
    return found if several and len([row for row in found if not row.is_stored]) <= _MOST else []


def _is_harmless(op: Any) -> bool:
    return not op.regions and (op.name in ACCESSES or op.name.startswith(_HARMLESS))


def _terms(op: Any, loop: Any) -> tuple[Any, Any, Any] | None:
    """The last subscript of a load as a product of the loop's index, its other factor and what is
    added; None for other operations and subscripts."""
    if op.name != "memref.load" or len(op.operands) < 2 or not is_number(op.result.type):
        return None
    *fixed, place = op.operands
    if any(defined_inside(one, loop) for one in fixed):
        return None
    iv = loop.regions[0].blocks[0].arguments[0]
    for product, shift in _sums(place):
        factor = _factor(product, iv) if defined_inside(product, loop) else None
        others = [one for one in (factor, shift) if one is not None]
        if factor is not None and not any(defined_inside(one, loop) for one in others):
            return product, factor, shift
    return None


def _factor(product: Any, iv: Any) -> Any | None:
    """s where ``product`` is ``iv * s``, c where it is ``select(c, 0, iv)``; else None."""
    made = owner(product)
    if made is None or made.name not in ("arith.muli", "arith.select"):
        return None
    factors = [one for one in made.operands if one != iv]
    if made.name == "arith.muli":
        return factors[0] if len(factors) == 1 else None
    is_test = made.operands[2] == iv and constant_int(made.operands[1]) == 0
    return made.operands[0] if is_test else None


def _sums(place: Any) -> list[tuple[Any, Any]]:
    """A subscript as a moving part and what is added, None where it is no sum."""
    op = owner(place)
    if op is None or op.name != "arith.addi":
        return [(place, None)]
    left, right = op.operands
    return [(left, right), (right, left)]


def _is_at(store: Any, load: Any, iv: Any) -> bool:
    """Whether an iteration stores where it loads when the factor is 1."""
    *fixed, place = list(store.operands)[2:]
    return place == iv and fixed == list(load.operands)[1:-1]


def _rewrite(loop: Any, rows: Sequence[_Row], function: Any) -> None:
    low, high, _ = loop.operands
    factors = list(dict.fromkeys(row.factor for row in rows))
    stored = {row.factor for row in rows if row.is_stored}

    def blocks() -> None:
        at_least = mlir.arith.CmpIPredicate.sge
        long = mlir.arith.cmpi(at_least, mlir.arith.subi(high, low), index(_LEAST))
        known = [_is(f, 1) if f in stored else _is_zero_or_one(f) for f in factors]
        either(_all([long, *known]), lambda: _blocks(loop, rows, function), as_it_is)

    def as_it_is() -> None:
        loop.clone().attributes[LOOP_ANNOTATION] = mlir.ir.Attribute.parse(_AS_IT_IS)

    def versions(zeros: Sequence[Sequence[Any]], otherwise: Callable[[], None]) -> None:
        """A version for each set of factors that are 0 while the others are 1."""
        if not zeros:
            otherwise()
            return
        first, *others = zeros
        known = _all(_is(factor, int(factor not in first)) for factor in factors)
        either(known, lambda: _at_index(loop, rows, first), lambda: versions(others, otherwise))

    size = len(operations(loop.regions[0].blocks[0]))
    if len(factors) <= _VERSIONED and size <= _SHORT:
        free = [factor for factor in factors if factor not in stored]
        counts = range(len(free) + 1)
        versions([z for n in counts for z in itertools.combinations(free, n)], as_it_is)
    else:
        versions([()], blocks)
    loop.erase()


def _is(factor: Any, number: int) -> Any:
    if isinstance(factor.type, mlir.ir.IndexType):
        return mlir.arith.cmpi(mlir.arith.CmpIPredicate.eq, factor, index(number))
    return mlir.arith.xori(factor, _true()) if number else factor


def _is_zero_or_one(factor: Any) -> Any:
    if isinstance(factor.type, mlir.ir.IndexType):
        return mlir.arith.cmpi(mlir.arith.CmpIPredicate.ule, factor, index(1))
    return _true()


def _true() -> Any:
    return mlir.arith.constant(mlir.ir.IntegerType.get_signless(1), 1)


def _all(tests: Iterable[Any]) -> Any:
    return reduce(mlir.arith.andi, tests)


def _at_index(loop: Any, rows: Sequence[_Row], zeros: Sequence[Any] = ()) -> None:
    """The loop where all factors are 1, but for ``zeros``."""
    low, high, step = loop.operands
    block = loop.regions[0].blocks[0]

    def body(iv: Any) -> tuple[()]:
        values = {block.arguments[0]: iv}
        values |= {row.product: index(0) if row.factor in zeros else iv for row in rows}
        _copy(block, values)
        return ()

    for_loop((low, high, step), body)


def _copy(block: Any, values: dict[Any, Any]) -> None:
    """The body of a loop, but for what has its values already."""
    body = operations(block)[:-1]
    clone_all([op for op in body if not any(one in values for one in op.results)], values)


def _blocks(loop: Any, rows: Sequence[_Row], function: Any) -> None:
    """The loop where each factor is 0 or 1; that of an array with stores is 1."""
    low, high, step = loop.operands
    block = loop.regions[0].blocks[0]
    buffers = {
        row.load: on_stack(_BLOCK, row.load.result.type, function)
        for row in rows
        if not row.is_stored
    }
    copied = [row for row in rows if not row.is_stored]
    for row in copied:
        with only(_is(row.factor, 0)):
            _repeat(row, buffers[row.load])

    def each_block(begin: Any) -> tuple[()]:
        last = mlir.arith.minsi(mlir.arith.addi(begin, index(_BLOCK)), high)
        for row in copied:
            with only(_is(row.factor, 1)):
                _take(row, buffers[row.load], begin, last)

        def body(iv: Any) -> tuple[()]:
            place = mlir.arith.subi(iv, begin)
            values = {block.arguments[0]: iv}
            values |= {row.product: iv for row in rows if row.is_stored}
            for load, buffer in buffers.items():
                values[load.result] = load_at(buffer, place)
            _copy(block, values)
            return ()

        for_loop((begin, last, step), body)
        return ()

    for_loop((low, high, index(_BLOCK)), each_block)


def _repeat(row: _Row, buffer: Any) -> None:
    """The first element of a row, as often as there is room."""
    element = _element(row, index(0))
    for_loop((index(0), index(_BLOCK), index(1)), lambda place: _store(element, buffer, place))


def _take(row: _Row, buffer: Any, begin: Any, last: Any) -> None:
    """The elements of a row from ``begin`` to ``last``."""

    def one(iv: Any) -> tuple[()]:
        return _store(_element(row, iv), buffer, mlir.arith.subi(iv, begin))

    for_loop((begin, last, index(1)), one)


def _element(row: _Row, number: Any) -> Any:
    place = number if row.shift is None else mlir.arith.addi(row.shift, number)
    return load_at(*list(row.load.operands)[:-1], place)


def _store(value: Any, buffer: Any, place: Any) -> tuple[()]:
    mlir.ir.Operation.create("memref.store", [], [value, buffer, place])
    return ()
