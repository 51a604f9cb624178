"""Functions that compiled code calls.

``owner`` and ``like`` are array objects; ``dtype`` is the code point of NumPy's character.
"""

from __future__ import annotations

import ctypes
import math
import threading
from typing import Any

import numpy as np
from numba.np import numpy_support

from numba_mlir.errors import DeviceError
from numba_mlir.gpu.backend import Backend, Facts, backend_of, only_dlpack

#: elements of a scratch array at least
_SCRATCH = 4096
#: bytes at the end of a scratch array that are 0 when nobody uses them
TAIL = 64
#: places of a landing, the first of which has its number; bytes of each
PLACES, PLACE = 256, 16
#: scratch arrays of a thread
_KEPT = threading.local()
#: class of arrays -> its back end
_KNOWN: dict[type, Backend] = {}


def _backend(array: Any) -> Backend:
    found = _KNOWN.get(type(array))
    if found is None:
        found = backend_of(array)
        if found is None:
            raise DeviceError(f"{type(array)} is not an array on a device")
        if not only_dlpack(type(array)):
            _KNOWN[type(array)] = found
    return found


def facts(array: Any) -> Facts:
    """Address, sizes, and strides in bytes."""
    return _backend(array).facts(array)


def empty(like: Any, dtype: int, where: str, *shape: int) -> Any:
    """A new array beside ``like``.  Raises ValueError for negative sizes, as NumPy does.

    What the library raises, where there is not enough memory, gets a note with the device
    and ``where``, the user's line.
    """
    if any(size < 0 for size in shape):
        raise ValueError("negative dimensions are not allowed")
    back, kind = _backend(like), np.dtype(chr(dtype))
    try:
        return back.empty(like, shape, kind)
    except Exception as exc:
        found = back.type_of(like)
        place = "" if found is None else f" on {back.properties(found.place).name}"
        exc.add_note(f"an array of shape {shape} and {kind}{place}{where}")
        raise


def scratch(like: Any, dtype: int, number: int, size: int) -> tuple[Any, int, int]:
    """An array of at least ``size`` elements that belongs to this thread and the queue or
    stream of ``like``, its address and its size.

    It is for results that are read before the next one is asked for; work of one queue or
    stream follows each other, and other threads have their own.  The last `TAIL` bytes are
    for numbers that are 0 when they are not in use.
    """
    known: dict[Any, Any] = _KEPT.__dict__
    back = _backend(like)
    key = (back.order(like), type(like), dtype, number)
    found = known.get(key)
    tail = TAIL // np.dtype(chr(dtype)).itemsize
    if found is None or found[2] < size + tail:
        kind = np.dtype(chr(dtype))
        size = max(size, _SCRATCH)
        made = back.empty(like, (size + tail,), kind)
        address = back.facts(made)[0]
        back.write(made, address + size * kind.itemsize, bytes(TAIL))
        found = known[key] = (made, address, size + tail)
    return found


def landing(owner: Any) -> int:
    """The address of this thread's memory of the host that kernels store results to.

    It has `PLACES` places of `PLACE` bytes.  The first one has a number, 0 now, which a
    kernel sets when its results are in the others.
    """
    return _backend(owner).landing(owner)


def wait(owner: Any, address: int) -> None:
    """Wait for the kernel that sets the number at ``address``.  Raises DeviceError where it
    ended and did not."""
    back = _backend(owner)
    back.synchronize(owner)
    if not ctypes.c_int32.from_address(address).value:
        raise DeviceError("a kernel ended without a result")


def rebuild(owner: Any, address: int, dtype: int, *sizes_and_strides: int) -> Any:
    """The array at ``address`` in the memory of ``owner``: ``owner`` itself where it is all
    the same, else a view."""
    back = _backend(owner)
    if back.facts(owner) == (address, *sizes_and_strides) and same_dtype(owner, dtype):
        return owner
    rank = len(sizes_and_strides) // 2
    shape, strides = sizes_and_strides[:rank], sizes_and_strides[rank:]
    return back.view(owner, address, shape, strides, np.dtype(chr(dtype)))


def copy(order: int, owner: Any, address: int, dtype: int, *sizes_and_strides: int) -> Any:
    """A copy of the array at ``address`` in C or Fortran order."""
    made = rebuild(owner, address, dtype, *sizes_and_strides)
    return _backend(owner).copy(made, chr(order))


def read(owner: Any, address: int, dtype: int) -> Any:
    """One number from the device's memory, as a Python number."""
    kind = np.dtype(chr(dtype))
    data = _backend(owner).read(owner, address, kind.itemsize)
    return np.frombuffer(data, kind)[0].item()


def write(owner: Any, address: int, dtype: int, value: Any) -> None:
    """One number into the device's memory."""
    _backend(owner).write(owner, address, np.array(value).astype(chr(dtype)).tobytes())


# -- functions of the arrays' own library -------------------------------------------------
def matmul(dtype: int, a: Any, b: Any) -> Any:
    """``a @ b``"""
    back = _backend(a)
    with back.inside(a):
        return _finished(back.namespace(a).matmul(a, b), dtype)


def argmax(dtype: int, array: Any) -> int:
    """The index of the first largest element, in C order.  Raises ValueError for none."""
    return _position("argmax", array)


def argmin(dtype: int, array: Any) -> int:
    """The index of the first smallest element, in C order.  Raises ValueError for none."""
    return _position("argmin", array)


def _position(name: str, array: Any) -> int:
    back = _backend(array)
    _, *rest = back.facts(array)
    if 0 in rest[: len(rest) // 2]:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    with back.inside(array):
        return int(getattr(back.namespace(array), name)(array))


def copied(dtype: int, array: Any, *order: Any) -> Any:
    """A C ordered copy with another dtype."""
    return _finished(_backend(array).copy(array, "C"), dtype)


def flattened(dtype: int, array: Any) -> Any:
    """A copy of one dimension, in C order."""
    made = _backend(array).copy(array, "C")
    address, *rest = _backend(made).facts(made)
    size, kind = math.prod(rest[: len(rest) // 2]), np.dtype(chr(dtype))
    return _backend(made).view(made, address, (size,), (kind.itemsize,), kind)


def filled(dtype: int, like: Any, value: Any) -> Any:
    """A new array of the shape of ``like`` with one value everywhere."""
    return _finished(_backend(like).filled(like, value, np.dtype(chr(dtype))), dtype)


def ones(dtype: int, like: Any) -> Any:
    return filled(dtype, like, 1)


def zeros(dtype: int, like: Any) -> Any:
    return filled(dtype, like, 0)


def _finished(array: Any, dtype: int) -> Any:
    """A C ordered array of ``dtype``; a number where ``array`` has no dimension."""
    back = _backend(array)
    if not same_dtype(array, dtype):
        array = back.converted(array, np.dtype(chr(dtype)))
    address, *rest = back.facts(array)
    rank = len(rest) // 2
    if rank == 0:
        return read(array, address, dtype)
    size = np.dtype(chr(dtype)).itemsize
    for extent, stride in zip(rest[:rank][::-1], rest[rank:][::-1], strict=True):
        if extent > 1 and stride != size:
            return back.copy(array, "C")
        size *= extent
    return array


def same_dtype(array: Any, dtype: int) -> bool:
    """Whether an array's elements are of a NumPy dtype."""
    wanted = np.dtype(chr(dtype))
    if not hasattr(array, "dtype"):
        found = _backend(array).type_of(array)
        return found is not None and numpy_support.as_dtype(found.dtype) == wanted
    text = str(array.dtype)  # "float32", or "torch.float32"
    return text.rpartition(".")[2] == wanted.name
