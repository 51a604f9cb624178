"""Filling arrays by kernels of this project, for libraries that have no functions for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_COMPILERS: list[Callable[[Any], Any]] = []


def use(compiler: Callable[[Any], Any]) -> None:
    """What compiles functions for arrays on devices; it is built on this package."""
    _COMPILERS[:] = [compiler]


def assign(target: Any, value: Any) -> None:
    """Store a number, or the elements of an array of the same shape, in ``target``."""
    _assignment()(target, value)


@functools.cache
def _assignment() -> Any:
    (compiler,) = _COMPILERS
    return compiler(_assign)


def _assign(target: Any, value: Any) -> None:
    target[...] = value
