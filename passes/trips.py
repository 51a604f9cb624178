"""A sequential loop around parallel ones, prepared for `interchange`.

`prepare` works on a copy of the loop, under the assumption that the pairs of arrays in
`Trip.guards` do not overlap and that the conditions in `Trip.assumed` hold, which is
tested at run time:

1. copies of arrays that overlap others (``numba.unaliased``) are the arrays themselves, and
   branches on ``numba.disjoint`` and on equal sizes are decided;
2. accesses to whole rows and columns (``x[:, k]``) use the array (``x[i, k]``);
3. what is the same in each trip is computed in front of the loop, checks included where
   they are made in each trip;
4. what nobody uses is gone.

What is left besides the parallel loops is computing with numbers.  `Refused` says what is not
understood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.effects import CHECKS, STATEMENT, is_pure_name, may_trap
from numba_mlir.passes.keys import ASSERT, Equalities, is_known
from numba_mlir.passes.legality import Guard
from numba_mlir.passes.provenance import UNALIASED, Provenance
from numba_mlir.passes.shapes import BROADCAST, BROADCAST_INTO, shapes, sizes_of_axis
from numba_mlir.passes.trip_arrays import (
    fold_constants,
    obstacle,
    size_tests,
    sizes,
    unite,
    use_first_sizes,
    without,
)
from numba_mlir.passes.values import (
    ACCESSES,
    at_line,
    constant_bool,
    constant_int,
    defined_inside,
    describe,
    display_name,
    is_ref,
    nested,
    operations,
    owner,
)
from numba_mlir.passes.views import (
    access_instead,
    axes_of_view,
    use_bases,
    view_base,
)

_CONTROL = frozenset({"scf.for", "scf.if", "scf.yield"})


class Refused(Exception):
    """Why a loop stays as it is; ``str()`` is the reason."""


@dataclasses.dataclass
class Trip:
    """A loop whose body consists of parallel loops and computing with numbers.

    ``checks`` may raise: each trip makes them anew, or some trips only.  ``arrays`` are carried
    values that became one array: by their number what the array begins with (None: nothing), and
    the array.
    ``numbers`` are the other carried values, in order.
    """

    loop: Any
    guards: dict[Guard, None] = dataclasses.field(default_factory=dict)
    assumed: dict[Any, None] = dataclasses.field(default_factory=dict)
    checks: list[Any] = dataclasses.field(default_factory=list)
    arrays: dict[int, tuple[Any | None, Any]] = dataclasses.field(default_factory=dict)
    numbers: list[int] = dataclasses.field(default_factory=list)

    @property
    def begun(self) -> list[tuple[Any, Any]]:
        """Those of the ``arrays`` that begin with something."""
        return [(before, array) for before, array in self.arrays.values() if before is not None]

    @property
    def parallel(self) -> list[Any]:
        """The parallel loops, in order."""
        return [op for op in outside_parallel(self.loop) if op.name == "scf.parallel"]

    @property
    def loads(self) -> list[Any]:
        """Elements that are read outside the parallel loops."""
        return [op for op in outside_parallel(self.loop) if op.name == "memref.load"]


def outside_parallel(op: Any) -> Iterator[Any]:
    """All operations inside ``op``, without what is inside parallel loops."""
    for region in op.regions:
        for block in region.blocks:
            for child in operations(block):
                yield child
                if child.name != "scf.parallel":
                    yield from outside_parallel(child)


def has_parallel(op: Any) -> bool:
    """Whether there is a parallel loop inside ``op``, and not inside another one."""
    return any(inner.name == "scf.parallel" for inner in outside_parallel(op))


def prepare(loop: Any, equal: Equalities) -> Trip:
    """Prepare ``loop``, an ``scf.for``, in place; may raise `Refused`."""
    trip = Trip(loop)
    _assume_apart(trip)
    use_bases(loop)
    _use_arrays(loop)
    fold_constants(loop)
    carried = use_first_sizes(loop)
    drop_unused(loop)
    if carried:
        _assume_nothing_stretched(trip, equal)
    hoist(loop)
    _assume_equal_sizes(trip, equal)
    _unite_arrays(trip, equal, carried)
    drop_unused(trip.loop)
    _understand(trip)
    return trip


# -- arrays that do not overlap ------------------------------------------------------------
def _assume_apart(trip: Trip) -> None:
    provenance = Provenance()

    def apart(op: Any) -> None:
        roots = [provenance.root(array).value for array in op.operands]
        # What a trip makes, or has from the trip before, overlaps nothing else.
        if not any(_is_own(root, trip.loop) for root in roots):
            trip.guards.setdefault((roots[0], roots[1]))

    for op in list(outside_parallel(trip.loop)):
        if op.name == UNALIASED:
            apart(op)
            op.result.replace_all_uses_with(op.operands[0])
            op.erase()
        elif op.name == "numba.disjoint":
            apart(op)
            _becomes(op, True)
    _decide_all(trip.loop)


def _is_own(array: Any, loop: Any) -> bool:
    op = owner(array)
    if op is None:
        return array.owner == loop.regions[0].blocks[0]
    return op.name == "memref.alloc" and defined_inside(array, loop)


def _becomes(op: Any, value: bool) -> None:
    ir = mlir.ir
    with ir.InsertionPoint(op), op.location:
        bit = ir.IntegerType.get_signless(1)
        op.result.replace_all_uses_with(mlir.arith.constant(bit, ir.BoolAttr.get(value)))
    op.erase()


def _decide_all(loop: Any) -> None:
    """Replace each ``scf.if`` on a known condition by the branch that is taken."""
    while True:
        branches = (op for op in outside_parallel(loop) if op.name == "scf.if")
        found = next((op for op in branches if _known(op.operands[0]) is not None), None)
        if found is None:
            return
        _decide(found, bool(_known(found.operands[0])))


def _decide(op: Any, known: bool) -> None:
    region = op.regions[0 if known else 1]
    blocks = list(region.blocks)
    if blocks:
        *body, last = operations(blocks[0])
        for child in body:
            child.move_before(op)
        for result, value in zip(op.results, last.operands, strict=True):
            result.replace_all_uses_with(value)
    op.erase()


def _known(condition: Any) -> bool | None:
    """The value of a conjunction of constants, None where it is not known."""
    op = owner(condition)
    if op is not None and op.name == "arith.andi":
        parts = [_known(operand) for operand in op.operands]
        return None if None in parts else all(parts)
    return constant_bool(condition)


# -- rows and columns ------------------------------------------------------------------------
def _use_arrays(loop: Any) -> None:
    """Let accesses to whole rows and columns, and their sizes, use the arrays themselves."""
    for op in list(nested(loop)):
        position = 0 if op.name == "memref.dim" else ACCESSES.get(op.name)
        if position is None:
            continue
        while (axes := axes_of_view(op.operands[position])) is not None:
            base = view_base(op.operands[position])
            if op.name == "memref.dim":
                axis = constant_int(op.operands[1])
                kept = [number for number, index in enumerate(axes) if index is None]
                if axis is None:
                    break
                with mlir.ir.InsertionPoint(op):
                    op.operands[1] = mlir.arith.constant(mlir.ir.IndexType.get(), kept[axis])
                op.operands[0] = base
            else:
                op = _rebased(op, position, base, axes)


def _rebased(op: Any, position: int, base: Any, axes: list[Any]) -> Any:
    """An access to ``base`` instead of the view of it, which replaces ``op``."""
    inside = iter(list(op.operands)[position + 1 :])
    with mlir.ir.InsertionPoint(op), op.location:
        indices = [
            next(inside) if index is None else _subscript(base, axis, index)
            for axis, index in enumerate(axes)
        ]
    return access_instead(op, base, indices)


def _subscript(array: Any, axis: int, value: Any) -> Any:
    """The subscript ``value`` of one axis by Python's rule, as an index."""
    ir = mlir.ir
    cast = owner(value)
    if cast is not None and cast.name == "arith.index_cast" and _counts_up(cast.operands[0]):
        return cast.operands[0]
    index = ir.IndexType.get()
    size = ir.Operation.create("memref.dim", [index], [array, mlir.arith.constant(index, axis)])
    return ir.Operation.create("numba.wrap_index", [index], [value, size.result]).result


