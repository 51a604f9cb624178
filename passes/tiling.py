"""Loops in an order, and in blocks, that use the caches.

For each ``scf.parallel`` with its inner loops the pass

1. reads it as statements over loop indices (`nests`),
2. finds out which orders of iterations give the same result, bit for bit (`dependences`),
3. lets the cache model choose one (`blocking`), and
4. builds it (`blocked`), the loops as they were being the else branch of a run-time test
   where arrays may overlap.

What it does: the innermost loop is the one along which the arrays are contiguous; parallel
indices and inner loops are cut into blocks that fit the caches; iterations of outer
loops are computed side by side, so that what is read serves several of them.

Refused, each with a reason: reductions over a parallel index, values that are carried
from one iteration to the next, loops with statements that are not understood, elements
that other iterations write, nests without anything to gain.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult, Remark
from numba_mlir.passes.blocked import build, condition, permute
from numba_mlir.passes.blocking import Plan, plan_nest
from numba_mlir.passes.contractions import contraction
from numba_mlir.passes.dependences import check
from numba_mlir.passes.legality import Guard
from numba_mlir.passes.machine import Machine, this_machine
from numba_mlir.passes.merge import all_disjoint
from numba_mlir.passes.nests import Nest, Refused, read_nest
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.values import constant_int, has_inner_loop, operations

#: nests with fewer iterations are left alone where that is known
SMALL = 4096


@dataclasses.dataclass(frozen=True)
class Tiling(MLIRPass):
    """Reorder and cut nests of loops for the caches.

    ``sizes`` are block sizes for the loops of each nest, outermost first; loops without
    one are not cut.  Empty: the cache model chooses, for ``machine`` (None: this one).
    ``max_guards`` is the largest number of array pairs that one run-time test compares.
    ``packed``: contractions are left to `packing`, which comes later and does more.
    """

    sizes: tuple[int, ...] = ()
    machine: Machine | None = None
    max_guards: int = 16
    packed: bool = False

    name: ClassVar[str] = "tiling"

    def run(self, module: Any) -> PassResult:
        """Unmodified when no nest was changed."""
        remarks: list[Remark] = []
        with module.context:
            for op in _outermost(module.operation):
                remarks.append(self._nest(op))
            modified = any(remark.kind == "applied" for remark in remarks)
            if modified:
                mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
        return PassResult(modified, tuple(remark for remark in remarks if remark.message))

    def _nest(self, op: Any) -> Remark:
        location = op.location
        try:
            message = self._transform(op)
        except Refused as reason:
            interesting = _is_interesting(op)
            text = f"the loop was left as it is: {reason}" if interesting else ""
            return self.remark("missed", text, location)
        return self.remark("applied", message, location)

    def _transform(self, op: Any) -> str:
        """Change the nest and say how; raises `Refused`."""
        provenance = Provenance()
        nest = read_nest(op, provenance)
        guards = check(nest, provenance)
        if len(guards) > self.max_guards:
            raise Refused(f"too many pairs of arrays may overlap ({len(guards)})")
        if not self.sizes:
            _refuse_small(nest)
        if self.packed and not self.sizes and any(contraction(s, nest) for s in nest.statements):
            raise Refused(
                "it combines rows and columns like a matrix product, and Codegen packs it"
            )
        plan = plan_nest(nest, self.machine or this_machine(), self.sizes)
        if not plan.gains:
            raise Refused("there is nothing to gain, its arrays are read as they lie in memory")
        message = "; ".join(plan.gains)
        if guards:
            pairs = ", ".join(f"{provenance.root(a)} and {provenance.root(b)}" for a, b in guards)
            message += f" (where these do not overlap: {pairs})"
        if plan.strided:
            arrays = ", ".join(dict.fromkeys(provenance.root(a).name_of(a) for a in plan.strided))
            message += f" (where these lie in {plan.order} order: {arrays})"
        if plan.least:
            message += f" (from {min(plan.least.values())} elements on)"
        _replace(nest, plan, guards)
        return message


def _outermost(op: Any) -> list[Any]:
    """The parallel loops of a function that are in no other one."""
    found: list[Any] = []
    for region in op.regions:
        for block in region.blocks:
            for child in operations(block):
                found += [child] if child.name == "scf.parallel" else _outermost(child)
    return found


def _is_interesting(op: Any) -> bool:
    """Whether a user would expect something here: inner loops or several indices."""
    several = len(op.regions[0].blocks[0].arguments) > 1
    return several or has_inner_loop(op)


def _refuse_small(nest: Nest) -> None:
    dims = {dim for statement in nest.statements for dim in statement.dims}
    sizes: list[int] = []
    for dim in dims:
        lower, upper = constant_int(dim.lower), constant_int(dim.upper)
        if lower is None or upper is None:
            return
        sizes.append(max(upper - lower, 0))
    if math.prod(sizes) < SMALL:
        raise Refused(f"{math.prod(sizes)} iterations are too few to pay")


def _replace(nest: Nest, plan: Plan, guards: tuple[Guard, ...]) -> None:
    ir = mlir.ir
    op = nest.op
    with op.location, ir.InsertionPoint(op):
        tests = [all_disjoint(guards)] if guards else []
        pays = condition(nest, plan)
        tests += [] if pays is None else [pays]
        if not tests:
            _build(nest, plan)
            return
        both = functools.reduce(mlir.arith.andi, tests)
        branch = ir.Operation.create("scf.if", operands=[both], regions=2)
        then, other = (ir.Block.create_at_start(region) for region in branch.regions)
        with ir.InsertionPoint(other):
            op.clone()
            ir.Operation.create("scf.yield")
        with ir.InsertionPoint(then):
            end = ir.Operation.create("scf.yield")
        op.move_before(end)
        with ir.InsertionPoint(op):
            _build(nest, plan)


def _build(nest: Nest, plan: Plan) -> None:
    if plan.permuted is not None:
        permute(nest.op, [nest.dims.index(dim) for dim in plan.permuted])
        return
    build(nest, plan)
    nest.op.erase()
