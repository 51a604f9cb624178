"""CUDA devices through cuda-core: arrays of CuPy and of PyTorch.

Kernels run in the library's current stream of the array's device, in which the library
frees memory, too.  So nothing has to wait for a kernel's end.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numba.np import numpy_support

from numba_mlir.errors import DeviceError, MissingBackendError
from numba_mlir.gpu import codegen
from numba_mlir.gpu.backend import Facts, Properties
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
        return _library(array).type_of(array)

    def from_host(self, array: Any) -> Any:
        return _any_library().from_host(array)

    def to_host(self, array: Any) -> Any:
        return _library(array).to_host(array)

    def facts(self, array: Any) -> Facts:
        return _library(array).facts(array)

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        return _library(like).empty(like, shape, dtype)

    def order(self, array: Any) -> Any:
        return _library(array).where(array)

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        return _library(owner).view(owner, address, shape, strides, dtype)

    def copy(self, array: Any, order: str) -> Any:
        return _library(array).copy(array, order)

    def namespace(self, array: Any) -> Any:
        return _library(array).module

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        return _library(like).filled(like, value, dtype)

    def converted(self, array: Any, dtype: Any) -> Any:
        return _library(array).converted(array, dtype)

    # -- memory ----------------------------------------------------------------------
    def read(self, owner: Any, address: int, size: int) -> bytes:
        library = _library(owner)
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
        _enter(_library(owner).where(owner)[0])
        if number >= _Landing.size // _PLACE:
            raise DeviceError("too many results of one loop")
        return _landing().address + number * _PLACE

    def write(self, owner: Any, address: int, data: bytes) -> None:
        library = _library(owner)
        device, stream = library.where(owner)
        _enter(device)
        source = ctypes.create_string_buffer(data, len(data))
        where = ctypes.addressof(source)
        _check(driver.cuMemcpyHtoDAsync(address, where, len(data), stream), "a copy", owner)
        _check(driver.cuStreamSynchronize(stream), "a copy", owner)

    def synchronize(self, owner: Any) -> None:
        _, stream = _library(owner).where(owner)
        _check(driver.cuStreamSynchronize(stream), "the stream", owner)

    # -- kernels ---------------------------------------------------------------------
    def compile(self, llvm_ir: str, place: Place) -> bytes:
        library = _libdevice() if "@__nv_" in llvm_ir else None
        return codegen.ptx(llvm_ir, place.arch, library).encode()

    def launch(
        self, kernel: Kernel, owner: Any, arguments: int, grid: Sequence[int], block: Sequence[int]
    ) -> None:
        library = _KNOWN.get(type(owner)) or _library(owner)
        device, stream = library.where(owner)
        _enter(device)
        handle = kernel.loaded.get(device)
        if handle is None:
            handle = kernel.loaded[device] = _loaded(kernel, device)
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


def _check(result: tuple[Any, ...], what: str, owner: Any) -> None:
    """Raise DeviceError for a driver's error, naming the device."""
    error = result[0]
    if int(error):
        _, text = driver.cuGetErrorString(error)
        reason = text.decode() if isinstance(text, bytes) else str(text)
        device = _core.Device(_library(owner).where(owner)[0])
        raise DeviceError(f"{what} on {device.name}: {reason} ({error.name})")


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


@functools.cache
def _place(library: str, device: int) -> Place:
    return Place("cuda", f"cuda:{device}", library, f"sm_{_core.Device(device).arch}")


@functools.cache
def _type(dtype: Any, ndim: int, layout: str, library: str, device: int) -> DeviceArray:
    numba_type = numpy_support.from_dtype(np.dtype(dtype))
    return DeviceArray(numba_type, ndim, layout, _place(library, device))