def _counts_up(value: Any) -> bool:
    """Whether an index is that of a loop from a number that is not negative."""
    if not isinstance(value.owner, mlir.ir.Block):
        return False
    loop = value.owner.owner.operation
    low = constant_int(loop.operands[0]) if loop.name == "scf.for" else None
    return low is not None and low >= 0 and value == value.owner.arguments[0]


# -- what is the same in each trip ----------------------------------------------------------
def hoist(loop: Any, checks: bool = True) -> None:
    """Compute in front of ``loop`` what is the same in each trip, and check it there.

    The loop is known to make a trip.  A check moves only together with those in front of it
    and where nothing decides whether it is made.
    """
    may_check = checks
    for op in list(outside_parallel(loop)):
        invariant = not any(defined_inside(value, loop) for value in op.operands)
        if is_check(op):
            at_once = op.parent.operation == loop
            may_check = may_check and invariant and at_once
            if may_check:
                op.move_before(loop)
        elif invariant and (_is_pure(op) or _is_temporary(op)) and op.name != "numba.undef":
            op.move_before(loop)


def _is_temporary(op: Any) -> bool:
    """Whether an allocation is used element by element and in one trip only."""
    if op.name != "memref.alloc":
        return False
    users = [use.owner.operation for use in op.result.uses]
    return all(
        user.name == "memref.dim"
        or use.operand_number == ACCESSES.get(user.name)
        or (user.name.startswith("numba.expr") and "metadata" in user.attributes)
        for use, user in zip(op.result.uses, users, strict=True)
    )


