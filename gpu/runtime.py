"""Functions that compiled code calls.

``owner`` and ``like`` are array objects; ``dtype`` is the code point of NumPy's character.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from numba_mlir.errors import DeviceError
from numba_mlir.gpu.backend import Backend, Facts, backend_of

#: elements of a scratch array at least
_SCRATCH = 4096
#: bytes behind the elements of a scratch array
TAIL = 64
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


def scratch(like: Any, dtype: int, number: int, size: int) -> Any:
    """An array of at least ``size`` elements that belongs to this thread and the queue or
    stream of ``like``.

    It is for results that are read before the next one is asked for; work of one queue or
    stream follows each other, and other threads have their own.  Behind its elements are
    `TAIL` bytes, all 0 at first, in the array as well.
    """
    known: dict[Any, Any] = _KEPT.__dict__
    back = _backend(like)
    key = (back.order(like), type(like), dtype, number)
    found = known.get(key)
    if found is None or found[0] < size:
        kind = np.dtype(chr(dtype))
        size = max(size, _SCRATCH)
        made = back.empty(like, (size + TAIL // kind.itemsize,), kind)
        back.write(made, back.facts(made)[0] + size * kind.itemsize, bytes(TAIL))
        found = known[key] = (size, made)
    return found[1]


def landing(owner: Any, number: int) -> int:
    """The address of place ``number`` of this thread for one element that the host reads."""
    return _backend(owner).landing(owner, number)


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
    return _finished(_backend(a).namespace(a).matmul(a, b), dtype)


def argmax(dtype: int, array: Any) -> int:
    """The index of the first largest element, in C order.  Raises ValueError for none."""
    return _position("argmax", array)


def argmin(dtype: int, array: Any) -> int:
    """The index of the first smallest element, in C order.  Raises ValueError for none."""
    return _position("argmin", array)


def _position(name: str, array: Any) -> int:
    if 0 in array.shape:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    return int(getattr(_backend(array).namespace(array), name)(array))


def copied(dtype: int, array: Any, *order: Any) -> Any:
    """A C ordered copy with another dtype."""
    return _finished(_backend(array).copy(array, "C"), dtype)


def flattened(dtype: int, array: Any) -> Any:
    """A copy of one dimension, in C order."""
    made = _backend(array).copy(array, "C")
    return _finished(_backend(array).namespace(made).reshape(made, (-1,)), dtype)


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
    text = str(array.dtype)  # "float32", or "torch.float32"
    return text.rpartition(".")[2] == np.dtype(chr(dtype)).name
