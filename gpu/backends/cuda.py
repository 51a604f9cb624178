"""CUDA devices through cuda-core: arrays of CuPy, PyTorch, numba-cuda, and by protocols.

Kernels run in the library's current stream of the array's device, in which the library
frees memory, too.  So nothing has to wait for a kernel's end.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from numba_mlir.errors import DeviceError, MissingBackendError
from numba_mlir.gpu import codegen
from numba_mlir.gpu.backend import Facts, Properties
from numba_mlir.gpu.backends.cuda_arrays import driver, enter, leave
from numba_mlir.gpu.backends.cuda_libraries import KNOWN, any_library, library_of
from numba_mlir.gpu.kernel import Kernel
from numba_mlir.gpu.places import DeviceArray, Place
from numba_mlir.gpu.runtime import PLACE, PLACES

# The packages' own stubs depend on how they are installed, or not.
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

    def inside(self, array: Any) -> AbstractContextManager[Any]:
        return library_of(array).inside(array)

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        return library_of(like).filled(like, value, dtype)

    def converted(self, array: Any, dtype: Any) -> Any:
        return library_of(array).converted(array, dtype)

    # -- memory ----------------------------------------------------------------------
    def read(self, owner: Any, address: int, size: int) -> bytes:
        device, stream = library_of(owner).where(owner)
        before = enter(device)
        try:
            target = _landing().address + PLACE
            _check(driver.cuMemcpyDtoHAsync(target, address, size, stream), "a copy", owner)
            _check(driver.cuStreamSynchronize(stream), "a copy", owner)
            return ctypes.string_at(target, size)
        finally:
            leave(before)

    def landing(self, owner: Any) -> int:
        found = getattr(_THREAD, "landing", None)
        if found is None or not found.number.value:
            before = enter(library_of(owner).where(owner)[0])
            try:
                found = _landing()
                if not found.number.value:  # a call that failed left a kernel that stores to it
                    _check(driver.cuCtxSynchronize(), "a kernel", owner)
            finally:
                leave(before)
        found.number.value = 0
        return found.address

    def write(self, owner: Any, address: int, data: bytes) -> None:
        device, stream = library_of(owner).where(owner)
        source = ctypes.create_string_buffer(data, len(data))
        where = ctypes.addressof(source)
        before = enter(device)
        try:
            _check(driver.cuMemcpyHtoDAsync(address, where, len(data), stream), "a copy", owner)
            _check(driver.cuStreamSynchronize(stream), "a copy", owner)
        finally:
            leave(before)

    def synchronize(self, owner: Any) -> None:
        device, stream = library_of(owner).where(owner)
        before = enter(device)
        try:
            _check(driver.cuStreamSynchronize(stream), "the stream", owner)
        finally:
            leave(before)

    # -- kernels ---------------------------------------------------------------------
    def compile(self, llvm_ir: str, place: Place) -> bytes:
        library = _libdevice() if "@__nv_" in llvm_ir else None
        return codegen.ptx(llvm_ir, place.arch, library).encode()

    def binary(self, kernel: Kernel) -> Binary:
        device = int(kernel.place.device.rpartition(":")[2])
        key = (kernel.digest, device)
        if key not in _BINARIES:
            _BINARIES[key] = _linked(kernel, device)
        return _BINARIES[key]

    def launch(
        self, kernel: Kernel, owner: Any, arguments: int, grid: Sequence[int], block: Sequence[int]
    ) -> None:
        library = KNOWN.get(type(owner)) or library_of(owner)
        device, stream = library.where(owner)
        before = enter(device)
        try:
            handle = kernel.loaded.get(device)
            if handle is None:
                handle = kernel.loaded[device] = _loaded(kernel, device)
            _LAST[device, stream] = kernel
            columns, rows, layers = grid
            width, height = block
            (error,) = _launch(
                handle, columns, rows, layers, width, height, 1, 0, stream, arguments, 0
            )
            if int(error):
                _check((error,), f"kernel {kernel.name}{kernel.where}", owner)
        finally:
            leave(before)

    def properties(self, place: Place) -> Properties:
        device = _core.Device(int(place.device.rpartition(":")[2]))
        facts = device.properties
        return Properties(
            name=device.name,
            fp64=True,
            landing=True,
            atomic64=True,
            max_block=facts.max_threads_per_block,
            local_memory=facts.max_shared_memory_per_block,
            compute_units=facts.multiprocessor_count,
        )


# -- driver ----------------------------------------------------------------------------
class _Landing:
    """Memory of the host that all devices write to without a detour, for single elements."""

    def __init__(self) -> None:
        flags = driver.CU_MEMHOSTALLOC_PORTABLE | driver.CU_MEMHOSTALLOC_DEVICEMAP
        error, address = driver.cuMemHostAlloc(PLACES * PLACE, flags)
        if int(error):
            raise DeviceError(f"no memory of the host for the device: {error.name}")
        self.address = int(address)
        self.number = ctypes.c_int32.from_address(self.address)
        self.number.value = 1

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
        raise DeviceError(f"{what} on {name}{behind}: {reason} ({error.name}){_fate(where[0])}")


def _fate(device: int) -> str:
    """For errors: whether the process can still use the device."""
    error = driver.cuMemGetInfo()[0]
    if not int(error):
        return ""
    return (
        f"; CUDA has given up all memory of this process on device {device}, and everything "
        "there fails from now on: start a new process.  Arrays of the host are as they were"
    )


# -- code ------------------------------------------------------------------------------
#: (digest of the code, device) -> cuda-core's object
_OBJECTS: dict[tuple[str, int], Any] = {}


class Binary(NamedTuple):
    """Machine code of the architecture that a kernel's place names, and the release of the
    driver that made it: as new ones take it."""

    driver: int
    code: bytes


#: (digest of the code, device) -> what `CudaBackend.binary` gives
_BINARIES: dict[tuple[str, int], Binary] = {}


def _release() -> int:
    """Of the driver."""
    return int(driver.cuDriverGetVersion()[1])


def _loaded(kernel: Kernel, device: int) -> int:
    """The driver's handle of a kernel on a device."""
    key = (kernel.digest, device)
    try:
        if key not in _OBJECTS:
            made = kernel.binary
            if made is not None and made.driver <= _release():
                _OBJECTS[key] = _core.ObjectCode.from_cubin(made.code)
            else:
                _OBJECTS[key] = _core.ObjectCode.from_ptx(kernel.code)
        return int(_OBJECTS[key].get_kernel(kernel.name).handle)
    except Exception as exc:
        name = _core.Device(device).name
        raise DeviceError(f"{name} refused kernel {kernel.name}{kernel.where}: {exc}") from exc


