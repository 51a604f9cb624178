"""Kernels → LLVM IR text, for NVPTX and for SPIR-V."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from numba_mlir import mlir
from numba_mlir.passes import gpu_complex, gpu_scatter, gpu_truth
from numba_mlir.passes.gpu_kernel import APART, THREADS
from numba_mlir.passes.gpu_loops import Refused
from numba_mlir.passes.values import nested, operations

Target = Literal["cuda", "sycl"]

_EXPAND = (
    "builtin.module(expand-strided-metadata,lower-affine,"
    "gpu.module(convert-complex-to-standard,arith-expand,canonicalize,cse))"
)
_PIPELINES: dict[str, str] = {
    "cuda": (
        "gpu.module(convert-gpu-to-nvvm{index-bitwidth=BITS},"
        "convert-complex-to-llvm,convert-to-llvm{dynamic=SHORT},canonicalize,cse,reconcile-unrealized-casts)"
    ),
    "sycl": (
        "gpu.module(canonicalize),convert-cf-to-llvm{index-bitwidth=BITS},"
        "gpu.module(convert-gpu-to-llvm-spv{use-64bit-index=WIDE},"
        "convert-complex-to-llvm,convert-to-llvm{dynamic=SHORT},canonicalize,cse,reconcile-unrealized-casts)"
    ),
}


def to_llvm(kernels: Any, target: Target, bits: int = 64) -> str:
    """LLVM IR text of a ``gpu.module``, which stays as it is; indices have ``bits``.

    Calls functions of libdevice ("cuda") or OpenCL's built-in functions ("sycl").
    Raises Refused for an operation that the target has not.
    """
    ir = mlir.ir
    with kernels.context, ir.Location.unknown():
        module = ir.Module.create()
        module.operation.attributes["gpu.container_module"] = ir.UnitAttr.get()
        with ir.InsertionPoint(module.body):
            copy = kernels.clone()
        gpu_truth.by_logic(copy)
        if target == "sycl":
            gpu_scatter.expand_float_sums(copy)
        if bits != 64:  # the last of the passes asks the module
            copy.attributes["dlti.dl_spec"] = ir.Attribute.parse(
                f"#dlti.dl_spec<index = {bits} : i32>"
            )
        mlir.run_pipeline(module.operation, _EXPAND)
        _call_functions(copy, _CONVENTIONS[target])
        mlir.run_pipeline(module.operation, "builtin.module(gpu.module(convert-scf-to-cf))")
        for op in operations(copy.regions[0].blocks[0]):
            if op.name == "gpu.func":
                gpu_complex.split(op)
        words = {"BITS": bits, "WIDE": int(bits == 64), "SHORT": int(bits != 64)}
        lowering = _PIPELINES[target]
        for word, number in words.items():
            lowering = lowering.replace(word, str(number))
        mlir.run_pipeline(module.operation, f"builtin.module({lowering})")
        (copy,) = (op for op in operations(module.body) if op.name == "gpu.module")
        plain = ir.Module.create()
        for op in operations(copy.regions[0].blocks[0]):
            plain.body.append(op)
        for op in nested(plain.operation):
            if not op.name.startswith(("llvm.", "nvvm.")):
                raise Refused(f"{op.name} has no form on this device")
            if target == "sycl":
                _check_no_structures(op)
            if op.name == "llvm.func" and APART in op.attributes:
                _mark_pointers(op)
            if op.name == "llvm.func" and THREADS in op.attributes:
                _limit_threads(op, target)
        return str(mlir.llvm.translate_module_to_llvmir(plain.operation))


def _mark_pointers(function: Any) -> None:
    """Pointers of a kernel whose arrays share no memory that changes are ``noalias``."""
    ir = mlir.ir
    count = ir.IntegerAttr(function.attributes[APART]).value
    del function.attributes[APART]
    marked = ir.DictAttr.get({"llvm.noalias": ir.UnitAttr.get()})
    plain = ir.DictAttr.get({})
    function.attributes["arg_attrs"] = ir.ArrayAttr.get(
        [
            marked if number < count and str(argument.type).startswith("!llvm.ptr") else plain
            for number, argument in enumerate(function.regions[0].blocks[0].arguments)
        ]
    )


def _limit_threads(function: Any, target: Target) -> None:
    """How many threads a block has at most: a thread can have the others' registers."""
    ir = mlir.ir
    number = ir.IntegerAttr(function.attributes[THREADS]).value
    del function.attributes[THREADS]
    if target == "cuda":
        texts = [ir.StringAttr.get(text) for text in ("nvvm.maxntid", str(number))]
        function.attributes["passthrough"] = ir.ArrayAttr.get([ir.ArrayAttr.get(texts)])


