"""Store-to-load forwarding and reuse of loads inside the body of one loop.

A load becomes the value that the same element was given (or was read as) before, when

1. the earlier store or load dominates it;
2. nothing that may touch the element is written in between: the same array at another
   index, an array that may overlap it, an opaque statement that can reach it, anything
   written in a nested loop around the load.

Indices are compared by structural keys, so that two computations of ``i + 1`` agree.
Stored values have the array's element type; no width changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from numba_mlir.passes.effects import Effects, is_pure_name, summarise
from numba_mlir.passes.keys import Equalities, Key
from numba_mlir.passes.legality import Guard, index_term
from numba_mlir.passes.provenance import Provenance, Root
from numba_mlir.passes.values import loop_indices, operations

#: an array and the keys of its indices
Element = tuple[Any, tuple[Key, ...]]


class Forwarder:
    """Forwards within one ``scf.parallel`` whose arrays of ``guards`` are disjoint, or within
    one ``scf.for``."""

    def __init__(self, loop: Any, provenance: Provenance, guards: Sequence[Guard] = ()) -> None:
        self._loop = loop
        self._provenance = provenance
        self._disjoint = {frozenset(provenance.root(m) for m in guard) for guard in guards}
        self._keys = Equalities()
        self._ivs = loop_indices(loop)
        self._lower = list(loop.operands)[: len(self._ivs)]
        self.removed = 0

    def run(self) -> int:
        """Forward everything in the loop's body; returns the number of loads removed."""
        self._block(self._loop.regions[0].blocks[0], {})
        return self.removed

    def _block(self, block: Any, known: dict[Element, Any]) -> None:
        for op in operations(block):
            if op.name == "memref.load":
                self._load(op, known)
            elif op.name == "memref.store":
                self._store(op, known)
            elif len(op.regions):
                self._nested(op, known)
            elif not (is_pure_name(op.name) or op.name.startswith("numba.")):
                self._forget(summarise(op, self._provenance), known)

    def _element(self, memref: Any, indices: Iterable[Any]) -> Element:
        return memref, tuple(self._index_key(index) for index in indices)

    def _index_key(self, index: Any) -> Key:
        term = index_term(index, self._ivs, self._lower)
        return self._keys.key(index) if term is None else ("loop index", *term)

    def _load(self, op: Any, known: dict[Element, Any]) -> None:
        memref, *indices = op.operands
        element = self._element(memref, indices)
        value = known.get(element)
        if value is None:
            known[element] = op.result
            return
        op.result.replace_all_uses_with(value)
        op.erase()
        self.removed += 1

    def _store(self, op: Any, known: dict[Element, Any]) -> None:
        value, memref, *indices = op.operands
        self._forget_root(self._provenance.root(memref), known)
        known[self._element(memref, indices)] = value

    def _nested(self, op: Any, known: dict[Element, Any]) -> None:
        """Regions start with what is known before and survives what they write."""
        effects = summarise(op, self._provenance)
        if op.name != "scf.if":  # a region that may run again, or has control flow inside
            self._forget(effects, known)
        for region in op.regions:
            for block in region.blocks:
                self._block(block, dict(known))
        if op.name == "scf.if":
            self._forget(effects, known)

    def _forget(self, effects: Effects, known: dict[Element, Any]) -> None:
        for access in effects.writes():
            self._forget_root(access.root, known)
        for op, reach in effects.opaque:
            for element in list(known):
                if self._provenance.touches(reach, self._provenance.root(element[0]), op):
                    del known[element]

    def _forget_root(self, root: Root, known: dict[Element, Any]) -> None:
        for element in list(known):
            other = self._provenance.root(element[0])
            if frozenset({root, other}) in self._disjoint:
                continue
            if self._provenance.may_alias(root, other, self._loop):
                del known[element]
