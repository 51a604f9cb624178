"""Copies of a call's arguments that alias each other as the arguments do."""

from __future__ import annotations

import copy
import ctypes
import types as python_types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

#: byte alignment that a copied array keeps from its original
_ALIGNMENT = 64
_SHARED = (Dispatcher, python_types.FunctionType, python_types.ModuleType, type)


class CannotCopy(TypeError):
    """A value has no copy that a compiled function could work on."""


@dataclass
class _Block:
    """Memory of arrays that overlap, [low, high), and its copy."""

    low: int
    high: int
    memory: np.ndarray[Any, Any]


class Copier:
    """Copies values; arrays that overlap before overlap in the same way after.

    Copies have the dtype, shape, strides, alignment and writability of the originals,
    so that Numba gives them the same type.  Functions, modules and classes are shared.
    """

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._blocks = [_copied_block(*bounds) for bounds in _merged(_arrays(values))]
        self._memo: dict[int, Any] = {}
        self.values = tuple(self._copy(value) for value in values)

    def _copy(self, value: Any) -> Any:
        if id(value) not in self._memo:
            self._memo[id(value)] = self._new(value)
        return self._memo[id(value)]

    def _new(self, value: Any) -> Any:
        if isinstance(value, tuple):
            items = [self._copy(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if isinstance(value, list):
            return [self._copy(item) for item in value]
        if isinstance(value, dict):
            return {key: self._copy(item) for key, item in value.items()}
        if isinstance(value, numba.typed.List):
            made = numba.typed.List(lsttype=numba.typeof(value))
            for item in value:
                made.append(self._copy(item))
            return made
        if isinstance(value, numba.typed.Dict):
            made = numba.typed.Dict(dcttype=numba.typeof(value))
            for key, item in value.items():
                made[key] = self._copy(item)
            return made
        if isinstance(value, _SHARED):
            return value
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return self._array(value)
        try:
            return copy.deepcopy(value)
        except Exception as exc:
            raise CannotCopy(f"a value of type {type(value).__name__} cannot be copied") from exc

    def _array(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if array.size == 0:
            made = np.empty(array.shape, array.dtype)
        else:
            low, _ = _bounds(array)
            block = next(b for b in self._blocks if b.low <= low < b.high)
            offset = array.__array_interface__["data"][0] - block.low
            made = np.ndarray(
                array.shape, array.dtype, block.memory, offset=offset, strides=array.strides
            )
        made.flags.writeable = array.flags.writeable
        return made


def _arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    """The arrays inside ``value`` whose memory can be copied as bytes."""
    if isinstance(value, np.ndarray):
        if value.size and not value.dtype.hasobject:
            yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _arrays(item)


def _bounds(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    return np.lib.array_utils.byte_bounds(array)


def _merged(arrays: Iterator[np.ndarray[Any, Any]]) -> list[tuple[int, int]]:
    """Byte ranges of the arrays, overlapping ones joined."""
    ranges: list[tuple[int, int]] = []
    for low, high in sorted(_bounds(array) for array in arrays):
        if ranges and low < ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(high, ranges[-1][1]))
        else:
            ranges.append((low, high))
    return ranges


def _copied_block(low: int, high: int) -> _Block:
    size = high - low
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = (low - room.__array_interface__["data"][0]) % _ALIGNMENT
    memory = room[start : start + size]
    # Bytes between the elements of a strided array lie inside the same allocation.
    ctypes.memmove(memory.ctypes.data, low, size)
    return _Block(low, high, memory)
