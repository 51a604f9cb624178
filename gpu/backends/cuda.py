"""CUDA devices through cuda-core: arrays of CuPy and of PyTorch.

Kernels run in the library's current stream of the array's device, in which the library
frees memory, too.  So nothing has to wait for a kernel's end.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numba_mlir.errors import DeviceError, MissingBackendError
from numba_mlir.gpu import codegen
from numba_mlir.gpu.backend import Facts, Properties
from numba_mlir.gpu.backends.cuda_libraries import KNOWN, any_library, library_of
from numba_mlir.gpu.kernel import Kernel
from numba_mlir.gpu.places import DeviceArray, Place

# The packages' own stubs depend on how they are installed, or not.
driver: Any = importlib.import_module("cuda.bindings.driver")
_core: Any = importlib.import_module("cuda.core")
_pathfinder: Any = importlib.import_module("cuda.pathfinder")


_launch: Any = driver.cuLaunchKernel


def make() -> CudaBackend:
    return CudaBackend()


class CudaBackend:
    """See `numba_mlir.gpu.backend.Backend`."""

    name = "cuda"

    # -- arrays ----------------------------------------------------------------------
    def type_of(self, array: Any) -> DeviceArray | None:
        return library_of(array).type_of(array)

    def from_host(self, array: Any) -> Any:
        return any_library().from_host(array)

    def to_host(self, array: Any) -> Any:
        return library_of(array).to_host(array)

    def facts(self, array: Any) -> Facts:
        return library_of(array).facts(array)

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        library = library_of(like)
        try:
            return library.empty(like, shape, dtype)
        except Exception as exc:  # it may come from a kernel that is still running, or failed
            kernel = _LAST.get(library.where(like))
            if kernel is not None:
                exc.add_note(f"behind kernel {kernel.name}{kernel.where}")
            raise

    def order(self, array: Any) -> Any:
        return library_of(array).where(array)

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        return library_of(owner).view(owner, address, shape, strides, dtype)

    def copy(self, array: Any, order: str) -> Any:
        return library_of(array).copy(array, order)

    def namespace(self, array: Any) -> Any:
        return library_of(array).module

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        return library_of(like).filled(like, value, dtype)

    def converted(self, array: Any, dtype: Any) -> Any:
        return library_of(array).converted(array, dtype)

    # -- memory ----------------------------------------------------------------------
    def read(self, owner: Any, address: int, size: int) -> bytes:
        library = library_of(owner)
        device, stream = library.where(owner)
        _enter(device)
        landing = _landing()
        if not landing.address <= address < landing.address + _Landing.size:
            target = landing.address
            _check(driver.cuMemcpyDtoHAsync(target, address, size, stream), "a copy", owner)
            address = target
        _check(driver.cuStreamSynchronize(stream), "a copy", owner)
        return ctypes.string_at(address, size)

    def landing(self, owner: Any, number: int) -> int:
        _enter(library_of(owner).where(owner)[0])
        if number >= _Landing.size // _PLACE:
            raise DeviceError("too many results of one loop")
        return _landing().address + number * _PLACE

    def write(self, owner: Any, address: int, data: bytes) -> None:
        library = library_of(owner)
        device, stream = library.where(owner)
        _enter(device)
        source = ctypes.create_string_buffer(data, len(data))
        where = ctypes.addressof(source)
        _check(driver.cuMemcpyHtoDAsync(address, where, len(data), stream), "a copy", owner)
        _check(driver.cuStreamSynchronize(stream), "a copy", owner)

    def synchronize(self, owner: Any) -> None:
        _, stream = library_of(owner).where(owner)
        _check(driver.cuStreamSynchronize(stream), "the stream", owner)

    # -- kernels ---------------------------------------------------------------------
    def compile(self, llvm_ir: str, place: Place) -> bytes:
        library = _libdevice() if "@__nv_" in llvm_ir else None
        return codegen.ptx(llvm_ir, place.arch, library).encode()

    def launch(
        self, kernel: Kernel, owner: Any, arguments: int, grid: Sequence[int], block: Sequence[int]
    ) -> None:
        library = KNOWN.get(type(owner)) or library_of(owner)
        device, stream = library.where(owner)
        _enter(device)
        handle = kernel.loaded.get(device)
        if handle is None:
            handle = kernel.loaded[device] = _loaded(kernel, device)
        _LAST[device, stream] = kernel
        columns, rows, layers = grid
        width, height = block
        (error,) = _launch(handle, columns, rows, layers, width, height, 1, 0, stream, arguments, 0)
        if int(error):
            _check((error,), f"kernel {kernel.name}{kernel.where}", owner)

    def properties(self, place: Place) -> Properties:
        device = _core.Device(int(place.device.rpartition(":")[2]))
        facts = device.properties
        return Properties(
            name=device.name,
            fp64=True,
            max_block=facts.max_threads_per_block,
            local_memory=facts.max_shared_memory_per_block,
            compute_units=facts.multiprocessor_count,
        )


# -- driver ----------------------------------------------------------------------------
#: device -> its primary context, as a number
_CONTEXTS: dict[int, int] = {}


def _enter(device: int) -> None:
    """Make the device's primary context current in this thread."""
    known = _CONTEXTS.get(device)
    _, current = driver.cuCtxGetCurrent()
    if known is None or int(current) != known:
        _core.Device(device).set_current()
        _, current = driver.cuCtxGetCurrent()
        _CONTEXTS[device] = int(current)


