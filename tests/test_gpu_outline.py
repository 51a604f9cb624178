"""Loops to kernels, and kernels to PTX and SPIR-V, as text; no device is needed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from ir_check import filecheck, messages, parse, run_and_check

from numba_mlir import mlir
from numba_mlir.gpu import codegen
from numba_mlir.passes.gpu_loops import Refused
from numba_mlir.passes.gpu_lower import Target, to_llvm
from numba_mlir.passes.gpu_outline import GpuOutline
from numba_mlir.roundtrip.llvm_text import readable

_HEAD = """
func.func @f(%a: memref<?xf64>, %b: memref<?x?xf64, strided<[?, ?], offset: ?>>,
             %n: index, %x: f64, %z: complex<f32>, %flags: memref<?xi1>) -> f64 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f64
"""


def _function(body: str, result: str = "%zero") -> str:
    return f"{_HEAD}{body}\n  return {result} : f64\n}}"


ELEMENTWISE = """
  // CHECK-LABEL: func.func @f(
  // CHECK-SAME: %[[A:.*]]: memref<?xf64>, %{{.*}}: memref<?x?xf64,
  // CHECK: %[[BLOCKS:.*]] = arith.minui
  // CHECK: %[[KA:.*]] = builtin.unrealized_conversion_cast %[[A]] :
  // CHECK-SAME: memref<?xf64> to memref<?xf64, 1>
  // CHECK-NOT: scf.parallel
  // CHECK: gpu.launch_func @gpu_kernels::@f_0
  // CHECK-SAME: blocks in (%[[BLOCKS]], %{{.*}}, %{{.*}}) threads in
  // CHECK-SAME: args(%{{.*}} : index, %[[KA]] : memref<?xf64, 1>, %{{.*}} : f64)
  // CHECK: gpu.module @gpu_kernels
  // CHECK: gpu.func @f_0(%[[N:.*]]: index, %[[KARG:.*]]: memref<?xf64, 1>, %[[X:.*]]: f64) kernel
  // CHECK-SAME: numba.apart
  // CHECK: %[[M:.*]] = arith.muli %block_id_x, %block_dim_x : index
  // CHECK: %[[FIRST:.*]] = arith.addi %[[M]], %thread_id_x : index
  // CHECK: %[[START:.*]] = arith.subi %[[FIRST]], %{{.*}} : index
  // CHECK: arith.muli %[[START]], %c4 : index
  // CHECK: %[[LAST:.*]] = arith.addi %{{.*}}, %{{.*}} : index
  // CHECK: %[[IN:.*]] = arith.cmpi slt, %{{.*}}, %[[N]] : index
  // CHECK: scf.if %[[IN]] {
  // CHECK: %[[V:.*]] = memref.load %[[KARG]][%[[I:.*]]]
  // CHECK: %[[R:.*]] = arith.subf %[[V]], %[[X]] : f64
  // CHECK: memref.store %[[R]], %[[KARG]][%[[I]]]
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %v = memref.load %a[%i] : memref<?xf64>
    %r = arith.subf %v, %x : f64
    memref.store %r, %a[%i] : memref<?xf64>
    scf.reduce
  }
"""


def test_an_elementwise_loop() -> None:
    result = run_and_check(_function(ELEMENTWISE), GpuOutline())
    assert messages(result, "applied") == ["offloaded: kernel f_0 over 1 index"]


def test_arrays_that_may_overlap_are_one_element_each() -> None:
    body = """
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %v = memref.load %flags[%i] : memref<?xi1>
    %r = arith.select %v, %x, %zero : f64
    memref.store %r, %a[%i] : memref<?xf64>
    scf.reduce
  }
