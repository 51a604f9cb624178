"""What only a CUDA device can show: results by memory of the host, cached machine code, faults
of kernels, and two devices."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_arrays import Library, library, requested
from numba import prange

import numba_mlir
from numba_mlir.errors import DeviceError, MixedDevicesError
from numba_mlir.gpu import runtime
from numba_mlir.gpu.backend import backend
from numba_mlir.gpu.kernel import Kernel


@pytest.fixture(scope="module", params=["cupy", "torch"])
def lib(request: pytest.FixtureRequest) -> Library:
    return requested(request)


def _script(source: str, folder: Path, **environment: str) -> str:
    """The output of a program in a process of its own, with ``lib`` for an array library."""
    head = """
        import sys, numpy as np, numba_mlir
        from numba import prange
        from device_arrays import library
        lib = library(sys.argv[1])
    """
    file = folder / "script.py"
    file.write_text(textwrap.dedent(head) + textwrap.dedent(source))
    support = str(Path(__file__).parent / "support")
    paths = {"PYTHONPATH": os.pathsep.join([support, *sys.path]), "NUMBA_CACHE_DIR": str(folder)}
    made = subprocess.run(
        [sys.executable, "-P", str(file), environment.pop("library")],
        capture_output=True, text=True, env={**os.environ, **paths, **environment},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout


# -- numbers as results --------------------------------------------------------------------
def _several(a: Any) -> Any:
    low, total, bits, number = a[0], 0.0, 0, 0j
    for i in prange(a.size):
        low = min(low, a[i])
        total += a[i]
        bits ^= i
        number += a[i] * 1j
    return low, total, bits, number, a.sum() - total


def test_several_results_of_one_kernel(lib: Library) -> None:
    compiled = numba_mlir.njit(parallel=True)(_several)
    values = np.arange(1.0, 1001.0)
    expected = (1.0, 500500.0, np.bitwise_xor.reduce(np.arange(1000)), 500500j, 0.0)
    assert compiled(lib.asarray(values)) == expected


@pytest.mark.parametrize("nogil", [False, True])
def test_sums_of_many_threads(lib: Library, nogil: bool) -> None:
    compiled = numba_mlir.njit(parallel=True, nogil=nogil)(lambda a: (a.sum(), a.max()))
    arrays = [lib.asarray(np.full(1000 + number, float(number))) for number in range(8)]
    compiled(arrays[0])
    wrong: list[Any] = []

    def work(number: int) -> None:
        expected = (number * (1000.0 + number), float(number))
        wrong.extend(found for _ in range(300) if (found := compiled(arrays[number])) != expected)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_result_that_takes_long(lib: Library) -> None:
    """Longer than the processor looks for it."""

    def slow(a: Any, steps: int) -> Any:
        total = 0.0
        for i in prange(a.size):
            x = a[i]
            for _ in range(steps):
                x = np.sin(x) + 1.0
            total += x
        return total

    compiled = numba_mlir.njit(parallel=True)(slow)
    values = np.linspace(0, 1, 100)
    compiled(lib.asarray(values), 1)
    x = values.copy()
    for _ in range(20_000):
        x = np.sin(x) + 1.0
    assert abs(compiled(lib.asarray(values), 20_000) - x.sum()) < 1e-6


def test_a_launch_that_fails_spoils_no_later_sum(
    lib: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = numba_mlir.njit(parallel=True)(lambda a: a.sum())
    array = lib.asarray(np.ones(1000))
    assert compiled(array) == 1000.0

    def failing(self: Any, *args: Any) -> None:
        raise DeviceError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Kernel, "__call__", failing)
        with pytest.raises(DeviceError, match="not now"):
            compiled(array)
    assert [compiled(array) for _ in range(3)] == [1000.0] * 3


def test_waiting_for_a_result_that_does_not_come(lib: Library) -> None:
    array = lib.asarray(np.ones(3))
    address = runtime.landing(array)
    with pytest.raises(DeviceError, match="without a result"):
        runtime.wait(array, address)


# -- code ------------------------------------------------------------------------------------
_CACHED = """
    @numba_mlir.njit(parallel=True, cache=True)
    def function(a):
        return (a + 1).sum(), a * 2
    total, double = function(lib.asarray(np.arange(10.0)))
    assert total == 55.0 and lib.to_host(double)[3] == 6.0
    from numba_mlir.gpu.backends import cuda
    kinds = {made.code_type for made in cuda._OBJECTS.values()}
    print(sum(function.stats.cache_hits.values()), *kinds)