def is_check(op: Any) -> bool:
    """Whether an operation may raise and does nothing else."""
    if is_known(op):
        return False
    return op.name in CHECKS or (op.name == STATEMENT and "raises" in op.attributes)


def _is_pure(op: Any) -> bool:
    if len(op.regions) or may_trap(op) or op.name == "memref.alloc":
        return False
    return is_pure_name(op.name) or (op.name.startswith("numba.expr") and not _reads_arrays(op))


def _reads_arrays(op: Any) -> bool:
    """Whether a kept expression may read elements of arrays, or hold on to them."""
    if "metadata" in op.attributes or any(view_base(result) is not None for result in op.results):
        return False
    return any(isinstance(value.type, mlir.ir.MemRefType) for value in op.operands)


def drop_unused(loop: Any) -> None:
    for op in reversed(list(outside_parallel(loop))):
        droppable = _is_pure(op) or op.name == "memref.load" or op.name.startswith("numba.expr")
        if droppable and len(op.results) and not any(list(r.uses) for r in op.results):
            op.erase()


# -- sizes -------------------------------------------------------------------------------------
def _assume_equal_sizes(trip: Trip, equal: Equalities) -> None:
    """Decide branches on equal sizes and checks of sizes that some trips only make.

    They compare the same sizes in each trip: that the comparison is true is assumed.
    """
    loop = trip.loop
    _assume_common_sizes(trip, equal)
    for op in list(outside_parallel(loop)):
        if op.name != "scf.if" or defined_inside(op.operands[0], loop):
            continue
        pairs = _compared(op.operands[0])
        if pairs is not None:
            for left, right in pairs:
                assume(trip, equal, left, right)
            with mlir.ir.InsertionPoint(op), op.location:
                bit = mlir.ir.IntegerType.get_signless(1)
                op.operands[0] = mlir.arith.constant(bit, mlir.ir.BoolAttr.get(True))
    _decide_all(loop)
    for op in list(outside_parallel(loop)):
        invariant = not any(defined_inside(value, loop) for value in op.operands)
        if op.name in (ASSERT, BROADCAST_INTO) and invariant and not is_known(op):
            for left, right in _wanted_equal(op):
                assume(trip, equal, left, right)
            op.erase()


def _wanted_equal(check: Any) -> list[tuple[Any, Any]]:
    """Pairs of sizes; where they are equal, a check of sizes passes."""
    if check.name == ASSERT:
        first, *others = check.operands
        return [(first, other) for other in others]
    *sources, target = shapes(check)
    return [
        pair for shape in sources for pair in zip(reversed(shape), reversed(target), strict=False)
    ]


def _compared(condition: Any) -> list[tuple[Any, Any]] | None:
    """The pairs of sizes that a condition says are equal; None for any other condition."""
    op = owner(condition)
    if op is None:
        return None
    if op.name == "arith.andi":
        left, right = map(_compared, op.operands)
        return None if left is None or right is None else left + right
    if op.name != "arith.cmpi" or op.attributes["predicate"].value != 0:
        return None
    sizes = tuple(op.operands)
    both = all(isinstance(size.type, mlir.ir.IndexType) for size in sizes)
    return [sizes] if both and not any(constant_int(s) == 1 for s in sizes) else None


