"""What the array libraries of CUDA devices have in common."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from numba.np import numpy_support

from numba_mlir.errors import DeviceError
from numba_mlir.gpu import elementwise
from numba_mlir.gpu.places import DeviceArray, Place, element_type

# The packages' own stubs depend on how they are installed, or not.
driver: Any = importlib.import_module("cuda.bindings.driver")
_core: Any = importlib.import_module("cuda.core")

#: device -> its primary context, as a number
_CONTEXTS: dict[int, int] = {}


def enter(device: int) -> Any:
    """Make the device's primary context current in this thread.  Returns what `leave` makes
    current again; None where the caller's device stays what it is."""
    known = _CONTEXTS.get(device)
    _, current = driver.cuCtxGetCurrent()
    if known is not None and int(current) == known:
        return None
    _core.Device(device).set_current()
    _, now = driver.cuCtxGetCurrent()
    _CONTEXTS[device] = int(now)
    # a thread without a context is on device 0, as CUDA's run-time has it
    same = int(current) == int(now) or (int(current) == 0 and device == 0)
    return None if same else current


def leave(before: Any) -> None:
    if before is not None:
        driver.cuCtxSetCurrent(before)


@functools.cache
def _place(library: str, device: int) -> Place:
    return Place("cuda", f"cuda:{device}", library, f"sm_{_core.Device(device).arch}")


@functools.cache
def array_type(
    dtype: Any, ndim: int, layout: str, library: str, device: int, readonly: bool = False
) -> DeviceArray:
    """The Numba type of an array.  Raises DeviceError for a dtype that kernels have not."""
    return DeviceArray(element_type(dtype), ndim, layout, _place(library, device), readonly)


def layout_of(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> str:
    """ "C", "F" or "A", by the strides in bytes."""
    axes = range(len(shape))
    for layout, order in (("C", reversed(axes)), ("F", iter(axes))):
        expected = itemsize
        for axis in order:
            if shape[axis] != 1 and strides[axis] != expected and 0 not in shape:
                break
            expected *= shape[axis]
        else:
            return layout
    return "A"


def c_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a C ordered array."""
    strides, step = [], itemsize
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


class WithoutFunctions:
    """Of a library that has arrays and no functions on them: kernels of this project fill new
    ones."""

    name: str
    type_of: Any
    facts: Any
    empty: Any
    view: Any

    def copy(self, array: Any, order: str) -> Any:
        shape, dtype = self._form(array)
        made = self.empty(array, shape, dtype)
        if order == "F":
            address, strides = self.facts(made)[0], c_strides(shape[::-1], dtype.itemsize)
            made = self.view(made, address, shape, strides[::-1], dtype)
        elementwise.assign(made, array)
        return made

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        return self._assigned(like, value, dtype)

    def converted(self, array: Any, dtype: Any) -> Any:
        return self._assigned(array, array, dtype)

    def _assigned(self, like: Any, value: Any, dtype: Any) -> Any:
        made = self.empty(like, self._form(like)[0], dtype)
        elementwise.assign(made, value)
        return made

    def _form(self, array: Any) -> tuple[tuple[int, ...], Any]:
        """Shape and NumPy dtype; objects have them by their protocols only."""
        _, *rest = self.facts(array)
        return tuple(rest[: len(rest) // 2]), numpy_support.as_dtype(self.type_of(array).dtype)

    def inside(self, array: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    @property
    def module(self) -> Any:
        raise DeviceError(
            f"{self.name} has no functions on arrays, and none is there for matrix products and "
            "the positions of extremes: pass arrays of cupy (cupy.asarray makes one without a "
            "copy) or torch"
        )