# -- array libraries -------------------------------------------------------------------
class _Cupy:
    def __init__(self) -> None:
        self.module: Any = importlib.import_module("cupy")
        self._stream = self.module.cuda.get_current_stream

    def type_of(self, array: Any) -> DeviceArray:
        flags = array.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return _type(array.dtype, array.ndim, layout, "cupy", array.data.device_id)

    def from_host(self, array: Any) -> Any:
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        return self.module.array(array, order="F" if fortran else "C")

    def to_host(self, array: Any) -> Any:
        return self.module.asnumpy(array)

    def where(self, array: Any) -> tuple[int, int]:
        device = array.data.device_id
        return device, self._stream(device).ptr

    def facts(self, array: Any) -> Facts:
        return (array.data.ptr, *array.shape, *array.strides)

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        with like.device:
            return self.module.empty(tuple(shape), dtype)

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        memory = owner.data.mem
        pointer = self.module.cuda.MemoryPointer(memory, address - memory.ptr)
        return self.module.ndarray(tuple(shape), dtype, pointer, strides=tuple(strides))

    def copy(self, array: Any, order: str) -> Any:
        return array.copy(order=order)

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        with like.device:
            return self.module.full(like.shape, value, dtype)

    def converted(self, array: Any, dtype: Any) -> Any:
        return array.astype(dtype)


class _Torch:
    def __init__(self) -> None:
        self.module: Any = importlib.import_module("torch")
        names = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64",
                 "float32", "float64", "complex64", "complex128")  # fmt: skip
        torch_types = {name: getattr(self.module, name, None) for name in names}
        self._to_torch = {np.dtype(n): t for n, t in torch_types.items() if t is not None}
        self._to_numpy = {t: n for n, t in self._to_torch.items()}

    def type_of(self, array: Any) -> DeviceArray | None:
        if not array.is_cuda:
            return None
        if array.requires_grad:
            raise DeviceError("a tensor that requires a gradient: pass tensor.detach()")
        if array.is_conj() or array.is_neg() or array.dtype not in self._to_numpy:
            raise DeviceError(f"a tensor of {array.dtype} in a form that has no Numba type")
        dtype = self._to_numpy[array.dtype]
        contiguous = array.is_contiguous()
        turned = array.ndim == 2 and array.mT.is_contiguous()
        layout = "C" if contiguous else "F" if turned else "A"
        return _type(dtype, array.ndim, layout, "torch", array.device.index)

    def from_host(self, array: Any) -> Any:
        return self.module.tensor(np.ascontiguousarray(array), device="cuda")

    def to_host(self, array: Any) -> Any:
        return array.cpu().numpy()

    def where(self, array: Any) -> tuple[int, int]:
        device = array.device.index
        return device, self.module.cuda.current_stream(device).cuda_stream

    def facts(self, array: Any) -> Facts:
        size = array.element_size()
        return (array.data_ptr(), *array.shape, *[step * size for step in array.stride()])

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        return self.module.empty(tuple(shape), dtype=self._to_torch[dtype], device=like.device)

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        if any(step < 0 for step in strides):
            raise DeviceError("torch has no arrays with negative strides")
        storage = owner.untyped_storage()
        made = self.module.empty(0, dtype=self._to_torch[dtype], device=owner.device)
        steps = [step // dtype.itemsize for step in strides]
        return made.set_(storage, (address - storage.data_ptr()) // dtype.itemsize, shape, steps)

    def copy(self, array: Any, order: str) -> Any:
        if order == "F":
            axes = tuple(range(array.ndim))[::-1]
            return (
                array.permute(axes).clone(memory_format=self.module.contiguous_format).permute(axes)
            )
        return array.clone(memory_format=self.module.contiguous_format)

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        kind = self._to_torch[dtype]
        return self.module.full(tuple(like.shape), value, dtype=kind, device=like.device)

    def converted(self, array: Any, dtype: Any) -> Any:
        return array.to(self._to_torch[dtype])


_LIBRARIES = {"cupy": _Cupy, "torch": _Torch}
#: class of arrays -> its library
_KNOWN: dict[type, Any] = {}


def _library(array: Any) -> Any:
    kind = type(array)
    found = _KNOWN.get(kind)
    if found is None:
        found = _KNOWN[kind] = _make(kind.__module__.split(".")[0])
    return found


@functools.cache
def _any_library() -> Any:
    """The first of the libraries that is installed."""
    for name in _LIBRARIES:
        if importlib.util.find_spec(name) is not None:
            return _make(name)
    raise MissingBackendError(f"NumPy arrays go to a device by {' or '.join(_LIBRARIES)}")


@functools.cache
def _make(name: str) -> Any:
    if name not in _LIBRARIES:
        raise DeviceError(f"arrays of {name} are not supported; those of cupy and torch are")
    return _LIBRARIES[name]()
