"""NumPy arrays to a device for one call, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from numba_mlir.errors import DeviceError
from numba_mlir.gpu.backend import Backend, backend, backend_of


@dataclass
class Copies:
    """How many arrays were copied, and how many bytes, in how many calls."""

    calls: int = 0
    to_device: int = 0
    to_host: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return (
            f"{self.to_device} arrays copied to the device and {self.to_host} back, "
            f"{self.bytes} bytes, in {self.calls} calls"
        )


class Transfer:
    """The arrays of one call: NumPy array -> copy on the device.

    One object that is passed twice is copied once.  Different arrays that share memory
    would be apart on the device: they raise DeviceError.
    """

    def __init__(self, name: str, copies: Copies) -> None:
        self._name = name
        self._copies = copies
        self._pairs: dict[int, tuple[np.ndarray[Any, Any], Any]] = {}

    @property
    def _backend(self) -> Backend:
        return backend(self._name)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """``function`` on copies; arguments that may be written are copied back."""
        device_args = [self._to_device(arg) for arg in args]
        device_kwargs = {name: self._to_device(arg) for name, arg in kwargs.items()}
        self._check_apart()
        self._copies.calls += 1
        result = function(*device_args, **device_kwargs)
        for host, copy in self._pairs.values():
            if host.flags.writeable and host.size:
                host[...] = self._host(copy)
        return self._to_host(result)

    def _check_apart(self) -> None:
        arrays = [host for host, _ in self._pairs.values()]
        for one, other in combinations(arrays, 2):
            written = one.flags.writeable or other.flags.writeable
            if written and np.may_share_memory(one, other):
                raise DeviceError(
                    "two arguments share memory, and copies on a device would not: pass "
                    "copies, or arrays of the device"
                )

    def _to_device(self, value: Any) -> Any:
        if isinstance(value, tuple):
            members = [self._to_device(member) for member in value]
            return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
        if type(value) is not np.ndarray:
            return value
        known = self._pairs.get(id(value))
        if known is None:
            known = self._pairs[id(value)] = (value, self._copied(value))
            self._copies.to_device += 1
            self._copies.bytes += value.nbytes
        return known[1]

    def _copied(self, value: np.ndarray[Any, Any]) -> Any:
        back = self._backend
        try:
            return back.from_host(value)
        except Exception as exc:
            exc.add_note(f"an argument goes to a device, by mlir_gpu={self._name!r}")
            raise

    def _to_host(self, value: Any) -> Any:
        """A result: an argument itself where it is one, else a new NumPy array."""
        if isinstance(value, tuple):
            members = [self._to_host(member) for member in value]
            return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
        if backend_of(value) is None:
            return value
        for host, copy in self._pairs.values():
            if copy is value:
                return host
            if self._overlap(copy, value):
                raise DeviceError(
                    "a result is a view of an argument, and would not be one of the NumPy "
                    "array: return a copy, or pass arrays of the device"
                )
        return self._host(value)

    def _overlap(self, one: Any, other: Any) -> bool:
        (low, high), (start, end) = self._span(one), self._span(other)
        return low < end and start < high

    def _span(self, array: Any) -> tuple[int, int]:
        address, *rest = self._backend.facts(array)
        rank = len(rest) // 2
        sizes, strides = rest[:rank], rest[rank:]
        if 0 in sizes:
            return address, address
        steps = [(size - 1) * stride for size, stride in zip(sizes, strides, strict=True)]
        low = address + sum(step for step in steps if step < 0)
        high = address + sum(step for step in steps if step > 0) + 1
        return low, high

    def _host(self, array: Any) -> np.ndarray[Any, Any]:
        made = self._backend.to_host(array)
        self._copies.to_host += 1
        self._copies.bytes += made.nbytes
        return made
