"""Pieces of a sequential function that may become functions of their own.

A piece is a loop with all that is inside, or the whole body of a function.  `loops` finds
the former; `loop_region` and `body_region` copy the blocks into a form that has one end:

* a way out behind which nothing is read that the piece has assigned (``raise``, most of the
  time) becomes a statement `LeaveIf`, and its target stays a block of Numba's;
* all other ways out go to the end; where there are several, a variable says which was taken;
* a loop over ``range`` with several ways out counts with a plain variable.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numba.core import ir, types
from numba.core.typing import Signature

from numba_mlir.converters.operands import names_read
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.roundtrip import graph, ranges
from numba_mlir.roundtrip.accesses import AccessTable, block_graph
from numba_mlir.roundtrip.regions import BlockSet

#: variable that holds the number of the way out, and the one that holds the function's result
WAY, RESULT = "$mlir.way", "$mlir.result"
#: label of the first block; -1 and -2 mean something to `graph` and `regions`
_ENTRY = -3


class LeaveIf(ir.Stmt):
    """Leave the piece by way ``number`` where ``cond`` is ``value``."""

    def __init__(self, cond: Any, value: bool, number: int, loc: Any) -> None:
        self.cond, self.value, self.number, self.loc = cond, value, number, loc

    def __str__(self) -> str:
        return f"leave {self.number} if {self.cond} is {self.value}"


@dataclass
class Region:
    """A piece: ``labels`` are its blocks in the function, of which ``header`` comes first.

    ``blocks`` are copies, from ``entry`` on; behind the end, ``outs`` are read.  ``leaves`` are
    the targets of `LeaveIf`, by number, and ``targets`` those of the ways to the end.
    ``types`` and ``calltypes`` are of variables and expressions that the copies have alone,
    ``chain`` the statements in front of a loop that only make its iterator.
    """

    header: int
    labels: frozenset[int]
    loc: Any
    entry: int = _ENTRY
    blocks: dict[int, Any] = field(default_factory=dict)
    outs: tuple[str, ...] = ()
    leaves: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    types: dict[str, Any] = field(default_factory=dict)
    calltypes: dict[Any, Any] = field(default_factory=dict)
    chain: tuple[Any, ...] = ()
    whole: bool = False


class Function:
    """Control flow, variables and loops of a function, as they are at the moment."""

    def __init__(self, func_ir: Any, typemap: Any, accesses: AccessTable) -> None:
        self.func_ir, self.typemap = func_ir, typemap
        self.first = min(func_ir.blocks)
        self.blocks = BlockSet(accesses, func_ir.blocks, self.first)
        self.idom = graph.immediate_dominators(self.blocks.graph, self.first)
        self.loops = graph.natural_loops(self.blocks.graph, self.idom)
        self.defs, self.uses = ranges.definitions(func_ir.blocks)

    def inside(self, labels: Iterable[int] | None = None) -> list[graph.Loop]:
        """The outermost loops, or those of a set of blocks that are not all of it."""
        within = None if labels is None else set(labels)
        found = [
            loop for loop in self.loops.values() if within is None or loop.body < within
        ]  # fmt: skip
        return [one for one in found if not any(one.body < other.body for other in found)]


def loop_region(function: Function, loop: graph.Loop, typingctx: Any) -> Region:
    """The piece that a loop is."""
    blocks = function.blocks
    loc = function.func_ir.blocks[loop.header].loc
    region = Region(loop.header, frozenset(loop.body), loc)
    region.chain = _chain(function, loop)
    for label in loop.body:
        region.blocks[label] = _copy(blocks.blocks[label])
    main = [target for block, target in loop.exits(blocks.graph) if block == loop.header]
    _close(region, function, main)
    _enter(region, function)
    _tidy(region, function, typingctx)
    return region


def body_region(function: Function, typingctx: Any, return_type: Any) -> Region:
    """The piece that the whole function is, apart from where it raises.

    Its outs are the result, or the members of a tuple.
    Raises UnsupportedConstruct for exceptions with values that are computed, and where the
    function always raises.
    """
    blocks = function.blocks
    returns = [n for n, b in blocks.blocks.items() if b.body and isinstance(b.body[-1], ir.Return)]
    labels = _reaching(blocks.graph, returns)
    first = blocks.blocks[function.first]
    if function.first not in labels:
        raise UnsupportedConstruct("a function that never returns", first.loc)
    region = Region(function.first, frozenset(labels), first.loc, whole=True)
    for label in labels:
        block = _copy(blocks.blocks[label])
        if label == function.first:
            block.body = [s for s in block.body if not is_argument(s)]
        if label in returns:
            last = block.body.pop()
            block.body += _results(region, block.scope, last, return_type)
            block.body.append(ir.Jump(_end(function), last.loc))
        region.blocks[label] = block
    _close(region, function, [])
    if region.targets:
        raise UnsupportedConstruct("an exception with a value that is computed", region.loc)
    region.outs = tuple(region.types)
    _enter(region, function)
    _tidy(region, function, typingctx)
    return region


def _results(region: Region, scope: Any, last: Any, return_type: Any) -> Iterator[Any]:
    """Assignments in place of a ``return``."""
    if not isinstance(return_type, types.BaseTuple):
        region.types[RESULT] = return_type
        yield ir.Assign(last.value, ir.Var(scope, RESULT, last.loc), last.loc)
        return
    for number, kind in enumerate(return_type):
        name = f"{RESULT}.{number}"
        region.types[name] = kind
        member = ir.Expr.static_getitem(last.value, number, None, last.loc)
        region.calltypes[member] = None
        yield ir.Assign(member, ir.Var(scope, name, last.loc), last.loc)


def is_argument(stmt: Any) -> bool:
    return isinstance(stmt, ir.Assign) and isinstance(stmt.value, ir.Arg)


def _copy(block: Any) -> Any:
    made = ir.Block(block.scope, block.loc)
    made.body = list(block.body)
    return made


def _reaching(control: Mapping[int, list[int]], ends: Iterable[int]) -> set[int]:
    before = graph.predecessors(control)
    found: set[int] = set()
    work = list(ends)
    while work:
        label = work.pop()
        if label not in found:
            found.add(label)
            work.extend(before[label])
    return found


def _end(function: Function) -> int:
    """The label of the end, which no block of the function has."""
    return max(function.blocks.blocks) + 1


def _chain(function: Function, loop: graph.Loop) -> tuple[Any, ...]:
    """Statements in front of a loop over ``range`` that make its iterator, in order.

    Raises UnsupportedConstruct for other iterators, and where operands of range may have
    changed when the loop begins.
    """
    block = function.func_ir.blocks[loop.header]
    value = block.body[0].value if isinstance(block.body[0], ir.Assign) else None
    if not isinstance(value, ir.Expr) or value.op != "iternext":
        return ()
    chain = ranges.iterator_chain(value.value.name, function.defs, function.uses)
    if chain is None:
        raise UnsupportedConstruct("a loop over something else than a range", block.loc)
    inside = {id(s) for n in loop.body for s in function.func_ir.blocks[n].body}
    arguments = [arg.name for arg in chain[-1].value.args]
    if any(id(s) in inside for s in chain) or any(
        len(function.defs.get(name, ())) > 1 for name in arguments
    ):
        raise UnsupportedConstruct("a range that is made far from its loop", block.loc)
    return tuple(reversed(chain))


# -- ways out ----------------------------------------------------------------------------
def _close(region: Region, function: Function, main: list[int]) -> None:
    """Turn every way out into a `LeaveIf`, or into one to the end."""
    blocks = function.blocks
    end = _end(function)
    assigned = blocks.assigned(set(region.labels))
    targets: dict[int, set[str]] = {}
    for label in sorted(region.labels):
        for target in blocks.graph[label]:
            if target not in region.labels:
                targets.setdefault(target, set(blocks.live[target]) & assigned)
    ends = {t for t, read in targets.items() if read or t in main}
    if not (ends or region.whole):
        ends = set(sorted(targets)[:1])
    region.leaves = sorted(set(targets) - ends)
    region.targets = sorted(ends)
    region.outs = tuple(sorted(set().union(*(targets[t] for t in ends))))
    to_end = _selectors(region, function, end)
    for label in sorted(region.labels):
        _redirect(region.blocks[label], region.leaves, to_end)
    last = ir.Block(function.func_ir.blocks[region.header].scope, region.loc)
    region.blocks[end] = last


def _selectors(region: Region, function: Function, end: int) -> dict[int, int]:
    """For each target behind the end, where to go instead."""
    if len(region.targets) == 1:
        return {region.targets[0]: end}
    found = {}
    for number, target in enumerate(region.targets):
        block = ir.Block(function.func_ir.blocks[region.header].scope, region.loc)
        way = ir.Var(block.scope, WAY, region.loc)
        block.body = [ir.Assign(ir.Const(number, region.loc), way, region.loc),
                      ir.Jump(end, region.loc)]  # fmt: skip
        region.types[WAY] = types.int64
        found[target] = end + 1 + number
        region.blocks[found[target]] = block
    if region.targets:
        region.outs = (WAY, *region.outs)
    return found


def _redirect(block: Any, leaves: list[int], to_end: Mapping[int, int]) -> None:
    last = block.body[-1]
    if isinstance(last, ir.Jump):
        block.body[-1] = ir.Jump(to_end.get(last.target, last.target), last.loc)
    elif isinstance(last, ir.Branch):
        arms = [last.truebr, last.falsebr]
        away = [arm for arm in arms if arm in leaves]
        arms = [to_end.get(arm, arm) for arm in arms]
        if not away:
            block.body[-1] = ir.Branch(last.cond, *arms, last.loc)
            return
        value = last.truebr in leaves
        block.body[-1] = LeaveIf(last.cond, value, leaves.index(away[0]), last.loc)
        block.body.append(ir.Jump(arms[1] if value else arms[0], last.loc))


# -- the first block ------------------------------------------------------------------------
def _enter(region: Region, function: Function) -> None:
    """A first block with what comes again inside: constants, globals, the loop's iterator."""
    again: dict[str, Any] = {}
    chained = {stmt.target.name for stmt in region.chain}
    inside = {s.target.name for b in region.blocks.values() for s in b.body
              if isinstance(s, ir.Assign)}  # fmt: skip
    work = [name for b in region.blocks.values() for s in b.body for name in names_read(s)]
    work += [name for stmt in region.chain for name in names_read(stmt)]
    while work:
        name = work.pop()
        if name in again or name in inside or name in chained:
            continue
        stmt = _constant(function, name)
        if stmt is not None:
            again[name] = stmt
            work.extend(names_read(stmt))
    block = ir.Block(function.func_ir.blocks[region.header].scope, region.loc)
    block.body = [*_in_order(again), *region.chain, ir.Jump(region.header, region.loc)]
    region.blocks[region.entry] = block


