"""Carried values that each iteration changes by one associative operator, or counts up."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.building import index
from numba_mlir.passes.carried import Dependences, choice_arms
from numba_mlir.passes.values import defined_inside, nested, operations, owner

_COMMUTATIVE = {
    f"arith.{name}": f"arith.{name}"
    for name in ("addf", "addi", "mulf", "muli", "andi", "ori", "xori",
                 "maxsi", "maxui", "minsi", "minui", "maximumf", "minimumf")
}  # fmt: skip
#: operators whose first operand is the value so far -> the operator that joins the parts
_LEFT = {"arith.subf": "arith.addf", "arith.subi": "arith.addi", "arith.divf": "arith.mulf"}


@dataclasses.dataclass(frozen=True)
class Operator:
    """Carried value ``number`` is combined with each iteration's own by operation ``name``."""

    number: int
    name: str

    def start(self, type_: Any) -> Any:
        """The value that changes nothing, as a constant."""
        ir = mlir.ir
        if self.name in _FLOAT:
            return mlir.arith.constant(type_, ir.FloatAttr.get(type_, _FLOAT[self.name]))
        number = _INTEGER[self.name](ir.IntegerType(type_).width)
        return mlir.arith.constant(type_, ir.IntegerAttr.get(type_, number))

    def join(self, left: Any, right: Any) -> Any:
        return mlir.ir.Operation.create(self.name, [left.type], [left, right]).results[0]


#: a sum starts at -0.0: 0.0 would change a sum of negative zeros
_FLOAT = {
    "arith.addf": -0.0, "arith.mulf": 1.0,
    "arith.maximumf": -math.inf, "arith.minimumf": math.inf,
}  # fmt: skip
#: by the width of the type, as signed numbers
_INTEGER: dict[str, Any] = {
    "arith.addi": lambda width: 0,
    "arith.muli": lambda width: 1,
    "arith.andi": lambda width: -1,
    "arith.ori": lambda width: 0,
    "arith.xori": lambda width: 0,
    "arith.maxsi": lambda width: -(1 << (width - 1)),
    "arith.minsi": lambda width: (1 << (width - 1)) - 1,
    "arith.maxui": lambda width: 0,
    "arith.minui": lambda width: -1,
}


def find_operator(deps: Dependences, number: int) -> Operator | None:
    """The operator that makes the next value of carried value ``number`` from the last."""
    names: set[str] = set()
    if not _follow(deps, deps.yields[number], deps.arguments[number], names):
        return None
    return Operator(number, names.pop()) if len(names) == 1 else None


def _follow(deps: Dependences, value: Any, base: Any, names: set[str]) -> bool:
    """Whether ``value`` is made from ``base`` by operators alone, whose names are collected."""
    while value != base:
        op = owner(value)
        arms = choice_arms(value)
        if arms is not None:
            condition, yes, no = arms
            if deps.of(condition) or not _follow(deps, yes, base, names):
                return False
            value = no
        elif op is not None and op.name == "scf.for":
            number = mlir.ir.OpResult(value).result_number
            block = op.regions[0].blocks[0]
            end = operations(block)[-1].operands[number]
            if any(map(deps.of, list(op.operands)[:3])):
                return False
            if not _follow(deps, end, block.arguments[1 + number], names):
                return False
            value = op.operands[3 + number]
        else:
            after = _operand(deps, op, names)
            if after is None:
                return False
            value = after
    return True


def _operand(deps: Dependences, op: Any, names: set[str]) -> Any | None:
    """The operand of an operator that is the value so far."""
    if op is None or len(op.operands) != 2:
        return None
    left, right = op.operands
    name = _COMMUTATIVE.get(op.name) or _LEFT.get(op.name)
    if name is None:
        return None
    if op.name in _LEFT or deps.of(left):
        so_far, own = left, right
    else:
        so_far, own = right, left
    names.add(name)
    return so_far if deps.of(so_far) and not deps.of(own) else None


#: predicates of arith.cmpi -> (signedness, whether the first operand is the smaller one)
_SMALLER = {2: ("si", True), 3: ("si", True), 4: ("si", False), 5: ("si", False),
            6: ("ui", True), 7: ("ui", True), 8: ("ui", False), 9: ("ui", False)}  # fmt: skip


def spell_out_extrema(loop: Any) -> None:
    """Write integer extrema as choices where the loop compares the same two numbers.

    MLIR's canonical form has ``maxsi`` for the value and a comparison for what goes with it.
    """
    compared: dict[frozenset[Any], Any] = {}
    for op in list(nested(loop)):
        name = op.name.removeprefix("arith.")
        if op.name == "arith.cmpi" and op.attributes["predicate"].value in _SMALLER:
            compared[frozenset(op.operands)] = op
        elif name in ("maxsi", "maxui", "minsi", "minui"):
            found = compared.get(frozenset(op.operands))
            if found is not None and found.block == op.block:
                _spell_out(op, name, found)


def _spell_out(op: Any, name: str, comparison: Any) -> None:
    sign, smaller = _SMALLER[comparison.attributes["predicate"].value]
    if not name.endswith(sign):
        return
    first, second = comparison.operands
    yes, no = (second, first) if smaller == name.startswith("max") else (first, second)
    with mlir.ir.InsertionPoint(op), op.location:
        choice = mlir.arith.select(comparison.results[0], yes, no)
    op.results[0].replace_all_uses_with(choice)
    op.erase()


def replace_counters(loop: Any) -> list[int]:
    """Compute what grows by the same amount in every iteration from the loop's index.

    Returns the numbers of such carried integers, which the loop does not change any more.
    """
    arith, ir = mlir.arith, mlir.ir
    block = loop.regions[0].blocks[0]
    iv, *arguments = block.arguments
    last = operations(block)[-1]
    lower, upper = list(loop.operands)[:2]
    found: list[int] = []
    for number, argument in enumerate(arguments):
        op = _increment(loop, argument, last.operands[number])
        if op is None:
            continue
        init, by = loop.operands[3 + number], op.operands[1]
        step = "arith.subi" if op.name == "arith.subi" else "arith.addi"

        def at(count: Any, init: Any = init, by: Any = by, step: str = step) -> Any:
            distance = arith.muli(_number(count, init.type), by)
            return ir.Operation.create(step, [init.type], [init, distance]).results[0]

        with ir.InsertionPoint.at_block_begin(block), loop.location:
            argument.replace_all_uses_with(at(arith.subi(iv, lower)))
        with ir.InsertionPoint(loop), loop.location:
            trips = arith.maxsi(arith.subi(upper, lower), index(0))
            loop.results[number].replace_all_uses_with(at(trips))
        last.operands[number] = argument
        found.append(number)
    return found


def _increment(loop: Any, argument: Any, value: Any) -> Any | None:
    op = owner(value)
    if op is None or op.name not in ("arith.addi", "arith.subi"):
        return None
    if not isinstance(argument.type, mlir.ir.IntegerType) or argument.type.width < 8:
        return None
    if op.name == "arith.addi" and op.operands[1] == argument:
        op.operands[0], op.operands[1] = op.operands[1], op.operands[0]
    left, right = op.operands
    fits = left == argument and right != argument and not defined_inside(right, loop)
    return op if fits else None


def _number(count: Any, type_: Any) -> Any:
    """An index as an integer of ``type_``; what does not fit wraps around."""
    arith, ir = mlir.arith, mlir.ir
    wide = ir.IntegerType.get_signless(64)
    number = arith.index_cast(wide, count)
    return number if type_ == wide else arith.trunci(type_, number)
