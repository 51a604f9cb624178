"""The kernels of a module in machine code, ready for the export of their launches."""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.gpu.backend import backend
from numba_mlir.gpu.kernel import Kernel
from numba_mlir.gpu.places import Place
from numba_mlir.passes.base import source_position
from numba_mlir.passes.gpu_loops import Refused
from numba_mlir.passes.gpu_lower import to_llvm
from numba_mlir.roundtrip.gpu_limits import check_limits
from numba_mlir.roundtrip.instruments import Record
from numba_mlir.roundtrip.llvm_text import readable


def kernels_of(module: Any) -> Any:
    """The ``gpu.module`` of a module; None where nothing was outlined."""
    found = (op.operation for op in module.body.operations)
    return next((op for op in found if op.name == "gpu.module"), None)


def compiled(module: Any, place: Place, bits: int, record: Record, loc: Any) -> dict[str, Kernel]:
    """The kernels by name, whose indices have ``bits``.  Raises UnsupportedConstruct for what
    the device cannot do."""
    kernels = kernels_of(module)
    if kernels is None:
        return {}
    record.keep_stage("gpu", kernels)
    chosen = backend(place.backend)
    target = "cuda" if place.backend == "cuda" else "sycl"
    check_limits(kernels, chosen.properties(place), loc)
    try:
        with record.timed("gpu-lowering"):
            text = readable(to_llvm(kernels, target, bits))
    except Refused as reason:
        raise UnsupportedConstruct(f"on {place}: {reason}", loc) from reason
    with record.timed("gpu-code"):
        code = chosen.compile(text, place)
    functions = [op.operation for op in kernels.regions[0].blocks[0].operations]
    return {
        kernel.name: kernel
        for kernel in (_kernel(op, place, code, bits) for op in functions if op.name == "gpu.func")
    }


def _kernel(function: Any, place: Place, code: bytes, bits: int) -> Kernel:
    ir = mlir.ir
    name = ir.StringAttr(function.attributes["sym_name"]).value
    inputs = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value).inputs
    kinds = tuple(kind for type_ in inputs for kind in _kinds(type_, f"i{bits}"))
    file, line = source_position(function.location)
    return Kernel(place, name, code, kinds, f" ({file}:{line})" if line else "", bits)


def _kinds(type_: Any, index: str) -> list[str]:
    """The kinds of arguments that MLIR makes of one parameter."""
    if isinstance(type_, mlir.ir.MemRefType):
        return ["ptr", "ptr", index, *[index] * (2 * type_.rank)]
    return [index if str(type_) == "index" else str(type_)]