def _check_no_structures(op: Any) -> None:
    """LLVM's SPIR-V target ends the process where control flow carries a structure."""
    for region in op.regions:
        for block in list(region.blocks)[1:]:
            if any(
                str(a.type).startswith(("!llvm.struct", "!llvm.array")) for a in block.arguments
            ):
                raise Refused("a structure is carried from one block to another")


# -- functions -----------------------------------------------------------------------------
#: MLIR operation -> the function's name in OpenCL; libdevice has the same ones
_FUNCTIONS = {
    **{
        f"math.{name}": name
        for name in (
            "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh",
            "erf", "erfc", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "rsqrt",
            "sin", "sinh", "tan", "tanh",
        )
    },
    "math.powf": "pow",
    "math.fpowi": "pown",
    "arith.remf": "fmod",
}  # fmt: skip


def _libdevice(name: str, kinds: list[str]) -> str:
    stem = {"pown": "powi"}.get(name, name)
    return f"__nv_{stem}" + ("f" if kinds[0] == "f32" else "")


def _opencl(name: str, kinds: list[str]) -> str:
    letters = {"f32": "f", "f64": "d", "i32": "i"}
    return f"_Z{len(name)}{name}" + "".join(letters[kind] for kind in kinds)


@dataclass(frozen=True)
class _Convention:
    """How a target calls mathematical functions."""

    name: Callable[[str, list[str]], str]
    calling: str


_CONVENTIONS: dict[str, _Convention] = {
    "cuda": _Convention(_libdevice, "ccc"),
    "sycl": _Convention(_opencl, "spir_funccc"),
}


def _call_functions(kernels: Any, convention: _Convention) -> None:
    """Mathematical operations become calls, before anything can expand them less exactly."""
    known: set[str] = set()
    for op in list(nested(kernels)):
        if (function := _FUNCTIONS.get(op.name)) is None:
            continue
        kinds = [str(value.type) for value in op.operands]
        if not set(kinds) <= {"f32", "f64", "i32"}:
            raise Refused(f"{op.name} on {', '.join(kinds)} has no form on this device")
        name = convention.name(function, kinds)
        if name not in known:
            known.add(name)
            _declare(kernels, name, op, convention)
        _call(op, name, convention)


def _declare(kernels: Any, name: str, op: Any, convention: _Convention) -> None:
    ir = mlir.ir
    inputs = ", ".join(str(value.type) for value in op.operands)
    kind = ir.Type.parse(f"!llvm.func<{op.results[0].type} ({inputs})>")
    attributes = {
        "sym_name": ir.StringAttr.get(name),
        "function_type": ir.TypeAttr.get(kind),
        "CConv": ir.Attribute.parse(f"#llvm.cconv<{convention.calling}>"),
        "linkage": ir.Attribute.parse("#llvm.linkage<external>"),
        "no_unwind": ir.UnitAttr.get(),
        "will_return": ir.UnitAttr.get(),
    }
    with ir.InsertionPoint.at_block_begin(kernels.regions[0].blocks[0]):
        ir.Operation.create("llvm.func", attributes=attributes, regions=1)


def _call(op: Any, name: str, convention: _Convention) -> None:
    ir = mlir.ir
    operands = list(op.operands)
    attributes = {
        "callee": ir.FlatSymbolRefAttr.get(name),
        "CConv": ir.Attribute.parse(f"#llvm.cconv<{convention.calling}>"),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(operands), 0]),
        "op_bundle_sizes": ir.DenseI32ArrayAttr.get([]),
    }
    with ir.InsertionPoint(op), op.location:
        made = ir.Operation.create("llvm.call", [op.results[0].type], operands, attributes)
    op.results[0].replace_all_uses_with(made.results[0])
    op.erase()