"""


def test_cached_functions_have_machine_code(lib: Library, tmp_path: Path) -> None:
    """Another process does not compile PTX: it could not."""
    assert _script(_CACHED, tmp_path, library=lib.name).split()[0] == "0"
    no_compiler = {"CUDA_DISABLE_PTX_JIT": "1", "CUDA_CACHE_DISABLE": "1"}
    assert _script(_CACHED, tmp_path, library=lib.name, **no_compiler) == "1 cubin\n"


def test_machine_code_of_a_newer_driver_is_not_used(lib: Library) -> None:
    kept: list[Kernel] = []
    original = Kernel.__call__

    def kernel_of(self: Kernel, *args: Any) -> None:
        kept.append(self)
        original(self, *args)

    compiled = numba_mlir.njit(parallel=True)(lambda a: a.sum())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "__call__", kernel_of)
        assert compiled(lib.asarray(np.ones(10))) == 10.0
    chosen = backend("cuda")
    release, code = chosen.binary(kept[0])
    assert code[:4] == b"\x7fELF" and release > 12000
    from numba_mlir.gpu.backends import cuda

    newer = Kernel(kept[0].place, kept[0].name, kept[0].code + b"\n", kept[0].kinds)
    newer.binary = cuda.Binary(10**9, b"not code")
    assert cuda._loaded(newer, 0)
    broken = Kernel(kept[0].place, kept[0].name, b"not PTX", kept[0].kinds, " (here:1)")
    with pytest.raises(DeviceError, match=r"refused kernel .* \(here:1\): CUDA_ERROR"):
        chosen.binary(broken)


# -- faults ------------------------------------------------------------------------------------
_FAULT = """
    @numba_mlir.njit(parallel=True)
    def far_away(a, step):
        out = np.empty_like(a)
        for i in prange(a.size):
            out[i] = a[i + step]
        return out
    @numba_mlir.njit(parallel=True)
    def total(a):
        return a.sum()
    host = np.arange(5.0)
    array = lib.asarray(host)
    assert total(array) == 10.0 and total(far_away(array, 0)) == 10.0
    for attempt in range(2):
        try:
            total(far_away(array, 2**40))
        except Exception as exc:
            print(type(exc).__name__, str(exc), *getattr(exc, "__notes__", []))
    print(total(host), flush=True)
    import os
    os._exit(0)     # the libraries complain when they give their memory back
"""


def test_a_fault_of_a_kernel(lib: Library, tmp_path: Path) -> None:
    """The error names kernel, line and device and says what is lost; the host goes on."""
    lines = _script(_FAULT, tmp_path, library=lib.name).splitlines()
    first, second, last = lines[0], lines[1], lines[-1]
    assert first.startswith("DeviceError") and "CUDA_ERROR_ILLEGAL_ADDRESS" in first
    assert "kernel total_0 (" in first or "kernel far_away_0 (" in first
    assert "script.py:" in first and "NVIDIA" in first
    assert "given up all memory of this process on device 0" in first
    assert "kernel " in second or "illegal" in second
    assert last == "10.0"


# -- JAX, which has both protocols -----------------------------------------------------------
_JAX = """
    import jax, jax.numpy as jnp
    @numba_mlir.njit(parallel=True)
    def function(a):
        return a * 2, a.sum()
    @numba_mlir.njit(parallel=True)
    def change(a):
        a[:] = 7
    work = jax.jit(lambda x: jnp.sin(x @ x) * 0 + 1)
    for _ in range(5):
        array = work(jnp.ones((3000, 3000), jnp.float32))    # it may still run
        double, total = function(array)
        assert total == 9e6, total
    back = jax.dlpack.from_dlpack(double)
    print(type(double).__name__, float(back.sum()), float(back[5, 7]))
    try:
        change(array)
    except Exception as exc:
        print(type(exc).__name__)
    print(float(array.sum()))