#: bytes of one element at most
_PLACE = 16


class _Landing:
    """Memory of the host that the device writes to without a detour, for single elements."""

    size = 4096

    def __init__(self) -> None:
        flags = driver.CU_MEMHOSTALLOC_PORTABLE | driver.CU_MEMHOSTALLOC_DEVICEMAP
        error, address = driver.cuMemHostAlloc(self.size, flags)
        if int(error):
            raise DeviceError(f"no memory of the host for the device: {error.name}")
        self.address = int(address)

    def __del__(self) -> None:
        if hasattr(self, "address") and driver is not None:  # None: Python ends
            driver.cuMemFreeHost(self.address)


#: ``landing``: where elements arrive in this thread
_THREAD = threading.local()


def _landing() -> _Landing:
    found = getattr(_THREAD, "landing", None)
    if found is None:
        found = _THREAD.landing = _Landing()
    return found


#: (device, stream) -> the last kernel that was started there, for errors that come later
_LAST: dict[tuple[int, int], Kernel] = {}


def _check(result: tuple[Any, ...], what: str, owner: Any) -> None:
    """Raise DeviceError for a driver's error, naming the device, and the last kernel in the
    array's stream, which it may come from: kernels run later than they are started."""
    error = result[0]
    if int(error):
        _, text = driver.cuGetErrorString(error)
        reason = text.decode() if isinstance(text, bytes) else str(text)
        where = library_of(owner).where(owner)
        kernel = _LAST.get(where)
        behind = "" if kernel is None else f", behind kernel {kernel.name}{kernel.where}"
        name = _core.Device(where[0]).name
        raise DeviceError(f"{what} on {name}{behind}: {reason} ({error.name})")


#: (digest of the code, device) -> cuda-core's object
_OBJECTS: dict[tuple[str, int], Any] = {}


def _loaded(kernel: Kernel, device: int) -> int:
    """The driver's handle of a kernel on a device."""
    key = (kernel.digest, device)
    try:
        if key not in _OBJECTS:
            _OBJECTS[key] = _core.ObjectCode.from_ptx(kernel.code)
        return int(_OBJECTS[key].get_kernel(kernel.name).handle)
    except Exception as exc:
        name = _core.Device(device).name
        raise DeviceError(f"{name} refused kernel {kernel.name}{kernel.where}: {exc}") from exc


@functools.cache
def _libdevice() -> bytes:
    try:
        return Path(_pathfinder.find_bitcode_lib("device")).read_bytes()
    except Exception as exc:
        raise MissingBackendError(
            "functions such as exp need CUDA's libdevice: install the CUDA toolkit, or "
            f"pip install nvidia-nvvm ({exc})"
        ) from exc
