"""What the importer knows about a Numba variable at one point of the function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True)
class Slot:
    """The value of a variable.

    ``type`` is the variable's Numba type and ``value`` its MLIR value.  The rest is
    optional knowledge: ``python`` the Python object that a global, constant or module
    attribute stands for; ``elements`` the members of a tuple; ``index`` the same number
    as an MLIR ``index`` that is known not to be negative; ``deferred`` the name of a value
    that is made when something uses it (``value`` is None until then); ``sizes`` those of an
    array as index values (None where one is not known); ``view`` the array and the index
    that a view was made from; ``implied`` what a truth value says about sizes (see
    `sizefacts`); ``bounds`` those of a slice (`windows`).
    """

    type: Any
    value: Any
    python: Any = MISSING
    elements: tuple[Slot, ...] | None = None
    index: Any = None
    deferred: tuple[Any, Env] | None = None
    sizes: tuple[Any, ...] | None = None
    view: tuple[Any, Any] | None = None
    implied: Any = None
    bounds: Any = None

    def with_type(self, numba_type: Any, value: Any) -> Slot:
        return replace(self, type=numba_type, value=value)


class Env:
    """Variables in scope, as a chain of dictionaries along the dominator tree."""

    __slots__ = ("names", "parent")

    def __init__(self, parent: Env | None = None) -> None:
        self.parent = parent
        self.names: dict[str, Slot] = {}

    def get(self, name: str) -> Slot | None:
        env: Env | None = self
        while env is not None:
            slot = env.names.get(name)
            if slot is not None:
                return slot
            env = env.parent
        return None

    def __setitem__(self, name: str, slot: Slot) -> None:
        self.names[name] = slot
