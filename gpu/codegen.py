"""LLVM IR of kernels → code of a device, by llvmlite's targets."""

from __future__ import annotations

import functools
import threading
from typing import Any

import llvmlite.binding as llvm

_LOCK = threading.Lock()


@functools.cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _machine(triple: str, cpu: str = "") -> Any:
    _initialize()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, opt=3)


def _parsed(text: str, triple: str, machine: Any) -> Any:
    module = llvm.parse_assembly(text)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    module.verify()
    return module


def spirv(text: str) -> bytes:
    """SPIR-V for OpenCL; what the driver optimises is left to it."""
    triple = "spirv64-unknown-unknown"
    with _LOCK:
        machine = _machine(triple)
        return machine.emit_object(_parsed(text, triple, machine))


def ptx(text: str, arch: str, library: bytes | None = None) -> str:
    """PTX for ``arch`` ("sm_90"), optimised; ``library`` is libdevice's bitcode, of which
    the functions that are used become part of the code."""
    triple = "nvptx64-nvidia-cuda"
    with _LOCK:
        machine = _machine(triple, arch)
        module = _parsed(text, triple, machine)
        if library is not None:
            _link(module, library, triple, machine)
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        return machine.emit_assembly(module)


def _link(module: Any, library: bytes, triple: str, machine: Any) -> None:
    kernels = {f.name for f in module.functions if not f.is_declaration}
    device = llvm.parse_bitcode(library)
    device.triple, device.data_layout = triple, str(machine.target_data)
    module.link_in(device)
    for function in module.functions:
        if not function.is_declaration and function.name not in kernels:
            function.linkage = "internal"
