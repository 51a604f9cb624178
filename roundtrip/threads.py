"""Functions that all kernels of a library share: how many boxes there are, and who runs them.

In LLVM IR, ``linkonce_odr``: one definition is left where libraries are linked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils

WORD = llvm.IntType(64)
BYTES = llvm.IntType(8).as_pointer()
#: what Numba's threading layer calls
WORKER_TYPE = llvm.FunctionType(
    llvm.VoidType(), [BYTES.as_pointer(), WORD.as_pointer(), WORD.as_pointer(), BYTES]
)
#: Numba's layer moves the first argument by the number of the box; it may not be null
BASE = 16
#: (number of iterations) -> number of boxes
BOXES = "numba_mlir.boxes"
#: (worker, closure, number of boxes, whether on the calling thread)
RUN = "numba_mlir.run"
_TYPES = {
    BOXES: llvm.FunctionType(WORD, [WORD]),
    RUN: llvm.FunctionType(
        llvm.VoidType(), [WORKER_TYPE.as_pointer(), BYTES, WORD, llvm.IntType(1)]
    ),
}


def declared(module: llvm.Module, name: str) -> llvm.Function:
    """`BOXES` or `RUN` in ``module``."""
    return cgutils.get_or_insert_function(module, _TYPES[name], name)


def emit_boxes(module: llvm.Module, context: Any) -> None:
    """Define `BOXES` in ``module``."""
    _boxes(*_defined(module, BOXES))


def emit_run(module: llvm.Module, context: Any) -> None:
    """Define `RUN` in ``module``."""
    _run(*_defined(module, RUN), context)


def _defined(module: llvm.Module, name: str) -> tuple[llvm.IRBuilder, llvm.Function]:
    function = declared(module, name)
    function.attributes.add("noinline")
    return llvm.IRBuilder(function.append_basic_block()), function


def ceildiv(builder: llvm.IRBuilder, a: llvm.Value, b: llvm.Value) -> llvm.Value:
    """of unsigned numbers, without overflow; ``b`` is not zero."""
    quotient, rest = builder.udiv(a, b), builder.urem(a, b)
    more = builder.zext(builder.icmp_unsigned("!=", rest, WORD(0)), WORD)
    return builder.add(quotient, more)


def _boxes(builder: llvm.IRBuilder, function: llvm.Function) -> None:
    """One box a thread, or more where `numba.set_parallel_chunksize` asks for it."""
    (total,) = function.args
    threads, chunk = _threads(builder), _chunksize(builder)
    given = builder.icmp_unsigned("!=", chunk, WORD(0))
    parts = ceildiv(builder, total, builder.select(given, chunk, total))
    more = builder.icmp_unsigned(">", parts, threads)
    builder.ret(builder.select(more, parts, threads))


def _run(builder: llvm.IRBuilder, function: llvm.Function, context: Any) -> None:
    """Boxes 0 to ``count``: on this thread, or shared by all of them."""
    worker, data, count, alone = function.args
    args = cgutils.alloca_once_value(builder, builder.inttoptr(WORD(BASE), BYTES))
    dims = cgutils.alloca_once_value(builder, count)
    steps = cgutils.alloca_once_value(builder, WORD(1))
    call = [args, dims, steps, data]
    with builder.if_then(alone):
        builder.call(worker, call)
        builder.ret_void()
    _share(builder, worker, call, context)
    builder.ret_void()


def _share(builder: llvm.IRBuilder, worker: llvm.Value, call: list[Any], context: Any) -> None:
    """Let the threads run the boxes, without the GIL as Numba does."""
    python = context.get_python_api(builder)
    state = python.gil_ensure()
    thread = python.save_thread()
    kind = llvm.FunctionType(llvm.VoidType(), [BYTES] * 5 + [WORD] * 3)
    parallel_for = _external(builder, "numba_parallel_for", kind)
    pointers = [builder.bitcast(value, BYTES) for value in (worker, *call)]
    threads = _threads(builder)
    one = builder.icmp_unsigned("==", threads, WORD(1))
    with builder.if_else(one) as (then, otherwise):
        with then:
            builder.call(worker, call)
        with otherwise:
            # parallel regions inside do not inherit the chunk size
            before = _chunksize(builder)
            _set_chunksize(builder, WORD(0))
            builder.call(parallel_for, [*pointers, WORD(0), WORD(1), threads])
            _set_chunksize(builder, before)
    python.restore_thread(thread)
    python.gil_release(state)


def _threads(builder: llvm.IRBuilder) -> llvm.Value:
    return builder.call(_external(builder, "get_num_threads", llvm.FunctionType(WORD, [])), [])


def _chunksize(builder: llvm.IRBuilder) -> llvm.Value:
    kind = llvm.FunctionType(WORD, [])
    return builder.call(_external(builder, "get_parallel_chunksize", kind), [])


def _set_chunksize(builder: llvm.IRBuilder, value: llvm.Value) -> None:
    kind = llvm.FunctionType(llvm.VoidType(), [WORD])
    builder.call(_external(builder, "set_parallel_chunksize", kind), [value])


def _external(builder: llvm.IRBuilder, name: str, kind: llvm.FunctionType) -> llvm.Function:
    return cgutils.get_or_insert_function(builder.module, kind, name)
