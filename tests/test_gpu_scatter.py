"""Elements that several iterations change: atomic operations, on the device and in the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from device_arrays import PACKAGES, Library, requested
from ir_check import filecheck, messages, parse
from numba import prange

import numba_mlir
from numba_mlir import mlir
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.gpu import codegen
from numba_mlir.passes.gpu_lower import Target, to_llvm
from numba_mlir.passes.gpu_outline import GpuOutline
from numba_mlir.roundtrip.llvm_text import readable


@pytest.fixture(scope="module", params=PACKAGES)
def lib(request: pytest.FixtureRequest) -> Library:
    return requested(request)


def histogram(index: Any, counts: Any) -> None:
    for i in prange(index.size):
        counts[index[i]] += 1


def columns(u: Any, out: Any) -> None:
    for i in prange(u.shape[0]):
        for j in range(u.shape[1]):
            out[j] += u[i, j]


def largest(index: Any, values: Any, out: Any) -> None:
    for i in prange(index.size):
        out[index[i]] = max(out[index[i]], values[i])


def halved(index: Any, out: Any) -> None:
    for i in prange(index.size):
        if index[i] >= 0:
            out[index[i] - 1, 1] *= 0.5


def bits(index: Any, out: Any) -> None:
    for i in prange(index.size):
        out[index[i] // 2] |= 1 << index[i]
        out[3] ^= index[i]


def own(index: Any, out: Any) -> Any:
    sums = np.zeros(out.shape[0])
    for i in prange(out.shape[0]):
        out[i] += index[i]
        for j in range(3):
            sums[i] += out[i] * j
    return sums


_INDEX = np.random.default_rng(0).integers(0, 8, 20_000)


def _check(lib: Library, function: Any, *args: Any) -> None:
    expected_args = [a.copy() for a in args]
    expected = function(*expected_args)
    device_args = [lib.asarray(a) for a in args]
    result = numba_mlir.njit(parallel=True)(function)(*device_args)
    for got, wanted in zip(device_args, expected_args, strict=True):
        np.testing.assert_allclose(lib.to_host(got), wanted, rtol=1e-6)
    if expected is not None:
        np.testing.assert_allclose(lib.to_host(result), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_histograms(lib: Library, dtype: str) -> None:
    if lib.name == "torch" and dtype.startswith("uint"):
        pytest.skip("torch has little for unsigned integers")
    _check(lib, histogram, _INDEX, np.zeros(8, dtype))
    _check(lib, histogram, _INDEX - 8, np.zeros(8, dtype))


def test_sums_of_columns(lib: Library) -> None:
    _check(lib, columns, np.random.default_rng(1).random((300, 5)), np.zeros(5))


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_maxima(lib: Library, dtype: str) -> None:
    values = (np.random.default_rng(2).normal(size=_INDEX.size) * 1000).astype(dtype)
    _check(lib, largest, _INDEX, values, np.zeros(8, dtype))


def test_products_under_a_condition(lib: Library) -> None:
    index = np.array([0, 1, 1, 2, -3, 2, 2, 5] * 3)
    _check(lib, halved, index, np.full((6, 2), 2.0**40))


def test_bits(lib: Library) -> None:
    _check(lib, bits, _INDEX, np.zeros(4, np.int64))


def test_elements_of_the_iterations_own(lib: Library) -> None:
    _check(lib, own, _INDEX[:500].astype(np.float64), np.zeros(500))


@pytest.mark.parametrize("dtype", ["int8", "int16", "bool", "complex128"])
def test_dtypes_without_atomic_operations(lib: Library, dtype: str) -> None:
    compiled = numba_mlir.njit(parallel=True)(histogram)
    with pytest.raises(UnsupportedConstruct, match=r"devices change one of type .* in one step"):
        compiled(lib.asarray(_INDEX), lib.asarray(np.zeros(8, dtype)))


# -- text --------------------------------------------------------------------------------
_HEAD = """
func.func @f(%index: memref<?xindex>, %a: memref<?xELEMENT>, %n: index, %x: ELEMENT) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %shifted = arith.addi %i, %n : index
    %k = memref.load %index[%i] : memref<?xindex>
    %k2 = arith.addi %k, %c1 : index
    %k3 = arith.addi %k, %c1 : index
    %old = memref.load %a[PLACE] : memref<?xELEMENT>
    %new = OPERATION %old, %x : ELEMENT
    memref.store %new, %a[AGAIN] : memref<?xELEMENT>
    scf.reduce
  }
  return
}"""


def _outlined(
    operation: str, element: str = "f32", place: str = "%k2", again: str = "%k3"
) -> tuple[Any, str, list[str]]:
    text = _HEAD.replace("PLACE", place).replace("AGAIN", again)
    module = parse(text.replace("OPERATION", operation).replace("ELEMENT", element))
    result = GpuOutline().run(module)
    assert module.operation.verify()
    return module, str(module), messages(result, "missed")


@pytest.mark.parametrize(
    ("operation", "element", "kind"),
    [("arith.addf", "f32", "addf"), ("arith.addi", "i64", "addi"), ("arith.andi", "i32", "andi"),
     ("arith.ori", "i32", "ori"), ("arith.xori", "i64", "xori")],
)  # fmt: skip
def test_one_operation(operation: str, element: str, kind: str) -> None:
    _, text, missed = _outlined(operation, element)
    assert not missed
    filecheck(
        text,
        f"""
  // CHECK: gpu.func @f_0(%{{{{.*}}}}: index, %{{{{.*}}}}: memref<?xindex, 1>,
  // CHECK-SAME: %[[A:.*]]: memref<?x{element}, 1>, %[[X:.*]]: {element})
  // CHECK: %[[K:.*]] = arith.addi %{{{{.*}}}}, %{{{{.*}}}} : index
  // CHECK-NOT: memref.store
  // CHECK: memref.atomic_rmw {kind} %[[X]], %[[A]][%{{{{.*}}}}]
  // CHECK-NOT: memref.store
  // CHECK: gpu.return
