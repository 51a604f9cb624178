"""What MLIR cannot hold: the original statements, Numba types and Parfors of one import."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Statement:
    """One statement that is put back as it was.

    ``uses`` are the names of the variables behind the MLIR operands, ``defs`` those behind
    the results, in order.  A statement that the import made brings the ``types`` of its
    variables and the ``signature`` of its expression.
    """

    stmt: Any
    uses: tuple[str, ...]
    defs: tuple[str, ...]
    types: Mapping[str, Any] = field(default_factory=dict)
    signature: Any = None


@dataclass
class SideTable:
    """Handles in the MLIR text are indices into these lists."""

    statements: list[Statement] = field(default_factory=list)
    parfors: list[Any] = field(default_factory=list)
    #: numbers of definitions of each variable in the original function
    definitions: dict[str, int] = field(default_factory=dict)
    _types: dict[str, Any] = field(default_factory=dict)
    _keys: dict[Any, str] = field(default_factory=dict)

    def add_statement(self, stmt: Any, uses: Sequence[str], defs: Sequence[str]) -> int:
        self.statements.append(Statement(stmt, tuple(uses), tuple(defs)))
        return len(self.statements) - 1

    def add_made(
        self, stmt: Any, uses: Sequence[str], types: Mapping[str, Any], signature: Any
    ) -> int:
        """A statement that the import made: an assignment of names that exist only in it."""
        made = Statement(stmt, tuple(uses), (stmt.target.name,), types, signature)
        self.statements.append(made)
        return len(self.statements) - 1

    def add_parfor(self, parfor: Any) -> int:
        self.parfors.append(parfor)
        return len(self.parfors) - 1

    def type_key(self, numba_type: Any) -> str:
        """A readable key of a Numba type, unique within this table."""
        key = self._keys.get(numba_type)
        if key is None:
            text = readable_type(numba_type)
            key, suffix = text, 1
            while key in self._types:
                suffix += 1
                key = f"{text} #{suffix}"
            self._keys[numba_type] = key
            self._types[key] = numba_type
        return key

    def type_of(self, key: str) -> Any:
        return self._types[key]


def readable_type(numba_type: Any) -> str:
    """Numba's name of a type without addresses and paths."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(numba_type))
    return re.sub(r"<module '([^']+)'[^>]*>", r"\1", text)
