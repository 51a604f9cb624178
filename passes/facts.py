"""Sizes that are equal because the program has compared them: one value in place of two.

A ``numba.assert_equal`` with the attribute ``known`` stands where two sizes are equal without
a test, behind a comparison of the program's own (``assert a.shape == b.shape``).  In
everything that it dominates, the one that is a constant, else the first, takes the place of
the other.
"""

from __future__ import annotations

from typing import Any

from numba_mlir.passes.keys import dominators, is_known
from numba_mlir.passes.values import ancestor_in_region, constant_int, nested


def use_known_sizes(function: Any) -> bool:
    """Use the known equalities of ``function`` and remove them; whether there were any."""
    facts = [op for op in nested(function) if is_known(op)]
    for fact in facts:
        first, second = fact.operands
        if constant_int(second) is not None:
            first, second = second, first
        if first != second:
            _replace_behind(fact, second, first)
    for fact in facts:
        fact.erase()
    return bool(facts)


def _replace_behind(fact: Any, old: Any, new: Any) -> None:
    """``new`` for ``old`` in what ``fact`` dominates; both are defined in front of it."""
    dominating = dominators(fact.block.region)
    for use in list(old.uses):
        op = use.owner.operation
        place = ancestor_in_region(op, fact.block.region)
        if place is None or place == fact:
            continue
        if place.block == fact.block:
            behind = fact.is_before_in_block(place)
        else:
            behind = fact.block in dominating[place.block]
        if behind:
            op.operands[use.operand_number] = new
