"""The array libraries of CUDA devices: CuPy and PyTorch, and which one an array is of.

Each class answers for the arrays of one library; `CudaBackend` asks the one of an array.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from numba_mlir.errors import DeviceError, MissingBackendError
from numba_mlir.gpu.backend import Facts
from numba_mlir.gpu.backends.cuda_arrays import array_type
from numba_mlir.gpu.backends.cuda_protocols import NumbaCuda, Protocols
from numba_mlir.gpu.places import DeviceArray


class _Cupy:
    def __init__(self) -> None:
        self.module: Any = importlib.import_module("cupy")
        self._stream = self.module.cuda.get_current_stream

    def type_of(self, array: Any) -> DeviceArray:
        flags = array.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return array_type(array.dtype, array.ndim, layout, "cupy", array.data.device_id)

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

    def inside(self, array: Any) -> AbstractContextManager[Any]:
        return array.device

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
        with array.device:  # CuPy copies to the current one
            return array.copy(order=order)

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        with like.device:
            return self.module.full(like.shape, value, dtype)

    def converted(self, array: Any, dtype: Any) -> Any:
        with array.device:
            return array.astype(dtype)


class _Torch:
    def __init__(self) -> None:
        self.module: Any = importlib.import_module("torch")
        names = ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64",
                 "float16", "float32", "float64", "complex64", "complex128")  # fmt: skip
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
        return array_type(dtype, array.ndim, layout, "torch", array.device.index)

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

    def inside(self, array: Any) -> AbstractContextManager[Any]:
        return nullcontext()  # its functions work where their arguments are

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


#: top-level module of an array's class -> its library
_LIBRARIES = {"cupy": _Cupy, "torch": _Torch, "numba": NumbaCuda}
#: class of arrays -> its library
KNOWN: dict[type, Any] = {}


def library_of(array: Any) -> Any:
    kind = type(array)
    found = KNOWN.get(kind)
    if found is None:
        found = KNOWN[kind] = _make(kind.__module__.split(".")[0])
    return found


@functools.cache
def any_library() -> Any:
    """The first of the libraries that is installed."""
    for name, package in (("cupy", "cupy"), ("torch", "torch"), ("numba", "numba_cuda")):
        if importlib.util.find_spec(package) is not None:
            return _make(name)
    raise MissingBackendError(
        "NumPy arrays go to a CUDA device by cupy or torch: pip install cupy-cuda13x, for example"
    )


@functools.cache
def _make(name: str) -> Any:
    """The library of arrays whose class is in package ``name``; an unknown one's by the
    protocols that it has."""
    return _LIBRARIES[name]() if name in _LIBRARIES else _protocols()


@functools.cache
def _protocols() -> Protocols:
    return Protocols()
