"""Shapes of array statements: what is known at compile time needs no test at run time.

Array statements come as loops over the common shape of their operands
(``numba.broadcast``), with a test for each size that may be 1.  The pass knows

1. sizes that are one value, by constant folding and by what arrays were made with;
2. common shapes that were computed before: two statements on the same shapes get the
   same sizes, so that their loops have equal bounds (what fusion looks for);
3. that a size which is a loop's bound needs no test:
   ``select(n == 1, 0, i)`` is i where i < n;
4. that a check of shapes holds, because it was made before or the sizes are the same;
5. sizes that the program has compared itself, ``assert a.shape == b.shape`` (`facts`);
6. arrays that cannot overlap the target of an assignment (``numba.unaliased``).

What stays is one test in front of each loop for each size that may be 1 (`masks`: in which
form), one check of the shapes, and a copy of an operand that overlaps what is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes.base import MLIRPass, PassResult, Remark
from numba_mlir.passes.effects import Access, summarise
from numba_mlir.passes.facts import use_known_sizes
from numba_mlir.passes.keys import dominators
from numba_mlir.passes.masks import LIMIT, SLOW_LIMIT, mask_tests
from numba_mlir.passes.producers import Inlined, inline_producers
from numba_mlir.passes.products import expand_products
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.shapes import (
    BROADCAST,
    BROADCAST_INTO,
    broadcast_axis,
    reduced,
    shapes,
    shortened,
    sizes_of_axis,
    tested_size,
    tests,
)
from numba_mlir.passes.small_products import calls_where_stretched
from numba_mlir.passes.values import (
    constant_int,
    line_of,
    nested,
    operations,
)
from numba_mlir.passes.versions import VERSIONS, bounds, make_versions
from numba_mlir.passes.views import whole_base
from numba_mlir.passes.windows import look_through_windows

#: attribute of a function whose loops may not be fused by who takes its arrays for distinct
ORDER_MATTERS = "numba.order_matters"
_UNALIASED = "numba.unaliased"
_FOLD = "builtin.module(canonicalize,cse)"

#: a constant size, or the value of a size
Leaf = int | Any


@dataclasses.dataclass(frozen=True)
class Broadcast(MLIRPass):
    """Simplify the loops of array statements with what is known of the shapes.

    ``versions`` says whether neighbouring loops are made twice, once for equal sizes: of
    use when somebody fuses loops afterwards.  ``products`` says whether products of a matrix
    and a vector become loops where that pays (`products`), of use in the same case, and
    ``copies`` whether those do for which BLAS would need a copy of the matrix: of use where
    the loops become machine code by MLIR.
    """

    versions: bool = True
    products: bool = False
    copies: bool = False

    name: ClassVar[str] = "broadcast"

    def run(self, module: Any) -> PassResult:
        """Simplify every function of ``module``; always counts as a change."""
        remarks: list[Remark] = []
        with module.context:
            mlir.run_pipeline(module.operation, _FOLD)
            for op in operations(module.body):
                if op.name == "func.func":
                    _separate_arrays(op)
                    look_through_windows(op)
                    use_known_sizes(op)
                    _Shapes().function(op)
                    _drop_tests(op)
                    if self.products:
                        remarks += self._products(op)
                    if self.versions:
                        mlir.run_pipeline(module.operation, _FOLD)
                        remarks += map(self._inlined, inline_producers(op))
                        _drop_tests(op)
                        make_versions(op)
                        calls_where_stretched(op)
            mlir.run_pipeline(module.operation, _FOLD)
            for op in operations(module.body):
                if any(map(_order_matters, _blocks(op))):
                    op.attributes[ORDER_MATTERS] = mlir.ir.UnitAttr.get()
            for op in nested(module.operation):
                if not _is_first_version(op):
                    remarks += self._report(op)
            # The loops alone: operations inside them are erased on the way.
            for op in [op for op in nested(module.operation) if op.name == "scf.parallel"]:
                mask_tests(op, SLOW_LIMIT if _is_slow_version(op.block) else LIMIT)
            mlir.run_pipeline(module.operation, _FOLD)
        return PassResult(True, tuple(remarks))

    def _inlined(self, done: Inlined) -> Remark:
        where = "" if done.into is None else f" of line {done.into}"
        message = f"a temporary array is not made; its elements are computed in the loop{where}"
        return self.remark("applied", message, done.location)

    def _products(self, function: Any) -> Iterator[Remark]:
        for block in list(function.regions[0].blocks):
            for message, location in expand_products(block, self.copies):
                yield self.remark("applied", message, location)

    def _report(self, op: Any) -> Iterator[Remark]:
        if op.name == "scf.parallel":
            yield self.remark("applied", _loop_text(op), op.location)
        elif VERSIONS in op.attributes:
            yield self.remark("applied", _versions_text(op), op.location)
        elif op.name == _UNALIASED:
            source, target = (Provenance().root(array).name_of(array) for array in op.operands)
            message = f"a copy of {source} is used where it overlaps {target}"
            yield self.remark("analysis", message, op.location)


# -- arrays that may overlap -------------------------------------------------------
def _separate_arrays(function: Any) -> None:
    """Replace each ``numba.unaliased`` that cannot make a copy by its source."""
    provenance = Provenance()
    for op in list(nested(function)):
        if op.name != _UNALIASED:
            continue
        source, target = op.operands
        roots = provenance.root(source), provenance.root(target)
        if whole_base(source) == whole_base(target):
            op.result.replace_all_uses_with(target)
        elif not provenance.may_alias(*roots, op):
            op.result.replace_all_uses_with(source)
        else:
            continue
        op.erase()


def _blocks(function: Any) -> Iterator[Any]:
    """All blocks with control flow of the function: its own, and those of versions."""
    for op in (function, *nested(function)):
        if op.name == "func.func" or VERSIONS in op.attributes:
            yield from (block for region in op.regions for block in region.blocks)


def _order_matters(block: Any) -> bool:
    """Whether neighbouring loops of a block access one memory in different ways.

    In a version for stretched sizes, bounds that are not one value are not equal, and such
    loops are not fused anyway.
    """
    provenance = Provenance()
    stretched = _is_slow_version(block)
    seen: list[tuple[Access, bool, list[Any]]] = []
    for op in operations(block):
        if op.name != "scf.parallel":
            continue
        accesses = summarise(op, provenance).accesses
        ivs = tuple(op.regions[0].blocks[0].arguments)
        for access in accesses:
            for other, same_element, limits in seen:
                if not (access.write or other.write) or (stretched and limits != bounds(op)):
                    continue
                if access.memref == other.memref and same_element and access.indices == ivs:
                    continue
                if provenance.may_alias(access.root, other.root, op):
                    return True
        seen += [(access, access.indices == ivs, bounds(op)) for access in accesses]
    return False


# -- shapes ------------------------------------------------------------------------
@dataclasses.dataclass
class _Known:
    """What the checks of shapes say that are made on every way here."""

    #: sizes -> their common size
    common: dict[frozenset[Leaf], Any] = dataclasses.field(default_factory=dict)
    #: sizes that are known to have a common size
    checked: set[frozenset[Leaf]] = dataclasses.field(default_factory=set)
    #: (size, size of the target): the first can be stretched to the second
    fits: set[tuple[Leaf, Leaf]] = dataclasses.field(default_factory=set)
    #: (n, c) -> max(n - c, 0)
    shortened: dict[tuple[Any, int], Any] = dataclasses.field(default_factory=dict)

    def joined(self, others: list[_Known]) -> _Known:
        made = _Known(dict(self.common), set(self.checked), set(self.fits), dict(self.shortened))
        for other in others:
            made.shortened |= other.shortened
            made.common |= other.common
            made.checked |= other.checked
            made.fits |= other.fits
        return made


class _Shapes:
    """Goes through a function along its dominator tree."""

    def __init__(self) -> None:
        self._proved: list[Any] = []

    def function(self, function: Any) -> None:
        self.region(function.regions[0], _Known())
        for op in reversed(self._proved):  # a common size may be used for another one
            if not any(list(result.uses) for result in op.results):
                op.erase()

    def region(self, region: Any, known: _Known) -> None:
        behind: dict[Any, _Known] = {}
        dominating = dominators(region)
        for block in sorted(region.blocks, key=lambda block: len(dominating[block])):
            before = [behind[other] for other in dominating[block] if other in behind]
            behind[block] = self._block(block, known.joined(before))

    def _block(self, block: Any, known: _Known) -> _Known:
        for op in operations(block):
            if op.name == BROADCAST:
                self._broadcast(op, known)
            elif op.name == BROADCAST_INTO:
                self._broadcast_into(op, known)
            elif op.name == "arith.maxsi" and (part := shortened(op.result)) is not None:
                self._part(op, part, known)
            else:
                for region in op.regions:
                    self.region(region, known)
        return known

    def _broadcast(self, op: Any, known: _Known) -> None:
        needed = False
        for axis, result in enumerate(op.results):
            leaves = self._leaves(sizes_of_axis(op, axis))
            needed |= len(leaves) > 1 and not any(leaves <= sizes for sizes in known.checked)
            kept = reduced(leaves, _constant)
            value = known.common.get(kept)
            if len(kept) == 1:
                value = _value(next(iter(kept)), op)
            if value is not None:
                result.replace_all_uses_with(value)
            else:
                known.common[kept] = result
            known.checked.add(leaves)
        if not needed:
            self._proved.append(op)

    def _leaves(self, sizes: list[Any]) -> frozenset[Leaf]:
        """The sizes behind some sizes, without constants 1."""
        found: set[Leaf] = set()
        for size in sizes:
            number = constant_int(size)
            axis = broadcast_axis(size)
            if axis is not None:
                found |= self._leaves(sizes_of_axis(*axis))
            elif number != 1:
                found.add(size if number is None else number)
        return frozenset(found) or frozenset({1})

    def _part(self, op: Any, part: tuple[Any, int], known: _Known) -> None:
        """Let equally long parts of one whole have one length."""
        found = known.shortened.get(part)
        if found is None:
            ir, arith = mlir.ir, mlir.arith
            with ir.InsertionPoint(op), op.location:
                less, zero = (arith.constant(ir.IndexType.get(), n) for n in (part[1], 0))
                found = arith.maxsi(arith.subi(part[0], less), zero)
            known.shortened[part] = found
        op.result.replace_all_uses_with(found)

    def _broadcast_into(self, op: Any, known: _Known) -> None:
        *sources, target = shapes(op)
        pairs = {
            (_leaf(size), _leaf(wanted))
            for source in sources
            for size, wanted in zip(reversed(source), reversed(target), strict=False)
        }
        open_ = {pair for pair in pairs if pair[0] not in (1, pair[1])}
        too_long = any(len(source) > len(target) for source in sources)
        if not too_long and open_ <= known.fits:
            op.erase()
        known.fits |= open_


def _leaf(size: Any) -> Leaf:
    number = constant_int(size)
    return size if number is None else number


def _constant(leaf: Leaf) -> int | None:
    return leaf if isinstance(leaf, int) else None


def _value(leaf: Leaf, before: Any) -> Any:
    if not isinstance(leaf, int):
        return leaf
    ir = mlir.ir
    with ir.InsertionPoint(before), before.location:
        return mlir.arith.constant(ir.IndexType.get(), leaf)


# -- tests inside loops ------------------------------------------------------------
def _drop_tests(function: Any) -> None:
    """``select(n == 1, 0, i)`` is i in a loop of i from 0 to n."""
    for loop in list(nested(function)):
        if loop.name in ("scf.parallel", "scf.for"):
            for select, bound in tests(loop):
                if tested_size(select.operands[0]) == bound:
                    select.result.replace_all_uses_with(select.operands[2])


def _is_slow_version(block: Any) -> bool:
    """Whether a block is the version of some loops in which sizes may be stretched."""
    parent = block.owner.operation
    return VERSIONS in parent.attributes and block == parent.regions[1].blocks[0]


def _is_first_version(op: Any) -> bool:
    """Whether a loop is one of those for equal sizes, of which the other version tells."""
    parent = op.parent
    if op.name != "scf.parallel" or parent is None or VERSIONS not in parent.attributes:
        return False
    return op.block == parent.regions[0].blocks[0]


def _versions_text(branch: Any) -> str:
    """ "2 loops of lines 4 and 5 have a version for equal sizes"."""
    loops = [op for op in operations(branch.regions[1].blocks[0]) if op.name == "scf.parallel"]
    lines = sorted({line for loop in loops if (line := line_of(loop)) is not None})
    places = f"line {lines[0]}" if len(lines) == 1 else f"lines {', '.join(map(str, lines))}"
    where = f" of {places}" if lines else ""
    return f"{len(loops)} loops{where} have a version for equal sizes, without tests"


def _loop_text(loop: Any) -> str:
    """ "a loop over 2 indices; 1 size is tested for 1 at run time"."""
    count = len(loop.regions[0].blocks[0].arguments)
    tested = {tested_size(select.operands[0]) for select, _ in tests(loop)}
    text = f"became a loop over {count} {'index' if count == 1 else 'indices'}"
    if not tested:
        return f"{text}; the shapes need no test"
    sizes = "1 size is" if len(tested) == 1 else f"{len(tested)} sizes are"
    return f"{text}; {sizes} compared with 1 at run time"
