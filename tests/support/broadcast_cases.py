"""Functions of arrays that are broadcast, with the types to compile them for.

Values are small multiples of 1/2, so that the arithmetic is exact in every dtype and the
results can be compared with NumPy's bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import from_dtype, types


# ---- what is computed -----------------------------------------------------------
def add(a: Any, b: Any) -> Any:
    return a + b


def less(a: Any, b: Any) -> Any:
    return a < b


def maximum(a: Any, b: Any) -> Any:
    return np.maximum(a, b)


def tree(a: Any, b: Any, c: Any) -> Any:
    return (a + b) * c


def wide_tree(a: Any, b: Any, c: Any, d: Any) -> Any:
    return a * b - np.minimum(c, d)


def chain(a: Any, b: Any, c: Any) -> Any:
    t = a + b
    u = t * c
    return u - a


def two_results(a: Any, b: Any, c: Any) -> Any:
    return a - b, b * c


def choose(a: Any, b: Any, c: Any) -> Any:
    return np.where(a, b, c)


def clip(a: Any, b: Any, c: Any) -> Any:
    return np.clip(a, b, c)


def negated(a: Any) -> Any:
    return 2 - a


def in_place(a: Any, b: Any) -> Any:
    a += b
    return a


def in_place_part(a: Any, b: Any) -> Any:
    a[1:] *= b
    return a


def output(a: Any, b: Any, c: Any) -> Any:
    np.subtract(b, c, a)
    return a


def clip_output(a: Any, b: Any, c: Any, d: Any) -> Any:
    np.clip(b, c, d, a)
    return a


def assign(a: Any, b: Any) -> Any:
    a[...] = b
    return a


def assign_part(a: Any, b: Any) -> Any:
    a[1:, ::2] = b
    return a


def assign_backwards(a: Any, b: Any) -> Any:
    a[::-1] = b
    return a


def assign_tree(a: Any, b: Any, c: Any) -> Any:
    a[:] = b * c + a
    return a


# ---- for which types ------------------------------------------------------------
@dataclass(frozen=True)
class Operand:
    """An argument: its dtype, number of dimensions and Numba layout ("" for a number).

    ``readonly`` is a property of the Numba type as well.
    """

    dtype: str
    rank: int
    layout: str = "C"
    readonly: bool = False

    def numba_type(self, layout: str) -> Any:
        dtype = from_dtype(np.dtype(self.dtype))
        if not self.layout:
            return dtype
        return types.Array(dtype, self.rank, layout, readonly=self.readonly)


@dataclass(frozen=True)
class Case:
    """``written``: the first argument is a target, which is not stretched."""

    function: Callable[..., Any]
    operands: tuple[Operand, ...]
    written: bool = False

    @property
    def name(self) -> str:
        texts = [f"{o.dtype}.{o.rank}{o.layout.lower()}{'r' * o.readonly}" for o in self.operands]
        return f"{self.function.__name__}-{'-'.join(texts)}"

    def signatures(self) -> list[Any]:
        """An F-ordered array is a C-ordered one where its shape allows both."""
        found = [tuple(o.numba_type(o.layout) for o in self.operands)]
        if any(o.layout == "F" for o in self.operands):
            found.append(tuple(o.numba_type(o.layout.replace("F", "C")) for o in self.operands))
        return found


def _operand(text: str) -> Operand:
    """``f8.2C`` is a 2-d float64 array in C order, ``i4.0`` an int32 number, ``.1Ar`` read-only."""
    dtype, _, rest = text.partition(".")
    return Operand(dtype, int(rest[0]), rest[1:2], rest.endswith("r"))


def _case(function: Callable[..., Any], *operands: str, written: bool = False) -> Case:
    return Case(function, tuple(map(_operand, operands)), written)


READING = [
    _case(add, "f8.2A", "f4.1A"),
    _case(add, "i8.4A", "f8.4A"),
    _case(add, "u1.1C", "i1.3A"),
    _case(add, "c16.2A", "f4.2Ar"),
    _case(add, "b1.2C", "b1.2C"),
    _case(add, "f8.1C", "b1.0"),
    _case(less, "u8.2A", "i8.2C"),
    _case(maximum, "f4.2A", "i8.3C"),
    _case(tree, "f8.2C", "f8.1C", "f8.2C"),
    _case(tree, "i2.3A", "f4.0", "u4.2A"),
    _case(tree, "c8.1A", "f8.2F", "i8.0A"),
    _case(wide_tree, "f8.2C", "f8.2C", "f8.2C", "f8.2C"),
    _case(wide_tree, "i8.1C", "u2.3A", "f4.2C", "i8.0"),
    _case(chain, "f8.2C", "f8.2C", "f8.2C"),
    _case(chain, "f8.1A", "i4.2A", "f4.3A"),
    _case(two_results, "f8.2A", "f8.2A", "f8.1A"),
    _case(choose, "b1.2A", "f8.2A", "i4.2A"),
    _case(choose, "b1.1C", "f8.0", "f8.3C"),
    _case(clip, "f8.2A", "f8.1A", "f8.2A"),
    _case(negated, "f4.4A"),
    _case(negated, "i2.2F"),
]
WRITING = [
    _case(in_place, "f8.2A", "f8.2A", written=True),
    _case(in_place, "i8.2F", "i8.2A", written=True),
    _case(in_place, "c16.1A", "f4.0A", written=True),
    _case(in_place_part, "f4.2C", "f4.1A", written=True),
    _case(output, "f8.2A", "f8.2A", "i4.1A", written=True),
    _case(output, "f4.1C", "f8.1C", "f8.2C", written=True),
    _case(clip_output, "f8.2C", "f8.2A", "f8.1C", "f8.0", written=True),
    _case(assign, "i8.2C", "f8.3A", written=True),
    _case(assign, "f4.4A", "i2.2Ar", written=True),
    _case(assign_part, "c8.3C", "f4.2C", written=True),
    _case(assign_backwards, "f8.1C", "f8.1C", written=True),
    _case(assign_tree, "f8.2C", "f8.2C", "f8.1C", written=True),
]