def _constant(function: Function, name: str) -> Any | None:
    """The one definition of a variable, where it may be made again anywhere."""
    found = function.defs.get(name, ())
    if len(found) != 1:
        return None
    value = found[0].value
    if isinstance(value, (ir.Const, ir.Global, ir.FreeVar)):
        return found[0]
    module = isinstance(value, ir.Expr) and value.op == "getattr"
    owner = _constant(function, value.value.name) if module else None
    held = owner.value if owner is not None else None
    return found[0] if isinstance(held, (ir.Global, ir.FreeVar)) else None


def _in_order(again: Mapping[str, Any]) -> Iterator[Any]:
    """Each statement behind those that it reads."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[Any]:
        if name in again and name not in done:
            done.add(name)
            for read in names_read(again[name]):
                yield from visit(read)
            yield again[name]

    for name in again:
        yield from visit(name)


# -- loops over range ---------------------------------------------------------------------
def _tidy(region: Region, function: Function, typingctx: Any) -> None:
    """Bring loops over range into the forms that the import takes."""
    control = block_graph(region.blocks)
    loops = graph.natural_loops(control, graph.immediate_dominators(control, region.entry))
    before = graph.predecessors(control)
    for header in loops:
        _move_copies(region, header, before)
    unstructured = _unstructured(control, loops)
    for header, loop in loops.items():
        if header in unstructured:
            _count(region, loop, function, typingctx)


def _unstructured(control: Mapping[int, list[int]], loops: Mapping[int, graph.Loop]) -> set[int]:
    """Blocks of loops with several ways out, up to where these meet."""
    behind = graph.immediate_dominators(graph.reversed_graph(control), graph.EXIT)
    found: set[int] = set()
    for header, loop in loops.items():
        exits = loop.exits(control)
        if len(exits) == 1 and exits[0][0] == header:
            continue
        meeting = header
        while meeting in loop.body:
            meeting = behind.get(meeting, graph.EXIT)
        found |= graph.between(control, header, meeting)
    return found


def _parts(block: Any) -> tuple[list[Any], list[Any]] | None:
    """Statements of a header that ask the iterator, and the copies behind them."""
    *body, last = block.body
    ops = [ranges.operation(stmt) for stmt in body[:3]]
    if ops != ranges.ITERATION or not isinstance(last, ir.Branch):
        return None
    copies = body[3:]
    if not all(isinstance(s, ir.Assign) and isinstance(s.value, ir.Var) for s in copies):
        return None
    return body[:3], copies


def _move_copies(region: Region, header: int, before: Mapping[int, list[int]]) -> None:
    """Copies of the loop's variable from the header to where the loop's body begins."""
    block = region.blocks[header]
    parts = _parts(block)
    if parts is None or not parts[1]:
        return
    inner = block.body[-1].truebr
    if len(before[inner]) != 1 or inner == header:
        return
    region.blocks[inner].body[:0] = parts[1]
    block.body[3:-1] = []


def _count(region: Region, loop: graph.Loop, function: Function, typingctx: Any) -> None:
    """Replace the iterator of a loop over int64 with a constant step by a number."""
    block = region.blocks[loop.header]
    parts = _parts(block)
    if parts is None or parts[1]:
        return
    ask, first, second = parts[0]
    name, last, type_of = ask.value.value.name, block.body[-1], function.typemap.__getitem__
    defs, uses = ranges.definitions(region.blocks)
    chain = ranges.iterator_chain(name, defs, uses)
    if chain is None or last.truebr not in loop.body or uses[second.target.name] != 1:
        return
    step = ranges.known_step(type_of, [arg.name for arg in chain[-1].value.args])
    ways = graph.predecessors(block_graph(region.blocks))[last.truebr]
    if step is None or str(type_of(name)) != ranges.ITERATOR or ways != [loop.header]:
        return
    made = _Counter(region, loop.header, typingctx)
    for other in region.blocks.values():
        if any(stmt is chain[-1] for stmt in other.body):
            made.replace(other, chain, step, first, region.blocks[last.truebr])
            return


class _Counter:
    """The variables of one loop that counts by itself."""

    def __init__(self, region: Region, header: int, typingctx: Any) -> None:
        self._region, self._header, self._context = region, header, typingctx
        self.loc = region.blocks[header].loc
        self._scope = region.blocks[header].scope

    def replace(self, before: Any, chain: list[Any], by: int, first: Any, body: Any) -> None:
        """``before`` is the block of the call of range, ``body`` the first of the loop's body."""
        arguments, head = list(chain[-1].value.args), self._region.blocks[self._header]
        now, stop, step, more = (self._var(n) for n in ("now", "stop", "step", "more"))
        start = ir.Const(0, self.loc) if len(arguments) == 1 else arguments[0]
        end = arguments[0] if len(arguments) == 1 else arguments[1]
        set_up = [self._assign(now, start), self._assign(stop, end),
                  self._assign(step, ir.Const(by, self.loc))]  # fmt: skip
        place = next(i for i, stmt in enumerate(before.body) if stmt is chain[-1])
        dropped = {id(stmt) for stmt in chain}
        before.body[place : place + 1] = set_up
        for block in self._region.blocks.values():
            block.body = [stmt for stmt in block.body if id(stmt) not in dropped]
        last = head.body[-1]
        self._region.types[more.name] = types.boolean
        head.body = [
            self._assign(more, self._binary(operator.lt if by > 0 else operator.gt, now, stop)),
            ir.Branch(more, last.truebr, last.falsebr, last.loc),
        ]
        body.body[:0] = [
            ir.Assign(now, first.target, self.loc),
            self._assign(now, self._binary(operator.add, now, step)),
        ]

    def _var(self, what: str) -> Any:
        name = f"$mlir.{what}.{self._header}"
        self._region.types[name] = types.int64
        return ir.Var(self._scope, name, self.loc)

    def _assign(self, var: Any, value: Any) -> Any:
        return ir.Assign(value, var, self.loc)

    def _binary(self, fn: Any, left: Any, right: Any) -> Any:
        expr = ir.Expr.binop(fn, left, right, self.loc)
        pair = (types.int64, types.int64)
        sig: Signature = self._context.resolve_function_type(fn, pair, {})
        self._region.calltypes[expr] = sig
        return expr
