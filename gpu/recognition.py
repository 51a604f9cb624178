"""Which arguments of a compiled function are arrays on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir.gpu.backend import backend_of, only_dlpack
from numba_mlir.gpu.places import DeviceArray

#: class -> what gives the type of an object of it; asked at every call, and so kept
_KNOWN: dict[type, Callable[[Any], DeviceArray | None]] = {}


def device_type(value: Any) -> DeviceArray | None:
    """The type of an array on a device; None for everything else.

    Raises MissingBackendError when the packages that its library's device needs are missing.
    """
    found = _KNOWN.get(type(value))
    if found is None:
        found = _KNOWN[type(value)] = _way(value)
    return found(value)


def _way(value: Any) -> Callable[[Any], DeviceArray | None]:
    if only_dlpack(type(value)):
        return _asked
    back = backend_of(value)
    return _not_on_a_device if back is None else back.type_of


def _asked(value: Any) -> DeviceArray | None:
    back = backend_of(value)
    return None if back is None else back.type_of(value)


def _not_on_a_device(value: Any) -> None:
    return None
