"""Random nests of loops in the interchange form, and arguments for them.

A function has the arrays ``%a %b %c`` (2-d, C order), ``%f`` (2-d, strided) and ``%v``
(1-d) and the sizes ``%n %m %k``.  It is one ``scf.parallel`` with loops inside: updates of
elements in an order that shows in the result, sums in scalars, triangles, shifted indices,
conditions.  Indices stay below `LARGEST`.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

C, V = "memref<?x?xi64>", "memref<?xi64>"
F = "memref<?x?xi64, strided<[?, ?], offset: ?>>"
ARRAYS = {"%a": C, "%b": C, "%c": C, "%f": F, "%v": V}
SIZES = ("%n", "%m", "%k")
#: extent of all arrays; sizes are at most 7, shifts at most 2
LARGEST = 10


class NestGenerator:
    """Writes one random function as MLIR text."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names = 0
        self._lines: list[str] = []
        self._written: list[tuple[str, list[str]]] = []

    def function(self) -> str:
        choose = self._random
        layout = choose.choice(["F", "A"])
        ivs = [self._name("p") for _ in range(choose.choice([1, 1, 2]))]
        uppers = [choose.choice(SIZES) for _ in ivs]
        listed = ", ".join(ivs), ", ".join(["%c0"] * len(ivs)), ", ".join(uppers)
        steps = ", ".join(["%c1"] * len(ivs))
        self._emit(f"scf.parallel ({listed[0]}) = ({listed[1]}) to ({listed[2]}) step ({steps}) {{")
        for _ in range(choose.choice([1, 1, 2])):
            self._loops(
                ivs, choose.choice([0, 1, 2, 2]) if len(ivs) == 1 else choose.choice([0, 1])
            )
        self._emit("scf.reduce\n    }")
        body = "\n    ".join(self._lines)
        kinds = ", ".join(f"{name}: {kind}" for name, kind in ARRAYS.items())
        kinds = kinds.replace(F, f'{F} {{numba.type = "array(int64, 2d, {layout})"}}')
        return f"""func.func @f({kinds}, %n: index, %m: index, %k: index) {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %k3 = arith.constant 3 : i64
    {body}
    return
}}"""

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"%{stem}{self._names}"

    def _emit(self, line: str) -> None:
        self._lines.append(line)

    def _loops(self, ivs: list[str], depth: int) -> None:
        if not depth:
            self._update(ivs)
            return
        choose = self._random
        iv = self._name("i")
        lower = choose.choice(["%c0", "%c0", "%c0", "%c1"])
        upper = choose.choice(SIZES)
        if choose.random() < 0.25:
            lower, upper = choose.choice([(lower, choose.choice(ivs)), (choose.choice(ivs), upper)])
        if depth == 1 and choose.random() < 0.3:
            self._sum(ivs, iv, lower, upper)
            return
        self._emit(f"scf.for {iv} = {lower} to {upper} step %c1 {{")
        self._loops([*ivs, iv], depth - 1)
        if choose.random() < 0.25:
            self._loops([*ivs, iv], choose.choice([0, depth - 1]))
        self._emit("}")

    def _update(self, ivs: list[str]) -> None:
        """x[...] = 3 * x[...] + something: the order of updates of an element shows."""
        array, indices = self._target(ivs)
        value = self._value(ivs)
        if self._random.random() < 0.8:
            old = self._load(array, indices)
            value = self._op("addi", self._op("muli", old, "%k3"), value)
        self._emit(f"memref.store {value}, {array}[{', '.join(indices)}] : {ARRAYS[array]}")

    def _sum(self, ivs: list[str], iv: str, lower: str, upper: str) -> None:
        array, indices = self._target(ivs)
        start = self._random.choice(["%k3", self._load(array, indices)])
        total, carried = self._name("t"), self._name("s")
        self._emit(
            f"{total} = scf.for {iv} = {lower} to {upper} step %c1 "
            f"iter_args({carried} = {start}) -> (i64) {{"
        )
        new = self._op("addi", self._op("muli", carried, "%k3"), self._value([*ivs, iv]))
        self._emit(f"scf.yield {new} : i64\n    }}")
        if self._random.random() < 0.3:
            total = self._op("muli", total, "%k3")
        self._emit(f"memref.store {total}, {array}[{', '.join(indices)}] : {ARRAYS[array]}")

    def _target(self, ivs: list[str]) -> tuple[str, list[str]]:
        """An element to write: mostly one with the parallel indices in it."""
        choose = self._random
        parallel = [iv for iv in ivs if iv.startswith("%p")]
        array = choose.choice(["%c", "%c", "%f"] + ["%v"] * (len(parallel) == 1))
        rank = 1 if array == "%v" else 2
        chosen = list(parallel)[:rank]
        rest = [iv for iv in ivs if iv not in parallel] or ["%c0"]
        while len(chosen) < rank:
            chosen.append(choose.choice(rest))
        if choose.random() < 0.5:
            chosen.reverse()
        self._written.append((array, chosen))
        return array, [self._shifted(iv) for iv in chosen]

    def _shifted(self, index: str) -> str:
        if self._random.random() < 0.8:
            return index
        new = self._name("x")
        self._emit(f"{new} = arith.addi {index}, {self._random.choice(['%c1', '%c2'])} : index")
        return new

    def _value(self, ivs: list[str]) -> str:
        choose = self._random
        parts = [self._read(ivs) for _ in range(choose.choice([1, 2, 2, 3]))]
        value = parts[0]
        for part in parts[1:]:
            value = self._op(choose.choice(["addi", "muli", "subi"]), value, part)
        if choose.random() < 0.15:
            test, new = self._name("q"), self._name("z")
            self._emit(f"{test} = arith.cmpi slt, {parts[-1]}, %k3 : i64")
            self._emit(f"{new} = arith.select {test}, {value}, %k3 : i64")
            return new
        return value

    def _read(self, ivs: list[str]) -> str:
        if self._written and self._random.random() < 0.2:
            array, indices = self._random.choice(self._written)
            if set(indices) <= set(ivs):
                return self._load(array, indices)
        array = self._random.choice(["%a", "%a", "%b", "%b", "%f", "%v", "%c"])
        rank = 1 if array == "%v" else 2
        return self._load(array, [self._shifted(self._random.choice(ivs)) for _ in range(rank)])

    def _load(self, array: str, indices: list[str]) -> str:
        new = self._name("l")
        self._emit(f"{new} = memref.load {array}[{', '.join(indices)}] : {ARRAYS[array]}")
        return new

    def _op(self, name: str, left: str, right: str) -> str:
        new = self._name("o")
        self._emit(f"{new} = arith.{name} {left}, {right} : i64")
        return new


def nest_arguments(seed: int) -> list[Any]:
    """Arguments for a generated function: distinct or overlapping arrays, sizes from 0 on."""
    rng = np.random.default_rng(seed)
    a, b, c, f = (rng.integers(-9, 9, (LARGEST, LARGEST)) for _ in range(4))
    v = rng.integers(-9, 9, LARGEST)
    kind = seed % 4
    if kind == 1:  # one buffer, some rows further down
        whole = rng.integers(-9, 9, (2 * LARGEST, LARGEST))
        a, c = whole[3 : 3 + LARGEST], whole[:LARGEST]
    elif kind == 2:
        b, v = c, c[2]
    f = f.T if kind != 3 else f[::-1]
    sizes = [int(size) for size in rng.choice([0, 1, 2, 5, 6, 7, 7], 3)]
    return [a, b, c, f, v, *sizes]
