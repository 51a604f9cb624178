"""``mlir_check=True`` and the copies of arguments that it works on."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any, ClassVar

import numba
import numpy as np
import pytest

from numba_mlir import errors, mlir, njit
from numba_mlir.passes.base import MLIRPass, PassResult
from numba_mlir.roundtrip.checking import difference
from numba_mlir.roundtrip.copying import CannotCopy, Copier
from numba_mlir.roundtrip.pipeline import PASSES


@dataclasses.dataclass(frozen=True)
class Miscompile(MLIRPass):
    """Turns every addition of floats into a subtraction."""

    name: ClassVar[str] = "fusion"

    def run(self, module: Any) -> PassResult:
        found: list[Any] = []
        module.operation.walk(lambda op: _add(op, found))
        for op in found:
            with mlir.ir.InsertionPoint(op), op.location:
                op.results[0].replace_all_uses_with(mlir.arith.subf(*op.operands))
            op.erase()
        return PassResult(bool(found))


def _add(op: Any, found: list[Any]) -> Any:
    if op.name == "arith.addf":
        found.append(op.operation)
    return mlir.ir.WalkResult.ADVANCE


@pytest.fixture
def miscompiled(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(PASSES, "fusion", lambda value: Miscompile())
    return njit(parallel=True, mlir_fusion=True, mlir_check=True)


def test_equal_results_pass_and_each_signature_is_checked_once() -> None:
    calls: list[str] = []

    @njit(parallel=True, mlir_check=True)
    def f(a):
        with numba.objmode():
            calls.append("called")
        return a * 2.0

    for array in (np.ones(3), np.ones(3), np.ones(3, np.float32)):
        np.testing.assert_array_equal(f(array), 2 * array)
    assert len(calls) == 3 + 1 + 3, "a first call runs three times: plain, ours, the call"


def test_a_wrong_result_is_named(miscompiled: Any) -> None:
    @miscompiled
    def f(a, b):
        return a.size, a + b

    a = np.arange(3.0)
    with pytest.raises(errors.CheckError, match=r"'.*f': differs .* the result\[1\]\[1\] is") as e:
        f(a, a)
    assert "not np.float64(2.0) (2 of 3 elements differ)" in str(e.value)
    assert a.tolist() == [0.0, 1.0, 2.0]


def test_a_wrong_argument_after_the_call_is_named(miscompiled: Any) -> None:
    @miscompiled
    def f(a, *, out):
        out[:] = a + 1.0

    with pytest.raises(errors.CheckError, match="argument 'out' after the call"):
        f(np.ones(3), out=np.zeros(3))


def test_results_within_the_tolerance_are_equal() -> None:
    @njit(parallel=True, mlir_check=True)
    def f(a):
        return a.sum(), np.exp(a)

    a = np.random.default_rng(1).standard_normal(10001)
    assert np.isclose(f(a)[0], a.sum())


def test_equal_exceptions_reach_the_user() -> None:
    @njit(mlir_check=True, mlir_fusion=False)
    def f(a):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        f(1)


def test_compile_errors_reach_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: Any) -> MLIRPass:
        raise errors.PassError("a bug")

    monkeypatch.setitem(PASSES, "fusion", broken)
    with pytest.raises(errors.PassError, match="a bug"):
        njit(parallel=True, mlir_fusion=True, mlir_check=True)(lambda a: a + 1)(np.ones(2))


def test_random_numbers_are_those_of_an_unchecked_run() -> None:
    def draw(n):
        return np.random.random(n)

    @numba.njit
    def seed(n):
        np.random.seed(n)

    drawn = []
    for checked in (False, True):
        f = njit(mlir_fusion=False, mlir_check=checked)(draw)
        seed(7)
        drawn.append(f(5).tolist())
    assert drawn[0] == drawn[1]


def test_declared_signatures_are_checked() -> None:
    f = njit("float64(float64)", mlir_check=True)(lambda x: x + 1)
    assert f(1) == 2.0


def test_arguments_that_cannot_be_copied() -> None:
    spec = [("x", numba.float64)]

    @numba.experimental.jitclass(spec)
    class Box:
        def __init__(self, x):
            self.x = x

    f = njit(mlir_check=True)(lambda b: b.x)
    with pytest.raises(errors.CheckError, match="Box cannot be copied"):
        f(Box(1.0))


# -- copies ----------------------------------------------------------------------------


def test_overlapping_arrays_overlap_after_copying() -> None:
    base = np.arange(20.0).reshape(4, 5)
    views = (base[1:, ::2], base.T, base[::-1], base[0], np.arange(3))
    copies = Copier(views).values
    for view, made in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, made)
        assert made.strides == view.strides
        assert numba.typeof(made) == numba.typeof(view)
        assert not np.shares_memory(view, made)
    assert np.shares_memory(copies[0], copies[1])
    assert np.shares_memory(copies[2], copies[3])
    assert not np.shares_memory(copies[3], copies[4])
    copies[3][0] = -1.0
    assert copies[1][0, 0] == -1.0
    assert base[0, 0] == 0.0


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.broadcast_to(np.arange(3), (4, 3)),
        np.frombuffer(b"x" * 25, np.uint8)[1:].view(np.float64),
        np.array(3.0),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.lib.stride_tricks.as_strided(np.zeros(1), (4,), (0,)),
        np.arange(6, dtype=np.complex64)[::-2],
        np.asfortranarray(np.ones((3, 4), np.bool_)),
    ],
)
def test_copies_have_the_type_of_the_original(array: Any) -> None:
    (made,) = Copier((array,)).values
    np.testing.assert_array_equal(made, array)
    assert numba.typeof(made) == numba.typeof(array)
    assert made.flags.writeable == array.flags.writeable
    assert made.flags.aligned == array.flags.aligned


def test_copies_of_containers_and_others() -> None:
    Point = namedtuple("Point", "x y")
    a = np.ones(2)
    typed = numba.typed.List([1.0, 2.0])
    table = numba.typed.Dict()
    table[1] = 2.0
    values = (Point(a, 1), [a, [2]], {"k": a}, typed, table, "s", None, len, twice)
    copies = Copier(values).values
    assert isinstance(copies[0], Point)
    assert copies[0].x is copies[1][0] is copies[2]["k"]
    assert copies[0].x is not a
    assert list(copies[3]) == [1.0, 2.0]
    assert dict(copies[4]) == {1: 2.0}
    assert copies[3] is not typed
    assert copies[5:] == ("s", None, len, twice)
    with pytest.raises(CannotCopy, match="generator"):
        Copier(((x for x in ()),))


def twice(x: Any) -> Any:
    return x * 2


# -- comparison ------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("expected", "got", "scale"),
    [
        (1.0, 1.0 + 1e-13, 0.0),
        (NAN, NAN, 0.0),
        (complex(1, NAN), complex(1, NAN), 0.0),
        (np.float32(1), np.float32(1.0001), 0.0),
        (1e-13, -1e-13, 1.0),
        (np.array([1, NAN, np.inf]), np.array([1, NAN, np.inf]), 0.0),
        (np.array(["NaT", "2020"], "M8[s]"), np.array(["NaT", "2020"], "M8[s]"), 0.0),
        ((1, [2.0, "x"], None), (1, [2.0, "x"], None), 0.0),
        ({"a": np.ones(2)}, {"a": np.ones(2)}, 0.0),
    ],
)
def test_equal(expected: Any, got: Any, scale: float) -> None:
    assert difference("it", expected, got, scale) is None


@pytest.mark.parametrize(
    ("expected", "got", "message"),
    [
        (1, 2, "it is np.int64(2), not np.int64(1)"),
        (1, 1.0, "it has type float, not int"),
        (1.0, 1.0001, "it is np.float64(1.0001), not np.float64(1.0)"),
        (NAN, 1.0, "not np.float64(nan)"),
        (np.inf, -np.inf, "it is np.float64(-inf)"),
        (np.ones(2), np.ones(3), "it is float64(3,), not float64(2,)"),
        (np.ones(2), np.ones(2, np.float32), "it is float32(2,), not float64(2,)"),
        (np.array([True]), np.array([False]), "it[0] is np.False_"),
        (np.arange(4).reshape(2, 2), np.zeros((2, 2), int), "it[0, 1] is"),
        ((1, (2, 3)), (1, (2, 4)), "it[1][1] is"),
        ((1,), (1, 2), "it has 2 items, not 1"),
        ({"a": 1}, {"b": 1}, "the keys of it"),
        ("x", "y", "it is 'y', not 'x'"),
        (
            np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
            np.array([(1, 3.0)], dtype=[("a", "i4"), ("b", "f8")]),
            "it['b'][0] is",
        ),
    ],
)
def test_different(expected: Any, got: Any, message: str) -> None:
    assert message in (difference("it", expected, got, 0.0) or "equal")
