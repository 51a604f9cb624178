"""Functions of the C library out of loops whose iterations have to keep their order.

A loop that adds ``exp(x)`` to a running sum is one chain of additions, and LLVM makes no
vectors of any part of it.  Cut into blocks, with what does not depend on the chain computed
first and put into a small buffer, the functions are in a loop of their own, which LLVM makes
vectors of; the chain follows in its order, with what it stores on its way.

    for j:  s += exp(x[j])     becomes     for blocks:  for j in block:  t[j] = exp(x[j])
            out[j] = s                                  for j in block:  s += t[j]; out[j] = s
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.building import clone_all, for_loop, index, on_stack
from numba_mlir.passes.streams import is_alone
from numba_mlir.passes.values import ACCESSES, constant_int, nested, operations, owner

#: terms that are computed before they are used
_BLOCK = 256


def distribute(function: Any) -> None:
    """Cut every innermost loop of ``function`` that calls functions beside a chain."""
    for op in [op for op in nested(function) if op.name == "scf.for"]:
        parts = _parts(op, function)
        if parts is not None:
            with op.location, mlir.ir.InsertionPoint(op):
                _cut(op, parts, function)


@dataclasses.dataclass
class _Parts:
    """The operations of a loop: ``first`` can all run before the ``chain``, ``both`` are run
    again there, and ``terms`` are what the chain needs of the first."""

    first: list[Any]
    chain: list[Any]
    both: list[Any]
    terms: list[Any]


def _parts(loop: Any, function: Any) -> _Parts | None:
    """How the loop can be cut; None where it cannot, or where nothing is gained."""
    block = loop.regions[0].blocks[0]
    carried = list(block.arguments)[1:]
    if not carried or constant_int(loop.operands[2]) != 1:
        return None
    *body, end = operations(block)
    if any(len(op.regions) for op in body):
        return None
    waiting = set(carried)
    chain: list[Any] = []
    for op in body:
        if any(operand in waiting for operand in op.operands):
            chain.append(op)
            waiting |= set(op.results)
    first = [op for op in body if op not in chain]
    if not _gains(first, chain) or not _are_apart(first, chain, function):
        return None
    parts = _Parts(first, chain, [], [])
    inside = {result for op in first for result in op.results}
    for op in (*chain, end):
        for operand in op.operands:
            if operand in inside and not _need(operand, inside, parts):
                return None
    return parts


def _gains(first: Sequence[Any], chain: Sequence[Any]) -> bool:
    calls = any(op.name in libm.FUNCTIONS for op in first)
    return calls and not any(op.name in libm.FUNCTIONS for op in chain)


def _are_apart(first: Sequence[Any], chain: Sequence[Any], function: Any) -> bool:
    """Whether the first part neither reads nor writes what the chain stores, nor the other
    way round, and neither does anything that has to keep its place."""
    if any(not op.results and op.name not in ACCESSES for op in (*first, *chain)):
        return False
    pairs = ((one, other) for one in first for other in chain
             if one.name in ACCESSES and other.name in ACCESSES
             and "memref.store" in (one.name, other.name))  # fmt: skip
    return all(_no_overlap(_array(one), _array(other), function) for one, other in pairs)


def _array(op: Any) -> Any:
    return op.operands[ACCESSES[op.name]]


def _no_overlap(one: Any, other: Any, function: Any) -> bool:
    return one != other and (is_alone(one, function) or is_alone(other, function))


def _need(value: Any, inside: set[Any], parts: _Parts) -> bool:
    """Have the chain get a value of the first part; False where it cannot.

    Numbers come from a buffer; truth values and indices are computed again.
    """
    if value in parts.terms:
        return True
    if is_number(value.type):
        parts.terms.append(value)
        return True
    op = owner(value)
    if op in parts.both:
        return True
    if op is None or op.name in ACCESSES or op.name in libm.FUNCTIONS:
        return False
    if not all(_need(one, inside, parts) for one in op.operands if one in inside):
        return False
    parts.both.append(op)
    return True


def is_number(kind: Any) -> bool:
    """Whether a buffer can hold values of a type."""
    return isinstance(kind, mlir.ir.FloatType) or str(kind) in ("i8", "i16", "i32", "i64")


def _cut(loop: Any, parts: _Parts, function: Any) -> None:
    arith = mlir.arith
    low, high, _, *start = loop.operands
    buffers = [on_stack(_BLOCK, term.type, function) for term in parts.terms]
    block = loop.regions[0].blocks[0]
    old_iv, *old_carried = block.arguments
    end = operations(block)[-1]

    def each_block(begin: Any, *carried: Any) -> Sequence[Any]:
        last = arith.minsi(arith.addi(begin, index(_BLOCK)), high)

        def terms(iv: Any) -> tuple[()]:
            values = {old_iv: iv}
            clone_all(parts.first, values)
            place = arith.subi(iv, begin)
            for term, buffer in zip(parts.terms, buffers, strict=True):
                mlir.ir.Operation.create("memref.store", [], [values[term], buffer, place])
            return ()

        def chain(iv: Any, *running: Any) -> Sequence[Any]:
            values = {old_iv: iv, **dict(zip(old_carried, running, strict=True))}
            place = arith.subi(iv, begin)
            for term, buffer in zip(parts.terms, buffers, strict=True):
                load = mlir.ir.Operation.create("memref.load", [term.type], [buffer, place])
                values[term] = load.result
            clone_all(parts.both, values)
            clone_all(parts.chain, values)
            return [values.get(value, value) for value in end.operands]

        for_loop((begin, last, index(1)), terms)
        return for_loop((begin, last, index(1)), chain, carried)

    results = for_loop((low, high, index(_BLOCK)), each_block, start)
    for old, new in zip(loop.results, results, strict=True):
        old.replace_all_uses_with(new)
    loop.erase()
