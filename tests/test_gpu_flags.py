"""``gpu_fp64_truncate`` and ``gpu_use_64bit_index``, on Intel's OpenCL device or on CUDA."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from device_arrays import PACKAGES, Library, requested
from numba import prange

import numba_mlir
from numba_mlir.errors import InvalidFlagError, UnknownFlagError, UnsupportedConstruct
from numba_mlir.gpu.backend import backend
from numba_mlir.roundtrip.flags import select
from numba_mlir.roundtrip.pipeline import STAGES


@pytest.fixture(scope="module", params=PACKAGES)
def lib(request: pytest.FixtureRequest) -> Library:
    return requested(request)


@pytest.fixture(params=["converts", "has none"])
def fp64(request: pytest.FixtureRequest, lib: Library, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the device is said to have float64: kernels are made for what it says."""
    there = request.param == "converts"
    if not there:
        _without_float64(lib, monkeypatch)
    return there


def _without_float64(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_if(lib, monkeypatch, fp64=False)


def _as_if(lib: Library, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """The device is said to be otherwise than it is."""
    kind = type(backend(lib.backend))
    plain = kind.properties

    def properties(self: Any, place: Any) -> Any:
        return dataclasses.replace(plain(self, place), **changes)

    monkeypatch.setattr(kind, "properties", properties)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"gpu_fp64_truncate": "yes"}, "True or False, or 'auto'"),
        ({"gpu_fp64_truncate": 1}, "not 1"),
        ({"gpu_use_64bit_index": "auto"}, "gpu_use_64bit_index must be True or False"),
    ],
)
def test_wrong_values(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFlagError, match=message):
        numba_mlir.njit(**flags)(lambda a: a)


def test_unknown_names() -> None:
    with pytest.raises(UnknownFlagError, match=r"gpu_fp46_truncate.*gpu_fp64_truncate"):
        numba_mlir.njit(gpu_fp46_truncate=True)(lambda a: a)


def test_they_are_part_of_the_pipelines_identity() -> None:
    plain = select({}, STAGES)
    truncated = select({"gpu_fp64_truncate": True}, STAGES)
    short = select({"gpu_use_64bit_index": False}, STAGES)
    assert len({plain, truncated, short}) == 3
    assert plain.passes == truncated.passes == short.passes


def test_on_the_host_they_change_nothing() -> None:
    compiled = numba_mlir.njit(parallel=True, gpu_fp64_truncate=True, gpu_use_64bit_index=False)(
        lambda a: a / 3
    )
    np.testing.assert_array_equal(compiled(np.arange(9.0)), np.arange(9.0) / 3)


# -- float64 in float32 ------------------------------------------------------------------
def _poly(a: Any, s: float) -> Any:
    return np.exp(a * 0.5) + s / (a + 2.25), (a * a).sum(), a.max()


def test_arithmetic_is_in_float32(lib: Library, fp64: bool) -> None:
    compiled = numba_mlir.njit(parallel=True, gpu_fp64_truncate=True)(_poly)
    a = np.random.default_rng(0).random(3001)
    array, total, largest = compiled(lib.asarray(a), math.pi)
    array = lib.to_host(array)
    expected, expected_total, _ = _poly(a, math.pi)
    assert array.dtype == np.float64
    np.testing.assert_allclose(array, expected, rtol=1e-6)
    np.testing.assert_array_equal(array, array.astype(np.float32))
    assert largest == float(np.float32(a).max())
    assert math.isclose(total, expected_total, rel_tol=1e-6) and total != expected_total
    text = compiled.inspect_mlir(stage="gpu")
    if fp64:
        assert "arith.truncf" in text and "arith.mulf" in text
    else:
        assert "f64" not in text
    assert "float64 as float32" in str(compiled.mlir_diagnostics())


def _special_numbers() -> Any:
    f32 = np.finfo(np.float32)
    one = np.array(
        [0.0, 1.0, 1 / 3, 1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-24 + 2.0**-50, 16777217.0,
         f32.max, float(f32.max) * (1 + 2.0**-26), float(f32.max) * (1 + 2.0**-25), 1e39, 1e300,
         f32.tiny, f32.tiny / 2, 2.0**-149, 2.0**-150, 2.0**-150 * (1 + 2.0**-40), 3 * 2.0**-150,
         2.0**-151, 5e-324, np.inf, np.nan]
    )  # fmt: skip
    bits = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype=np.int64).view(np.float64)
    scaled = np.random.default_rng(1).normal(size=20_000) * 2.0 ** np.arange(20_000.0) ** 0
    near = np.random.default_rng(2).normal(size=20_000) * 2.0 ** np.linspace(-152, 130, 20_000)
    return np.concatenate([one, -one, bits, scaled, near])