"""
    text, ptx = _outlined(body)
    assert "numba.apart" not in text and "ld.global.nc" not in ptx
    fresh = body.replace("%a[%i]", "%t[%i]")
    text, ptx = _outlined("%t = memref.alloc(%n) : memref<?xf64>\n" + fresh)
    assert "numba.apart" in text and ptx.count("ld.global.nc") >= 5


def _outlined(body: str) -> tuple[str, str]:
    module = parse(_function(body))
    GpuOutline().run(module)
    kernels = module.body.operations[1].operation
    with mlir.context():
        return str(module), codegen.ptx(readable(to_llvm(kernels, "cuda")), "sm_90")


def test_the_last_index_goes_along_x() -> None:
    result = run_and_check(
        _function("""
  // CHECK: gpu.func @f_0(
  // CHECK-DAG: %[[BX:.*]] = gpu.block_id x
  // CHECK-DAG: %[[TX:.*]] = gpu.thread_id x
  // CHECK: %[[MX:.*]] = arith.muli %[[BX]], %{{.*}} : index
  // CHECK: %[[X:.*]] = arith.addi %[[MX]], %[[TX]] : index
  // CHECK: %[[COLUMN:.*]] = arith.addi %{{.*}}, %[[X]] : index
  // CHECK: memref.store %{{.*}}, %{{.*}}[%[[R:.*]], %[[COLUMN]]]
  scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1) {
    memref.store %x, %b[%i, %j] : memref<?x?xf64, strided<[?, ?], offset: ?>>
    scf.reduce
  }
"""),
        GpuOutline(),
    )
    assert messages(result, "applied") == ["offloaded: kernel f_0 over 2 indices"]


_SUM = """
  %s = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%x) -> f64 {
    %v = memref.load %a[%i] : memref<?xf64>
    scf.reduce(%v : f64) {
    ^bb0(%l: f64, %r: f64):
      %t = COMBINER %l, %r : f64
      scf.reduce.return %t : f64
    }
  }
"""


def test_a_reduction_has_two_stages() -> None:
    run_and_check(
        _function(
            """
  // CHECK: %[[PART:.*]] = "numba.device_alloc"(%{{.*}}, %[[COUNT:.*]]) {numba.scratch = 0 : i64}
  // CHECK: gpu.launch_func @gpu_kernels::@f_0 blocks
  // CHECK: gpu.launch_func @gpu_kernels::@f_0_second blocks
  // CHECK: %[[SUM:.*]] = "numba.device_load"(%[[PART]], %{{.*}})
  // CHECK: return %[[SUM]] : f64
  // CHECK: memref.global "private" @f_0_buffer0 : memref<256xf64, 3>
  // CHECK: gpu.func @f_0(
  // CHECK: gpu.barrier
  // CHECK: gpu.func @f_0_second(
"""
            + _SUM.replace("COMBINER", "arith.addf"),
            "%s",
        ),
        GpuOutline(),
    )


@pytest.mark.parametrize(
    ("combiner", "start"),
    [("arith.addf", "-0.000000e+00"), ("arith.mulf", "1.000000e+00")],
)
def test_where_the_threads_start(combiner: str, start: str) -> None:
    module = parse(_function(_SUM.replace("COMBINER", combiner), "%s"))
    GpuOutline().run(module)
    filecheck(str(module), f"// CHECK: gpu.func @f_0(\n// CHECK: constant {start} : f64")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('%t = "numba.expr1"(%i) {text = "g(i)"} : (index) -> f64\n'
         "memref.store %t, %a[%i] : memref<?xf64>", "'g(i)' has no form in a kernel"),
        ("%t = memref.alloc(%n) : memref<?xf64>\n%q = memref.load %t[%i] : memref<?xf64>\n"
         "memref.store %q, %a[%i] : memref<?xf64>", "an array is allocated in each iteration"),
    ],
)  # fmt: skip
def test_refused_loops_stay(body: str, reason: str) -> None:
    text = _function(f"scf.parallel (%i) = (%c0) to (%n) step (%c1) {{\n{body}\nscf.reduce\n}}")
    module = parse(text)
    before = str(module.body.operations[0])
    result = GpuOutline().run(module)
    assert messages(result, "missed") == [f"not offloaded: {reason}"]
    assert str(module.body.operations[0]) == before
    module.operation.verify()


def test_a_reduction_that_has_no_blocks_is_refused() -> None:
    module = parse(_function(_SUM.replace("COMBINER", "arith.divf"), "%s"))
    result = GpuOutline().run(module)
    assert "cannot be cut into blocks" in messages(result, "missed")[0]
    assert "scf.parallel" in str(module) and "gpu.func" not in str(module)


def test_what_the_host_does_becomes_explicit() -> None:
    run_and_check(
        _function(
            """
  // CHECK: %[[NEW:.*]] = "numba.device_alloc"(%{{.*}}, %[[N:.*]])
  // CHECK: %[[V:.*]] = "numba.device_load"(%{{.*}}, %{{.*}}) : (memref<?xf64>, index) -> f64
  // CHECK: "numba.device_store"(%[[V]], %[[NEW]], %{{.*}})
  %new = memref.alloc(%n) : memref<?xf64>
  %v = memref.load %a[%c1] : memref<?xf64>
  memref.store %v, %new[%c0] : memref<?xf64>
