"""Forms of kernels that are there for speed: vectors, rows in registers, one-kernel sums."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_arrays import requested
from ir_check import filecheck, messages, parse

import numba_mlir
from numba_mlir import mlir
from numba_mlir.gpu import codegen
from numba_mlir.passes import gpu_registers
from numba_mlir.passes.gpu_lower import to_llvm
from numba_mlir.passes.gpu_outline import GpuOutline
from numba_mlir.roundtrip.llvm_text import readable

_CUDA = GpuOutline(subgroup=32, landing=True, last_block=True, reduction_blocks=528)


def _outlined(text: str, options: GpuOutline = _CUDA) -> tuple[str, str, list[str]]:
    """MLIR, PTX and remarks of the kernels of a function."""
    module = parse(text)
    result = options.run(module)
    assert module.operation.verify()
    with mlir.context():
        ptx = codegen.ptx(readable(to_llvm(module.body.operations[1].operation, "cuda")), "sm_90")
    return str(module), ptx, messages(result, "applied")


def _sum(combiner: str = "arith.addf", element: str = "f32", index: str = "%i") -> str:
    return f"""
func.func @f(%a: memref<?x{element}>, %n: index, %x: {element}, %wide: i1) -> {element} {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %s = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%x) -> {element} {{
    %j = arith.select %wide, %c0, %i : index
    %v = memref.load %a[{index}] : memref<?x{element}>
    scf.reduce(%v : {element}) {{
    ^bb0(%l: {element}, %r: {element}):
      %t = {combiner} %l, %r : {element}
      scf.reduce.return %t : {element}
    }}
  }}
  return %s : {element}
}}"""


@pytest.mark.parametrize("index", ["%i", "%j"])
def test_a_sum_loads_vectors_where_they_are_aligned(index: str) -> None:
    text, ptx, applied = _outlined(_sum(index=index))
    assert applied == ["offloaded: kernel f_0, a reduction over 1 index"]
    filecheck(
        text,
        """
  // CHECK: %[[ADDRESS:.*]] = memref.extract_aligned_pointer_as_index %[[A:.*]] :
  // CHECK: %[[BEGIN:.*]] = arith.addi %[[ADDRESS]],
  // CHECK: %[[OVER:.*]] = arith.andi %[[BEGIN]], %c15
  // CHECK: %[[GOOD:.*]] = arith.cmpi eq, %[[OVER]],
  // CHECK: arith.select %{{.*}}, %[[ROUNDS:.*]], %
  // CHECK: scf.for
  // CHECK: %[[V:.*]] = vector.load %[[A]][%{{.*}}] {alignment = 16 : i64}
  // CHECK: vector.extract %[[V]][3] : f32
  // CHECK-COUNT-3: vector.load
  // CHECK-NOT: vector.load
  // CHECK: memref.load %[[A]]
""",
    )
    assert ptx.count("ld.global.v4.b32") == 4


@pytest.mark.parametrize(
    ("element", "combiner", "wide"),
    [("f64", "arith.addf", ".v2.b64"), ("i32", "arith.xori", ".v4.b32"),
     ("i64", "arith.addi", ".v2.b64"), ("i8", "arith.ori", ".v4.b32")],
)  # fmt: skip
def test_vectors_of_other_numbers(element: str, combiner: str, wide: str) -> None:
    _, ptx, _ = _outlined(_sum(combiner, element))
    assert wide in ptx


@pytest.mark.parametrize("index", ["%i", "%j"])
def test_strided_arrays_are_loaded_one_by_one(index: str) -> None:
    text = _sum(index=index).replace("memref<?xf32>", "memref<?xf32, strided<[?], offset: ?>>")
    _, ptx, _ = _outlined(text)
    assert ".v4" not in ptx and ".v2" not in ptx


def test_the_last_block_combines_the_others() -> None:
    text, ptx, _ = _outlined(_sum())
    filecheck(
        text,
        """
  // CHECK: %[[PART:.*]] = "numba.device_alloc"(%{{.*}}, %[[N:.*]]) {numba.scratch = 0 : i64}
  // CHECK: %[[FLAG:.*]] = "numba.device_landing"(%[[PART]])
  // CHECK: %[[HERE:.*]] = "numba.device_place"(%[[FLAG]]) {number = 1 : i64}
  // CHECK: "numba.device_counter"(%[[PART]])
  // CHECK: gpu.launch_func @gpu_kernels::@f_0 blocks
  // CHECK-NOT: gpu.launch_func
  // CHECK: "numba.device_arrived"(%[[FLAG]], %[[HERE]])
  // CHECK: gpu.func @f_0(
  // CHECK: gpu.shuffle xor
  // CHECK: llvm.fence syncscope("device") acq_rel
  // CHECK: %[[OLD:.*]] = memref.atomic_rmw addi %{{.*}}, %[[COUNTER:.*]][%{{.*}}]
  // CHECK: llvm.fence syncscope("device") acq_rel
  // CHECK: %[[LAST:.*]] = arith.cmpi eq, %[[OLD]],
  // CHECK: arith.extui %[[LAST]]
  // CHECK: gpu.barrier
  // CHECK: memref.store %c0_i32{{.*}}, %[[COUNTER]][%
  // CHECK: llvm.fence acq_rel
  // CHECK: memref.store %c1_i32
  // CHECK: llvm.fence acq_rel
