"""Which arguments of a compiled function are arrays on a device."""

from __future__ import annotations

from typing import Any

from numba_mlir.gpu.backend import INTERFACES, backend_of
from numba_mlir.gpu.places import DeviceArray

#: classes that have no interface of a device
_OTHERS: set[type] = set()


def device_type(value: Any) -> DeviceArray | None:
    """The type of an array on a device; None for everything else.

    Raises MissingBackendError when the packages that its library's device needs are missing.
    """
    kind = type(value)
    if kind in _OTHERS:
        return None
    if not any(hasattr(kind, interface) for interface in INTERFACES):
        _OTHERS.add(kind)
        return None
    found = backend_of(value)
    return None if found is None else found.type_of(value)