"""
        ),
        GpuOutline(),
    )


# -- code --------------------------------------------------------------------------------
def _llvm(body: str, target: Target, result: str = "%zero") -> str:
    module = parse(_function(body, result))
    GpuOutline().run(module)
    assert module.operation.verify()
    kernels = module.body.operations[1].operation
    before = str(kernels)
    with mlir.context():
        text = readable(to_llvm(kernels, target))
    assert str(kernels) == before
    return text


_BODIES = {
    "elementwise": (ELEMENTWISE, "%zero"),
    "sum": (_SUM.replace("COMBINER", "arith.addf"), "%s"),
    "maximum": (_SUM.replace("COMBINER", "arith.maximumf"), "%s"),
    "flags and complex numbers": (
        """
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %flag = memref.load %flags[%i] : memref<?xi1>
    %q = complex.mul %z, %z : complex<f32>
    %re = complex.re %q : complex<f32>
    %t = math.exp %re : f32
    %wide = arith.extf %t : f32 to f64
    %p = math.powf %wide, %x : f64
    %m = arith.remf %p, %x : f64
    %s = arith.select %flag, %m, %x : f64
    memref.store %s, %a[%i] : memref<?xf64>
    scf.reduce
  }
""",
        "%zero",
    ),
    "a complex number in a loop": (
        """
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %q = scf.for %j = %c0 to %n step %c1 iter_args(%w = %z) -> complex<f32> {
      %v = complex.mul %w, %z : complex<f32>
      scf.yield %v : complex<f32>
    }
    %re = complex.re %q : complex<f32>
    %wide = arith.extf %re : f32 to f64
    memref.store %wide, %a[%i] : memref<?xf64>
    scf.reduce
  }
""",
        "%zero",
    ),
}


@pytest.mark.parametrize("name", _BODIES)
def test_spirv(name: str) -> None:
    body, result = _BODIES[name]
    text = _llvm(body, "sycl", result)
    assert "spir_kernel void @f_0" in text
    assert codegen.spirv(text)[:4] == b"\x03\x02\x23\x07"


@pytest.mark.parametrize("name", _BODIES)
def test_ptx(name: str) -> None:
    body, result = _BODIES[name]
    assert ".visible .entry f_0(" in codegen.ptx(_llvm(body, "cuda", result), "sm_90")


def test_ptx_of_an_elementwise_loop() -> None:
    filecheck(
        codegen.ptx(_llvm(ELEMENTWISE, "cuda"), "sm_80"),
        """
        // CHECK: .target sm_80
        // CHECK: .visible .entry f_0(
        // CHECK: %ctaid.x
        // CHECK: ld.global.b64 %[[V:.*]], [%[[P:.*]]]
        // CHECK: sub.rn.f64 %[[R:.*]], %[[V]],
        // CHECK: st.global.b64 [%[[P]]], %[[R]]
        """,
    )


def test_sums_in_ptx_have_barriers_and_shared_memory() -> None:
    ptx = codegen.ptx(_llvm(_BODIES["sum"][0], "cuda", "%s"), "sm_90")
    assert ".shared" in ptx and "bar.sync" in ptx
    assert "atom" not in ptx


@pytest.mark.parametrize(
    ("target", "names"),
    [("cuda", ("__nv_expf", "__nv_pow", "__nv_fmod")),
     ("sycl", ("_Z3expf", "_Z3powdd", "_Z4fmoddd"))],
)  # fmt: skip
def test_functions_are_called_by_the_targets_names(target: Target, names: Any) -> None:
    text = _llvm(_BODIES["flags and complex numbers"][0], target)
    assert all(f"@{name}(" in text for name in names)


@pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="no libdevice here")
def test_libdevice_is_linked_in() -> None:
    from cuda.pathfinder import find_bitcode_lib  # type: ignore[import-not-found]

    library = Path(find_bitcode_lib("device")).read_bytes()
    text = _llvm(_BODIES["flags and complex numbers"][0], "cuda")
    ptx = codegen.ptx(text, "sm_90", library)
    assert "__nv_" not in ptx.replace("__nv_isnan", "").split(".visible .entry")[1]


def test_an_operation_that_a_device_does_not_have_is_refused() -> None:
    body = """
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %w = arith.index_cast %i : index to i64
    %p = math.fpowi %x, %w : f64, i64
    memref.store %p, %a[%i] : memref<?xf64>
    scf.reduce
  }
