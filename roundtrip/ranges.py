"""Loops that count, so that they become ``scf.for``: inside parallel bodies and pieces of
functions, and some of the function itself (`range_loops`).

At this point a loop over ``range`` is ``getiter(range(...))`` and a header with ``iternext``,
``pair_first``, ``pair_second`` and a branch.  A loop that counts by itself has a header that
compares a variable with a bound, and adds a constant to it at the end of its last block.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numba import prange
from numba.core import ir, types

from numba_mlir.converters import build
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import names_read
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.roundtrip import graph

#: name of the Numba type of such an iterator
ITERATOR = "range_iter_int64"
#: what the header of a loop does with its iterator
ITERATION = ["iternext", "pair_first", "pair_second"]


@dataclass(frozen=True)
class Counted:
    """One loop: ``variable`` takes the values of range(*arguments); ``body`` is its first block.

    ``private`` are the iterator's own variables, which the loop's body does not need.  With
    ``from_zero`` iterations are counted from 0, and the variable follows from their number.
    A loop that counts by itself has the two ``arguments`` that its variable and its bound are.
    """

    header: int
    body: int
    variable: str
    arguments: tuple[str, ...]
    step: int
    private: frozenset[str]
    from_zero: bool
    by_itself: bool = False


@dataclass
class Ranges:
    loops: dict[int, Counted] = field(default_factory=dict)
    #: ids of statements that are part of the iterator
    absorbed: set[int] = field(default_factory=set)
    #: id of the call of range -> its loop
    calls: dict[int, Counted] = field(default_factory=dict)
    #: the same as ``absorbed``, for each loop
    statements: dict[int, set[int]] = field(default_factory=dict)
    #: loops with other ways out than the end of their range, entered in one place
    left_early: dict[int, Counted] = field(default_factory=dict)

    def as_blocks(self, labels: Collection[int]) -> Ranges:
        """Those of loops over ``range`` in ``labels`` that count in a block argument."""
        plain = {header: loop for header, loop in self.loops.items() if not loop.by_itself}
        return replace(self, loops=plain | self.left_early).only(labels)

    def only(self, headers: Collection[int]) -> Ranges:
        """The same of some loops alone, which cannot count beyond the largest integer."""
        loops = {
            header: replace(loop, from_zero=loop.step != 1)
            for header, loop in self.loops.items()
            if header in headers
        }
        calls = {number: loop for number, loop in self.calls.items() if loop.header in headers}
        absorbed = set().union(*(self.statements[header] for header in loops))
        return Ranges(loops, absorbed, calls, {h: self.statements[h] for h in loops})

    def remember(self, env: Env, stmt: Any) -> None:
        """Hold the bounds as they are where range is called."""
        counted = self.calls.get(id(stmt))
        if counted is not None:
            for i, name in enumerate(counted.arguments):
                slot = env.get(name)
                if slot is not None:
                    env[f"range.{counted.header}.{i}"] = slot


def find(
    frame: Frame,
    blocks: Mapping[int, Any],
    control: Mapping[int, list[int]],
    loops: Mapping[int, graph.Loop],
    live_at_exit: frozenset[str] = frozenset(),
) -> Ranges:
    """Loops of ``blocks`` that run over an int64 range with a known step.

    ``live_at_exit`` are variables that are read behind the blocks.
    """
    found = Ranges()
    if not loops:
        return found
    defs, uses = definitions(blocks)
    readers = _Readers(blocks)
    before = graph.predecessors(control)
    for header, loop in loops.items():
        exits = loop.exits(control)
        if header not in (block for block, _ in exits):
            continue
        counted = _match(frame, blocks[header], header, loop, defs, uses)
        only_one = len(exits) == 1
        if counted is not None and (only_one or _is_entered_once(loop, before)):
            loop_, statements, call = counted
            (found.loops if only_one else found.left_early)[header] = loop_
            found.statements[header] = {id(s) for s in statements}
            found.absorbed |= found.statements[header]
            found.calls[id(call)] = loop_
            continue
        if not only_one:
            continue
        by_itself = _match_counter(frame, blocks, header, loop, defs, uses, readers)
        if by_itself is not None and by_itself[0].variable not in live_at_exit:
            found.loops[header], statements = by_itself
            found.statements[header] = {id(s) for s in statements}
            found.absorbed |= found.statements[header]
    return found


def _is_entered_once(loop: graph.Loop, before: Mapping[int, list[int]]) -> bool:
    return sum(block not in loop.body for block in before[loop.header]) == 1


def definitions(blocks: Mapping[int, Any]) -> tuple[dict[str, list[Any]], Counter[str]]:
    defs: dict[str, list[Any]] = {}
    uses: Counter[str] = Counter()
    for block in blocks.values():
        for stmt in block.body:
            if isinstance(stmt, ir.Assign):
                defs.setdefault(stmt.target.name, []).append(stmt)
                value = stmt.value
                read = [value] if isinstance(value, ir.Var) else []
                if isinstance(value, (ir.Expr, ir.Yield)):
                    read = value.list_vars()
            else:
                read = stmt.list_vars()
            uses.update(v.name for v in read)
    return defs, uses


class _Readers:
    """The statements that read a variable; worked out when somebody asks."""

    def __init__(self, blocks: Mapping[int, Any]) -> None:
        self._blocks = blocks
        self._found: dict[str, list[Any]] | None = None

    def of(self, name: str) -> list[Any]:
        """The statements that read ``name``, each once."""
        if self._found is None:
            self._found = {}
            for block in self._blocks.values():
                for stmt in block.body:
                    for read in names_read(stmt):
                        self._found.setdefault(read, []).append(stmt)
        return self._found.get(name, [])


def _match(
    frame: Frame,
    block: Any,
    header: int,
    loop: graph.Loop,
    defs: Mapping[str, list[Any]],
    uses: Mapping[str, int],
) -> tuple[Counted, list[Any], Any] | None:
    if len(block.body) != 4:
        return None
    step_stmt, first, second, branch = block.body
    if [operation(s) for s in (step_stmt, first, second)] != [
        "iternext",
        "pair_first",
        "pair_second",
    ]:
        return None
    pair, more = step_stmt.target.name, second.target.name
    if not isinstance(branch, ir.Branch) or branch.cond.name != more:
        return None
    if branch.truebr not in loop.body or uses[pair] != 2 or uses[more] != 1:
        return None
    chain = iterator_chain(step_stmt.value.value.name, defs, uses)
    if chain is None or str(frame.type_of(step_stmt.value.value.name)) != ITERATOR:
        return None
    call = chain[-1]
    arguments = tuple(arg.name for arg in call.value.args)
    step = known_step(frame.type_of, arguments)
    if step is None or str(frame.type_of(first.target.name)) != "int64":
        return None
    statements = [step_stmt, first, second, *chain]
    private = frozenset({pair, more, *(s.target.name for s in chain)})
    variable = first.target.name
    counted = Counted(header, branch.truebr, variable, arguments, step, private, step < 0)
    return (counted, statements, call) if _is_range(frame, call) else None


def _match_counter(
    frame: Frame,
    blocks: Mapping[int, Any],
    header: int,
    loop: graph.Loop,
    defs: Mapping[str, list[Any]],
    uses: Mapping[str, int],
    readers: _Readers,
) -> tuple[Counted, list[Any]] | None:
    """A loop ``while i < n`` with ``i = i + step`` as its last statement and constant steps.

    The loop's variable must not be read behind that, here or outside.
    """
    block = blocks[header]
    if len(block.body) != 2 or len(loop.latches) != 1:
        return None
    test, branch = block.body
    value = test.value if operation(test) == "binop" else None
    if value is None or value.fn is not operator.lt or not isinstance(branch, ir.Branch):
        return None
    name, bound = value.lhs.name, value.rhs.name
    more = test.target.name
    if branch.cond.name != more or uses[more] != 1 or branch.truebr not in loop.body:
        return None
    if frame.type_of(name) != types.int64 or frame.type_of(bound) != types.int64:
        return None
    latch = blocks[loop.latches[0]].body
    steps = _steps(latch, name, defs, uses)
    if steps is None:
        return None
    statements, step = steps
    # by identity: Numba takes statements for equal that say the same in different places
    inside = {id(s): s for label in loop.body for s in blocks[label].body}
    if bound in {s.target.name for s in inside.values() if isinstance(s, ir.Assign)}:
        return None
    allowed = inside.keys() | {id(s) for s in statements}
    if any(id(s) not in allowed for s in readers.of(name)):
        return None
    if sum(id(d) in inside for d in defs[name]) != 1:
        return None
    private = frozenset({name, more, *(s.target.name for s in statements)})
    counted = Counted(header, branch.truebr, name, (name, bound), step, private,
                      from_zero=False, by_itself=True)  # fmt: skip
    return counted, [test, *statements]


def _steps(
    latch: list[Any], name: str, defs: Mapping[str, list[Any]], uses: Mapping[str, int]
) -> tuple[list[Any], int] | None:
    """The last statements of a loop's last block, where they add a constant to ``name``."""
    *_, new, copy, _ = [None, None, *latch]
    if not isinstance(copy, ir.Assign) or copy.target.name != name:
        return None
    statements = [copy]
    if isinstance(copy.value, ir.Var):
        if new is None or operation(new) is None or new.target.name != copy.value.name:
            return None
        if len(defs[new.target.name]) != 1 or uses[new.target.name] != 1:
            return None
        statements = [new, copy]
    value = statements[0].value
    if operation(statements[0]) not in ("binop", "inplace_binop") or value.lhs.name != name:
        return None
    step = constant(defs, value.rhs.name)
    added = value.fn in (operator.add, operator.iadd)
    return (statements, step) if added and step is not None and step > 0 else None


