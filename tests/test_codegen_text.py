"""LLVM IR text for llvmlite's parser: literals of floating-point numbers, bit by bit."""

from __future__ import annotations

import ctypes
import struct

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numba_mlir import mlir
from numba_mlir.roundtrip.llvm_text import UnknownLiteral, readable

#: MLIR type -> (width in bits, bits of special values)
_TYPES = {
    "f64": (64, (0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000,
                 0x7FF0000000000001, 0xFFF8000000000003, 0x8000000000000000, 1)),
    "f32": (32, (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFC00011, 0x80000000, 1)),
    "f16": (16, (0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFE03, 0x8000, 1)),
    "bf16": (16, (0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0x8000, 1)),
}  # fmt: skip


def _text(type_: str, numbers: list[int]) -> str:
    """One function for each number that stores it as MLIR's LLVM prints it."""
    digits = _TYPES[type_][0] // 4
    functions = [
        f"llvm.func @f{i}(%p: !llvm.ptr) {{\n"
        f"  %0 = llvm.mlir.constant(0x{number:0{digits}X} : {type_}) : {type_}\n"
        f"  llvm.store %0, %p : {type_}, !llvm.ptr\n  llvm.return\n}}\n"
        for i, number in enumerate(numbers)
    ]
    with mlir.context():
        module = mlir.ir.Module.parse("".join(functions))
        return readable(mlir.llvm.translate_module_to_llvmir(module.operation))


def _stored(type_: str, numbers: list[int]) -> list[int]:
    """The bits that the compiled functions store."""
    module = llvm.parse_assembly(_text(type_, numbers))
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine()
    width = _TYPES[type_][0] // 8
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        found = []
        for i in range(len(numbers)):
            cell = ctypes.create_string_buffer(8)
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(f"f{i}"))(cell)
            found.append(int.from_bytes(cell.raw[:width], "little"))
    return found


@pytest.fixture(autouse=True, scope="module")
def _native_target() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@pytest.mark.parametrize("type_", list(_TYPES))
def test_special_values_keep_every_bit(type_: str) -> None:
    numbers = list(_TYPES[type_][1])
    assert _stored(type_, numbers) == numbers


@settings(max_examples=10, deadline=None)
@given(data=st.data(), type_=st.sampled_from(list(_TYPES)))
def test_any_bits_survive(data: st.DataObject, type_: str) -> None:
    width = _TYPES[type_][0]
    numbers = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=20, max_size=40))
    assert _stored(type_, numbers) == numbers


def test_short_decimals() -> None:
    values = [0.1, 1.0, 2.5, 1e300, 3.141592653589793, -7.25e-11]
    numbers = [struct.unpack("<Q", struct.pack("<d", v))[0] for v in values]
    assert _stored("f64", numbers) == numbers
    singles = [int(np.float32(v).view(np.uint32)) for v in (0.1, 0.2, 3.4e38, 1e-45, 16777216.0)]
    assert _stored("f32", singles) == singles


def test_type_of_a_literal_is_the_last_one_before_it() -> None:
    text = "%1 = call float @f(double 1.500000e+00, float +inf)\n%2 = fadd float %1, -nan(0x1)\n"
    assert readable(text) == (
        "%1 = call float @f(double 0x3FF8000000000000, float 0x7FF0000000000000)\n"
        "%2 = fadd float %1, 0xFFF8000020000000\n"
    )


def test_names_strings_and_comments_stay() -> None:
    text = '@"float 1.0" = global float %a1.0.5 ; float +inf\n!0 = !{!"float 2.0"} #1.0\n'
    assert readable(text) == text


@pytest.mark.parametrize("text", ["x86_fp80 1.0", "1.5"])
def test_unknown_types_are_errors(text: str) -> None:
    with pytest.raises(UnknownLiteral):
        readable(text)
