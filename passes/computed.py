"""Temporary arrays whose elements can be computed where they are read.

    for i, j: t[i, j] = f(i, j)           a loop that fills a fresh array and does nothing else
    ... t[a, b] ...                       becomes f(a, b)

`inlining` and `producers` do so, each where it pays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import constant_int, definition, operations, owner, strip_casts


@dataclasses.dataclass(frozen=True)
class Computed:
    """A loop that stores one value at its own indices, once each, into a fresh array.

    ``places`` says for each axis of the array which index of the loop that is.
    """

    loop: Any
    store: Any
    places: tuple[int, ...]

    @property
    def array(self) -> Any:
        return self.store.operands[1]

    @property
    def body(self) -> list[Any]:
        """What computes the value, in order."""
        *body, _ = operations(self.loop.regions[0].blocks[0])
        return [op for op in body if op != self.store]

    @classmethod
    def of(cls, loop: Any) -> Computed | None:
        """``loop``, an ``scf.parallel`` from 0 in steps of one, where it is such a loop."""
        *body, _ = operations(loop.regions[0].blocks[0])
        stores = [op for op in body if op.name == "memref.store"]
        if len(loop.results) or len(stores) != 1 or any(len(op.regions) for op in body):
            return None
        (store,) = stores
        made = owner(store.operands[1])
        if made is None or made.name != "memref.alloc" or made.block != loop.block:
            return None
        places = _places(loop, store)
        return None if places is None else cls(loop, store, places)

    def replace(
        self,
        load: Any,
        values: Mapping[Any, Any] | None = None,
        known: Callable[[Any, Mapping[Any, Any]], Any | None] | None = None,
    ) -> None:
        """The computation for the element of ``load`` instead of the load.

        ``values`` are others for what the computation uses; ``known`` may give the result
        of an operation, from it and the values so far.
        """
        ivs = list(self.loop.regions[0].blocks[0].arguments)
        indices = list(load.operands)[1:]
        found = dict(values or {})
        found |= {ivs[place]: indices[axis] for axis, place in enumerate(self.places)}
        for op in self.body:
            result = None if known is None else known(op, found)
            if result is not None:
                found[op.result] = result
                continue
            new = op.clone(mlir.ir.InsertionPoint(load)).operation
            for number, operand in enumerate(op.operands):
                if operand in found:
                    new.operands[number] = found[operand]
            found |= dict(zip(op.results, new.results, strict=True))
        stored = self.store.operands[0]
        load.result.replace_all_uses_with(found.get(stored, stored))
        load.erase()

    def erase(self) -> None:
        """Remove the loop and its array, which nobody uses any more."""
        made = definition(self.array)
        self.loop.erase()
        made.erase()


def _places(loop: Any, store: Any) -> tuple[int, ...] | None:
    ivs = list(loop.regions[0].blocks[0].arguments)
    indices = [strip_casts(index) for index in list(store.operands)[2:]]
    if len(indices) != len(ivs) or any(iv not in indices for iv in ivs):
        return None
    rank = len(ivs)
    lower, _, steps = (list(loop.operands)[i * rank : (i + 1) * rank] for i in range(3))
    if any(constant_int(x) != 0 for x in lower) or any(constant_int(x) != 1 for x in steps):
        return None
    return tuple(ivs.index(index) for index in indices)
