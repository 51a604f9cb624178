"""``mlir_check=True``: the same call by plain Numba, on copies of the arguments.

Compared are the results, the arguments after the call, and the class of an exception.
Exactly: types, dtypes, shapes, integers, booleans, strings.  NaN equals NaN.  Floating
and complex numbers x of plain Numba and y of ours are equal when

    |x - y| <= RTOL[precision] * |x| + ATOL_EPSILONS * epsilon * s

where s is the largest finite magnitude in the arguments and in that result (sums of
cancelling terms are as inexact as the terms).  Fused and parallel sums may be ordered
in another way, so equality of bits is not asked for.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import _helperlib
from numba.core.errors import NumbaError

from numba_mlir.errors import CheckError
from numba_mlir.roundtrip.copying import CannotCopy, Copier

#: relative tolerance by the size of a real number in bytes
RTOL = {2: 5e-2, 4: 1e-3, 8: 1e-9}
ATOL_EPSILONS = 4096


class Checker:
    """Checks the first call of each signature of one function.

    ``ours`` calls it without a check, ``make_plain`` makes plain Numba's version.
    """

    def __init__(
        self, function: Any, ours: Callable[..., Any], make_plain: Callable[[], Callable[..., Any]]
    ) -> None:
        self._name = function.__qualname__
        self._parameters = list(inspect.signature(function).parameters)
        self._ours = ours
        self._make_plain = make_plain
        self._plain: Callable[..., Any] | None = None
        self._checked: set[Any] = set()

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise CheckError when plain Numba and ours differ on this call.

        Does nothing from the second call of a signature on.  The arguments stay as they
        are.  An error of our compiler is raised as it is.
        """
        key = (*map(_type, args), *((name, _type(value)) for name, value in kwargs.items()))
        if key in self._checked:
            return
        if self._plain is None:
            self._plain = self._make_plain()
        self._compare(_outcome(self._plain, args, kwargs), _outcome(self._ours, args, kwargs))
        self._checked.add(key)

    def _compare(self, plain: _Outcome, ours: _Outcome) -> None:
        if ours.error is not None and ours.failed_to_compile and not plain.failed_to_compile:
            raise ours.error
        if type(plain.error) is not type(ours.error):
            message = f"plain Numba {plain.ending()}, numba_mlir {ours.ending()}"
            raise self._error(message) from (ours.error or plain.error)
        if plain.error is not None:
            return  # what the arguments are after an exception is not promised
        found = difference("the result", plain.result, ours.result, plain.scale)
        triples = zip(self._argument_names(plain), plain.arguments, ours.arguments, strict=True)
        for name, expected, got in triples:
            path = f"argument {name!r} after the call"
            found = found or difference(path, expected, got, plain.scale)
        if found is not None:
            raise self._error(f"differs from plain Numba: {found}")

    def _error(self, message: str) -> CheckError:
        return CheckError(f"mlir_check: {self._name!r}: {message}")

    def _argument_names(self, outcome: _Outcome) -> list[str]:
        count = len(outcome.arguments) - len(outcome.keywords)
        names = self._parameters[:count]
        return [*names, *(f"#{n}" for n in range(len(names), count)), *outcome.keywords]


def _type(value: Any) -> Any:
    """Numba's type of an argument; values that have none get their class."""
    try:
        return numba.typeof(value)
    except ValueError:
        return type(value)


@dataclass
class _Outcome:
    """A call with copied arguments; ``scale`` is the s of this module's text."""

    arguments: tuple[Any, ...]
    keywords: tuple[str, ...]
    scale: float
    result: Any = None
    error: Exception | None = None

    @property
    def failed_to_compile(self) -> bool:
        return isinstance(self.error, NumbaError)

    def ending(self) -> str:
        if self.error is None:
            return "returns"
        return f"raises {type(self.error).__name__} ({self.error})"