def test_bits_are_converted_as_by_the_processor(
    lib: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_float64(lib, monkeypatch)
    compiled = numba_mlir.njit(parallel=True, gpu_fp64_truncate=True)(lambda a: (a.copy(), -a))
    values = _special_numbers()
    with np.errstate(all="ignore"):
        expected = -(values.astype(np.float32).astype(np.float64))
    _, got = compiled(lib.asarray(values))
    np.testing.assert_array_equal(lib.to_host(got), expected)


def _complex(a: Any, z: complex) -> Any:
    return a * z + 1, (a * a).sum()


def test_complex_numbers(lib: Library, fp64: bool) -> None:
    compiled = numba_mlir.njit(parallel=True, gpu_fp64_truncate=True)(_complex)
    a = np.random.default_rng(0).random(100) * (1 + 2j)
    if not fp64:
        with pytest.raises(UnsupportedConstruct, match="complex128 on a device without float64"):
            compiled(lib.asarray(a), 2 - 1j)
        return
    array, total = compiled(lib.asarray(a), 2 - 1j)
    expected, expected_total = _complex(a, 2 - 1j)
    np.testing.assert_allclose(lib.to_host(array), expected, rtol=1e-6)
    assert abs(total - expected_total) < 1e-5 * abs(expected_total)


def test_auto_truncates_where_the_device_has_no_float64(lib: Library, fp64: bool) -> None:
    compiled = numba_mlir.njit(parallel=True, gpu_fp64_truncate="auto")(lambda a: a / 3)
    a = np.arange(10.0)
    got = lib.to_host(compiled(lib.asarray(a)))
    exact = a / 3 if fp64 else (np.float32(a) / np.float32(3)).astype(np.float64)
    np.testing.assert_array_equal(got, exact)


def test_without_the_flag_float64_is_an_error_there(
    lib: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_float64(lib, monkeypatch)
    array = lib.asarray(np.arange(10, dtype=np.float32))
    half = numba_mlir.njit(parallel=True)(lambda a: a * np.float32(0.5))
    assert float(lib.to_host(half(array))[3]) == 1.5
    compiled = numba_mlir.njit(parallel=True)(lambda a: a * 0.5)
    with pytest.raises(UnsupportedConstruct, match="gpu_fp64_truncate='auto'") as caught:
        compiled(array)
    assert "test_gpu_flags.py" in str(caught.value)


def _count(a: Any) -> Any:
    h = np.zeros(4, np.int64)
    for i in prange(a.size):
        h[a[i] % 4] += 1
    return h


@pytest.mark.parametrize(
    ("changes", "function", "message"),
    [
        ({"max_block": 128}, lambda a: a + 1, "has blocks of 128 threads, and this needs 256"),
        ({"local_memory": 16}, lambda a: a.sum(), "has 16 bytes for a block, and this needs"),
        ({"atomic64": False}, _count, "numbers of 64 bits not in one step"),
    ],
)
def test_what_a_device_has_not_is_an_error_at_the_line(
    lib: Library,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    function: Any,
    message: str,
) -> None:
    array = lib.asarray(np.arange(10))
    numba_mlir.njit(parallel=True)(function)(array)
    _as_if(lib, monkeypatch, **changes)
    with pytest.raises(UnsupportedConstruct, match=message) as caught:
        numba_mlir.njit(parallel=True)(function)(array)
    assert "test_gpu_flags.py" in str(caught.value)


def test_rows_on_a_device_with_small_blocks(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(a: Any) -> Any:
        e = np.exp(a - np.max(a, axis=1).reshape(-1, 1))
        return e / np.sum(e, axis=1).reshape(-1, 1)

    values = np.random.default_rng(0).random((5, 1000))
    for block, kept in ((512, True), (256, False)):
        _as_if(lib, monkeypatch, max_block=block)
        compiled = numba_mlir.njit(parallel=True)(function)
        found = lib.to_host(compiled(lib.asarray(values)))
        np.testing.assert_allclose(found, function(values), rtol=1e-12)
        assert ("_kept" in compiled.inspect_mlir(stage="gpu")) == kept


def test_results_where_kernels_cannot_store_to_the_host(
    lib: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lib.backend == "cuda":
        pytest.skip("CUDA devices can")
    _as_if(lib, monkeypatch, landing=False)
    compiled = numba_mlir.njit(parallel=True)(lambda a: (a.sum(), a.min()))
    assert compiled(lib.asarray(np.arange(10.0))) == (45.0, 0.0)
    assert "memref<1xf64" not in compiled.inspect_mlir(stage="gpu")


# -- the width of indices ------------------------------------------------------------------
def _mixed(u: Any, shift: int) -> Any:
    return u[1:, ::2] + u[:-1, ::2] * shift, u.sum(), u.sum(axis=1), u.T - 1


def test_indices_of_32_bits(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True, gpu_use_64bit_index=False)(_mixed)
    u = np.random.default_rng(0).random((40, 300))
    for got, wanted in zip(compiled(lib.asarray(u), 3), _mixed(u, 3), strict=True):
        np.testing.assert_allclose(lib.to_host(got), wanted, rtol=1e-12)


def test_what_32_bits_cannot_count_is_an_error(lib: Library) -> None:
    """A view with a stretched axis: no memory is needed for it."""
    if lib.name != "dpnp":
        pytest.skip("made by dpnp's broadcasting")
    import dpnp

    wide = dpnp.broadcast_to(lib.asarray(np.ones(1, np.int8)), (2**30,))
    compiled = numba_mlir.njit(parallel=True, gpu_use_64bit_index=False)(lambda a: a.sum())
    with pytest.raises(ValueError, match=r"gpu_use_64bit_index=True"):
        compiled(wide)
    assert compiled(wide[: 2**10]) == 2**10
