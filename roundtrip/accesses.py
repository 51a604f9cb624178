"""Which variables a Numba statement reads and assigns, Parfors included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numba.core import ir
from numba.parfors.parfor import Parfor

from numba_mlir.converters.operands import names_read
from numba_mlir.roundtrip import graph
from numba_mlir.roundtrip.graph import Accesses


def successors(block: Any) -> list[int]:
    """Labels that a block may jump to; the last block of a Parfor body has no terminator."""
    if not block.body:
        return []
    last = block.body[-1]
    if isinstance(last, ir.Terminator):
        return list(dict.fromkeys(last.get_targets()))
    return []


def block_graph(blocks: Mapping[int, Any]) -> dict[int, list[int]]:
    return {label: successors(block) for label, block in blocks.items()}


class AccessTable:
    """Accesses of the statements of one function, each worked out once."""

    def __init__(self) -> None:
        #: by id of the statement, which the table keeps alive
        self._known: dict[int, tuple[Any, Accesses]] = {}
        self._bodies: dict[tuple[int, frozenset[str]], dict[int, frozenset[str]]] = {}

    def of_statement(self, stmt: Any) -> Accesses:
        known = self._known.get(id(stmt))
        if known is None:
            access = self.of_parfor(stmt) if isinstance(stmt, Parfor) else _simple(stmt)
            known = self._known[id(stmt)] = (stmt, access)
        return known[1]

    def of_block(self, statements: Iterable[Any]) -> Accesses:
        return graph.summarise(self.of_statement(s) for s in statements)

    def assigned(self, parfor: Any) -> set[str]:
        """Variables that the loop body of a Parfor may assign."""
        found: set[str] = set()
        for block in parfor.loop_body.values():
            for stmt in block.body:
                found |= self.of_statement(stmt).defs
        return found

    def body_liveness(
        self, parfor: Any, live_at_exit: frozenset[str] = frozenset()
    ) -> dict[int, frozenset[str]]:
        """Live variables at the start of each block of the loop body (one iteration)."""
        key = (id(parfor), live_at_exit)
        found = self._bodies.get(key)
        if found is None:
            blocks = parfor.loop_body
            summaries = {label: self.of_block(block.body) for label, block in blocks.items()}
            found = graph.live_in(block_graph(blocks), summaries.__getitem__, live_at_exit)
            self._bodies[key] = found
        return found

    def of_parfor(self, parfor: Any) -> Accesses:
        """A body may run zero times, so what it assigns is defined but not killed."""
        init = self.of_block(parfor.init_block.body)
        indices = {nest.index_variable.name for nest in parfor.loop_nests}
        read = set(self.body_liveness(parfor)[min(parfor.loop_body)]) - indices
        for nest in parfor.loop_nests:
            read |= {b.name for b in (nest.start, nest.stop, nest.step) if isinstance(b, ir.Var)}
        return Accesses(
            uses=init.uses | (frozenset(read) - init.kills),
            kills=init.kills,
            defs=init.defs | frozenset(self.assigned(parfor)),
        )


def _simple(stmt: Any) -> Accesses:
    if isinstance(stmt, ir.Assign):
        target = frozenset((stmt.target.name,))
        return Accesses(frozenset(names_read(stmt)), target, target)
    return Accesses(frozenset(names_read(stmt)), frozenset(), frozenset())
