"""Random functions in the interchange form, and arguments for them.

A function has array arguments ``%a %b %c`` (1-d) and ``%d`` (2-d), a size ``%n``, and a
mixture of everything that stands between loops: allocations, sizes, checks of sizes,
views, scalar reads, opaque statements, conditionals, a loop of ordinary blocks.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

ARRAY1, ARRAY2 = "memref<?xi64>", "memref<?x?xi64>"


class Scope:
    """The SSA names that may be used at one place."""

    def __init__(self, parent: Scope | None = None) -> None:
        self.arrays = list(parent.arrays) if parent else []
        self.tables = list(parent.tables) if parent else []
        self.sizes = list(parent.sizes) if parent else []
        self.scalars = list(parent.scalars) if parent else []


class Generator:
    """Writes one random function as MLIR text."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names = 0
        self._lines: list[str] = []

    def function(self) -> str:
        scope = Scope()
        scope.arrays = ["%a", "%b", "%c"]
        scope.tables = ["%d"]
        scope.sizes = ["%n"]
        scope.scalars = ["%k3", "%k5"]
        self._statements(scope, self._random.randint(4, 10), depth=0)
        if self._random.random() < 0.3:
            scope = self._time_loop(scope)
        arrays = [self._recent(scope.arrays) for _ in range(2)]
        scalar = self._random.choice(scope.scalars)
        self._emit(f"func.return {', '.join(arrays)}, {scalar} : {ARRAY1}, {ARRAY1}, i64")
        body = "\n    ".join(self._lines)
        return f"""module {{
  func.func @f(%a: {ARRAY1}, %b: {ARRAY1}, %c: {ARRAY1}, %d: {ARRAY2}, %n: index)
      -> ({ARRAY1}, {ARRAY1}, i64) {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %k0 = arith.constant 0 : i64
    %k1 = arith.constant 1 : i64
    %k3 = arith.constant 3 : i64
    %k5 = arith.constant 5 : i64
    {body}
  }}
}}"""

    def _new(self) -> str:
        self._names += 1
        return f"%v{self._names}"

    def _emit(self, line: str) -> None:
        self._lines.append(line)

    def _value(self, text: str) -> str:
        name = self._new()
        self._emit(f"{name} = {text}")
        return name

    def _statements(self, scope: Scope, count: int, depth: int) -> None:
        kinds = [
            (self._loop, 9),
            (self._loop2, 2),
            (self._alloc, 4),
            (self._dim, 2),
            (self._check, 2),
            (self._view, 1),
            (self._read, 1),
            (self._write, 1),
            (self._statement, 1),
            (self._expression, 1),
        ]
        actions, weights = zip(*kinds, strict=True)
        for _ in range(count):
            if depth == 0 and self._random.random() < 0.05:
                self._conditional(scope)
            else:
                self._random.choices(actions, weights)[0](scope)

    def _conditional(self, scope: Scope) -> None:
        x, y = self._random.choices(scope.scalars, k=2)
        condition = self._value(f"arith.cmpi slt, {x}, {y} : i64")
        self._emit(f"scf.if {condition} {{")
        self._statements(Scope(scope), self._random.randint(2, 5), depth=1)
        self._emit("}")

    def _time_loop(self, scope: Scope) -> Scope:
        p, q = self._random.choices(scope.arrays, k=2)
        self._emit(f"cf.br ^loop(%k0, {p}, {q} : i64, {ARRAY1}, {ARRAY1})")
        self._emit(f"^loop(%t: i64, %p: {ARRAY1}, %q: {ARRAY1}):")
        inner = Scope(scope)
        inner.arrays += ["%p", "%q"] * 2
        self._statements(inner, self._random.randint(3, 8), depth=0)
        x, y = self._random.choices(inner.arrays, k=2)
        next_ = self._value("arith.addi %t, %k1 : i64")
        again = self._value(f"arith.cmpi slt, {next_}, %k3 : i64")
        self._emit(f"cf.cond_br {again}, ^loop({next_}, {x}, {y} : i64, {ARRAY1}, {ARRAY1}), ^exit")
        self._emit("^exit:")
        return inner

    def _alloc(self, scope: Scope) -> None:
        size = self._random.choice(scope.sizes)
        scope.arrays.append(self._value(f"memref.alloc({size}) : {ARRAY1}"))

    def _dim(self, scope: Scope) -> None:
        array = self._random.choice(scope.arrays)
        scope.sizes.append(self._value(f"memref.dim {array}, %c0 : {ARRAY1}"))

    def _check(self, scope: Scope) -> None:
        x, y = self._random.choices(scope.sizes, k=2)
        self._emit(
            f'"numba.assert_equal"({x}, {y}) {{message = "sizes {x} {y}"}} : (index, index) -> ()'
        )

    def _view(self, scope: Scope) -> None:
        array = self._random.choice(scope.arrays)
        text = self._random.choice(["x0[1:]", "x0[::-1]", "x0[:]", "x0[:]"])
        whole = ", whole" if text == "x0[:]" else ""
        view = self._value(
            f'"numba.expr1"({array}) {{text = "{text}", view_of = 0 : i64{whole}}}'
            f" : ({ARRAY1}) -> {ARRAY1}"
        )
        scope.arrays.append(view)

    def _read(self, scope: Scope) -> None:
        array = self._random.choice(scope.arrays)
        scope.scalars.append(self._value(f"memref.load {array}[%c0] : {ARRAY1}"))

    def _write(self, scope: Scope) -> None:
        array, value = self._random.choice(scope.arrays), self._random.choice(scope.scalars)
        self._emit(f"memref.store {value}, {array}[%c1] : {ARRAY1}")

    def _expression(self, scope: Scope) -> None:
        array = self._random.choice(scope.arrays)
        name = self._value(
            f'"numba.expr1"({array}) {{text = "int(np.sum(x0[:2]))", stmt = {self._names} : i64}}'
            f" : ({ARRAY1}) -> i64"
        )
        scope.scalars.append(name)

    def _statement(self, scope: Scope) -> None:
        array, scalar = self._random.choice(scope.arrays), self._random.choice(scope.scalars)
        kind = self._random.randrange(8)
        if kind < 3:
            self._emit(f'"pyir.stmt"({scalar}) {{text = "None"}} : (i64) -> ()')
        elif kind < 5:
            self._emit(f'"pyir.stmt"({array}) {{text = "x0[0] += 7"}} : ({ARRAY1}) -> ()')
        elif kind < 7:
            name = self._value(f'"pyir.stmt"({array}) {{text = "x0"}} : ({ARRAY1}) -> {ARRAY1}')
            scope.arrays.append(name)
        else:
            self._emit('"pyir.stmt"() {text = "raise stop"} : () -> ()')

    def _loop(self, scope: Scope) -> None:
        lower = "%c0" if self._random.random() < 0.9 else "%c1"
        upper = "%n" if self._random.random() < 0.7 else self._random.choice(scope.sizes)
        self._parallel(scope, [lower], [upper])

    def _recent(self, pool: list[str]) -> str:
        """One of ``pool``, more often one of its last."""
        return self._random.choice(pool[-3:] if self._random.random() < 0.7 else pool)

    def _loop2(self, scope: Scope) -> None:
        rows = self._value("memref.dim %d, %c0 : " + ARRAY2)
        columns = self._value("memref.dim %d, %c1 : " + ARRAY2)
        if self._random.random() < 0.5:
            scope.tables.append(self._value(f"memref.alloc({rows}, {columns}) : {ARRAY2}"))
        self._parallel(scope, ["%c0", "%c0"], [rows, columns])

    def _parallel(self, scope: Scope, lower: list[str], upper: list[str]) -> None:
        ivs = [self._new() for _ in lower]
        reductions = self._random.choice([0, 0, 0, 1, 2])
        results = ", ".join(self._new() for _ in range(reductions))
        inits = [self._random.choice(scope.scalars) for _ in range(reductions)]
        head = f"scf.parallel ({', '.join(ivs)}) = ({', '.join(lower)}) to ({', '.join(upper)})"
        head += f" step ({', '.join('%c1' for _ in ivs)})"
        if reductions:
            head = f"{results} = {head} init ({', '.join(inits)})"
            head += f" -> ({', '.join('i64' for _ in inits)})"
        self._emit(head + " {")
        body = Scope(scope)
        written = self._written(body, len(ivs))
        body.scalars += [self._value(f"arith.index_cast {iv} : index to i64") for iv in ivs]
        for _ in range(self._random.randint(2, 6)):
            self._body_statement(body, ivs, written)
        if not reductions:
            self._emit("scf.reduce")
        else:
            reduced = [self._recent(body.scalars) for _ in inits]
            self._emit(f"scf.reduce({', '.join(reduced)} : {', '.join('i64' for _ in inits)}) {{")
            regions = []
            for _ in inits:
                x, y, z = self._new(), self._new(), self._new()
                op = self._random.choice(["addi", "muli"])
                regions.append(
                    f"^bb0({x}: i64, {y}: i64):\n {z} = arith.{op} {x}, {y} : i64\n"
                    f" scf.reduce.return {z} : i64"
                )
            self._emit("\n}, {\n".join(regions))
            self._emit("}")
            scope.scalars += results.split(", ")
        self._emit("}")

    def _written(self, body: Scope, rank: int) -> list[str]:
        pool = body.arrays if rank == 1 else body.tables
        return [self._recent(pool) for _ in range(self._random.choice([0, 1, 1, 1, 2]))]

    def _body_statement(self, body: Scope, ivs: list[str], written: list[str]) -> None:
        kind = self._random.randrange(10)
        if kind < 4:
            self._body_load(body, ivs, written)
        elif kind < 5:
            x, y = self._random.choices(body.scalars, k=2)
            op = self._random.choice(["addi", "muli", "subi"])
            body.scalars.append(self._value(f"arith.{op} {x}, {y} : i64"))
        elif kind < 7 and written:
            self._body_store(body, ivs, written)
        elif kind < 9 and written:
            self._body_conditional(body, ivs, written)
        elif self._random.random() < 0.5:
            scalar = self._random.choice(body.scalars)
            name = self._value(f'"numba.expr1"({scalar}) {{text = "x0 ^ 1"}} : (i64) -> i64')
            body.scalars.append(name)
        else:
            self._inner_for(body, ivs, written)

    def _body_conditional(self, body: Scope, ivs: list[str], written: list[str]) -> None:
        """An element is set on one path, and read before and behind."""
        x, y = self._random.choices(body.scalars, k=2)
        array = self._random.choice(written)
        if self._random.random() < 0.7:
            self._own_load(body, ivs, array)
        condition = self._value(f"arith.cmpi slt, {x}, {y} : i64")
        self._emit(f"scf.if {condition} {{")
        inner = Scope(body)
        self._own_load(inner, ivs, array)
        self._body_store(inner, ivs, [array])
        self._emit("}")
        self._own_load(body, ivs, array)

    def _own_load(self, body: Scope, ivs: list[str], array: str) -> None:
        """Read the iteration's own element."""
        type_ = ARRAY1 if len(ivs) == 1 else ARRAY2
        body.scalars.append(self._value(f"memref.load {array}[{', '.join(ivs)}] : {type_}"))

    def _inner_for(self, body: Scope, ivs: list[str], written: list[str]) -> None:
        j, result, carried = self._new(), self._new(), self._new()
        size, init = self._random.choice(body.sizes), self._random.choice(body.scalars)
        self._emit(
            f"{result} = scf.for {j} = %c0 to {size} step %c1"
            f" iter_args({carried} = {init}) -> (i64) {{"
        )
        inner = Scope(body)
        inner.scalars.append(carried)
        reading = Scope(inner)
        reading.arrays = [array for array in inner.arrays if array not in written] or ["%a"]
        reading.tables = [table for table in inner.tables if table not in written] or ["%d"]
        self._body_load(reading, [*ivs[:-1], j], [])
        inner.scalars.append(reading.scalars[-1])
        if written and self._random.random() < 0.5:
            self._body_store(inner, ivs, written)
        x, y = inner.scalars[-1], carried
        total = self._value(f"arith.addi {x}, {y} : i64")
        self._emit(f"scf.yield {total} : i64")
        self._emit("}")
        body.scalars.append(result)

    def _index(self, iv: str) -> str:
        kind = self._random.random()
        if kind < 0.45:
            return iv
        if kind < 0.5:
            return "%c0"
        wide = self._value(f"arith.index_cast {iv} : index to i64")
        if kind < 0.9:
            wide = self._value(f"arith.subi {wide}, %k1 : i64")
        return self._value(f'"numba.wrap_index"({wide}, %n) : (i64, index) -> index')

    def _body_load(self, body: Scope, ivs: list[str], written: list[str]) -> None:
        if len(ivs) == 2 and self._random.random() < 0.6:
            table = self._recent(body.tables)
            index = ivs if table in written or self._random.random() < 0.6 else ivs[::-1]
            indices, array, type_ = ", ".join(index), table, ARRAY2
        else:
            array, type_ = self._recent(body.arrays), ARRAY1
            iv = self._random.choice(ivs)
            indices = iv if array in written and len(ivs) == 1 else self._index(iv)
        body.scalars.append(self._value(f"memref.load {array}[{indices}] : {type_}"))

    def _body_store(self, body: Scope, ivs: list[str], written: list[str]) -> None:
        array, value = self._random.choice(written), self._recent(body.scalars)
        type_ = ARRAY1 if len(ivs) == 1 else ARRAY2
        self._emit(f"memref.store {value}, {array}[{', '.join(ivs)}] : {type_}")


def arguments(seed: int) -> list[Any]:
    """Arguments for a generated function: equal, different or overlapping arrays."""
    rng = random.Random(seed)
    n = rng.choice([2, 3, 3, 4])
    pool = np.arange(1, 40, dtype=np.int64) * 3
    kind = rng.randrange(4)
    if kind == 0:  # all distinct, sizes perhaps different
        sizes = [n, n, n + rng.choice([0, 0, 1])]
        arrays = [pool[:size] * (k + 2) for k, size in enumerate(sizes)]
    elif kind == 1:  # the same array twice
        first = pool[:n].copy()
        arrays = [first, first, pool[:n] * 5]
    elif kind == 2:  # shifted views of one buffer
        buffer = pool.copy()
        arrays = [buffer[1 : n + 1], buffer[:n], buffer[20 : 20 + n]]
    else:
        arrays = [pool[:n].copy(), pool[:n] * 7, pool[:n] * 11]
    table = np.arange(16, dtype=np.int64).reshape(4, 4)
    if rng.random() < 0.5:
        table = np.arange(n * 3, dtype=np.int64).reshape(n, 3)
    return [*arrays, table, n]
