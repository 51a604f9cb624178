"""What kernels need and a device may not have: an error at the user's line, before they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numba.core.ir import Loc

from numba_mlir import mlir
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.gpu.backend import Properties
from numba_mlir.passes.base import source_position
from numba_mlir.passes.gpu_kernel import THREADS
from numba_mlir.passes.gpu_reduce import BLOCK
from numba_mlir.passes.values import nested

_ATOMIC = ("memref.atomic_rmw", "memref.generic_atomic_rmw")


def check_limits(kernels: Any, device: Properties, loc: Any) -> None:
    """Raises UnsupportedConstruct at the first line whose kernel needs what the device has not:
    float64, blocks of that many threads, that much memory of a block, or atomic operations
    of 64 bits.  ``loc`` is the place of what has no line."""
    if not device.fp64:
        mlir.run_pipeline(kernels.parent, "builtin.module(gpu.module(canonicalize))")  # constants
    for op, reason in _lacking(kernels, device):
        file, line = source_position(op.location)
        raise UnsupportedConstruct(f"{device.name} {reason}", Loc(file, line) if line else loc)


def _lacking(kernels: Any, device: Properties) -> Iterator[tuple[Any, str]]:
    functions = [op for op in nested(kernels) if op.name == "gpu.func"]
    for function in functions:
        if (threads := _threads(function)) > device.max_block:
            yield function, f"has blocks of {device.max_block} threads, and this needs {threads}"
        if (size := _block_memory(function, kernels)) > device.local_memory:
            yield function, f"has {device.local_memory} bytes for a block, and this needs {size}"
    for op in nested(kernels):
        if not device.fp64 and "f64" in _kinds(op):
            yield (
                op,
                (
                    "has no float64, and this line computes with it (numbers such as 0.5 are "
                    "float64): use numpy.float32(0.5) and float32 arrays, or pass "
                    "gpu_fp64_truncate='auto'"
                ),
            )
        if not device.atomic64 and op.name in _ATOMIC and "64" in str(op.results[0].type):
            yield op, "changes numbers of 64 bits not in one step, and this line needs it"


def _kinds(op: Any) -> str:
    return " ".join(str(value.type) for value in (*op.operands, *op.results))


def _threads(function: Any) -> int:
    """Of a block, at most."""
    attributes = function.attributes
    return mlir.ir.IntegerAttr(attributes[THREADS]).value if THREADS in attributes else BLOCK


def _block_memory(function: Any, kernels: Any) -> int:
    """Bytes of the buffers that a kernel uses."""
    used = {str(op.attributes["name"]) for op in nested(function) if op.name == "memref.get_global"}
    return sum(
        _size(mlir.ir.MemRefType(mlir.ir.TypeAttr(op.attributes["type"]).value))
        for op in nested(kernels)
        if op.name == "memref.global" and f"@{op.attributes['sym_name'].value}" in used
    )


def _size(buffer: Any) -> int:
    element = buffer.element_type
    text = str(element)
    if text.startswith("complex<"):
        return buffer.shape[0] * 2 * mlir.ir.ComplexType(element).element_type.width // 8
    return buffer.shape[0] * (8 if text == "index" else element.width // 8)
