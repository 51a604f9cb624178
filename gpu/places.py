"""Where arrays live, and the Numba type of those that live on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from numba.core import types
from numba.np import numpy_support

from numba_mlir.errors import DeviceError


@dataclass(frozen=True)
class Place:
    """A device as one array library sees it.

    ``backend`` is "sycl" or "cuda", ``device`` the back end's name of the device
    ("opencl:cpu:0", "cuda:0"), ``library`` the array library ("dpnp", "cupy", ...), and
    ``arch`` what code is compiled for ("sm_90"; "" where the driver compiles it).
    """

    backend: str
    device: str
    library: str
    arch: str = ""

    def __str__(self) -> str:
        return f"{self.library} on {self.device}"


def element_type(dtype: Any) -> Any:
    """The Numba type of elements.  Raises DeviceError for a NumPy dtype that kernels have not."""
    try:
        found = numpy_support.from_dtype(dtype)
    except NotImplementedError as exc:
        raise DeviceError(f"an array of {dtype} on a device: it has no Numba type") from exc
    if not isinstance(found, (types.Number, types.Boolean)):
        raise DeviceError(f"an array of {dtype} on a device: it has no form in a kernel")
    if found == types.float16:
        raise DeviceError(
            "an array of float16 on a device: Numba has no arithmetic on float16, and neither "
            "have kernels; pass array.astype('float32')"
        )
    return found


class DeviceArray(types.Type):
    """An array on a device: the type of arguments and results of compiled functions.

    Inside a function that has such arguments its arrays have the type ``host``, and
    everything that touches elements runs on the device.
    """

    def __init__(
        self, dtype: Any, ndim: int, layout: str, place: Place, readonly: bool = False
    ) -> None:
        self.place = place
        self.host = types.Array(dtype, ndim, layout, readonly=readonly)
        mode = ", readonly" if readonly else ""
        where = f"{place}, {place.arch}" if place.arch else str(place)
        super().__init__(name=f"DeviceArray({dtype}, {ndim}d, {layout}{mode}, {where})")

    @property
    def key(self) -> Any:
        return self.host.key, self.place

    @property
    def dtype(self) -> Any:
        return self.host.dtype

    @property
    def ndim(self) -> int:
        return self.host.ndim


def map_arrays(numba_type: Any, change: Callable[[Any], Any]) -> Any:
    """``numba_type`` with ``change`` applied to it, or to the members of tuples."""
    if isinstance(numba_type, types.UniTuple):
        return types.UniTuple(map_arrays(numba_type.dtype, change), numba_type.count)
    if isinstance(numba_type, types.NamedTuple):
        members = [map_arrays(one, change) for one in numba_type.types]
        return types.NamedTuple(members, numba_type.instance_class)
    if isinstance(numba_type, types.Tuple):
        return types.Tuple.from_types([map_arrays(one, change) for one in numba_type.types])
    return change(numba_type)


def arrays_in(numba_type: Any) -> Iterator[Any]:
    """The array types, of host and device, in a type or in the members of a tuple."""
    if isinstance(numba_type, types.BaseTuple):
        for member in numba_type:
            yield from arrays_in(member)
    elif isinstance(numba_type, (DeviceArray, types.Array)):
        yield numba_type


def has_host_array(numba_type: Any) -> bool:
    """Whether a type is a plain array or holds one, in whatever way (optional, list, ...)."""
    if isinstance(numba_type, DeviceArray):
        return False
    if isinstance(numba_type, types.Array):
        return True
    if isinstance(numba_type, types.BaseTuple):
        return any(map(has_host_array, numba_type))
    inner = ("type", "dtype", "item_type", "key_type", "value_type", "yield_type")
    found = (getattr(numba_type, name, None) for name in inner)
    return any(has_host_array(one) for one in found if isinstance(one, types.Type))


def on_host(numba_type: Any) -> Any:
    """The type that a value has inside a function: device arrays are plain arrays there."""
    return map_arrays(numba_type, lambda t: t.host if isinstance(t, DeviceArray) else t)


def on_device(numba_type: Any, place: Place) -> Any:
    """The type that a result has for the caller."""

    def change(one: Any) -> Any:
        if not isinstance(one, types.Array):
            return one
        return DeviceArray(one.dtype, one.ndim, one.layout, place, readonly=not one.mutable)

    return map_arrays(numba_type, change)
