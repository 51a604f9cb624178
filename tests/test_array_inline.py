"""Short functions of arrays become part of their callers, and mean what they meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba import prange

import numba_mlir

SCALE = 1.75


@numba.njit
def relu(x):
    return np.maximum(x, 0)


@numba_mlir.njit
def norm(x, eps=1e-5):
    return (x - x.mean()) / np.sqrt(x.var() + eps)


@numba_mlir.njit
def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


@numba.njit
def distance(x, y):
    return np.sqrt(((x - y) ** 2).sum())


@numba.njit
def parts(x, y):
    total = x + y
    return total, x.size, (y, x * SCALE)


@numba.njit
def shifts(x):
    x += 1
    x[0] = 5


@numba.njit
def layer(x, y):
    return norm(relu(x - 0.5)) * y


@numba.njit
def one_of(x, y, first):
    z = y
    if first:
        z = z * x
        x = z - 2
    return z + x


@numba.njit
def same(x):
    return x


@numba.njit
def either(x, y, first):
    if first:
        return x
    return y.T


@numba.njit
def with_loop(x):
    for i in range(x.shape[0]):
        x[i] *= i
    return x


@numba.njit
def refuses(x):
    if x.size > 10_000:
        raise ValueError("too large")
    return x * 2


@numba.njit(fastmath=True)
def fast(x):
    return x * 3.0 + 1.0


@numba_mlir.njit(mlir_tiling=False)
def other_passes(x):
    return x * 3.0 + 1.0


@numba.njit
def diagonal(x, k=0, *, scale=2):
    return np.diag(x, k) * scale


@numba.njit("float64[:,:](float64[:,:])")
def given(x):
    return x + 1


@numba_mlir.njit
def reduced(x):
    # the last ones are left to Numba, by calls that were taken apart
    return np.add.reduce(x * 2) + x.sum(axis=0) + x.argmax() - np.argmin(x)


@numba_mlir.njit(parallel=True)
def in_threads(x):
    return np.sqrt(np.abs(x))


CALLERS: dict[str, tuple[Callable[..., Any], bool]] = {
    "relu": (lambda a, b: relu(a * b - 0.3), True),
    "result": (lambda a, b: relu(a) + b, True),
    "one-after-another": (lambda a, b: softmax(norm(relu(a - b))), True),
    "defaults": (lambda a, b: norm(a + b, eps=0.5) - norm(a * b) + norm(a - b, 1), True),
    "number": (lambda a, b: distance(a + 1, b * 2), True),
    "tuple": (lambda a, b: parts(a + 1, b), True),
    "in-place": (lambda a, b: _shifted(a + b), True),
    "callee-of-callee": (lambda a, b: layer(a + b, b) + a, True),
    "branch": (lambda a, b: one_of(a + 1, b, a.size > 20) * b, True),
    "identity": (lambda a, b: same(a + b) * same(a), True),
    "reductions": (lambda a, b: reduced(a + b), True),
    "only-calls": (lambda a, b: (relu(a), distance(a, b)), False),
    "returns": (lambda a, b: either(a + 1, b, a.size > 20), False),
    "loop": (lambda a, b: with_loop(a + b), False),
    "raise": (lambda a, b: refuses(a + b), False),
    "fastmath": (lambda a, b: fast(a + b), False),
    "other-passes": (lambda a, b: other_passes(a + b), False),
    "keyword-argument": (lambda a, b: norm(x=a + b), True),
    "keyword-only": (lambda a, b: diagonal(a + b, 1, scale=3), False),
    "signature": (lambda a, b: given(a + b) * 2, False),
}  # fmt: skip


@numba.njit
def _shifted(x):
    shifts(x)
    return x


def is_called(ours: Any, callee: str) -> bool:
    name = f"{len(callee)}{callee}B"  # as it is mangled
    return any(name in text for text in ours.inspect_llvm().values())


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", CALLERS)
def test_a_call_gives_what_it_gave(name: str, parallel: bool) -> None:
    function, inlined = CALLERS[name]
    ours = numba_mlir.njit(parallel=parallel)(function)
    plain = numba.njit(function) if name not in NUMBA_REFUSES else function
    random = np.random.default_rng(3)
    for shape in ((5, 5), (1, 1), (40, 40)):
        a, b = random.random(shape), random.random(shape)
        mine, theirs = (a.copy(), b.copy()), (a.copy(), b.copy())
        check(ours(*mine), plain(*theirs))
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])
    names = [one for one in CALLEES if one in function.__code__.co_names]
    assert names
    assert all(is_called(ours, one) != inlined for one in names)


#: calls that plain Numba has no types for
NUMBA_REFUSES = {"one-after-another", "reductions"}
CALLEES = ("relu", "norm", "softmax", "distance", "parts", "_shifted", "layer", "one_of", "same",
           "reduced", "either", "with_loop", "refuses", "fast",
           "other_passes", "diagonal", "given")  # fmt: skip


def check(got: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            check(one, other)
        return
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    assert getattr(got, "dtype", type(got)) == getattr(expected, "dtype", type(expected))


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "float32": np.asfortranarray,
    "int16": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "complex128": lambda a: a[::-1],
    "bool": lambda a: a.reshape(2, 3, -1),
    "int64": lambda a: a[:0],
}  # fmt: skip


@pytest.mark.parametrize("dtype", LAYOUTS)
def test_types_and_layouts(dtype: str) -> None:
    def function(a: Any, b: Any) -> Any:
        total, size, (last, scaled) = parts(a * 2, b)
        return relu(total + 1) - scaled, last * size, same(total)

    ours, plain = numba_mlir.njit(parallel=True)(function), numba.njit(function)
    random = np.random.default_rng(8)
    a, b = (LAYOUTS[dtype](random.uniform(0, 5, (6, 8)).astype(dtype)) for _ in range(2))
    b.flags.writeable = False
    check(ours(a, b), plain(a, b))


def test_nothing_is_stored_between_caller_and_callee() -> None:
    ours = numba_mlir.njit(lambda a, b: distance(relu(a - b) + 1, b))
    a, b = np.random.default_rng(4).random((2, 30, 40))
    np.testing.assert_allclose(ours(a, b), np.sqrt(((np.maximum(a - b, 0) + 1 - b) ** 2).sum()))
    (text,) = ours.inspect_llvm().values()
    assert not re.search("NRT_MemInfo_.*alloc|new_array", text)


@numba.njit
def share(x):
    return x / (x.sum() / x[0])


@numba.njit(error_model="numpy")
def share_as_numpy(x):
    return x / (x.sum() / x[0])


@pytest.mark.parametrize("parallel", [False, True])
def test_a_division_raises_what_it_raised(parallel: bool) -> None:
    def function(x: Any) -> Any:
        return share(x * 2)

    def numpys(x: Any) -> Any:
        return share_as_numpy(x * 2)

    x = np.array([1.0, 3.0])
    for options in ({}, {"error_model": "numpy"}):
        ours = numba_mlir.njit(parallel=parallel, **options)
        for one in (ours(function), ours(numpys)):
            np.testing.assert_allclose(one(x), [0.5, 1.5])
    with pytest.raises(ZeroDivisionError):
        numba_mlir.njit(parallel=parallel)(function)(np.array([0.0, 1.0]))
    ours = numba_mlir.njit(parallel=parallel)(numpys)
    np.testing.assert_array_equal(ours(np.array([0.0, 1.0])), [0, 0])


def test_threads_are_those_of_caller_and_callee() -> None:
    def rows(a: Any) -> Any:
        out = np.empty_like(a)
        for i in prange(a.shape[0]):
            out[i] = relu(a[i] - 0.5)
        return out

    def outside(a: Any) -> Any:
        return in_threads(a - 0.5) * 2

    def repeated(a: Any) -> Any:
        for _ in range(3):
            a = np.sqrt(relu(a - 0.25))
        return a

    def repeated_in_threads(a: Any) -> Any:
        for _ in range(3):
            a = in_threads(a - 0.25)
        return a

    a = np.random.default_rng(5).random((6, 7))
    for function, expected, callee, one_thread, threads in (
        (repeated, repeated(a), "relu", False, True),
        (repeated_in_threads, repeated_in_threads(a), "in_threads", True, False),
        (rows, np.maximum(a - 0.5, 0), "relu", False, True),
        (outside, np.sqrt(np.abs(a - 0.5)) * 2, "in_threads", True, False),
    ):
        for parallel, called in ((False, one_thread), (True, threads)):
            ours = numba_mlir.njit(parallel=parallel)(function)
            np.testing.assert_allclose(ours(a), expected)
            assert is_called(ours, callee) == called


@pytest.mark.parametrize("parallel", [False, True])
def test_what_a_callee_writes_is_seen(parallel: bool) -> None:
    def function(a: Any) -> Any:
        b = a * 2
        before = b + 1
        shifts(b)
        after = b + 1
        for _ in range(3):
            b = relu(b - 0.25)
            shifts(b)
        return before, after, b

    ours, plain = numba_mlir.njit(parallel=parallel)(function), numba.njit(function)
    for size in (1, 2, 500):
        a = np.random.default_rng(size).random(size)
        check(ours(a), plain(a))


def test_there_is_a_limit_to_what_is_inlined() -> None:
    body = "\n".join(["    x = norm(x + 1, eps=0.5)"] * 8)
    space: dict[str, Any] = {"norm": norm}
    exec(f"def many(x):\n{body}\n    return x", space)
    ours, plain = numba_mlir.njit(space["many"]), numba.njit(space["many"])
    x = np.random.default_rng(2).random(50)
    check(ours(x), plain(x))
    assert is_called(ours, "norm")