""",
    )
    filecheck(
        ptx,
        """
  // CHECK: .visible .entry f_0(
  // CHECK: .maxntid 256
  // CHECK: fence.acq_rel.gpu
  // CHECK: atom.global.add.u32
  // CHECK: fence.acq_rel.gpu
  // CHECK: bar.sync
  // CHECK: fence.acq_rel.sys
  // CHECK: st.global.b32 {{.*}}, 1;
  // CHECK: fence.acq_rel.sys
""",
    )
    after = ptx.split("atom.global.add")[1]
    assert "ld.global.nc" not in after, "partial results change while the kernel runs"


SOFTMAX = """
func.func @f(%a: memref<?x?xf32>, %n: index, %m: index) -> memref<?x?xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %low = arith.constant 0xFF800000 : f32
  %zero = arith.constant -0.0 : f32
  %e = memref.alloc(%n, %m) : memref<?x?xf32>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %max = scf.for %j = %c0 to %m step STEP iter_args(%r = %low) -> f32 {
      %v = memref.load %a[%i, %j] : memref<?x?xf32>
      %s = arith.maximumf %r, %v : f32
      scf.yield %s : f32
    }
    %sum = scf.for %j = %c0 to %m step STEP iter_args(%r = %zero) -> f32 {
      %v = memref.load %a[%i, %j] : memref<?x?xf32>
      %d = arith.subf %v, %max : f32
      %x = math.exp %d : f32
      memref.store %x, %e[%i, %j] : memref<?x?xf32>
      %s = arith.addf %r, %x fastmath<reassoc> : f32
      scf.yield %s : f32
    }
    scf.for %j = %c0 to %m step STEP {
      %v = memref.load %e[%i, %j] : memref<?x?xf32>
      %d = arith.divf %v, %sum : f32
      memref.store %d, %e[%i, %j] : memref<?x?xf32>
    }
    scf.reduce
  }
  return %e : memref<?x?xf32>
}"""


def test_rows_stay_in_registers() -> None:
    text, _, applied = _outlined(SOFTMAX.replace("STEP", "%c1"))
    assert applied == ["offloaded: kernel f_0 over 1 index, a block for long rows"]
    kept = text.split("gpu.func @f_0_kept(")[1].split("gpu.return")[0]
    assert (kept.count("memref.load %arg2["), kept.count("memref.load %arg3[")) == (16, 0)
    assert (kept.count("memref.store"), kept.count("math.exp")) == (16 + 2, 16)
    for launched in ("@f_0_kept", "@f_0", "@f_0_short"):
        assert re.search(f"gpu.launch_func +@gpu_kernels::{launched} blocks", text)


def test_rows_with_another_step_take_turns() -> None:
    step = "%c2 = arith.constant 2 : index\n  %e = memref.alloc"
    text, _, _ = _outlined(SOFTMAX.replace("%e = memref.alloc", step).replace("STEP", "%c2"))
    assert "f_0_kept" not in text


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas")
@pytest.mark.parametrize("name", ["sum", "softmax"])
def test_the_assembler_takes_them_without_spilling(name: str, tmp_path: Path) -> None:
    text = {"sum": _sum(), "softmax": SOFTMAX.replace("STEP", "%c1")}[name]
    file = tmp_path / "kernels.ptx"
    file.write_text(_outlined(text)[1])
    command = ["ptxas", "-arch=sm_90", "-v", "-c", "-o", str(tmp_path / "k"), str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "0 bytes spill stores" in result.stderr
    used = [int(line.split("Used ")[1].split()[0]) for line in result.stderr.splitlines()
            if "Used " in line]  # fmt: skip
    assert used and max(used) <= 128


# -- results -----------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["dpnp", "cupy"])
def lib(request: pytest.FixtureRequest) -> Any:
    return requested(request)


def _softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1).reshape(-1, 1))
    return e / np.sum(e, axis=1).reshape(-1, 1)


def _moments(x: Any) -> Any:
    mean = x.mean(axis=1).reshape(-1, 1)
    return (x - mean) * 2, x.max(axis=1), (x * x).sum(axis=1)


_softmax_compiled = numba_mlir.njit(parallel=True)(_softmax)
_moments_compiled = numba_mlir.njit(parallel=True)(_moments)
_NARROW = 16 * gpu_registers.NARROW
_WIDE = 16 * gpu_registers.WIDE


@pytest.mark.parametrize(
    "length",
    [1, 127, 128, 129, 255, 256, 257, _NARROW - 1, _NARROW, _NARROW + 1, 4096, 4097,
     _WIDE // 2, _WIDE // 2 + 1, _WIDE - 1, _WIDE, _WIDE + 1],
)  # fmt: skip
def test_rows_of_every_length(lib: Any, length: int) -> None:
    values = np.random.default_rng(length).normal(size=(3, length))
    for dtype, rtol in (("float32", 1e-5), ("float64", 1e-12)):
        x = values.astype(dtype)
        on_device = lib.asarray(x)
        wide = x.astype(np.float64)
        np.testing.assert_allclose(
            lib.to_host(_softmax_compiled(on_device)), _softmax(wide), rtol=rtol
        )
        for got, wanted in zip(_moments_compiled(on_device), _moments(wide), strict=True):
            np.testing.assert_allclose(lib.to_host(got), wanted, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_with_special_numbers(lib: Any, bad: float) -> None:
    x = np.random.default_rng(0).normal(size=(4, 700)).astype(np.float32)
    x[1, 699] = x[2, 0] = bad
    with np.errstate(all="ignore"):
        expected = _softmax(x)
    np.testing.assert_allclose(lib.to_host(_softmax_compiled(lib.asarray(x))), expected, rtol=1e-5)


_total = numba_mlir.njit(parallel=True)(lambda a, b: ((a - b) * (a - b)).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int16", "int32", "int64"])
def test_sums_of_arrays_that_begin_anywhere(lib: Any, dtype: str) -> None:
    """Aligned and not, with every number of elements left at the end, and stretched."""
    rng = np.random.default_rng(0)
    whole = rng.integers(-5, 6, 70_003).astype(dtype)
    other = rng.integers(-5, 6, 70_003).astype(dtype)
    on_device, other_on_device = lib.asarray(whole), lib.asarray(other)
    for offset in (0, 1, 2, 3):
        for size in (0, 1, 15, 70_000 - 1, 70_000):
            a, b = whole[offset : offset + size], other[:size]
            got = _total(on_device[offset : offset + size], other_on_device[:size])
            wide = a.astype(np.float64) - b
            assert got == (wide * wide).sum(), (offset, size)
    got = _total(on_device, other_on_device[:1])
    assert got == ((whole.astype(np.float64) - other[0]) ** 2).sum()


_whole_numbers = numba_mlir.njit(parallel=True)(
    lambda u: (u.sum(axis=1), u.max(axis=1), (u == 3).any(axis=1))
)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "int64"])
def test_rows_of_whole_numbers(lib: Any, dtype: str) -> None:
    for length in (300, 4097):
        u = np.random.default_rng(length).integers(0, 100, (5, length)).astype(dtype)
        expected = u.sum(axis=1), u.max(axis=1), (u == 3).any(axis=1)
        for got, wanted in zip(_whole_numbers(lib.asarray(u)), expected, strict=True):
            np.testing.assert_array_equal(lib.to_host(got), wanted)


def test_buffers_of_a_block_are_aligned_as_their_loads_say() -> None:
    """Where nothing is said, LLVM loads complex numbers as if at multiples of 16 bytes, from
    a buffer that is at one of 8."""
    _, ptx, _ = _outlined(_sum("complex.add", "complex<f64>"))
    assert "ld.shared.v2.b64" in ptx
    assert ".shared .align 16 .b8 f_0_buffer0[128]" in ptx
    assert ".shared .align 8 " not in ptx