"""


def test_jax_arrays_are_read_only(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    if isinstance(library("cupy"), str):
        pytest.skip("no CUDA device")
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    lines = _script(_JAX, tmp_path, library="cupy", **environment).splitlines()
    assert lines == ["StridedMemoryView 18000000.0 2.0", "TypingError", "9000000.0"]


# -- two devices -------------------------------------------------------------------------------
def _two() -> Any:
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    return cupy


def _all(a: Any, b: Any) -> Any:
    c = np.sqrt(a * b + 1)
    c[1:] = c[:-1] + c[1:]
    return (
        c,
        c.sum(),
        a.max(),
        np.argmax(b),
        c.copy(),
        a.astype(np.float32),
        a[3],
        np.zeros(a.shape),
    )


def test_arrays_on_a_device_that_is_not_the_current_one() -> None:
    cupy = _two()
    host = np.random.default_rng(0).random((2, 5000))
    compiled = numba_mlir.njit(parallel=True)(_all)
    for device in (1, 0, 1):
        with cupy.cuda.Device(device):
            a, b = (cupy.asarray(one) for one in host)
        assert cupy.cuda.Device().id == 0
        results = compiled(a, b)
        assert cupy.cuda.Device().id == 0, "the caller's device stays"
        for found, expected in zip(results, _all(*host), strict=True):
            if isinstance(found, cupy.ndarray):
                assert found.device.id == device
                found = cupy.asnumpy(found)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(compiled.signatures) == 2


def test_matrix_products_and_streams_on_the_other_device() -> None:
    cupy = _two()
    host = np.random.default_rng(0).random((30, 30))
    compiled = numba_mlir.njit(parallel=True)(lambda a: (a @ a, (a + 1).sum()))
    with cupy.cuda.Device(1):
        a, stream = cupy.asarray(host), cupy.cuda.Stream(non_blocking=True)
        cupy.cuda.Device().synchronize()
        with stream:
            product, total = compiled(a)
        stream.synchronize()
    assert product.device.id == 1
    np.testing.assert_allclose(cupy.asnumpy(product), host @ host)
    np.testing.assert_allclose(total, (host + 1).sum())


def test_torch_tensors_on_the_other_device() -> None:
    _two()
    torch = pytest.importorskip("torch")
    host = np.random.default_rng(0).random((2, 5000))
    a, b = (torch.from_numpy(one.copy()).to("cuda:1") for one in host)
    results = numba_mlir.njit(parallel=True)(_all)(a, b)
    for found, expected in zip(results, _all(*host), strict=True):
        if isinstance(found, torch.Tensor):
            assert str(found.device) == "cuda:1"
            found = found.cpu().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert torch.cuda.current_device() == 0


def test_arrays_of_two_devices_in_one_function() -> None:
    cupy = _two()
    a = cupy.ones(10)
    with cupy.cuda.Device(1):
        b = cupy.ones(10)
    compiled = numba_mlir.njit(parallel=True)(lambda a, b: (a + b).sum())
    with pytest.raises(MixedDevicesError, match=r"cupy on cuda:0.* and .*cupy on cuda:1"):
        compiled(a, b)
    assert compiled(a, a) == compiled(b, b) == 20.0


def test_protocols_on_the_other_device() -> None:
    cupy = _two()
    from device_arrays import OnlyDLPack

    with cupy.cuda.Device(1):
        a = cupy.arange(10.0)
    result, total = numba_mlir.njit(parallel=True)(lambda a: (a * 2, a.sum()))(OnlyDLPack(a))
    assert (result.device_id, total) == (1, 45.0)
    pytest.importorskip("numba_cuda")
    from numba import cuda

    with cuda.gpus[1]:
        array = cuda.to_device(np.arange(10.0))
    result, total = numba_mlir.njit(parallel=True)(lambda a: (a * 2, a.sum()))(array)
    assert (result.gpu_data.context.device.id, total) == (1, 45.0)
    assert cupy.cuda.Device().id == 0
