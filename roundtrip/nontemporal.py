"""The functions that kernels call to write past the caches (:mod:`numba_mlir.passes.streams`)."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from numba_mlir.passes.machine import this_machine
from numba_mlir.passes.streams import COPY, FENCE

_BYTES, _WORD, _INT = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
_LINE = ir.VectorType(_INT, 16)
_LINE_BYTES = 64
#: bytes: more than most processors' last cache keeps of one array beside the ones it is made of
_MOST = 16 << 20


def least() -> int:
    """Bytes of an array from which it is written past the caches; 0: never, not measured here."""
    if platform.machine() != "x86_64":
        return 0
    return min(this_machine().l3 // 2, _MOST)


def emit_copy(module: ir.Module, context: Any) -> None:
    """Define `COPY` in ``module``; addresses and sizes are multiples of 4 bytes."""
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, _WORD])
    copy = ir.Function(module, kind, COPY)
    copy.attributes.add("noinline")
    builder = ir.IRBuilder(copy.append_basic_block())
    target, source, size = copy.args
    odd = builder.and_(builder.sub(_WORD(0), builder.ptrtoint(target, _WORD)),
                       _WORD(_LINE_BYTES - 1))  # fmt: skip
    head = builder.select(builder.icmp_unsigned("<", odd, size), odd, size)
    end = builder.add(head, builder.and_(builder.sub(size, head), _WORD(-_LINE_BYTES)))
    _copy(builder, target, source, (_WORD(0), head), _INT)
    _copy(builder, target, source, (head, end), _LINE)
    _copy(builder, target, source, (end, size), _INT)
    builder.ret_void()


def emit_fence(module: ir.Module, context: Any) -> None:
    """Define `FENCE` in ``module``."""
    fence = ir.Function(module, ir.FunctionType(ir.VoidType(), []), FENCE)
    builder = ir.IRBuilder(fence.append_basic_block())
    nothing = ir.FunctionType(ir.VoidType(), [])
    sfence = cgutils.get_or_insert_function(module, nothing, "llvm.x86.sse.sfence")
    builder.call(sfence, [])
    builder.ret_void()


def _copy(
    builder: ir.IRBuilder, target: Any, source: Any, bounds: tuple[Any, Any], kind: ir.Type
) -> None:
    """Bytes from ``bounds[0]`` to ``bounds[1]``, in pieces of ``kind``; whole lines for vectors."""
    step = _LINE_BYTES if kind is _LINE else 4
    with cgutils.for_range_slice(builder, *bounds, _WORD(step), intp=_WORD) as (place, _):
        ends = [
            builder.bitcast(builder.gep(p, [place]), kind.as_pointer()) for p in (target, source)
        ]
        value = builder.load(ends[1], align=4)
        store = builder.store(value, ends[0], align=step)
        if kind is _LINE:
            note = builder.module.add_metadata([_INT(1)])
            store.set_metadata("nontemporal", note)