def assume(trip: Trip, equal: Equalities, left: Any, right: Any) -> None:
    """Take two sizes as equal, which is tested at run time where it is not known."""
    if equal.equal([left], [right]):
        return
    if not (is_computed(left, trip.loop) and is_computed(right, trip.loop)):
        raise Refused("sizes that are compared come from a check that may raise")
    with mlir.ir.InsertionPoint(trip.loop):
        eq = mlir.arith.CmpIPredicate.eq
        trip.assumed.setdefault(mlir.arith.cmpi(eq, left, right))
    # From here on they are known to be equal.
    equal.unite(left, right)


def _assume_nothing_stretched(trip: Trip, equal: Equalities) -> None:
    """Take sizes that have a common size as equal, so that all trips have the same sizes."""
    _assume_common_sizes(trip, equal)
    for loop in trip.parallel:
        for op, size, bound in size_tests(loop):
            if defined_inside(bound, trip.loop) or defined_inside(size, trip.loop):
                continue
            assume(trip, equal, size, bound)
            iv = next(v for v in op.operands if v in list(loop.regions[0].blocks[0].arguments))
            op.result.replace_all_uses_with(iv)
            op.erase()


def _assume_common_sizes(trip: Trip, equal: Equalities) -> None:
    """Take sizes that have a common size, the same in each trip, as equal."""
    hoist(trip.loop, checks=False)
    for op in list(outside_parallel(trip.loop)):
        same = not any(defined_inside(value, trip.loop) for value in op.operands)
        if op.name != BROADCAST or not same:
            continue
        for result in list(op.results):
            first, *others = sizes_of_axis(op, result.result_number)
            for other in others:
                assume(trip, equal, first, other)
            result.replace_all_uses_with(first)
        op.erase()
        hoist(trip.loop, checks=False)


def _unite_arrays(trip: Trip, equal: Equalities, carried: list[int]) -> None:
    """Let arrays that go from one trip to the next be one array each."""
    loop = trip.loop
    for number in carried:
        reason = obstacle(loop, number)
        if reason is not None:
            raise Refused(reason)
    for number in carried:
        first = loop.operands[3 + number]
        array = unite(loop, number)
        if (made := owner(first)) is not None and made.name == "numba.undef":
            # A variable that the first trip assigns to.
            trip.arrays[number] = None, array
            continue
        with mlir.ir.InsertionPoint(loop):
            for axis, size in enumerate(sizes(array)):
                axis_value = mlir.arith.constant(mlir.ir.IndexType.get(), axis)
                index = mlir.ir.IndexType.get()
                dim = mlir.ir.Operation.create("memref.dim", [index], [first, axis_value]).result
                assume(trip, equal, dim, size)
        trip.arrays[number] = first, array
    trip.numbers = [n for n in range(len(loop.results)) if n not in trip.arrays]
    if trip.arrays:
        trip.loop = without(loop, set(trip.arrays))


def is_computed(value: Any, loop: Any) -> bool:
    """Whether ``value`` comes from in front of the block of ``loop`` by pure operations."""
    op = owner(value)
    if op is None or op.block != loop.block:
        return True
    return _is_pure(op) and all(is_computed(operand, loop) for operand in op.operands)


# -- the rest ------------------------------------------------------------------------------------
def _understand(trip: Trip) -> None:
    """Raise `Refused` where something is neither a parallel loop nor computing with numbers."""
    if any(is_ref(result) for result in trip.loop.results):
        raise Refused("something that is no number goes from one trip to the next")
    for op in outside_parallel(trip.loop):
        if is_check(op):
            trip.checks.append(op)
        elif op.name == "memref.store":
            raise Refused(f"an element is written{at_line(op)} between the loops on whole arrays")
        elif op.name == "memref.alloc":
            raise Refused(f"{display_name(op.result)} is made anew in each trip")
        elif op.name.startswith("numba.expr") and _reads_arrays(op):
            raise Refused(f"{describe(op)} may read arrays")
        elif not (
            op.name in ("scf.parallel", "memref.load")
            or op.name in _CONTROL
            or op.name.startswith("numba.expr")
            or is_known(op)
            or is_pure_name(op.name)
        ):
            raise Refused(f"{describe(op)} is not understood here")
