"""Arrays of numba-cuda, and of all libraries that are known by their protocols only:
the CUDA array interface, or DLPack.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba._devicearray import DeviceArray as ArrayOfNumba

from numba_mlir.errors import DeviceError
from numba_mlir.gpu.backend import DLPACK, Facts
from numba_mlir.gpu.backends.cuda_arrays import (
    WithoutFunctions,
    array_type,
    c_strides,
    driver,
    enter,
    layout_of,
    leave,
)
from numba_mlir.gpu.places import DeviceArray

_core: Any = importlib.import_module("cuda.core")
_View: Any = importlib.import_module("cuda.core.utils").StridedMemoryView


class NumbaCuda(WithoutFunctions):
    """``numba.cuda``'s device arrays, on the stream that each is bound to."""

    name = "numba.cuda"

    def __init__(self) -> None:
        self._cuda: Any = importlib.import_module("numba.cuda")

    def type_of(self, array: Any) -> DeviceArray:
        if isinstance(array, ArrayOfNumba):
            # Numba's dispatcher, in C, remembers types of those and of NumPy arrays in one
            # table, for all functions of the process.
            raise DeviceError(
                "arrays of this release of numba-cuda are not supported: install a newer one, "
                "or pass cupy.asarray(array), which makes no copy"
            )
        flags = array.flags
        layout = "C" if flags["C_CONTIGUOUS"] else "F" if flags["F_CONTIGUOUS"] else "A"
        return array_type(array.dtype, array.ndim, layout, self.name, self.where(array)[0])

    def from_host(self, array: Any) -> Any:
        return self._cuda.to_device(array)

    def to_host(self, array: Any) -> Any:
        return array.copy_to_host()

    def where(self, array: Any) -> tuple[int, int]:
        stream = array.stream
        return array.gpu_data.context.device.id, int(stream) if stream != 0 else 0

    def facts(self, array: Any) -> Facts:
        return (array.device_ctypes_pointer.value or 0, *array.shape, *array.strides)

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        with self._cuda.gpus[self.where(like)[0]]:
            return self._cuda.device_array(tuple(shape), dtype, stream=like.stream)

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        _check_strides(self.name, strides)
        interface = {"shape": tuple(shape), "strides": tuple(strides), "typestr": dtype.str,
                     "data": (address, False), "version": 3}  # fmt: skip
        with self._cuda.gpus[self.where(owner)[0]]:
            made = self._cuda.from_cuda_array_interface(interface, owner=owner, sync=False)
        return made.bind(owner.stream)


class Protocols(WithoutFunctions):
    """Objects that are known by ``__cuda_array_interface__`` or ``__dlpack__`` only; new ones
    are views of cuda-core, which have DLPack.

    Kernels run in the default stream of the object's device, behind what the object's library
    has submitted when it is asked for the memory.
    """

    name = "cuda.core"

    def __init__(self) -> None:
        #: the number of the default stream, which is the same for all devices
        self._stream = int(_core.Device(0).default_stream.handle)

    def type_of(self, array: Any) -> DeviceArray | None:
        if hasattr(type(array), "__dlpack__") and not _on_cuda(array):
            return None
        view = self._view(array)
        device = _device(view)
        if device < 0:
            return None
        if view.dtype is None:
            raise DeviceError(f"{type(array).__name__} on a device without a dtype")
        shape, strides = _shape(view)
        layout = layout_of(shape, strides, view.dtype.itemsize)
        readonly = bool(view.readonly) or _says_readonly(array)
        return array_type(view.dtype, len(shape), layout, self.name, device, readonly)

    def to_host(self, array: Any) -> Any:
        made = self.copy(array, "C")
        host = np.empty(made.shape, made.dtype)
        if host.size:
            before = enter(made.device_id)
            (error,) = driver.cuMemcpyDtoH(host.ctypes.data, made.ptr, host.nbytes)
            leave(before)
            if int(error):
                raise DeviceError(f"a copy to the host: {error.name}")
        return host

    def where(self, array: Any) -> tuple[int, int]:
        return _device(self._view(array)), self._stream

    def facts(self, array: Any) -> Facts:
        view = self._view(array, behind=True)
        shape, strides = _shape(view)
        return (view.ptr, *shape, *strides)

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        device = _core.Device(self.where(like)[0])
        size = max(math.prod(shape) * dtype.itemsize, 1)
        before = enter(device.device_id)
        try:
            device.set_current()  # which cuda-core asks for, once in a thread
            buffer = device.allocate(size, stream=device.default_stream)
        finally:
            leave(before)
        return _View.from_buffer(buffer, shape=tuple(shape), dtype=dtype)

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        _check_strides(self.name, strides)
        if 0 in shape:
            return self.empty(owner, shape, dtype)
        pairs = zip(shape, strides, strict=True)
        last = sum((extent - 1) * step for extent, step in pairs)
        buffer = _core.Buffer.from_handle(address, last + dtype.itemsize, owner=owner)
        steps = tuple(step // dtype.itemsize for step in strides)
        return _View.from_buffer(buffer, shape=tuple(shape), strides=steps, dtype=dtype)

    def _view(self, array: Any, behind: bool = False) -> Any:
        """cuda-core's view of an array; ``behind``: what kernels do in the default stream
        comes behind what the array's library has submitted, as it always does by DLPack."""
        if type(array) is _View:
            return array
        if hasattr(type(array), "__dlpack__"):
            device = int(array.__dlpack_device__()[1])
            return self._made(_View.from_dlpack, array, device)
        view = _View.from_cuda_array_interface(array, -1)
        if not behind or _device(view) < 0:
            return view
        return self._made(_View.from_cuda_array_interface, array, _device(view))

    def _made(self, maker: Any, array: Any, device: int) -> Any:
        before = enter(device)
        try:
            return maker(array, self._stream)
        finally:
            leave(before)


def _on_cuda(array: Any) -> bool:
    return DLPACK.get(int(array.__dlpack_device__()[0])) == "cuda"


def _says_readonly(array: Any) -> bool:
    """By ``__cuda_array_interface__``: DLPack of many libraries does not say it."""
    interface = getattr(array, "__cuda_array_interface__", None)
    return interface is not None and bool(interface["data"][1])


def _device(view: Any) -> int:
    """Where a view is: -1 on the host; the current device, where there is no memory at all."""
    if view.device_id >= 0:
        return view.device_id if view.is_device_accessible else -1
    of_cuda = hasattr(type(view.exporting_obj), "__cuda_array_interface__")
    return _core.Device().device_id if of_cuda and 0 in view.shape else -1


def _shape(view: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and strides, in bytes."""
    shape, strides, size = tuple(view.shape), view.strides, view.dtype.itemsize
    if strides is None:
        return shape, c_strides(shape, size)
    return shape, tuple(step * size for step in strides)


def _check_strides(library: str, strides: Sequence[int]) -> None:
    if any(step < 0 for step in strides):
        raise DeviceError(f"{library} has no arrays with negative strides")
