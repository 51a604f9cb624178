"""What a workload is, in which ways it can be run, and how a run is checked.

A workload is one computation written in NumPy's array style and once more by hand as
one ``prange`` loop.  ``IMPLEMENTATIONS`` lists the ways to run it; each turns a workload
into a function of the workload's arguments.  Results are compared with NumPy's before
anything is timed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import random
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numba
import numpy as np

import numba_mlir

Function = Callable[..., Any]
Timed = Callable[[], Any]


class Unavailable(Exception):
    """An implementation cannot run a workload here; the message says why."""


@dataclass(frozen=True)
class Workload:
    """One computation and its inputs.

    array_style  NumPy source; NumPy, Numba and this project run the same function
    by_hand      one explicit ``prange`` loop, the best form that a user would write
    arguments    (size, random generator) -> the arguments
    sizes        "full", "quick" and "tiny" -> size
    jax          the ``jax.numpy`` module -> the function to jit
    numexpr      the ``numexpr`` module -> the function to call
    rtol         relative tolerance of the check; sums are taken in different orders
    stretches    sizes of 1 are stretched, which Numba refuses in parallel functions
    loops        it is about the loops by hand: only NumPy runs the array style
    """

    name: str
    array_style: Function
    by_hand: Function
    arguments: Callable[[int, np.random.Generator], tuple[Any, ...]]
    sizes: Mapping[str, int]
    jax: Callable[[ModuleType], Function] | None = None
    numexpr: Callable[[ModuleType], Function] | None = None
    rtol: float = 1e-9
    stretches: bool = False
    loops: bool = False


def _numpy(workload: Workload) -> Function:
    return workload.array_style


def array_style(workload: Workload) -> Function:
    if workload.loops:
        raise Unavailable("this workload is about loops written by hand")
    return workload.array_style


def _numba_sequential(workload: Workload) -> Function:
    return numba.njit(array_style(workload))


def _numba_parallel(workload: Workload) -> Function:
    return numba.njit(parallel=True)(array_style(workload))


def _numba_by_hand(workload: Workload) -> Function:
    return numba.njit(parallel=True)(workload.by_hand)


def _mlir_sequential(workload: Workload) -> Function:
    return numba_mlir.njit(array_style(workload))


def _mlir_fusion(workload: Workload) -> Function:
    if workload.stretches:
        raise Unavailable("sizes of 1 need the pass that broadcasts")
    return numba_mlir.njit(parallel=True, mlir_fusion=True)(array_style(workload))


def _mlir_parallel(workload: Workload) -> Function:
    return numba_mlir.njit(parallel=True)(array_style(workload))


def _mlir_tiling(workload: Workload) -> Function:
    return numba_mlir.njit(parallel=True, mlir_tiling=True)(workload.by_hand)


def _optional(name: str) -> ModuleType:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise Unavailable(f"{name} is not installed")
    return importlib.import_module(name)


def _jax(workload: Workload) -> Function:
    if workload.jax is None:
        raise Unavailable("no JAX form of this workload")
    jax = _optional("jax")
    jax.config.update("jax_enable_x64", True)
    compiled = jax.jit(workload.jax(_optional("jax.numpy")))
    placed: list[Any] = []

    def run(*args: Any) -> Any:
        # always called with the same arguments: converted once, so that only the
        # computation is timed
        placed.extend(jax.device_put(arg) for arg in args[len(placed) :])
        return jax.block_until_ready(compiled(*placed))

    return run


def _numexpr(workload: Workload) -> Function:
    if workload.numexpr is None:
        raise Unavailable("no numexpr form of this workload")
    return workload.numexpr(_optional("numexpr"))


#: name -> how to make it; the first is the reference
IMPLEMENTATIONS: dict[str, Callable[[Workload], Function]] = {
    "numpy": _numpy,
    "numba-sequential": _numba_sequential,
    "numba-parallel": _numba_parallel,
    "numba-by-hand": _numba_by_hand,
    "mlir-sequential": _mlir_sequential,
    "mlir-fusion": _mlir_fusion,  # this pass and no other
    "mlir-parallel": _mlir_parallel,  # all passes
    "mlir-tiling": _mlir_tiling,  # this pass on the loops by hand
    "jax": _jax,
    "numexpr": _numexpr,
}
#: how names begin whose failure is a failure of this project, not a property of someone else's
OURS = "mlir"


def assert_same(expected: Any, got: Any, rtol: float) -> None:
    """Compare two results: numbers, arrays or tuples of them."""
    if isinstance(expected, tuple):
        assert len(expected) == len(got)
        for one, other in zip(expected, got, strict=True):
            assert_same(one, other, rtol)
        return
    got = np.asarray(got)
    assert np.shape(expected) == got.shape
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol)


@dataclass
class Prepared:
    """A workload with inputs of one size, and its implementations as far as asked for."""

    workload: Workload
    args: tuple[Any, ...]
    expected: Any
    implementations: Mapping[str, Callable[[Workload], Function]] = field(
        default_factory=lambda: IMPLEMENTATIONS
    )
    #: implementation -> CPU seconds of its first call, in which compilers compile
    first_call: dict[str, float] = field(default_factory=dict[str, float])
    _made: dict[str, Function | Unavailable] = field(default_factory=dict[str, Any])

    @classmethod
    def at(
        cls,
        workload: Workload,
        size: str,
        implementations: Mapping[str, Callable[[Workload], Function]] | None = None,
    ) -> Prepared:
        args = workload.arguments(workload.sizes[size], np.random.default_rng(2026))
        expected = workload.array_style(*args)
        return cls(workload, args, expected, implementations or IMPLEMENTATIONS)

    def runner(self, implementation: str) -> Callable[[], Any]:
        """A function without arguments that runs the compiled and checked implementation.

        Raises Unavailable when the implementation is not installed, has no form of the
        workload, does not compile it or gives a wrong result (an error of this project's
        own implementations is raised as it is).
        """
        if implementation not in self._made:
            self._made[implementation] = self._make(implementation)
        made = self._made[implementation]
        if isinstance(made, Unavailable):
            raise made
        return lambda: made(*self.args)

    def _make(self, implementation: str) -> Function | Unavailable:
        try:
            function = self.implementations[implementation](self.workload)
            start = time.process_time()
            result = function(*self.args)
            self.first_call[implementation] = time.process_time() - start
            assert_same(self.expected, result, self.workload.rtol)
        except Unavailable as reason:
            return reason
        except Exception as error:
            if implementation.startswith(OURS):
                raise
            lines = str(error).strip().splitlines() or [""]
            return Unavailable(f"{type(error).__name__}: {lines[0]}")
        return function


def turns(runs: Mapping[str, Timed]) -> Iterator[list[tuple[str, Timed]]]:
    """Rounds in which each run has its turn, in changing order, without end.

    What comes behind a parallel loop finds the threads still waiting for the next one, and
    a call of BLAS there takes longer.
    """
    order, shuffle = list(runs.items()), random.Random(1).shuffle
    while True:
        shuffle(order)
        yield order


def best_times(
    runs: Mapping[str, Timed], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """The least seconds of each run by ``clock``; the runs take `turns`."""
    best = dict.fromkeys(runs, float("inf"))
    for order in itertools.islice(turns(runs), repeats):
        for name, run in order:
            start = clock()
            result = run()
            best[name] = min(best[name], clock() - start)
            del result
    return best


def best_within(
    runs: Mapping[str, Timed], seconds: float, clock: Callable[[], float]
) -> dict[str, float]:
    """`best_times` of as many repeats as take about ``seconds``, three at least."""
    once = sum(best_times(runs, 2, clock).values())
    return best_times(runs, max(3, int(seconds / once)), clock)


def by_modes(function: Function, modes: Mapping[str, Mapping[str, Any]]) -> dict[str, Function]:
    """``function`` compiled by this project with each of some sets of flags."""
    return {
        name: numba_mlir.njit(parallel=True, **flags)(function) for name, flags in modes.items()
    }


def calls(functions: Mapping[str, Function], args: tuple[Any, ...]) -> dict[str, Timed]:
    """Each function as one without arguments."""
    return {name: functools.partial(function, *args) for name, function in functions.items()}


def again(function: Any) -> Any:
    """The function as a new object, which no cache knows."""
    return types.FunctionType(function.__code__, function.__globals__, function.__name__)
