"""Run a user's ``prange`` in parallel although its iterations depend on each other.

An ``scf.for`` with the attribute ``numba.ordered`` is such a loop, imported as the sequential
loop that it is.  What it carries from iteration to iteration is understood where it is

1. counted up (or down) by the same amount in each iteration: computed from the index;
2. combined by one associative operator, under any condition (`operators`);
3. kept or replaced as a whole, as in ``if x[i] < best: best = x[i]; where = i`` (`selections`);
4. assigned in each iteration before it is read, and not read behind the loop;
5. seen by an iteration only where no iteration changes it (`unchanged`).

A loop of these alone is cut into chunks that run in parallel and are put together in order
(`chunks`).  Everything else stays as it is, with a remark that says why:

a. a carried value that a store or a statement of unknown effect depends on;
b. a value that is carried in another way (a recurrence, a user's function, two largest values);
c. a value that is no number.

Arrays: that different iterations do not write what others read is what the user promises
by writing ``prange``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.dialect import ORDERED
from numba_mlir.passes.base import MLIRPass, PassResult, Remark, location_name
from numba_mlir.passes.carried import Dependences, is_effect
from numba_mlir.passes.chunks import (
    OperatorPart,
    Part,
    PrivatePart,
    SelectionPart,
    run_in_chunks,
)
from numba_mlir.passes.forwarding import Forwarder
from numba_mlir.passes.operators import find_operator, replace_counters, spell_out_extrema
from numba_mlir.passes.provenance import Provenance
from numba_mlir.passes.selections import find_selection
from numba_mlir.passes.unchanged import use_values_before
from numba_mlir.passes.values import at_line, nested

#: attribute that says which Numba loop an operation was
_ORIGIN = "numba.parfors"
_CLEAN = "builtin.module(canonicalize,cse)"


@dataclasses.dataclass(frozen=True)
class Parallelize(MLIRPass):
    """Cut ordered loops into parallel chunks where that gives the same result."""

    name: ClassVar[str] = "parallelize"
    warns: ClassVar[bool] = True

    def applies(self, module: Any) -> bool:
        return any(True for _ in _ordered(module))

    def run(self, module: Any) -> PassResult:
        """Modified where there was an ordered loop."""
        remarks: list[Remark] = []
        with module.context:
            self._prepare(module)
            for loop in list(_ordered(module)):
                if not _inside_parallel(loop) and ORDERED in loop.attributes:
                    remarks.append(self._loop(loop))
            for loop in _ordered(module):
                del loop.attributes[ORDERED]
            mlir.run_pipeline(module.operation, _CLEAN)
        return PassResult(True, tuple(remarks))

    def _prepare(self, module: Any) -> None:
        """One value for each element that is loaded twice, choices instead of branches."""
        mlir.run_pipeline(module.operation, _CLEAN)
        for loop in list(_ordered(module)):
            Forwarder(loop, Provenance()).run()
            replace_counters(loop)
            use_values_before(loop)
        mlir.run_pipeline(module.operation, _CLEAN)
        for loop in list(_ordered(module)):
            spell_out_extrema(loop)

    def _loop(self, loop: Any) -> Remark:
        names = _names(loop)
        parts, reason = _parts(loop, names)
        for inner in _ordered(loop):
            del inner.attributes[ORDERED]
        location = loop.location
        if reason:
            return self.remark("missed", f"{_how(loop)}: {reason}", location)
        attributes = {n: loop.attributes[n] for n in (_ORIGIN,) if n in loop.attributes}
        for name in (ORDERED, *attributes):
            del loop.attributes[name]
        run_in_chunks(loop, parts, attributes)
        what = f" chunks, {', '.join(names)} put together in order" if names else ""
        return self.remark("applied", f"the loop runs in parallel{what}", location)


def _how(loop: Any) -> str:
    """How a loop runs that is not cut into chunks.

    `interchange` may yet run blocks of its arrays in parallel, iteration by iteration.
    """
    if any(op.name == "scf.parallel" for op in nested(loop)):
        return "iterations run in order, the array statements in them in parallel"
    return "the loop runs sequentially"


def _ordered(root: Any) -> Any:
    """The ordered loops inside an operation or a module, outer before inner."""
    return (
        op for op in nested(root.operation) if op.name == "scf.for" and ORDERED in op.attributes
    )


def _inside_parallel(op: Any) -> bool:
    while (op := op.parent) is not None:
        if op.name == "scf.parallel":
            return True
    return False


def _names(loop: Any) -> list[str]:
    """What the user calls the carried values."""
    _, *arguments = loop.regions[0].blocks[0].arguments
    names = [location_name(argument.location) or "a value" for argument in arguments]
    return [f"'{name.lstrip('$').split('.')[0]}'" for name in names]


def _parts(loop: Any, names: list[str]) -> tuple[list[Part], str]:
    """How to run ``loop`` in parallel, or why that is not possible."""
    deps = Dependences(loop)
    for argument, name, result in zip(deps.arguments, names, loop.results, strict=True):
        if not _is_number(argument.type) and list(result.uses):
            return [], f"{name} goes from one iteration to the next and is no number"
    for op, numbers in deps.effects():
        if numbers:
            used = ", ".join(names[n] for n in sorted(numbers))
            return [], f"what is done{at_line(op)} depends on {used} of the iterations before"
    constant = not any(is_effect(op) for op in nested(loop))
    parts: list[Part] = []
    for group in _groups(deps):
        part = _part(loop, deps, group, constant)
        if part is None:
            which = ", ".join(names[n] for n in group)
            return [], f"{which}: no reduction whose parts can be put together"
        parts.append(part)
    return parts, ""


def _part(loop: Any, deps: Dependences, group: tuple[int, ...], constant: bool) -> Part | None:
    numbers = all(_is_number(deps.arguments[number].type) for number in group)
    if len(group) == 1:
        if not list(loop.results[group[0]].uses):
            return PrivatePart(group[0])
        operator = find_operator(deps, group[0]) if numbers else None
        if operator is not None:
            return OperatorPart(operator)
    selection = find_selection(deps, group, constant) if numbers else None
    return None if selection is None else SelectionPart(selection)


def _groups(deps: Dependences) -> list[tuple[int, ...]]:
    """Carried values that depend on each other, together; all in order."""
    group = list(range(len(deps.arguments)))
    for number, value in enumerate(deps.yields):
        for other in deps.of(value):
            old, new = group[other], group[number]
            group = [new if one == old else one for one in group]
    found: dict[int, list[int]] = {}
    for number, one in enumerate(group):
        found.setdefault(one, []).append(number)
    return [tuple(members) for members in found.values()]


def _is_number(type_: Any) -> bool:
    ir = mlir.ir
    return isinstance(type_, (ir.IntegerType, ir.IndexType, ir.FloatType, ir.ComplexType))