def _linked(kernel: Kernel, device: int) -> Binary:
    """The kernel's PTX as the driver's linker compiles it for a device."""
    before = enter(device)
    error, state = driver.cuLinkCreate(0, [], [])
    _check_linked(error, kernel, device)
    try:
        kind, code = driver.CUjitInputType.CU_JIT_INPUT_PTX, kernel.code + b"\0"
        (error,) = driver.cuLinkAddData(state, kind, code, len(code), b"kernel", 0, [], [])
        _check_linked(error, kernel, device)
        error, address, size = driver.cuLinkComplete(state)
        _check_linked(error, kernel, device)
        return Binary(_release(), ctypes.string_at(address, size))
    finally:
        driver.cuLinkDestroy(state)
        leave(before)


def _check_linked(error: Any, kernel: Kernel, device: int) -> None:
    if int(error):
        name = _core.Device(device).name
        raise DeviceError(f"{name} refused kernel {kernel.name}{kernel.where}: {error.name}")


@functools.cache
def _libdevice() -> bytes:
    try:
        return Path(_pathfinder.find_bitcode_lib("device")).read_bytes()
    except Exception as exc:
        raise MissingBackendError(
            "functions such as exp need CUDA's libdevice: install the CUDA toolkit, or "
            f"pip install nvidia-nvvm ({exc})"
        ) from exc
