"""A sequential loop around statements on whole arrays moves into their loops, by blocks.

    for k:                                        for each block, in parallel
        c = w[k]                                      for k:
        for i in parallel: o[i] += c * x[i]               c = w[k]
                                                          for i in the block: o[i] += c * x[i]

On the left each trip goes through whole arrays; on the right a block of ``o`` and ``x`` stays
in the first-level cache through all trips.  Every element is computed by the same
operations in the same order, so results stay the same to the last bit.

It is done where

1. the loop goes over ``range`` and contains parallel loops, and besides them only computing
   with numbers and sizes (`trips`), loops over ``range`` and branches inside included;
2. no trip reduces an array to a number, and what a trip computes with numbers does not
   depend on arrays that are written;
3. iterations of the parallel loops, in the same or different trips, meet in an element of a
   written array only if they have the same index: for each blocked index there is a
   position at which all accesses to that array have this index plus the same constant;
4. the bounds of the blocked indices are equal and the same in each trip.

Arrays that may overlap and sizes that may be stretched are compared at run time; the loop
as it was is the other case.  Checks of sizes are made in front of the blocks: those that
each trip makes alike once, others for all trips if nobody can see the arrays yet.

The cost rule (docs/fusion.md): at least a third of what a trip goes through is the same in
each trip, and computing the numbers of a trip again for each block costs little.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.keys import ASSERT, Equalities, asserts_in, dominators
from numba_mlir.passes.machine import Machine, this_machine
from numba_mlir.passes.merge import all_disjoint
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.trip_blocks import block_elements, run_in_blocks
from numba_mlir.passes.trip_legality import Legality
from numba_mlir.passes.trip_numbers import compute_in_front
from numba_mlir.passes.trips import Refused, Trip, has_parallel, prepare
from numba_mlir.passes.values import constant_int, defined_inside, definition, operations, owner


@dataclasses.dataclass(frozen=True)
class Interchange:
    """What became of a loop: a message for the user at ``location``."""

    message: str
    location: Any
    done: bool


def interchange(module: Any, machine: Machine | None = None) -> list[Interchange]:
    """Move loops over ``range`` into the parallel loops inside them, all over ``module``."""
    machine = this_machine() if machine is None else machine
    found: list[Interchange] = []
    for op in operations(module.body):
        if op.name == "func.func":
            found += _region(op.regions[0], [], machine)
    return found


def _region(region: Any, facts: list[Any], machine: Machine) -> Iterator[Interchange]:
    """``facts`` are the assertions that hold on entry."""
    dominating = dominators(region)
    for block in list(region.blocks):
        known = facts + [op for other in dominating[block] for op in asserts_in(other)]
        for op in operations(block):
            known += [op] if op.name == ASSERT else []
            if op.name == "scf.parallel":
                continue
            if op.name == "scf.for" and has_parallel(op) and not _is_one_trip(op):
                tried = _try(op, known, machine)
                yield tried
                if tried.done:
                    continue
            for inner in op.regions:
                yield from _region(inner, known, machine)


def _is_one_trip(loop: Any) -> bool:
    bounds = [constant_int(bound) for bound in list(loop.operands)[:2]]
    return None not in bounds and bounds[1] == (bounds[0] or 0) + 1


def _try(loop: Any, facts: list[Any], machine: Machine) -> Interchange:
    location = loop.location
    attempt = _Attempt(loop, facts, machine)
    try:
        size = attempt.make()
    except Refused as reason:
        attempt.undo()
        message = f"each trip of the loop goes through whole arrays: {reason}"
        return Interchange(message, location, done=False)
    message = f"all trips of the loop run on one block of the arrays (about {size} elements)"
    message += " after the other"
    if attempt.is_tested:
        message += "; where arrays overlap or sizes differ, trip by trip"
    return Interchange(message, location, done=True)


class _Attempt:
    """The loop and its new form, in the branch of a run-time test until it is known to be right.

    ``branch`` is an ``scf.if`` with the new form in its first region.
    """

    def __init__(self, loop: Any, facts: list[Any], machine: Machine) -> None:
        ir = mlir.ir
        self._loop, self._machine = loop, machine
        self._equal = Equalities(facts)
        self._used = [number for number, r in enumerate(loop.results) if list(r.uses)]
        kinds = [loop.results[number].type for number in self._used]
        with loop.location, ir.InsertionPoint(loop):
            bit = ir.IntegerType.get_signless(1)
            self._placeholder = mlir.arith.constant(bit, ir.BoolAttr.get(True))
            self._branch = ir.Operation.create("scf.if", kinds, [self._placeholder], regions=2)
            new = ir.Block.create_at_start(self._branch.regions[0])
            with ir.InsertionPoint(new):
                self._trial = loop.clone().operation
        self.is_tested = False

    def undo(self) -> None:
        self._branch.erase()
        definition(self._placeholder).erase()

    def make(self) -> int:
        """Build the new form and put it into place; returns the elements of a block."""
        with self._loop.location:
            trip = prepare(self._trial, self._equal)
            provenance = Provenance()
            loops = Legality(trip, self._equal, provenance).loops()
            elements = block_elements(trip, loops, self._machine)
            with mlir.ir.InsertionPoint(trip.loop):
                results = compute_in_front(trip, loops, provenance, self._used, self._loop)
                run_in_blocks(trip, loops, elements, self._equal)
            self._finish(trip, results)
        return elements

    def _finish(self, trip: Trip, results: list[Any]) -> None:
        ir = mlir.ir
        self.is_tested = bool(trip.guards or trip.assumed)
        with ir.InsertionPoint(self._branch):
            condition = self._condition(trip)
        new = list(self._branch.results) if condition is not None else results
        for number, value in zip(self._used, new, strict=True):
            self._loop.results[number].replace_all_uses_with(value)
        if condition is None:
            for op in operations(self._branch.regions[0].blocks[0]):
                op.move_before(self._branch)
            self._loop.erase()
            self.undo()
            return
        self._branch.operands[0] = condition
        definition(self._placeholder).erase()
        with ir.InsertionPoint(self._branch.regions[0].blocks[0]):
            ir.Operation.create("scf.yield", operands=results)
        if self.is_tested or self._used:
            with ir.InsertionPoint(ir.Block.create_at_start(self._branch.regions[1])):
                last = ir.Operation.create("scf.yield", operands=self._otherwise())
                if self.is_tested:
                    self._loop.move_before(last)
        if not self.is_tested:
            self._loop.erase()

    def _otherwise(self) -> list[Any]:
        """Results of the loop as it was; where nothing is tested it makes no trip."""
        if self.is_tested:
            return [self._loop.results[number] for number in self._used]
        initial = list(self._loop.operands)[3:]
        return [initial[number] for number in self._used]

    def _condition(self, trip: Trip) -> Any | None:
        """Whether there is a trip, arrays do not overlap and sizes are as assumed.

        None where that is known.
        """
        low, high = self._loop.operands[0], self._loop.operands[1]
        found: list[Any] = []
        first, last = constant_int(low), constant_int(high)
        if first is None or last is None or first >= last:
            found.append(mlir.arith.cmpi(mlir.arith.CmpIPredicate.slt, low, high))
        for condition in trip.assumed:
            # what it compares was computed in the branch
            found.append(_brought_out(condition, self._branch))
        if trip.guards:
            found.append(all_disjoint(tuple(trip.guards)))
        return functools.reduce(mlir.arith.andi, found) if found else None


def _brought_out(value: Any, branch: Any) -> Any:
    """``value`` computed in front of ``branch``, with all it needs; pure operations only."""
    op = owner(value)
    if op is None or not defined_inside(value, branch):
        return value
    for operand in op.operands:
        _brought_out(operand, branch)
    op.move_before(branch)
    return value
