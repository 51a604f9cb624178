"""Functions of the C library out of loops whose sums have to keep their order.

A loop that adds ``exp(x)`` to a running sum is one chain of additions, and LLVM makes no
vectors of any part of it.  Cut into blocks, with the terms of a block computed first and put
into a small buffer, the terms become a loop of their own, which LLVM makes vectors of; the
additions follow in the order in which they stood.

    for j:  s += exp(x[j])     becomes     for blocks:  for j in block:  t[j] = exp(x[j])
                                                        for j in block:  s += t[j]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.building import for_loop, index, on_stack
from numba_mlir.passes.values import constant_int, nested, operations, owner

#: terms that are computed before they are added
_BLOCK = 256


def distribute(function: Any) -> None:
    """Cut every innermost loop of ``function`` that calls functions and carries ordered sums."""
    for op in [op for op in nested(function) if op.name == "scf.for"]:
        steps = _ordered_sums(op)
        if steps and any(inner.name in libm.FUNCTIONS for inner in nested(op)):
            with op.location, mlir.ir.InsertionPoint(op):
                _cut(op, steps, function)


def _ordered_sums(loop: Any) -> list[tuple[Any, Any]] | None:
    """For each carried value its addition and what is added; None where one is no sum."""
    if constant_int(loop.operands[2]) != 1 or any(len(op.regions) for op in nested(loop)):
        return None
    block = loop.regions[0].blocks[0]
    *_, last = operations(block)
    found = []
    for carried, new in zip(list(block.arguments)[1:], last.operands, strict=True):
        step = owner(new)
        if step is None or step.name != "arith.addf" or step.block != block:
            return None
        if len(list(carried.uses)) != 1 or len(list(new.uses)) != 1:
            return None
        terms = [value for value in step.operands if value != carried]
        if len(terms) != 1:
            return None
        found.append((step, terms[0]))
    return found


def _cut(loop: Any, steps: Sequence[tuple[Any, Any]], function: Any) -> None:
    arith = mlir.arith
    low, high, _, *start = loop.operands
    buffers = [on_stack(_BLOCK, term.type, function) for _, term in steps]
    block = loop.regions[0].blocks[0]

    def each_block(first: Any, *carried: Any) -> Sequence[Any]:
        last = arith.minsi(arith.addi(first, index(_BLOCK)), high)
        for_loop((first, last, index(1)), lambda iv: _terms(block, steps, buffers, first, iv))
        count = arith.subi(last, first)
        return for_loop((index(0), count, index(1)), additions, carried)

    def additions(iv: Any, *carried: Any) -> Sequence[Any]:
        results = []
        for (step, term), buffer, value in zip(steps, buffers, carried, strict=True):
            loaded = mlir.ir.Operation.create("memref.load", [term.type], [buffer, iv]).results[0]
            swapped = step.operands[0] == term
            operands = [loaded, value] if swapped else [value, loaded]
            attributes = {name: step.attributes[name] for name in step.attributes}
            made = mlir.ir.Operation.create("arith.addf", [term.type], operands, attributes)
            results.append(made.results[0])
        return results

    results = for_loop((low, high, index(_BLOCK)), each_block, start)
    for old, new in zip(loop.results, results, strict=True):
        old.replace_all_uses_with(new)
    loop.erase()


def _terms(block: Any, steps: Any, buffers: list[Any], first: Any, iv: Any) -> tuple[()]:
    """The loop's body without the additions, copied here; the terms go into ``buffers``."""
    ir = mlir.ir
    values = {block.arguments[0]: iv}
    skipped = [step for step, _ in steps]
    for op in operations(block)[:-1]:
        if op in skipped:
            continue
        clone = op.clone().operation
        for number, value in enumerate(clone.operands):
            clone.operands[number] = values.get(value, value)
        values.update(zip(op.results, clone.results, strict=True))
    place = mlir.arith.subi(iv, first)
    for (_, term), buffer in zip(steps, buffers, strict=True):
        ir.Operation.create("memref.store", operands=[values.get(term, term), buffer, place])
    return ()
