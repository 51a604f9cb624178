"""Tables of conversion rules that refuse to hold two rules for one key."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DuplicateRule(ValueError):
    """Two conversion rules were registered for the same key."""


class Table(Generic[K, V]):
    """A write-once mapping from ``K`` to a conversion rule ``V``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._rules: dict[K, V] = {}

    def add(self, key: K, rule: V) -> V:
        """Enter ``rule`` under ``key``; raises DuplicateRule when there is one already."""
        if key in self._rules:
            raise DuplicateRule(f"{self.name}: there is already a rule for {key!r}")
        self._rules[key] = rule
        return rule

    def update(self, rules: dict[K, V]) -> None:
        for key, rule in rules.items():
            self.add(key, rule)

    def rule(self, *keys: K) -> Callable[[V], V]:
        """Decorator: enter the decorated rule under each of ``keys``."""

        def enter(rule: V) -> V:
            for key in keys:
                self.add(key, rule)
            return rule

        return enter

    def get(self, key: K) -> V | None:
        return self._rules.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._rules

    def __iter__(self) -> Iterator[K]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


#: name of an MLIR operation -> emitter of LLVM IR (see :mod:`.lowering`)
EMITTERS: Table[str, Callable[..., Any]] = Table("backward rules")