def constant(defs: Mapping[str, list[Any]], name: str) -> int | None:
    """The integer that a variable always is; None where it is not known."""
    found = defs.get(name, [])
    if len(found) != 1 or not isinstance(found[0].value, ir.Const):
        return None
    number = found[0].value.value
    return number if type(number) is int else None


def operation(stmt: Any) -> str | None:
    value = stmt.value if isinstance(stmt, ir.Assign) else None
    return value.op if isinstance(value, ir.Expr) else None


def iterator_chain(
    name: str, defs: Mapping[str, list[Any]], uses: Mapping[str, int]
) -> list[Any] | None:
    """Statements from the iterator variable back to the call of range, each used once."""
    chain: list[Any] = []
    while True:
        statements = defs.get(name, [])
        if len(statements) != 1 or uses[name] != 1:
            return None
        stmt = statements[0]
        chain.append(stmt)
        if isinstance(stmt.value, ir.Var):
            name = stmt.value.name
        elif operation(stmt) == "getiter":
            name = stmt.value.value.name
        elif operation(stmt) == "call":
            plain = not stmt.value.kws and stmt.value.vararg is None
            return chain if plain and len(chain) > 1 else None
        else:
            return None


def _is_range(frame: Frame, call: Any) -> bool:
    callee = frame.type_of(call.value.func.name)
    return isinstance(callee, types.Function) and callee.typing_key in (range, prange)


