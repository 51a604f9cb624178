"""Array statements on random shapes and layouts agree with NumPy, errors included.

Each function is compiled once; shapes, strides and offsets vary at run time.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from broadcast_cases import READING, WRITING, Case, Operand
from compare import outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from numba_mlir import njit

#: the whole pipeline, this pass alone, and both in functions without parallel=True
MODES: dict[str, dict[str, bool]] = {
    "parallel": {"parallel": True},
    "broadcast": {"parallel": True, "mlir_broadcast": True},
    "sequential": {},
    "sequential-broadcast": {"mlir_broadcast": True},
}
#: each case in one mode, every second one in the whole parallel pipeline
RUNS = list(
    zip(
        [*READING, *WRITING],
        itertools.cycle(
            ["parallel", "sequential", "parallel", "broadcast", "parallel", "sequential-broadcast"]
        ),
        strict=False,
    )
)
SIZES = st.sampled_from([0, 1, 1, 2, 3, 5])


@functools.cache
def _compiled(case: Case, mode: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return njit(case.signatures(), **MODES[mode])(case.function)


@st.composite
def _shapes(draw: st.DrawFn, case: Case) -> list[tuple[int, ...]]:
    """Shapes that can nearly always be broadcast together (and to the target's)."""
    common = [draw(SIZES) for _ in range(max(operand.rank for operand in case.operands))]
    found = []
    for number, operand in enumerate(case.operands):
        shape = common[len(common) - operand.rank :]
        if not (case.written and number == 0):
            shape = [1 if draw(st.booleans()) else size for size in shape]
        if shape and draw(st.integers(0, 9)) == 0:
            shape[draw(st.integers(0, len(shape) - 1))] = draw(SIZES)
        found.append(tuple(shape))
    return found


def _array(operand: Operand, shape: tuple[int, ...], variant: int, start: int) -> Any:
    """An array of the operand's type; ``variant`` says how it lies in memory."""
    low = 0 if operand.dtype[0] in "ub" else -4
    values = (np.arange(int(np.prod(shape)) + start)[start:] * 3 % 9 + low).reshape(shape)
    values = values % 2 == 0 if operand.dtype == "b1" else values
    values = values / 2 if operand.dtype[0] in "fc" else values
    if operand.dtype[0] == "c":
        values = values + 1j
    dtype = np.dtype(operand.dtype)
    if not operand.layout:
        return dtype.type(values.flat[0] if values.size else 1)
    if operand.layout == "F":
        array = np.asfortranarray(values, dtype)
    elif operand.layout == "C" or not shape or not variant:
        array = np.ascontiguousarray(values, dtype).reshape(shape)
    else:
        array = _scattered(values.astype(dtype), variant)
    array.flags.writeable = not operand.readonly
    return array


def _scattered(values: Any, variant: int) -> Any:
    """The values in an array with gaps, reversed or transposed."""
    if variant == 3:
        return np.ascontiguousarray(values.T).T
    room = np.full([2 * size + 1 for size in values.shape], 77, values.dtype)
    step = slice(1, None, 2) if variant == 1 else slice(-2, None, -2)
    part = room[(step,) * values.ndim]
    part[...] = values
    return part


def _same(found: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        for pair in zip(found, expected, strict=True):
            _same(*pair)
        return
    assert np.shape(found) == np.shape(expected)
    # an operation on narrow integers has a wider result in Numba
    np.testing.assert_array_equal(found, np.asarray(expected).astype(np.asarray(found).dtype))


def _copies(args: list[Any]) -> list[Any]:
    """Copies that lie in memory as the originals do."""
    return [_as(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


def _as(array: Any) -> Any:
    if array.base is None or array.size == 0:
        copy = array.copy(order="K")
    else:
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        copy = np.ndarray(array.shape, array.dtype, base.copy(order="K"), offset, array.strides)
    copy.flags.writeable = array.flags.writeable
    return copy


@pytest.mark.parametrize(("case", "mode"), RUNS, ids=[f"{c.name}-{m}" for c, m in RUNS])
def test_agrees_with_numpy(case: Case, mode: str) -> None:
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(_shapes(case), st.lists(st.integers(0, 3), min_size=4, max_size=4))
    def check(shapes: list[tuple[int, ...]], variants: list[int]) -> None:
        args = [
            _array(operand, shape, variant, number)
            for number, (operand, shape, variant) in enumerate(
                zip(case.operands, shapes, variants, strict=False)
            )
        ]
        plain, ours = _copies(args), _copies(args)
        expected, error = outcome(case.function, plain)
        found, message = outcome(_compiled(case, mode), ours)
        assert message == error
        for arg, after, before in zip(ours, plain, args, strict=True):
            # nothing may be written when shapes do not fit
            np.testing.assert_array_equal(arg, before if error is not None else after)
        if error is None:
            _same(found, expected)

    check()
    for compiled in _compiled(case, mode).overloads.values():
        kept = [r.message for r in compiled.metadata["mlir"].remarks if r.pass_name == "import"]
        assert kept == [], "statements were left as Numba had them"