"""
    with pytest.raises(Refused, match=r"math.fpowi on f64, i64"):
        _llvm(body, "cuda")


_ROWS = """
  %out = memref.alloc(%n) : memref<?xf64>
  %soft = memref.alloc(%n, %n) : memref<?x?xf64>
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %s = scf.for %j = %c0 to %n step %c1 iter_args(%t = %zero) -> f64 {
      %v = memref.load SOURCE[%i, %j] : memref<?x?xf64, strided<[?, ?], offset: ?>>
      memref.store %v, %soft[%i, STORED] : memref<?x?xf64>
      %u = arith.addf %t, %v FLAGS : f64
      scf.yield %u : f64
    }
    scf.for %j = %c0 to %n step %c1 {
      %v = memref.load %soft[%i, %j] : memref<?x?xf64>
      %q = arith.divf %v, %s : f64
      memref.store %q, %soft[%i, %j] : memref<?x?xf64>
    }
    memref.store %s, %out[%i] : memref<?xf64>
    scf.reduce
  }
"""


def _rows(stored: str = "%j", flags: str = "fastmath<reassoc>", source: str = "%b") -> Any:
    text = _ROWS.replace("STORED", stored).replace("FLAGS", flags).replace("SOURCE", source)
    module = parse(_function(text))
    result = GpuOutline().run(module)
    assert module.operation.verify()
    return str(module), messages(result, "applied")


def test_long_rows_are_a_block_each() -> None:
    text, applied = _rows()
    assert applied == ["offloaded: kernel f_0 over 1 index, a block for long rows"]
    filecheck(
        text,
        """
  // CHECK: %[[LONG:.*]] = arith.cmpi sge, %{{.*}}, %c128
  // CHECK: scf.if %[[LONG]] {
  // CHECK: gpu.launch_func @gpu_kernels::@f_0 blocks
  // CHECK: } else {
  // CHECK: gpu.launch_func @gpu_kernels::@f_0_short blocks
  // CHECK: gpu.func @f_0(
  // CHECK: scf.for %[[ROW:.*]] = %block_id_x{{.*}} to %{{.*}} step %grid_dim_x
  // CHECK: %[[SUM:.*]] = scf.for
  // CHECK: gpu.barrier
  // CHECK: gpu.func @f_0_short(
""",
    )


@pytest.mark.parametrize(
    "change", [{"stored": "%c0"}, {"stored": "%i"}, {"flags": ""}], ids=lambda c: str(c)
)
def test_rows_that_one_thread_keeps(change: dict[str, str]) -> None:
    """One element stored by all threads, or a sum whose order counts."""
    _, applied = _rows(**change)
    assert applied == ["offloaded: kernel f_0 over 1 index"]


_PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")


@pytest.mark.parametrize("target", ["cuda", "sycl"])
def test_truth_values_are_computed_by_logic(target: Target) -> None:
    """LLVM's SPIR-V target crashes on their minimum, or Intel's compiler on what it makes."""
    names = ("maxui", "minui", "maxsi", "minsi", "addi", "subi", "muli")
    lines = [f"%q{n} = arith.{name} %p, %o : i1" for n, name in enumerate(names)]
    lines += [f"%r{n} = arith.cmpi {name}, %p, %o : i1" for n, name in enumerate(_PREDICATES)]
    used = [f"%q{n}" for n in range(len(names))] + [f"%r{n}" for n in range(len(_PREDICATES))]
    lines += [f"memref.store {value}, %flags[%i] : memref<?xi1>" for value in used]
    text = "\n    ".join(lines)
    body = f"""
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {{
    %p = memref.load %flags[%i] : memref<?xi1>
    %k = arith.addi %i, %c1 : index
    %o = memref.load %flags[%k] : memref<?xi1>
    {text}
    scf.reduce
  }}
"""
    text = _llvm(body, target)
    assert not re.search(r"(max|min)\.i1|icmp (?!eq|ne)\w+ i1|(add|sub|mul) i1", text)
    if target == "sycl":
        assert codegen.spirv(text)[:4] == b"\x03\x02\x23\x07"