def known_step(type_of: Callable[[str], Any], arguments: Sequence[str]) -> int | None:
    """The step of range(*arguments) of integers; None where it is not a constant."""
    for name in arguments:
        numba_type = types.unliteral(type_of(name))
        if not isinstance(numba_type, types.Integer):
            return None
    if len(arguments) < 3:
        return 1
    step = type_of(arguments[2])
    if isinstance(step, types.IntegerLiteral) and step.literal_value:
        return int(step.literal_value)
    return None


@dataclass(frozen=True)
class Bounds:
    """Operands of the ``scf.for``; for one that counts from 0 ``start`` is where its range does."""

    lower: Any
    upper: Any
    step: Any
    start: Any
    not_negative: bool

    def variable(self, frame: Frame, counted: Counted, iv: Any) -> Slot:
        """The loop variable's slot for the induction variable ``iv``."""
        wide = frame.mlir_type(types.int64)
        if not counted.from_zero:
            index = iv if self.not_negative else None
            return Slot(types.int64, build.index_cast(iv, wide), index=index)
        scaled = build.value(
            "arith.muli", (build.index_cast(iv, wide), frame.constant(counted.step, wide)), wide
        )
        return Slot(types.int64, build.value("arith.addi", (self.start, scaled), wide))


def bounds(frame: Frame, env: Env, counted: Counted) -> Bounds:
    names = counted.arguments
    if not counted.by_itself:
        names = tuple(f"range.{counted.header}.{i}" for i in range(len(names)))
    slots = [env.get(name) for name in names]
    if len(slots) == 1:
        start: Slot | None = Slot(types.IntegerLiteral(0), None, 0)
        stop = slots[0]
    else:
        start, stop = slots[0], slots[1]
    assert start is not None and stop is not None
    not_negative = start.index is not None or _is_not_negative(start)
    lower, upper = frame.size(start), frame.size(stop)
    if not counted.from_zero:
        step = frame.index_constant(counted.step)
        return Bounds(lower, upper, step, None, not_negative)
    index = build.index_type()
    ends = (lower, upper) if counted.step < 0 else (upper, lower)
    distance = build.value("arith.subi", ends, index)
    by = frame.index_constant(abs(counted.step))
    trips = build.value("arith.ceildivsi", (distance, by), index)
    wide = frame.mlir_type(types.int64)
    zero, one = frame.index_constant(0), frame.index_constant(1)
    return Bounds(zero, trips, one, build.index_cast(lower, wide), False)


def _is_not_negative(start: Slot) -> bool:
    if isinstance(start.type, types.IntegerLiteral):
        return start.type.literal_value >= 0
    return type(start.python) is int and start.python >= 0