""",
    )


def test_any_other_operation_is_repeated() -> None:
    _, text, _ = _outlined("arith.mulf")
    filecheck(
        text,
        """
  // CHECK: gpu.func @f_0(
  // CHECK: memref.generic_atomic_rmw %{{.*}}[%{{.*}}]
  // CHECK: ^bb0(%[[OLD:.*]]: f32):
  // CHECK: %[[NEW:.*]] = arith.mulf %[[OLD]], %{{.*}} : f32
  // CHECK: memref.atomic_yield %[[NEW]]
""",
    )


@pytest.mark.parametrize("place", ["%i", "%shifted"])
def test_an_iterations_own_element_is_loaded_and_stored(place: str) -> None:
    _, text, _ = _outlined("arith.addf", place=place, again=place)
    assert "atomic" not in text


def test_small_numbers_are_refused() -> None:
    _, text, missed = _outlined("arith.addi", "i8")
    assert "devices change one of type i8 not in one step" in missed[0]
    assert "scf.parallel" in text and "gpu.func" not in text


@pytest.mark.parametrize("target", ["cuda", "sycl"])
@pytest.mark.parametrize(
    ("operation", "element"),
    [("arith.addf", "f32"), ("arith.addf", "f64"), ("arith.mulf", "f32"), ("arith.addi", "i64"),
     ("arith.maxsi", "i32"), ("arith.maximumf", "f64")],
)  # fmt: skip
def test_code(target: Target, operation: str, element: str) -> None:
    module, _, _ = _outlined(operation, element)
    with mlir.context():
        text = readable(to_llvm(module.body.operations[1].operation, target))
    if target == "sycl":
        assert "atomicrmw f" not in text, "LLVM's SPIR-V target ends the process"
        assert codegen.spirv(text)[:4] == b"\x03\x02\x23\x07"
    else:
        assert "atom." in codegen.ptx(text, "sm_90")


@pytest.mark.parametrize("place", ["%k2", "%c0"])
def test_elements_that_others_change_are_not_read(place: str) -> None:
    _, text, missed = _outlined("arith.addf", place="%i", again=place)
    assert missed == ["not offloaded: iterations may read elements that others change"]
    assert "gpu.func" not in text
