"""What a back end is, and how one is chosen."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from numba_mlir.errors import MissingBackendError

if TYPE_CHECKING:
    from numba_mlir.gpu.kernel import Kernel
    from numba_mlir.gpu.places import DeviceArray, Place


@dataclass(frozen=True)
class Properties:
    """What a device can do.  ``landing``: see `Backend.landing`."""

    name: str
    fp64: bool
    landing: bool
    atomic64: bool
    max_block: int
    local_memory: int
    compute_units: int


#: address, sizes, and strides in bytes
Facts = tuple[int, ...]


class Backend(Protocol):
    """One kind of devices.  An array is an object of one of the libraries it knows.

    Errors of the driver are raised as `DeviceError` with the device's name; running out
    of memory as the library's own exception.
    """

    name: str

    def type_of(self, array: Any) -> DeviceArray | None:
        """The Numba type of an array; None for an object that is not one on a device."""
        ...

    def from_host(self, array: Any) -> Any:
        """A copy of a NumPy array on the default device, C or F ordered as it is."""
        ...

    def to_host(self, array: Any) -> Any:
        """A copy of an array as a NumPy array."""
        ...

    def facts(self, array: Any) -> Facts:
        """Address, sizes, and strides in bytes, in one tuple."""
        ...

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        """A new C ordered array beside ``like``: same library, device and queue or stream."""
        ...

    def order(self, array: Any) -> Any:
        """What names the queue or stream of an array, of the device that it is on."""
        ...

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        """An array in the memory of ``owner``; strides in bytes."""
        ...

    def copy(self, array: Any, order: str) -> Any:
        """A copy of an array, in order "C" or "F"."""
        ...

    def namespace(self, array: Any) -> Any:
        """The module of the array's library that has the functions of the array API."""
        ...

    def inside(self, array: Any) -> AbstractContextManager[Any]:
        """Where functions of `namespace` work on the array's device."""
        ...

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        """A new array of the shape of ``like`` with one value everywhere."""
        ...

    def converted(self, array: Any, dtype: Any) -> Any:
        """A copy of an array with another dtype."""
        ...

    def read(self, owner: Any, address: int, size: int) -> bytes:
        """Bytes from the device's memory, after everything that was submitted before."""
        ...

    def landing(self, owner: Any) -> int:
        """See `numba_mlir.gpu.runtime.landing`.  Raises DeviceError where there is none."""
        ...

    def write(self, owner: Any, address: int, data: bytes) -> None:
        """Bytes into the device's memory, after everything that was submitted before."""
        ...

    def compile(self, llvm_ir: str, place: Place) -> bytes:
        """Code for the device from the LLVM IR of kernels."""
        ...

    def binary(self, kernel: Kernel) -> Any:
        """What spares another process the driver's compiler, to be pickled with the kernel;
        None where drivers do not give it away.  Raises DeviceError for refused code."""
        ...

    def launch(
        self, kernel: Kernel, owner: Any, arguments: int, grid: Sequence[int], block: Sequence[int]
    ) -> None:
        """Run a kernel in the order of ``owner``'s queue or stream.

        ``arguments`` is the address of the kernel's array of ``void *``; ``grid``
        are blocks along x, y and z, ``block`` threads along x and y.
        """
        ...

    def synchronize(self, owner: Any) -> None:
        """Wait for everything that was submitted to ``owner``'s queue or stream."""
        ...

    def properties(self, place: Place) -> Properties:
        """What the device of ``place`` can do."""
        ...


#: interface that an array has -> back end
INTERFACES = {"__sycl_usm_array_interface__": "sycl", "__cuda_array_interface__": "cuda"}
#: DLPack's number of a kind of devices -> back end
DLPACK = {2: "cuda", 13: "cuda", 14: "sycl"}
BACKENDS = ("sycl", "cuda")


@functools.cache
def backend(name: str) -> Backend:
    """The back end "sycl" or "cuda"; its modules are imported now.

    Raises MissingBackendError, which says what to install.
    """
    try:
        module = importlib.import_module(f"numba_mlir.gpu.backends.{name}")
    except ImportError as exc:
        raise MissingBackendError(
            f"the {name} back end needs packages that are not installed: "
            f"pip install 'numba-mlir-roundtrip[{name}]' ({exc})"
        ) from exc
    return module.make()


def backend_of(array: Any) -> Backend | None:
    """The back end of an array; None for an object that is not one on a device."""
    kind = type(array)
    for interface, name in INTERFACES.items():
        if hasattr(kind, interface):
            return backend(name)
    if not only_dlpack(kind):
        return None
    name = DLPACK.get(int(array.__dlpack_device__()[0]))
    return None if name is None else backend(name)


def only_dlpack(kind: type) -> bool:
    """Whether objects of a class say where they are by DLPack only, each for itself."""
    interfaces = any(hasattr(kind, interface) for interface in INTERFACES)
    return (
        hasattr(kind, "__dlpack_device__") and not interfaces and not issubclass(kind, np.ndarray)
    )
