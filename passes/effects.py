"""What an operation, with everything nested in it, does to memory and to control.

Names the accesses one by one (array, index, read or write) so that `legality` can
reason about iterations, and collects the opaque operations, about which nothing is
known except the values they use.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from numba_mlir.dialect import HIDDEN, PICKED, UNKNOWN_VIEW
from numba_mlir.passes.keys import ASSERT, is_known
from numba_mlir.passes.provenance import Provenance, Reach, Root
from numba_mlir.passes.values import ADDRESS, constant_int, is_memref, nested, owner
from numba_mlir.passes.views import VIEW_OPS, view_base, whole_base

#: checks of sizes: they may raise and do nothing else, and may do so earlier
SIZE_CHECKS = frozenset({ASSERT, "numba.broadcast", "numba.broadcast_into"})
#: all operations that may raise and do nothing else.  A ``pyir.stmt`` with the unit
#: attribute ``raises`` is one of them.
CHECKS = SIZE_CHECKS | {"numba.check"}
STATEMENT = "pyir.stmt"

_PURE_DIALECTS = frozenset({"arith", "math", "complex", "index", "ub"})
#: of integers
DIVISIONS = frozenset(
    f"arith.{kind}{sign}" for kind in ("div", "rem", "ceildiv", "floordiv") for sign in ("si", "ui")
)
_STRUCTURE = frozenset(
    "scf." + name
    for name in (
        "parallel", "for", "while", "if", "execute_region", "index_switch", "yield",
        "condition", "reduce", "reduce.return",
    )
)  # fmt: skip
_PURE_OPS = frozenset(
    {"numba.wrap_index", "numba.undef", "numba.box", "numba.unbox"}
    | {"numba.disjoint", "numba.column_major", ADDRESS}
    | {HIDDEN, "memref.dim", "memref.alloc", "func.return", "cf.br", "cf.cond_br", "cf.switch"}
    | VIEW_OPS
)


@dataclasses.dataclass(frozen=True)
class Access:
    """One read or write of an array.

    ``memref`` is the array, not a whole view of it; ``indices`` is None when any element
    may be meant.
    """

    op: Any
    root: Root
    memref: Any
    indices: tuple[Any, ...] | None
    write: bool


@dataclasses.dataclass
class Effects:
    """Summary of one operation and everything nested in it.

    ``accesses`` leaves out arrays that are allocated inside.  ``checks`` are operations
    that may raise and do nothing else; ``opaque`` lists those that may do anything with
    what they reach.  ``uses`` are the operations outside that define operands.
    """

    op: Any
    accesses: list[Access] = dataclasses.field(default_factory=list)
    opaque: list[tuple[Any, Reach]] = dataclasses.field(default_factory=list)
    checks: list[Any] = dataclasses.field(default_factory=list)
    uses: set[Any] = dataclasses.field(default_factory=set)

    @property
    def is_pure(self) -> bool:
        return not (self.accesses or self.opaque or self.checks)

    def writes(self) -> list[Access]:
        return [access for access in self.accesses if access.write]


def is_pure_name(name: str) -> bool:
    """Whether operations of this name neither read nor write memory, nor raise."""
    return name in _PURE_OPS or name.partition(".")[0] in _PURE_DIALECTS


def may_trap(op: Any) -> bool:
    """Integer division by something that may be zero: not to be executed on speculation."""
    return op.name in DIVISIONS and not constant_int(op.operands[1])


def summarise(op: Any, provenance: Provenance) -> Effects:
    """The effects of ``op``; valid until operations change."""
    inside = list(nested(op))
    effects = Effects(op)
    local = {child for child in inside if child.name == "memref.alloc"}
    within = {op, *inside}
    for child in (op, *inside):
        _add(effects, child, provenance, local)
        for value in child.operands:
            definer = owner(value)
            if definer is not None and definer not in within:
                effects.uses.add(definer)
    if op.name == "scf.parallel":
        effects.checks.clear()  # Numba loses what is raised inside a parallel loop
    return effects


def _add(effects: Effects, op: Any, provenance: Provenance, local: set[Any]) -> None:
    name = op.name
    if name == "memref.load":
        _access(effects, op, op.operands[0], tuple(op.operands)[1:], False, provenance, local)
    elif name == "memref.store":
        _access(effects, op, op.operands[1], tuple(op.operands)[2:], True, provenance, local)
    elif is_known(op):
        return
    elif name in CHECKS or (name == STATEMENT and "raises" in op.attributes) or may_trap(op):
        effects.checks.append(op)
    elif name == "numba.unaliased":  # copies its first operand where it overlaps the second
        _access(effects, op, op.operands[0], None, False, provenance, local)
    elif name == STATEMENT and PICKED in op.attributes:
        # a new array of elements of the first operand
        for array in op.operands:
            _access(effects, op, array, None, False, provenance, local)
    elif name.startswith("numba.expr"):
        _expression(effects, op, provenance, local)
    elif not (is_pure_name(name) or name in _STRUCTURE):
        effects.opaque.append((op, provenance.reach(op.operands)))


def _expression(effects: Effects, op: Any, provenance: Provenance, local: set[Any]) -> None:
    """A kept expression may read elements of the arrays it is given.

    A view does not, but one that Numba does not know as such has to stay behind what is written
    into the array: Numba would take the writes for dead code.  A tuple only holds on to its
    arrays (see `Provenance.captured`) but has to stay there as well: Numba's removal of dead
    code does not look into tuples.  ``metadata`` says that sizes, strides and the like are
    read, not elements.
    """
    is_view = any(view_base(result) is not None for result in op.results)
    if "metadata" not in op.attributes and (not is_view or UNKNOWN_VIEW in op.attributes):
        for value in filter(is_memref, op.operands):
            _access(effects, op, value, None, False, provenance, local)


def _access(
    effects: Effects,
    op: Any,
    memref: Any,
    indices: tuple[Any, ...] | None,
    write: bool,
    provenance: Provenance,
    local: set[Any],
) -> None:
    root = provenance.root(memref)
    if owner(root.value) not in local:
        effects.accesses.append(Access(op, root, whole_base(memref), indices, write))
