"""Array libraries of devices, as far as they are installed and have a device here."""

from __future__ import annotations

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
        interfaces = ("__sycl_usm_array_interface__", "__cuda_array_interface__")
        on_device = any(hasattr(type(value), interface) for interface in interfaces)
        return self.asnumpy(value) if on_device else value


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


_MAKERS = {"dpnp": _dpnp, "dpnp.tensor": _tensor, "cupy": _cupy, "torch": _torch}
LIBRARIES = tuple(_MAKERS)
#: one form of arrays for each package
PACKAGES = tuple(name for name in LIBRARIES if "." not in name)


def library(name: str) -> Library | str:
    """The library, or why it cannot be used here."""
    package = name.split(".")[0]
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
