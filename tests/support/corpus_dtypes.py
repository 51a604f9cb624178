"""Loops generated from a table of dtypes and operations: `DTYPES`, functions with arguments.

Each loop has one line for each dtype and operation; results are stored as the same dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

SIZE = 12

INTEGERS = ["int8", "int64", "uint8", "uint64"]
MORE_INTEGERS = ["int16", "int32", "uint16", "uint32"]
FLOATS = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]

#: operations on an element {a} and another one {b}, which is not 0
ANY = ["{a} + {b}", "{a} - {b}", "{a} * {b}", "-{a}", "{a} == {b}", "{a} != {b}"]
ORDERED = ["{a} // {b}", "{a} % {b}", "{a} < {b}", "{a} >= {b}", "max({a}, {b})",
           "min({a}, {b})", "abs({a})"]  # fmt: skip
BITS = ["{a} & {b}", "{a} | {b}", "{a} ^ {b}", "~{a}", "{a} << ({b} & 3)", "{a} >> ({b} & 3)"]
REAL = ["{a} / {b}", "abs({a}) ** {b}", "np.sqrt(abs({a}))", "math.floor({a})",
        "np.hypot({a}, {b})", "{a} + k", "np.float32({a}) * np.int8(k)"]  # fmt: skip
POLAR = ["{a} / {b}", "{a}.real", "{b}.imag", "{a}.conjugate()", "abs({a})", "{a} * 1j", "{a} + k"]
LOGIC = ["{a} & {b}", "{a} | {b}", "{a} ^ {b}", "not {a}", "{a} == {b}", "{a} and {b}",
         "{a} or {b}", "k > 3"]  # fmt: skip

TABLES = {
    "integers": dict.fromkeys(INTEGERS, ANY[:4] + ORDERED[1:4] + BITS),
    "more_integers": dict.fromkeys(MORE_INTEGERS, ANY[1:5] + ORDERED[0:1] + BITS[3:]),
    "others": {
        **dict.fromkeys(FLOATS, ANY + ORDERED + REAL),
        **dict.fromkeys(COMPLEX, ANY + POLAR),
        "bool": LOGIC,
    },
}


def _loop(name: str, table: dict[str, list[str]]) -> Any:
    """The function ``name(a, b and out of each dtype)``."""
    parameters = [f"{role}_{dtype}" for dtype in table for role in ("a", "b", "out")]
    lines = [f"def {name}({', '.join(parameters)}):", f"    for k in prange({SIZE}):"]
    for dtype, operations in table.items():
        elements = {"a": f"a_{dtype}[k]", "b": f"b_{dtype}[k]"}
        for row, operation in enumerate(operations):
            lines.append(f"        out_{dtype}[{row}, k] = {operation.format(**elements)}")
    scope = {"np": np, "math": math, "prange": prange}
    exec("\n".join(lines), scope)
    return scope[name]


def _arguments(table: dict[str, list[str]]) -> tuple[Any, ...]:
    found: list[Any] = []
    for dtype, operations in table.items():
        found += [_edges(np.dtype(dtype)), _small(np.dtype(dtype))]
        found.append(np.zeros((len(operations), SIZE), dtype))
    return tuple(found)


def _edges(dtype: Any) -> Any:
    """Both ends of a dtype and numbers between them."""
    middle = np.arange(SIZE) * 7 - 20
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = [info.min, info.max, info.max // 2 + 1, *(abs(middle[3:]) % 128)]
        return np.array(values, dtype)
    return (middle * 0.75 * (1 + (1j if dtype.kind == "c" else 0))).astype(dtype)


def _small(dtype: Any) -> Any:
    """Numbers around 0 and without it, so that every operation has a result."""
    if dtype.kind == "b":
        return np.arange(SIZE) % 2 == 0
    signs = 1 if dtype.kind == "u" else np.where(np.arange(SIZE) % 3 == 2, -1, 1)
    return ((np.arange(SIZE) % 4 + 1) * signs * (2 + 1j if dtype.kind == "c" else 1)).astype(dtype)


DTYPES = [(_loop(name, t), lambda t=t: _arguments(t)) for name, t in TABLES.items()]
