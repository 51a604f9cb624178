"""Plain loops for a reduction, as Python source that Numba compiles.

For functions that are not imported into MLIR; everywhere else the loops are made in MLIR.
Sums are compensated (Neumaier), which is at least as exact as NumPy's pairwise sums.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from numba.np import numpy_support

from numba_mlir.converters.scalars import kind

_EXTREMUM = {"max": ">", "min": "<", "argmax": ">", "argmin": "<"}


@functools.cache
def function(
    call: Any, rank: int, reduced: tuple[int, ...], number: Any, result: Any, empty: str | None
) -> Any:
    """A Python function of one array of ``rank`` dimensions; see `reduction_calls.Plan`.

    ``empty`` is the message of the ValueError for an empty selection.
    """
    text = source(call, rank, reduced, kind(number) or "", empty)
    names: dict[str, Any] = {
        "np": np,
        "cast": numpy_support.as_dtype(number).type,
        "result": numpy_support.as_dtype(result).type,
        "dtype": numpy_support.as_dtype(result),
        "subtract": operator.ne if kind(number) == "bool" else operator.sub,
    }
    exec(compile(text, f"<reduction {call.kind}>", "exec"), names)
    return names["reduce"]


def source(
    call: Any, rank: int, reduced: tuple[int, ...], number_kind: str, empty: str | None
) -> str:
    """The text of the function ``reduce(a)``."""
    kept = [axis for axis in range(rank) if axis not in reduced]
    lines = ["def reduce(a):"]
    if call.kind in _ALONG:
        return "\n".join([*lines, *_along(call.kind, rank, reduced[0])]) + "\n"
    if empty is not None:
        lines += [
            f"    if {' * '.join(f'a.shape[{axis}]' for axis in reduced)} == 0:",
            f"        raise ValueError({empty!r})",
        ]
    shape = [
        "1" if axis in reduced else f"a.shape[{axis}]"
        for axis in range(rank)
        if call.keepdims or axis not in reduced
    ]
    where = [
        "0" if axis in reduced else f"i{axis}"
        for axis in range(rank)
        if call.keepdims or axis not in reduced
    ]
    if shape:
        lines.append(f"    out = np.empty(({', '.join(shape)},), dtype)")
    indent = "    "
    for axis in kept:
        lines.append(f"{indent}for i{axis} in range(a.shape[{axis}]):")
        indent += "    "
    lines += [indent + line for line in _one(call, rank, reduced, number_kind)]
    if shape:
        lines += [f"{indent}out[{', '.join(where)},] = result(value)", "    return out"]
    else:
        lines.append("    return result(value)")
    return "\n".join(lines) + "\n"


def _along(kind_: str, rank: int, axis: int) -> list[str]:
    """The body of a function that keeps the axis it goes along."""
    shape = [f"a.shape[{one}]" for one in range(rank)]
    if kind_ == "diff":
        shape[axis] = f"max({shape[axis]} - 1, 0)"
    lines, indent = [f"    out = np.empty(({', '.join(shape)},), dtype)"], "    "
    for one in [*(one for one in range(rank) if one != axis), axis]:
        lines.append(f"{indent}for i{one} in range(out.shape[{one}]):")
        indent += "    "
    where = ", ".join(f"i{one}" for one in range(rank))
    ahead = ", ".join(f"i{one} + 1" if one == axis else f"i{one}" for one in range(rank))
    before = ", ".join(f"i{one} - 1" if one == axis else f"i{one}" for one in range(rank))
    return [*lines, *(indent + line for line in _ALONG[kind_](where, ahead, before, axis)),
            "    return out"]  # fmt: skip


def _difference(where: str, ahead: str, before: str, axis: int) -> list[str]:
    return [f"later, earlier = a[{ahead},], a[{where},]",
            f"out[{where},] = subtract(later, earlier)"]  # fmt: skip


def _scan(sign: str, where: str, ahead: str, before: str, axis: int) -> list[str]:
    return [f"x = cast(a[{where},])", f"if i{axis} > 0:",
            f"    x = cast(out[{before},] {sign} x)", f"out[{where},] = x"]  # fmt: skip


_ALONG: dict[str, Any] = {
    "diff": _difference,
    "cumsum": functools.partial(_scan, "+"),
    "cumprod": functools.partial(_scan, "*"),
}


def _one(call: Any, rank: int, reduced: tuple[int, ...], number_kind: str) -> list[str]:
    """Statements that give ``value``, one result."""
    indices = ", ".join(f"i{axis}" for axis in range(rank))
    first = ", ".join("0" if axis in reduced else f"i{axis}" for axis in range(rank))
    loops = _Loops(reduced, f"cast(a[{indices},])")
    match call.kind:
        case "sum":
            return loops.sum("value", "x", number_kind)
        case "prod":
            return ["value = cast(1)", *loops.over(["value = cast(value * x)"])]
        case "mean":
            return [*loops.sum("value", "x", number_kind), f"value = cast(value / {loops.count})"]
        case "var" | "std":
            square = "x.real * x.real + x.imag * x.imag" if number_kind == "complex" else "x * x"
            return [
                *loops.sum("mean", "x", number_kind),
                f"mean = cast(mean / {loops.count})",
                *loops.sum("value", f"({square})", "float", "x = cast(x - mean)"),
                f"value = value / max({loops.count} - {call.ddof!r}, 0)",
                *(["value = np.sqrt(value)"] if call.kind == "std" else []),
            ]
        case "any" | "all":
            word, start = ("or", "False") if call.kind == "any" else ("and", "True")
            return [f"value = {start}", *loops.over([f"value = value {word} (x != 0)"])]
        case "ptp":
            high = _one(_Kind("max"), rank, reduced, number_kind)
            low = _one(_Kind("min"), rank, reduced, number_kind)
            return [*high, "high = value", *low, "value = cast(high - value)"]
        case "argmax" | "argmin":
            position = f"value = i{reduced[0]}"
            step = [f"if (x {_EXTREMUM[call.kind]} best or x != x) and best == best:",
                    "    best = x", f"    {position}"]  # fmt: skip
            return [f"best = cast(a[{first},])", "value = 0", *loops.over(step)]
        case _:
            step = [f"if x {_EXTREMUM[call.kind]} value or x != x:", "    value = x"]
            return [f"value = cast(a[{first},])", *loops.over(step)]


class _Kind:
    """A call of which only the kind matters."""

    def __init__(self, kind_: str) -> None:
        self.kind = kind_


class _Loops:
    """Loops over the reduced axes in which ``x`` is the element."""

    def __init__(self, reduced: tuple[int, ...], element: str) -> None:
        self._reduced, self._element = reduced, element
        self.count = "(" + " * ".join(f"a.shape[{axis}]" for axis in reduced) + ")"

    def over(self, step: list[str]) -> list[str]:
        lines, indent = [], ""
        for axis in self._reduced:
            lines.append(f"{indent}for i{axis} in range(a.shape[{axis}]):")
            indent += "    "
        return [*lines, f"{indent}x = {self._element}", *(indent + line for line in step)]

    def sum(self, name: str, term: str, number_kind: str, before: str = "") -> list[str]:
        """``name`` becomes the sum of ``term``; floats with compensation."""
        if number_kind == "complex":  # of complex numbers, the parts would each need their own
            step = [f"{name} = {name} + {term}"]
            return [f"{name} = cast(0)", *self.over(step)]
        if number_kind != "float":
            return [f"{name} = cast(0)", *self.over([f"{name} = cast({name} + {term})"])]
        step = [
            *([before] if before else []),
            f"term = {term}",
            f"total = {name} + term",
            f"rest += ({name} - total) + term if abs({name}) >= abs(term)"
            f" else (term - total) + {name}",
            f"{name} = total",
        ]
        start = [f"{name} = rest = {'result' if before else 'cast'}(0)"]
        finish = ["if np.isfinite(rest):", f"    {name} = {name} + rest"]
        return [*start, *self.over(step), *finish]
