"""Building one ``scf.parallel`` out of neighbours, with or without a run-time test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.legality import Guard, Loop
from numba_mlir.passes.values import operations, owner

PARFORS = "numba.parfors"
NAMES = "numba.names"
_SEGMENTS = "operandSegmentSizes"


def fuse(loops: Sequence[Loop], guards: Sequence[Guard] = ()) -> tuple[Any, Any | None]:
    """Replace neighbouring loops of equal bounds by one, at the first loop's place.

    Returns the fused ``scf.parallel`` and, when ``guards`` holds pairs of arrays, the
    ``scf.if`` around it: fused where all pairs are disjoint, the original loops in the
    other branch.  The results of the loops (reductions) are replaced everywhere.
    """
    location = mlir.ir.Location.fused([loop.op.location for loop in loops])
    with location, mlir.ir.InsertionPoint(loops[0].op):
        if not guards:
            fused = _merge(loops)
            _replace_results(loops, fused)
            return fused, None
        branch = _branch(all_disjoint(guards), loops)
    _replace_results(loops, branch)
    return operations(branch.regions[0].blocks[0])[0], branch


def _branch(condition: Any, loops: Sequence[Loop]) -> Any:
    """``scf.if condition {the fused loop} else {clones of the loops}``, results yielded."""
    ir = mlir.ir
    types = [result.type for loop in loops for result in loop.op.results]
    branch = ir.Operation.create("scf.if", results=types, operands=[condition], regions=2)
    with ir.InsertionPoint(ir.Block.create_at_start(branch.regions[1])):
        clones = [loop.op.clone().operation for loop in loops]
        _yield([result for clone in clones for result in clone.results])
    with ir.InsertionPoint(ir.Block.create_at_start(branch.regions[0])):
        fused = _merge(loops)
        _yield(list(fused.results))
    return branch


def _yield(values: list[Any]) -> None:
    mlir.ir.Operation.create("scf.yield", operands=values)


def all_disjoint(guards: Sequence[Guard]) -> Any:
    """The conjunction of ``numba.disjoint`` of all pairs, an i1 value."""
    ir = mlir.ir
    i1 = ir.IntegerType.get_signless(1)
    condition = None
    for guard in guards:
        test = ir.Operation.create("numba.disjoint", results=[i1], operands=list(guard)).result
        condition = test if condition is None else mlir.arith.andi(condition, test)
    return condition


def _merge(loops: Sequence[Loop]) -> Any:
    """Create the fused loop at the insertion point; moves the bodies out of ``loops``."""
    ir = mlir.ir
    first = loops[0]
    inits = [init for loop in loops for init in loop.inits]
    rank = first.rank
    attributes = _attributes(loops)
    attributes[_SEGMENTS] = ir.DenseI32ArrayAttr.get([rank, rank, rank, len(inits)])
    fused = ir.Operation.create(
        "scf.parallel",
        results=[result.type for loop in loops for result in loop.op.results],
        operands=[*first.lower, *first.upper, *first.steps, *inits],
        attributes=attributes,
        regions=1,
    )
    locations = [iv.location for iv in first.ivs]
    body = ir.Block.create_at_start(fused.regions[0], [iv.type for iv in first.ivs], locations)
    reduces = [_move_body(loop, body) for loop in loops]
    with ir.InsertionPoint(body):
        _merge_reduces(reduces)
    return fused


def _move_body(loop: Loop, body: Any) -> Any:
    """Move the operations of ``loop``'s body to the end of ``body``; return its terminator.

    Indices of the loop that the fused one has not become loops inside.
    """
    block = loop.op.regions[0].blocks[0]
    *moved, reduce = operations(block)
    for old, new in zip(loop.ivs, body.arguments, strict=True):
        old.replace_all_uses_with(new)
    inner_ivs = list(block.arguments)[loop.rank :]
    for iv, bounds in zip(inner_ivs, loop.inner_bounds(), strict=True):
        body = _inner_loop(body, bounds, iv)
    last = operations(body)[-1] if inner_ivs else None
    for op in moved:
        if last is None:
            body.append(op)
        else:
            op.move_before(last)
    return reduce


def _inner_loop(body: Any, bounds: tuple[Any, Any, Any], iv: Any) -> Any:
    """The block of a new ``scf.for`` at the end of ``body``, with ``iv`` replaced."""
    ir = mlir.ir
    ops = operations(body)
    ends = bool(ops) and ops[-1].name == "scf.yield"
    with ir.InsertionPoint(ops[-1]) if ends else ir.InsertionPoint(body):
        made = ir.Operation.create("scf.for", [], list(bounds), regions=1)
    block = ir.Block.create_at_start(made.regions[0], [iv.type], [iv.location])
    with ir.InsertionPoint(block):
        ir.Operation.create("scf.yield")
    iv.replace_all_uses_with(block.arguments[0])
    return block


def merge_equal_reductions(loop: Any) -> Any:
    """Compute reductions of one value, with one combiner and one start, once.

    Returns the loop, which is a new one where there were such.
    """
    body = loop.regions[0].blocks[0]
    *_, reduce = operations(body)
    rank = len(body.arguments)
    inits = list(loop.operands)[3 * rank :]
    first: dict[Any, int] = {}
    same: list[int] = []
    triples = zip(reduce.operands, reduce.regions, inits, strict=True)
    for number, (value, region, init) in enumerate(triples):
        text = "\n".join(str(op) for op in operations(region.blocks[0]))
        start = owner(init)
        key = str(start) if start is not None and start.name == "arith.constant" else init
        same.append(first.setdefault((value, text, key), number))
    kept = sorted(first.values())
    if len(kept) == len(same):
        return loop
    return _with_reductions(loop, reduce, kept, same)


def _with_reductions(loop: Any, reduce: Any, kept: list[int], same: list[int]) -> Any:
    """``loop`` with the reductions ``kept``; each result becomes that of ``same``."""
    ir = mlir.ir
    body = loop.regions[0].blocks[0]
    rank = len(body.arguments)
    operands = list(loop.operands)
    inits = operands[3 * rank :]
    attributes = {name: loop.attributes[name] for name in loop.attributes}
    attributes[_SEGMENTS] = ir.DenseI32ArrayAttr.get([rank, rank, rank, len(kept)])
    if NAMES in attributes:
        names = list(attributes[NAMES])
        attributes[NAMES] = ir.ArrayAttr.get([names[number] for number in kept])
    with loop.location, ir.InsertionPoint(loop):
        made = ir.Operation.create(
            "scf.parallel",
            [loop.results[number].type for number in kept],
            [*operands[: 3 * rank], *(inits[number] for number in kept)],
            attributes,
            regions=1,
        )
    body.append_to(made.regions[0])
    values = list(reduce.operands)
    with reduce.location, ir.InsertionPoint(reduce):
        chosen = [values[number] for number in kept]
        merged = ir.Operation.create("scf.reduce", operands=chosen, regions=len(kept))
    for number, target in zip(kept, merged.regions, strict=True):
        reduce.regions[number].blocks[0].append_to(target)
    reduce.erase()
    for old, number in zip(loop.results, same, strict=True):
        old.replace_all_uses_with(made.results[kept.index(number)])
    loop.erase()
    return made


def _merge_reduces(reduces: Sequence[Any]) -> None:
    """Create the ``scf.reduce`` that has all operands and combiners of ``reduces``."""
    operands = [operand for reduce in reduces for operand in reduce.operands]
    merged = mlir.ir.Operation.create("scf.reduce", operands=operands, regions=len(operands))
    combiners = [region for reduce in reduces for region in reduce.regions]
    for source, target in zip(combiners, merged.regions, strict=True):
        source.blocks[0].append_to(target)


def _attributes(loops: Sequence[Loop]) -> dict[str, Any]:
    """The attributes of the fused loop.

    ``numba.parfors`` lists all handles, ``numba.names`` the names of all reductions;
    of any other attribute the first loop that has it decides.
    """
    merged: dict[str, Any] = {}
    for loop in loops:
        attributes = loop.op.attributes
        for name in attributes:
            merged.setdefault(name, attributes[name])
    merged |= origins([loop.op for loop in loops])
    if NAMES in merged:
        merged[NAMES] = mlir.ir.ArrayAttr.get([name for loop in loops for name in _names(loop)])
    return merged


def origins(loops: Sequence[Any]) -> dict[str, Any]:
    """The attribute that says of which loops of Numba's the operations are made, if any."""
    handles = [
        handle for op in loops if PARFORS in op.attributes for handle in op.attributes[PARFORS]
    ]
    if not handles:
        return {}
    return {PARFORS: mlir.ir.ArrayAttr.get(list(dict.fromkeys(handles)))}


def _items(loop: Loop, attribute: str) -> list[Any]:
    attributes = loop.op.attributes
    return list(attributes[attribute]) if attribute in attributes else []


def _names(loop: Loop) -> list[Any]:
    """One name for each reduction of ``loop``, empty where the loop gives none."""
    names = _items(loop, NAMES)
    if len(names) == len(loop.inits):
        return names
    return [mlir.ir.StringAttr.get("")] * len(loop.inits)


def _replace_results(loops: Sequence[Loop], replacement: Any) -> None:
    """Replace the loops' results by those of ``replacement``, in order, and erase them."""
    new = iter(replacement.results)
    for loop in loops:
        for old in loop.op.results:
            old.replace_all_uses_with(next(new))
        loop.op.erase()
