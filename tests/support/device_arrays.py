"""Array libraries of devices, as far as they are installed and have a device here."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Library:
    """An array library: to its arrays, and back to NumPy's."""

    name: str
    backend: str
    asarray: Callable[[Any], Any]
    asnumpy: Callable[[Any], Any]

    def to_device(self, value: Any) -> Any:
        """``value`` with its arrays on the device, in the same layout where possible."""
        return self.asarray(value) if isinstance(value, np.ndarray) else value

    def to_host(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self.to_host, value))
        interfaces = ("__sycl_usm_array_interface__", "__cuda_array_interface__", "__dlpack__")
        on_device = any(hasattr(type(value), interface) for interface in interfaces)
        host = isinstance(value, (np.ndarray, np.generic))
        return self.asnumpy(value) if on_device and not host else value


def _dpnp() -> Library:
    import dpnp

    import numba_mlir  # noqa: F401  (finds the OpenCL driver)

    return Library("dpnp", "sycl", lambda a: dpnp.asarray(a, order="K"), dpnp.asnumpy)


def _tensor() -> Library:
    import dpnp.tensor as tensor

    import numba_mlir  # noqa: F401

    return Library("dpnp.tensor", "sycl", lambda a: tensor.asarray(a, order="K"), tensor.asnumpy)


def _cupy() -> Library:
    import cupy

    cupy.cuda.runtime.getDeviceCount()
    return Library("cupy", "cuda", lambda a: cupy.asarray(a, order="K"), cupy.asnumpy)


def _torch() -> Library:
    import torch

    torch.zeros(1, device="cuda")

    def to_numpy(array: Any) -> Any:
        return array.cpu().numpy() if isinstance(array, torch.Tensor) else array

    return Library("torch", "cuda", lambda a: torch.from_numpy(a.copy()).cuda(), to_numpy)


def _numba_cuda() -> Library:
    from numba import cuda

    cuda.current_context()
    return Library("numba.cuda", "cuda", cuda.to_device, lambda a: a.copy_to_host())


class OnlyDLPack:
    """An array that other libraries can only have by DLPack."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def _cuda_core() -> Library:
    """Views of cuda-core, which have DLPack only."""
    import cupy

    view = importlib.import_module("cuda.core.utils").StridedMemoryView

    def to_device(array: Any) -> Any:
        return view.from_dlpack(cupy.asarray(array, order="K"), -1)

    return Library("cuda.core", "cuda", to_device, _to_host)


def _dlpack(name: str) -> Library:
    inner = _MAKERS[name]()
    return Library(
        f"DLPack of {name}", inner.backend, lambda a: OnlyDLPack(inner.asarray(a)), _to_host
    )


def _to_host(array: Any) -> Any:
    from numba_mlir.gpu.backend import backend_of

    back = backend_of(array)
    assert back is not None
    return back.to_host(array)


_MAKERS = {"dpnp": _dpnp, "dpnp.tensor": _tensor, "cupy": _cupy, "torch": _torch,
           "numba.cuda": _numba_cuda, "cuda.core": _cuda_core}  # fmt: skip
_MAKERS |= {f"DLPack of {name}": functools.partial(_dlpack, name)
            for name in ("dpnp.tensor", "cupy")}  # fmt: skip
#: libraries with functions on arrays
LIBRARIES = ("dpnp", "dpnp.tensor", "cupy", "torch")
#: one form of arrays for each package
PACKAGES = tuple(name for name in LIBRARIES if "." not in name)
#: those that have arrays only
ARRAYS_ONLY = tuple(name for name in _MAKERS if name not in LIBRARIES)
#: what has to be installed for a library whose module is called otherwise
_NEEDED = {"numba.cuda": ("numba_cuda",), "cuda.core": ("cuda", "cupy"),
           "DLPack of dpnp.tensor": ("dpnp",), "DLPack of cupy": ("cuda", "cupy")}  # fmt: skip


def library(name: str) -> Library | str:
    """The library, or why it cannot be used here."""
    for package in _NEEDED.get(name, (name.split(".")[0],)):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    try:
        return _MAKERS[name]()
    except Exception as exc:
        return f"{name} has no device here: {exc}"


def requested(request: pytest.FixtureRequest) -> Library:
    """The library of a fixture's parameter; the test is skipped where there is none."""
    found = library(request.param)
    if isinstance(found, str):
        pytest.skip(found)
    return found
