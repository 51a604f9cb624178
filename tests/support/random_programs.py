"""Random sequential functions: numbers, arrays, branches, loops, and ways out of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

#: variables of a program, by the kind that they always have
_VARIABLES = {"i": ("i0", "i1", "i2"), "f": ("f0", "f1", "f2"), "c": ("c0",)}
_DTYPES = ("f8", "f4", "i8", "i4", "u1", "i1", "c16", "b1")
_SIZES = (0, 1, 2, 7, 40)


class Program:
    """One function ``f(a, b, m, n, x)`` of two arrays, a matrix, an integer and a float."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._lines: list[str] = []
        self._depth, self._loops = 1, 0
        self._indices: list[str] = []
        self.dtypes = [self._random.choice(_DTYPES) for _ in range(3)]
        self._lines.append("def f(a, b, m, n, x):")
        for name in ("i0", "i1", "i2"):
            self._line(f"{name} = {self._random.randint(-3, 5)}")
        for name in ("f0", "f1", "f2"):
            self._line(f"{name} = {self._random.uniform(-2, 2):.3f}")
        self._line("c0 = 1.5 - 0.5j")
        for _ in range(self._random.randint(2, 4)):
            self._statement()
        self._line(f"return {self._result()}")
        self.source = "\n".join(self._lines)

    def function(self) -> Callable[..., Any]:
        names: dict[str, Any] = {"math": math, "np": np}
        exec(compile(self.source, f"<program {id(self)}>", "exec"), names)
        return names["f"]

    def arguments(self, seed: int) -> list[Any]:
        """New ones, the same for the same seed."""
        random = np.random.default_rng(seed)
        size = int(random.choice(_SIZES))
        arrays = [_array(random, dtype, (size,)) for dtype in self.dtypes[:2]]
        matrix = _array(random, self.dtypes[2], (int(random.choice(_SIZES)), 3))
        if random.random() < 0.3:
            arrays[1] = arrays[0][::-1]
        return [*arrays, matrix, int(random.integers(-2, 9)), float(random.normal())]

    # -- text ----------------------------------------------------------------------------
    def _line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def _block(self, count: int) -> None:
        self._depth += 1
        for _ in range(self._random.randint(1, count)):
            self._statement()
        self._depth -= 1

    def _statement(self) -> None:
        choices = ["assign"] * 5 + ["store"] * 3 + ["add"] * 3
        if self._depth < 5:
            choices += ["if"] * 2 + ["for"] * 3 + ["while", "nest"]
        if self._depth > 1:
            choices += ["raise", "return", "assert"]
        if self._loops:
            choices += ["break", "continue"]
        getattr(self, f"_{self._random.choice(choices)}")()

    def _assign(self) -> None:
        kind = self._random.choice("iiffffc")
        self._line(f"{self._variable(kind)} = {self._value(kind)}")

    def _add(self) -> None:
        kind = self._random.choice("iff")
        operator = self._random.choice(("+=", "-=", "*="))
        self._line(f"{self._variable(kind)} {operator} {self._value(kind)}")

    def _store(self) -> None:
        array = self._random.choice("abm")
        dtype = self.dtypes["abm".index(array)]
        self._line(f"if {array}.shape[0] > 0:")
        self._depth += 1
        self._line(f"{self._element(array)} = {self._element_value(dtype)}")
        self._depth -= 1

    def _if(self) -> None:
        self._line(f"if {self._condition()}:")
        self._block(3)
        if self._random.random() < 0.5:
            self._line("else:")
            self._block(2)

    def _for(self) -> None:
        index = f"k{self._depth}"
        bounds = self._random.choice(
            ("n", "a.shape[0]", "len(b)", "1, n", "n, -2, -1", "0, 9, 2", "i1 % 5", "m.shape[0]")
        )
        self._loop(f"for {index} in range({bounds}):", index)

    def _nest(self) -> None:
        self._line("for p in range(m.shape[0]):")
        self._depth += 1
        self._line("for q in range(m.shape[1]):")
        self._depth += 1
        value = self._element_value(self.dtypes[2])
        self._line(self._random.choice((f"m[p, q] = {value}", "f0 += abs(m[p, q])")))
        self._depth -= 2

    def _while(self) -> None:
        count = f"w{self._depth}"
        self._line(f"{count} = 0")
        self._loop(f"while {count} < {self._random.randint(1, 6)} and {self._condition()}:", count)

    def _loop(self, head: str, index: str) -> None:
        self._line(head)
        self._depth += 1
        if index.startswith("w"):
            self._line(f"{index} += 1")
        self._depth -= 1
        self._indices.append(index)
        self._loops += 1
        self._block(3)
        self._loops -= 1
        self._indices.pop()

    def _break(self) -> None:
        self._line(f"if {self._condition()}:")
        self._line("    break")

    def _continue(self) -> None:
        self._line(f"if {self._condition()}:")
        self._line("    continue")

    def _return(self) -> None:
        self._line(f"if {self._condition()} and {self._condition()}:")
        self._line(f"    return {self._result()}")

    def _raise(self) -> None:
        self._line(f"if {self._condition()} and {self._condition()}:")
        message = self._random.choice(("", '"wrong"', '"wrong", 3', "i0", "f1"))
        self._line(f"    raise ValueError({message})")

    def _assert(self) -> None:
        self._line(f'assert {self._condition()} or {self._condition()}, "no"')

    # -- values ----------------------------------------------------------------------------
    def _variable(self, kind: str) -> str:
        return self._random.choice(_VARIABLES[kind])

    def _index(self) -> str:
        return self._random.choice(("i0", "i1", "n", "1", *self._indices))

    def _element(self, array: str) -> str:
        size = f"{array}.shape[0]"
        row = self._random.choice((f"{self._index()} % {size}", f"-1 - {self._index()} % {size}"))
        return f"{array}[{row}]" if array != "m" else f"m[{row}, {self._random.choice('012')}]"

    def _element_value(self, dtype: str) -> str:
        if dtype == "c16":
            return self._value("c")
        if dtype == "b1":
            return self._condition()
        return self._value("f" if dtype[0] == "f" else "i")

    def _value(self, kind: str, depth: int = 0) -> str:
        return {"i": self._integer, "f": self._float, "c": self._complex}[kind](depth)

    def _integer(self, depth: int) -> str:
        choice = self._random.randint(0, 9 if depth < 2 else 3)
        if choice < 4:
            return self._random.choice((self._variable("i"), "n", str(self._random.randint(-9, 9)),
                                        "len(a)", self._index()))  # fmt: skip
        left, right = self._integer(depth + 1), self._integer(depth + 1)
        if choice < 7:
            return f"({left} {self._random.choice(('+', '-', '*', '&', '|', '^'))} {right})"
        if choice == 7:
            return f"({left} {self._random.choice(('//', '%'))} {right})"
        if choice == 8:
            return self._random.choice((f"min({left}, {right})", f"max({left}, {right})"))
        return self._random.choice((f"abs({left})", f"-{left}", f"({left} << 3)"))

    def _float(self, depth: int) -> str:
        choice = self._random.randint(0, 9 if depth < 2 else 3)
        if choice < 4:
            return self._random.choice((self._variable("f"), "x", self._variable("i"), "0.5",
                                        f"{self._random.uniform(-3, 3):.2f}"))  # fmt: skip
        left, right = self._float(depth + 1), self._float(depth + 1)
        if choice < 7:
            return f"({left} {self._random.choice(('+', '-', '*', '/'))} {right})"
        if choice == 7:
            return f"math.{self._random.choice(('exp', 'sin', 'floor', 'fabs', 'tanh'))}({left})"
        if choice == 8:
            return f"abs({self._complex(depth + 1)})"
        return self._random.choice((f"min({left}, {right})", f"max({left}, {right})",
                                    f"({left} if {self._condition()} else {right})"))  # fmt: skip

    def _complex(self, depth: int) -> str:
        choice = self._random.randint(0, 5 if depth < 2 else 2)
        if choice < 3:
            return self._random.choice(("c0", "(0.5 + 1j)", "np.conj(c0)"))
        left = self._complex(depth + 1)
        if choice < 5:
            return f"({left} {self._random.choice('+-*')} {self._complex(depth + 1)})"
        return f"({left} * {self._float(depth + 1)})"

    def _condition(self) -> str:
        kind = self._random.choice("if")
        operator = self._random.choice(("<", "<=", ">", "!=", "=="))
        return f"{self._value(kind, 1)} {operator} {self._value(kind, 2)}"

    def _result(self) -> str:
        return "i0 + i1 * 3 - i2, f0 - f1 + f2, c0"


def _array(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Any:
    values = random.normal(size=shape) * 3
    with np.errstate(invalid="ignore"):
        return (values > 0) if dtype == "b1" else values.astype(dtype)
