"""A slow reference interpreter of the interchange form, to compare before and after.

Integers only (wrapping 64-bit, so that order of reductions does not matter).  Iterations
of ``scf.parallel`` run in random order.  The ``text`` of ``numba.exprN`` and ``pyir.stmt``
is Python over the operands ``x0``, ``x1``, ...; a statement is logged with what it sees:
its operands and every argument of the function.

While a parallel loop runs, arrays used through different SSA values must not overlap
where one is written: Numba compiles loop bodies under that assumption.  Violations are
counted in `Outcome.hazards`.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from numba_mlir import mlir

GARBAGE = -999


class Raised(Exception):
    """A size check or a statement raised."""


@dataclasses.dataclass
class Outcome:
    """Everything that an execution shows to its caller."""

    results: list[Any] = dataclasses.field(default_factory=list)
    log: list[Any] = dataclasses.field(default_factory=list)
    raised: str | None = None
    hazards: int = 0


Env = dict[Any, Any]


@dataclasses.dataclass(frozen=True)
class _Op:
    """An operation, its parts taken out of the bindings once."""

    op: Any
    name: str
    operands: list[Any]
    results: list[Any]


_WRAP = 1 << 64


def _wrap(value: int) -> int:
    value = int(value) % _WRAP
    return value - _WRAP if value >= _WRAP >> 1 else value


_COMPARE: list[Callable[[int, int], bool]] = [
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a < b,
    lambda a, b: a <= b,
    lambda a, b: a > b,
    lambda a, b: a >= b,
]

_PURE: dict[str, Callable[..., Any]] = {
    "arith.addi": lambda a, b: _wrap(a + b),
    "arith.subi": lambda a, b: _wrap(a - b),
    "arith.muli": lambda a, b: _wrap(a * b),
    "arith.andi": lambda a, b: a & b,
    "arith.ori": lambda a, b: a | b,
    "arith.xori": lambda a, b: a ^ b,
    "arith.maxsi": max,
    "arith.minsi": min,
    "arith.ceildivsi": lambda a, b: -(-a // b),
    "arith.divui": lambda a, b: a // b,
    "arith.remui": lambda a, b: a % b,
    "arith.index_cast": lambda a: a,
    "arith.select": lambda c, a, b: a if c else b,
    "numba.wrap_index": lambda i, n: i + n if i < 0 else i,
    "numba.disjoint": lambda a, b: not np.may_share_memory(a, b),
    "numba.column_major": lambda a: abs(a.strides[0]) < abs(a.strides[-1]),
    "memref.extract_aligned_pointer_as_index": lambda a: a.__array_interface__["data"][0],
    "memref.dim": lambda a, axis: a.shape[axis],
    "memref.load": lambda a, *index: int(_element(a, index)[0]),
}


def _element(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    for i, n in zip(index, array.shape, strict=True):
        if not 0 <= i < n:
            raise IndexError(f"{index} in an array of shape {array.shape}")
    return array[tuple(slice(i, i + 1) for i in index)].reshape(-1)


class Interpreter:
    """Executes the only function of a module once."""

    def __init__(self, module: Any, arguments: list[Any], seed: int = 0) -> None:
        self._function = next(iter(module.body)).operation
        self._arguments = arguments
        self._random = random.Random(seed)
        self._used: dict[Any, set[tuple[int, bool]]] | None = None
        self._decoded: dict[Any, tuple[list[Any], list[_Op]]] = {}
        self.outcome = Outcome()

    def _decode(self, block: Any) -> tuple[list[Any], list[_Op]]:
        """The arguments and operations of a block."""
        found = self._decoded.get(block)
        if found is None:
            ops = [view.operation for view in block.operations]
            decoded = [_Op(op, op.name, list(op.operands), list(op.results)) for op in ops]
            found = self._decoded[block] = (list(block.arguments), decoded)
        return found

    def run(self) -> Outcome:
        block = self._function.regions[0].blocks[0]
        env: Env = {}
        values = self._arguments
        try:
            with np.errstate(over="ignore"):
                kind, self.outcome.results = self._blocks(block, values, env)
            assert kind == "func.return"
        except Raised as error:
            self.outcome.raised = str(error)
        return self.outcome

    def _blocks(self, block: Any, values: list[Any], env: Env) -> tuple[str, list[Any]]:
        """Run from ``block`` until a terminator leaves the region."""
        while True:
            names, (*body, last) = self._decode(block)
            env.update(zip(names, values, strict=True))
            for op in body:
                self._op(op, env)
            values = [env[v] for v in last.operands]
            if last.name == "cf.br":
                block = last.op.successors[0]
            elif last.name == "cf.cond_br":
                condition, *rest = values
                split = len(last.op.successors[0].arguments)
                block = last.op.successors[0 if condition else 1]
                values = rest[:split] if condition else rest[split:]
            else:
                return last.name, values

    def _op(self, op: _Op, env: Env) -> None:
        name = op.name
        args = [env[v] for v in op.operands]
        if name in _PURE:
            if name == "memref.load":
                self._note(op.operands[0], args[0], args[1:], write=False)
            env[op.results[0]] = _PURE[name](*args)
        elif name == "arith.constant":
            env[op.results[0]] = op.op.attributes["value"].value
        elif name == "arith.cmpi":
            env[op.results[0]] = _COMPARE[op.op.attributes["predicate"].value](*args)
        elif name.startswith("numba.expr"):
            env[op.results[0]] = eval(op.op.attributes["text"].value, _names(args))
        else:
            getattr(self, "_" + name.replace(".", "_"))(op.op, args, env)

    def _note(self, memref: Any, array: np.ndarray, index: list[int], write: bool) -> None:
        if self._used is not None:
            address = _element(array, tuple(index)).__array_interface__["data"][0]
            self._used.setdefault(memref, set()).add((address, write))

    def _memref_alloc(self, op: Any, args: list[Any], env: Env) -> None:
        sizes = iter(args)
        type_ = op.result.type
        shape = [
            next(sizes) if type_.is_dynamic_dim(axis) else type_.shape[axis]
            for axis in range(type_.rank)
        ]
        env[op.result] = np.full(shape, GARBAGE, np.int64)

    def _memref_store(self, op: Any, args: list[Any], env: Env) -> None:
        value, array, *index = args
        self._note(op.operands[1], array, index, write=True)
        _element(array, tuple(index))[0] = value

    def _numba_assert_equal(self, op: Any, args: list[Any], env: Env) -> None:
        if len(set(args)) > 1:
            raise Raised(op.attributes["message"].value)

    def _pyir_stmt(self, op: Any, args: list[Any], env: Env) -> None:
        text = op.attributes["text"].value
        seen = [np.copy(value) for value in (*args, *self._arguments)]
        self.outcome.log.append((text, [value.tolist() for value in seen]))
        names = _names(args)
        if text.startswith("raise"):
            raise Raised(text)
        if len(op.results):
            env[op.results[0]] = eval(text, names)
        else:
            exec(text, names)

    def _scf_parallel(self, op: Any, args: list[Any], env: Env) -> None:
        block = op.regions[0].blocks[0]
        rank = len(block.arguments)
        lower, upper, step = (args[k * rank : (k + 1) * rank] for k in range(3))
        totals = args[3 * rank :]
        ranges = map(range, lower, upper, step)
        iterations = list(itertools.product(*ranges))
        self._random.shuffle(iterations)
        reduce = self._decode(block)[1][-1].op
        combiners = [region.blocks[0] for region in reduce.regions]
        outermost = self._used is None
        if outermost:
            self._used = {}
        for iteration in iterations:
            _, values = self._blocks(block, list(iteration), env)
            totals = [
                self._blocks(combiner, [total, value], env)[1][0]
                for combiner, total, value in zip(combiners, totals, values, strict=True)
            ]
        if outermost:
            self._count_hazards({m for m in self._used if not _inside(m, op)})
            self._used = None
        env.update(zip(op.results, totals, strict=True))

    def _count_hazards(self, memrefs: set[Any]) -> None:
        assert self._used is not None
        for left, right in itertools.combinations(memrefs, 2):
            written = {a for a, write in self._used[left] if write}
            other = {a for a, write in self._used[right] if write}
            touched = {a for a, _ in self._used[left]}, {a for a, _ in self._used[right]}
            self.outcome.hazards += bool(written & touched[1] or other & touched[0])

    def _scf_if(self, op: Any, args: list[Any], env: Env) -> None:
        region = op.regions[0 if args[0] else 1]
        if len(region.blocks):
            _, values = self._blocks(region.blocks[0], [], env)
            env.update(zip(op.results, values, strict=True))

    def _scf_for(self, op: Any, args: list[Any], env: Env) -> None:
        lower, upper, step, *carried = args
        for i in range(lower, upper, step):
            _, carried = self._blocks(op.regions[0].blocks[0], [i, *carried], env)
        env.update(zip(op.results, carried, strict=True))

    def _scf_execute_region(self, op: Any, args: list[Any], env: Env) -> None:
        _, values = self._blocks(op.regions[0].blocks[0], [], env)
        env.update(zip(op.results, values, strict=True))


def _names(args: list[Any]) -> dict[str, Any]:
    return {f"x{k}": value for k, value in enumerate(args)} | {"np": np}


def _inside(value: Any, op: Any) -> bool:
    from numba_mlir.passes.values import defined_inside

    return defined_inside(value, op)


def execute(module: Any, arguments: list[Any], seed: int = 0) -> Outcome:
    """Run a module's function on Python integers and int64 arrays (changed in place)."""
    with mlir.context():
        return Interpreter(module, arguments, seed).run()