def _outcome(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> _Outcome:
    """What ``function`` does with copies of the arguments; Numba's random state is kept."""
    try:
        copies = Copier((*args, *kwargs.values())).values
    except CannotCopy as exc:
        raise CheckError(f"mlir_check: cannot be done, {exc}") from exc
    outcome = _Outcome(copies, tuple(kwargs), _scale(copies))
    keywords = dict(zip(kwargs, copies[len(args) :], strict=True))
    with _random_state_kept():
        try:
            outcome.result = function(*copies[: len(args)], **keywords)
        except Exception as exc:
            outcome.error = exc
    return outcome


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """The random states of Numba's code in this thread are the same after the block."""
    pointers = [_helperlib.rnd_get_np_state_ptr(), _helperlib.rnd_get_py_state_ptr()]
    states = [_helperlib.rnd_get_state(pointer) for pointer in pointers]
    try:
        yield
    finally:
        for pointer, state in zip(pointers, states, strict=True):
            _helperlib.rnd_set_state(pointer, state)


def difference(path: str, expected: Any, got: Any, scale: float) -> str | None:
    """What differs, with its place, or None.  ``scale`` is the s of this module's text."""
    if type(expected) is not type(got):
        return f"{path} has type {type(got).__name__}, not {type(expected).__name__}"
    if isinstance(expected, np.ndarray):
        return _array_difference(path, expected, got, scale)
    if isinstance(expected, int | float | complex | np.generic):
        return _array_difference(path, np.asarray(expected), np.asarray(got), scale)
    if isinstance(expected, tuple | list | numba.typed.List):
        return _sequence_difference(path, expected, got, scale)
    if isinstance(expected, dict | numba.typed.Dict):
        if set(expected) != set(got):
            return f"the keys of {path} are {list(got)}, not {list(expected)}"
        pairs = ((f"{path}[{key!r}]", expected[key], got[key]) for key in expected)
        return _first_difference(pairs, scale)
    if type(expected).__eq__ is object.__eq__ or expected is got:
        return None  # objects without a notion of equality
    return None if expected == got else f"{path} is {got!r}, not {expected!r}"


def _first_difference(pairs: Iterable[tuple[str, Any, Any]], scale: float) -> str | None:
    found = (difference(path, expected, got, scale) for path, expected, got in pairs)
    return next((one for one in found if one is not None), None)


def _sequence_difference(path: str, expected: Any, got: Any, scale: float) -> str | None:
    if len(expected) != len(got):
        return f"{path} has {len(got)} items, not {len(expected)}"
    pairs = zip(expected, got, strict=True)
    return _first_difference(((f"{path}[{i}]", x, y) for i, (x, y) in enumerate(pairs)), scale)


def _array_difference(path: str, expected: Any, got: Any, scale: float) -> str | None:
    if expected.dtype != got.dtype or expected.shape != got.shape:
        return f"{path} is {got.dtype}{got.shape}, not {expected.dtype}{expected.shape}"
    if expected.dtype.names is not None:
        fields = ((f"{path}[{n!r}]", expected[n], got[n]) for n in expected.dtype.names)
        return _first_difference(fields, scale)
    wrong = ~_close(expected, got, scale)
    if not wrong.any():
        return None
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{path}[{', '.join(map(str, where))}]" if where else path
    more = f" ({int(wrong.sum())} of {wrong.size} elements differ)" if where else ""
    return f"{place} is {got[where]!r}, not {expected[where]!r}{more}"


def _close(expected: Any, got: Any, scale: float) -> Any:
    if expected.dtype.kind not in "fc":
        same = expected == got
        return same | (np.isnat(expected) & np.isnat(got)) if expected.dtype.kind in "mM" else same
    real = expected.real.dtype
    scale = max(scale, _scale(expected))
    atol = ATOL_EPSILONS * float(np.finfo(real).eps) * scale
    with np.errstate(all="ignore"):
        return np.isclose(got, expected, RTOL[real.itemsize], atol, equal_nan=True)


def _scale(value: Any) -> float:
    """Largest finite magnitude among the floating and complex numbers in ``value``."""
    if isinstance(value, tuple | list):
        return max(map(_scale, value), default=0.0)
    if not isinstance(value, np.ndarray | float | complex | np.inexact):
        return 0.0
    array = np.asarray(value)
    if array.dtype.kind not in "fc":
        return 0.0
    with np.errstate(all="ignore"):
        sizes = np.abs(array)
        return float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))
