"""Which orders of a nest's iterations give the same result, bit for bit.

The rule: *two accesses to one element keep their order* whenever one of them is a write.

1. In one statement every access to a written array has the same index vector, in which
   a loop index stands alone (plus what does not change in the nest).  Iterations that meet
   in one element then differ only in the loops that are missing from the vector, the
   *ordered* loops of the statement.  As long as these keep their order among themselves, any
   order of all loops is right, and only the outermost ordered one may be cut into blocks.
2. Two statements share some loops.  To separate them (all iterations of the first, then
   all of the second) is right when for each array that both access, one writing, every
   shared loop's index stands at the same place of both vectors.
3. Every index of the parallel loop stands in every vector of a written array.  Otherwise
   iterations that run at the same time meet in one element.
4. Two arrays that may overlap are tested at run time (`Guard`), and the loops as they
   were run where they do.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from numba_mlir.passes.keys import Equalities
from numba_mlir.passes.legality import Guard, Term, index_term
from numba_mlir.passes.nests import Cell, Dim, Nest, Refused, Statement
from numba_mlir.passes.provenance import Provenance, Root
from numba_mlir.passes.values import at_line, defined_inside, owner, strip_casts
from numba_mlir.passes.views import whole_base


@dataclasses.dataclass(frozen=True)
class At:
    """The index of a loop plus a constant plus a number that does not change in the nest, which
    is given by its key, None for 0."""

    dim: Dim
    constant: int
    shift: Any = None


#: an index vector: for each axis the loop whose index stands there, or a key of anything else
Vector = tuple[At | Any, ...]


def vector(cell: Cell, dims: tuple[Dim, ...], keys: Equalities) -> Vector:
    """The indices of ``cell`` as loops plus what does not change where they are that."""
    return tuple(_at(index, dims, keys) or keys.key(index) for index in cell.indices)


def _at(index: Any, dims: tuple[Dim, ...], keys: Equalities) -> At | None:
    ivs, lower = [dim.iv for dim in dims], [dim.lower for dim in dims]
    term: Term | None = index_term(index, ivs, lower)
    if term is not None:
        return At(dims[term[0]], term[1])
    op = owner(strip_casts(index))
    if op is None or op.name != "arith.addi":
        return None
    for moving, fixed in itertools.permutations(map(strip_casts, op.operands)):
        term = index_term(moving, ivs, lower)
        if term is not None and not any(defined_inside(fixed, dim.op) for dim in dims):
            return At(dims[term[0]], term[1], keys.key(fixed))
    return None


def ordered(statement: Statement) -> tuple[Dim, ...]:
    """The loops whose order among themselves has to stay (rule 1)."""
    keys = Equalities()
    free = set(statement.dims)
    for event in statement.events:
        places = vector(event.cell, statement.dims, keys)
        free &= {dim for dim in statement.dims if _position(dim, places) is not None}
    return tuple(dim for dim in statement.dims if dim not in free)


def check(nest: Nest, provenance: Provenance) -> tuple[Guard, ...]:
    """The pairs of arrays that must not overlap; raises `Refused` (rules 1 to 4)."""
    keys = Equalities()
    uses: dict[Root, list[tuple[int, Cell, Vector, bool, Any]]] = {}
    for number, statement in enumerate(nest.statements):
        for event in statement.events:
            places = vector(event.cell, statement.dims, keys)
            root = provenance.root(event.cell.memref)
            uses.setdefault(root, []).append((number, event.cell, places, event.write, event.op))
    for found in uses.values():
        for _, cell, places, _, op in found:
            for dim in nest.dims:
                if _position(dim, places) is None:
                    raise Refused(f"iterations may meet in one element{at_line(op)}")
            if cell.memref != found[0][1].memref:
                raise Refused(f"two views of one array are used, one is written{at_line(op)}")
        for one, other in itertools.combinations(found, 2):
            if one[3] or other[3]:
                _check_pair(nest, one, other)
    return _guards(nest, provenance, uses)


def _check_pair(nest: Nest, one: Any, other: Any) -> None:
    (first, _, mine, _, op), (second, _, theirs, _, _) = one, other
    if first == second:
        if mine != theirs:
            raise Refused(f"an iteration needs what another one writes{at_line(op)}")
        return
    theirs_dims = nest.statements[second].dims
    for dim in nest.statements[first].dims:
        if dim in theirs_dims and not _same_place(dim, mine, theirs):
            raise Refused(f"loops that depend on each other share the loop{at_line(dim.op)}")


def _same_place(dim: Dim, mine: Vector, theirs: Vector) -> bool:
    return any(a == b and _is_along(dim, a) for a, b in zip(mine, theirs, strict=True))


def _position(dim: Dim, places: Vector) -> int | None:
    """Where ``dim`` stands alone in an index vector."""
    for position, place in enumerate(places):
        if _is_along(dim, place):
            return position
    return None


def _is_along(dim: Dim, place: Any) -> bool:
    return isinstance(place, At) and place.dim is dim


def _guards(nest: Nest, provenance: Provenance, written: dict[Root, Any]) -> tuple[Guard, ...]:
    arrays = {provenance.root(event.cell.memref): event.cell.memref
              for statement in nest.statements for event in statement.events}  # fmt: skip
    reads: dict[Root, dict[Any, None]] = {}
    for statement in nest.statements:
        for load in statement.slice.loads:
            array = whole_base(load.operands[0])
            reads.setdefault(provenance.root(array), {})[array] = None
    guards: dict[Guard, None] = {}
    for root, array in arrays.items():
        others = [(r, a) for r, found in reads.items() for a in found]
        others += [(r, a) for r, a in arrays.items() if r is not root]
        for other_root, other in others:
            if provenance.may_alias(root, other_root, nest.op) and (other, array) not in guards:
                for one in (array, other):
                    if defined_inside(one, nest.op):
                        raise Refused(f"{root} and {other_root} may overlap")
                guards[array, other] = None
    return tuple(guards)
