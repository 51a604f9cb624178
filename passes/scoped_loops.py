"""Loops and branches at the insertion point of a `blocked.NestBuilder`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.blocked import Env, NestBuilder
from numba_mlir.passes.building import LOOP_ANNOTATION
from numba_mlir.passes.nests import Dim

#: where the iterations of a loop begin, and behind the last
Span = tuple[Any, Any]
#: for what is vectorised here, or takes little time and would be many times as much code
_PLAIN = "#llvm.loop_annotation<vectorize = <disable = true>, unroll = <disable = true>>"


@contextlib.contextmanager
def loop(base: NestBuilder, span: Span, by: int = 1, plain: bool = False) -> Iterator[Any]:
    """``scf.for`` with one index; LLVM is to leave a ``plain`` one as it is."""
    ir = mlir.ir
    operands = [*span, base.constant(by)]
    attributes = {LOOP_ANNOTATION: ir.Attribute.parse(_PLAIN)} if plain else {}
    made = ir.Operation.create("scf.for", [], operands, attributes, regions=1)
    here = [base.location]
    block = ir.Block.create_at_start(made.regions[0], [ir.IndexType.get()], here)
    with base.scope(block):
        yield block.arguments[0]
        ir.Operation.create("scf.yield")


@contextlib.contextmanager
def blocks(base: NestBuilder, span: Span, size: int) -> Iterator[Span]:
    """A loop over blocks of ``size`` iterations; gives the span of one."""
    with loop(base, span, size) as first:
        behind = mlir.arith.addi(first, base.constant(size))
        yield first, mlir.arith.minsi(behind, span[1])


@contextlib.contextmanager
def loops(base: NestBuilder, dims: Sequence[Dim], env: Env) -> Iterator[Env]:
    """Loops over ``dims`` in each other; gives ``env`` with their indices."""
    if not dims:
        yield env
        return
    first, *rest = dims
    with (
        loop(base, span_of(base, first, env)) as iv,
        loops(base, rest, {**env, first.iv: iv}) as inner,
    ):
        yield inner


def span_of(base: NestBuilder, dim: Dim, env: Env) -> Span:
    """The bounds of a loop of the nest in an iteration of those around it."""
    return base.value(dim.lower, dict(env)), base.value(dim.upper, dict(env))


def carrying(
    base: NestBuilder, length: Any, start: Sequence[Any], body: Callable[..., Sequence[Any]]
) -> list[Any]:
    """``scf.for`` from 0 to ``length``, which LLVM is to leave as it is;
    ``body(index, *carried)`` gives the new values."""
    ir = mlir.ir
    operands = [base.constant(0), length, base.constant(1), *start]
    kinds = [value.type for value in start]
    attributes = {LOOP_ANNOTATION: ir.Attribute.parse(_PLAIN)}
    made = ir.Operation.create("scf.for", kinds, operands, attributes, regions=1)
    arguments = [ir.IndexType.get(), *kinds]
    here = [base.location] * len(arguments)
    block = ir.Block.create_at_start(made.regions[0], arguments, here)
    with base.scope(block):
        ir.Operation.create("scf.yield", operands=list(body(*block.arguments)))
    return list(made.results)


def either(
    base: NestBuilder,
    condition: Any,
    yes: Callable[[], Sequence[Any]],
    no: Callable[[], Sequence[Any]],
    kinds: Sequence[Any] = (),
) -> list[Any]:
    """``scf.if`` with results of ``kinds``."""
    ir = mlir.ir
    branch = ir.Operation.create("scf.if", list(kinds), [condition], regions=2)
    for region, build in zip(branch.regions, (yes, no), strict=True):
        with base.scope(ir.Block.create_at_start(region)):
            ir.Operation.create("scf.yield", operands=list(build()))
    return list(branch.results)
