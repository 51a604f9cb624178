"""Random loops over ``range`` around array statements, against the same program in NumPy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from numba_mlir import njit

RANGES = (
    "range(n)", "range(1, n)", "range(n, 0, -1)", "range(0, n, 2)", "range(3)", "range(-2, n)",
    "range(n - 1, -1, -2)", "range(len(w))",
)  # fmt: skip


class Program:
    """One random function ``f(o, p, x, m, w, n)``: o, p, x of n elements, m n by n, w n numbers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        fresh = self.random.random() < 0.5
        self.lines += ["o = o * 1.0", "p = p + 1.0"] if fresh else []
        self.lines += ["s = 0.5", "k = 7", "j = 5"]
        self.loop("k", "    ", 0)
        self.lines.append("return o, p, s, k, j")

    @property
    def source(self) -> str:
        body = "\n".join(f"    {line}" for line in self.lines)
        return f"def f(o, p, x, m, w, n):\n{body}\n"

    def loop(self, variable: str, indent: str, depth: int) -> None:
        pick = self.random.choice
        self.lines.append(f"{indent[4:]}for {variable} in {pick(RANGES)}:")
        if self.random.random() < 0.5:
            self.lines.append(f"{indent}c = w[{variable}] * {pick(('2.0', 's', variable))}")
        else:
            self.lines.append(f"{indent}c = 1.0 - {variable}")
        for _ in range(self.random.randint(1, 2)):
            self.statement(variable, indent)
        if depth == 0 and self.random.random() < 0.3:
            self.loop("j", indent + "    ", 1)
        if self.random.random() < 0.3:
            self.lines.append(f"{indent}s = s * 0.5 + {pick(('c', 'w[0]', 'o[0]', 'x[1]'))}")

    def statement(self, variable: str, indent: str) -> None:
        pick, chance = self.random.choice, self.random.random()
        if chance < 0.2:
            self.lines.append(f"{indent}if {variable} % 2 == 0:")
            self.assignment(variable, indent + "    ")
            if self.random.random() < 0.5:
                self.lines.append(f"{indent}else:")
                self.assignment(variable, indent + "    ")
        elif chance < 0.25:
            self.lines.append(f"{indent}if {variable} == 2:")
            self.lines.append(f"{indent}    {pick(('break', 'continue'))}")
            self.assignment(variable, indent)
        elif chance < 0.35:
            self.lines.append(f"{indent}t = {self.expression(variable)} + x")
            self.lines.append(f"{indent}{pick('op')} += t * 0.25")
        else:
            self.assignment(variable, indent)

    def assignment(self, variable: str, indent: str) -> None:
        target = self.random.choice("op")
        form = self.random.choice(
            (
                "{t} += {e}", "{t} += {e}", "{t} -= c * {e}", "{t}[:] = {t} * 0.5 + {e}",
                "{t} = {t} * 0.5 + {e}", "{t}[1:] += x[:-1] * c", "{t}[1:] = {t}[:-1] * 0.5",
                "{t}[::2] += x[::2]", "m[{k}] += {e} * 0.25", "{t} *= np.cos({e})",
            )
        )  # fmt: skip
        text = form.format(t=target, e=self.expression(variable), k=variable)
        self.lines.append(f"{indent}{text}")

    def expression(self, variable: str) -> str:
        return self.random.choice(
            ("x", "c * x", "x[::-1]", "m[{k}]", "m[:, {k}]", "m[{k}, :] * s", "o", "p * 0.5",
             "np.sqrt(np.abs(x))", "x * w[{k}] + m[0]", "(x - c)", "o[::-1] * 0.5")
        ).format(k=variable)  # fmt: skip


def arguments(n: int, seed: int) -> Iterator[list[Any]]:
    """Separate arrays, then some that overlap."""
    generator = np.random.default_rng(seed)

    def fresh() -> list[Any]:
        o, p, x, w = (generator.random(n) for _ in range(4))
        return [o, p, x, generator.random((n, n)), w, n]

    yield fresh()
    o, p, x, m, w, n = fresh()
    yield [o, p, o, m, w, n]
    big = generator.random(n + 1)
    yield [big[1:], p, big[:-1], m, w, n]
    yield [m[-1:].reshape(-1), p, x, m, w, n]
    yield [o[::-1], m.T[-1:].reshape(-1), x, m.T, w, n]
    yield [o, p, x, m, o, n]


def copied(args: list[Any]) -> list[Any]:
    """A copy of ``args`` in which the same elements are shared."""
    whole: dict[int, Any] = {}
    found: list[Any] = []
    for arg in args:
        if not isinstance(arg, np.ndarray):
            found.append(arg)
            continue
        base = arg
        while isinstance(base.base, np.ndarray):
            base = base.base
        new = whole.setdefault(id(base), base.copy())
        offset = arg.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        found.append(np.ndarray(arg.shape, arg.dtype, new.data, offset, arg.strides))
    return found


@pytest.mark.parametrize("seed", range(400, 408))
def test_program(seed: int) -> None:
    program = Program(seed)
    namespace: dict[str, Any] = {"np": np}
    exec(program.source, namespace)
    codegen = seed % 2 == 0
    flags = {} if codegen else {"mlir_codegen": False}
    compiled = njit(parallel=True, **flags)(namespace["f"])
    for n in (0, 1, 5):
        for args in arguments(n, seed):
            compare(program.source, namespace["f"], compiled, args)


def compare(source: str, function: Any, compiled: Any, args: list[Any]) -> None:
    expected_args, got_args = copied(args), copied(args)
    try:
        expected = function(*expected_args)
    except IndexError:
        return  # Numba does not check subscripts
    except ValueError as error:
        with pytest.raises(type(error)):
            compiled(*got_args)
        return
    got = compiled(*got_args)
    for want, have in zip([*expected, *expected_args], [*got, *got_args], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-12, err_msg=source)
