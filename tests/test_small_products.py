"""Products of small matrices stay calls of BLAS, those of large ones become loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from numba_mlir import njit
from numba_mlir.passes import small_products
from numba_mlir.passes.machine import Machine

KIB = 1 << 10
CACHE = 64 * KIB


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of 90 x 90 numbers of 8 bytes are small, those of 95 x 95 large."""
    monkeypatch.setattr(small_products, "this_machine", lambda: Machine(l2=CACHE))


def bicg(a: Any, x: Any, y: Any) -> Any:
    return a @ x, y @ a


def atax(a: Any, x: Any, y: Any) -> Any:
    return a.T @ (a @ x)


def step(a: Any, x: Any, y: Any) -> Any:
    return x - (a.T @ (a @ x - y)) * 0.5


def loss(a: Any, x: Any, y: Any) -> Any:
    r = a @ x - y
    return (r * r).sum(), x - (a.T @ r) * 0.5


def around(a: Any, x: Any, y: Any) -> Any:
    z = y + y
    r = a @ x
    s = a.T @ z
    return r.sum(), s, r - z, s * s


def later(a: Any, x: Any, y: Any) -> Any:
    r, s = a @ x, a.T @ y
    total = np.zeros_like(r)
    for k in range(3):
        total += r * k
    return total, s, r


def two_matrices(a: Any, x: Any, y: Any) -> Any:
    b = a.copy()
    return a @ x, b.T @ y, a.T @ y, b @ x


def again(a: Any, x: Any, y: Any) -> Any:
    x = x.copy()
    for k in range(3):
        if k != 1:
            x = a.T @ (a @ x)
            x = x / np.sqrt((x * x).sum())
    return x


def into_argument(a: Any, x: Any, y: Any) -> Any:
    x[:] = a.T @ (a @ x)
    y[1:] = (a @ x)[:-1]
    return x, y


def of_results(a: Any, x: Any, y: Any) -> Any:
    r = a @ x
    return a.T @ (r + y), r[::2], r.size


FUNCTIONS = [
    bicg,
    atax,
    step,
    loss,
    around,
    later,
    two_matrices,
    again,
    into_argument,
    of_results,
]
SHAPES = [(7, 5), (1, 40), (40, 1), (90, 91), (95, 98), (500, 33), (500, 20), (10, 900), (16, 900)]


def arguments(n: int, m: int, dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(n + m)
    a, x, y = (rng.normal(size=shape).astype(dtype) for shape in [(n, m), (m,), (n,)])
    return a, x, y


def check(compiled: Callable[..., Any], function: Any, given: Any, rtol: float = 1e-11) -> None:
    same(*(f(*(array.copy("K") for array in given)) for f in (compiled, function)), rtol)


def same(got: Any, expected: Any, rtol: float = 1e-11) -> None:
    pairs = zip(
        got if isinstance(got, tuple) else (got,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    )
    for one, other in pairs:
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * 100)


@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_values(function: Any, parallel: bool) -> None:
    compiled = njit(parallel=parallel)(function)
    for n, m in SHAPES:
        check(compiled, function, arguments(n, m))
    if function is not again:  # divides by the size of the result
        for n, m in [(0, 3), (3, 0), (0, 0)]:
            if function is not into_argument or n:
                check(compiled, function, arguments(n, m))
    assert "numba.large" in compiled.inspect_mlir()


@pytest.mark.filterwarnings("ignore::numba.NumbaPerformanceWarning")
@pytest.mark.parametrize("function", [bicg, atax, step])
def test_layouts_and_numbers(function: Any) -> None:
    compiled = njit(parallel=True)(function)
    for n, m in [(12, 10), (200, 202)]:
        a, x, y = arguments(n, m)
        check(compiled, function, (np.asfortranarray(a), x, y))
        check(compiled, function, (np.ascontiguousarray(a.T).T, x, y))
        for array in (a, x, y):
            array.flags.writeable = False
        same(compiled(a, x, y), function(a, x, y))
        wide = arguments(2 * n, 2 * m)
        views = wide[0][::2, ::-2], wide[1][::2], wide[2][::-2]
        same(compiled(*views), function(*views))
        if function is not step:
            check(compiled, function, arguments(n, m, np.float32), rtol=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinities_and_nan_come_out_as_from_blas() -> None:
    compiled = njit(parallel=True)(bicg)
    for n in (9, 98):
        a, x, y = arguments(n, n)
        a[1, 2], a[3, 4], y[5] = np.nan, np.inf, -np.inf
        check(compiled, bicg, (a, x, y))


@pytest.mark.parametrize("parallel", [False, True])
def test_sizes_that_do_not_fit(parallel: bool) -> None:
    compiled, plain = njit(parallel=parallel)(step), numba.njit(step)
    for n in (3, 100):
        a = np.ones((n, n + 1))
        for x, y in [(np.ones(n), np.ones(n)), (np.ones(n + 1), np.ones(n + 1))]:
            with pytest.raises(ValueError):
                plain(a, x, y)
            with pytest.raises(ValueError):
                compiled(a, x, y)


def test_a_size_of_one_is_stretched_in_both_branches() -> None:
    for function in (step, loss):
        compiled = njit(parallel=True)(function)
        for n in (5, 100):
            a, x, y = arguments(n, n)
            check(compiled, function, (a, x, y[:1]))
            check(compiled, function, (a, x, y))


# -- which branch ---------------------------------------------------------------------
def branches(function: Any, stage: str = "after-row-fusion") -> tuple[str, str, str]:
    """What stands before the branch, in the loops and in the calls (with what is behind)."""
    compiled = njit(parallel=True)(function)
    compiled(*arguments(9, 8))
    before, rest = compiled.inspect_mlir(stage=stage).split("{numba.large}")
    loops, calls = rest.split("numba.product", 1)
    return before, loops, "numba.product" + calls


@pytest.mark.parametrize(("function", "limit"), [(bicg, CACHE // 4), (atax, CACHE)])
def test_limits(function: Any, limit: int) -> None:
    before, _, _ = branches(function)
    tests = [line.split("arith.cmpi ugt, ")[1] for line in before.splitlines() if "ugt" in line]
    numbers = sorted(int(test.split("%c")[1].split()[0].split("_")[0]) for test in tests)
    assert numbers == sorted([limit // 8, small_products.ROWS, small_products.COLUMNS])


def test_loops_beside_the_products_are_in_both_branches() -> None:
    before, loops, calls = branches(step)
    assert "scf.parallel" not in before
    # One loop goes over the matrix.  The other one adds up its parts and goes on with the sums.
    first, second = loops.split("scf.parallel")[1:]
    assert "memref.load %arg0[" in first and "memref.load %arg0[" not in second
    assert second.count("arith.subf") == 1
    assert calls.count("numba.product") == 2 and calls.count("scf.parallel") == 2


@pytest.mark.parametrize("function", [step, loss])
def test_loops_for_sizes_of_one_are_those_beside_the_calls(function: Any) -> None:
    before, loops, calls = branches(function)
    assert "scf.if" not in before + loops + calls
    assert before.count("arith.cmpi eq") and "cf.cond_br" in loops


def test_what_else_goes_over_the_matrix_is_fused_without_a_test() -> None:
    def sums(a: Any, x: Any, y: Any) -> Any:
        return a @ x, a.sum(axis=1)

    def rows(a: Any, x: Any, y: Any) -> Any:
        t = a @ x + y
        return np.exp(a - t[:, None]), a.T @ y

    for function in (sums, rows):
        compiled = njit(parallel=True)(function)
        check(compiled, function, arguments(6, 5))
        text = compiled.inspect_mlir(stage="after-row-fusion")
        assert "numba.large" not in text and "numba.product" not in text


def test_something_in_between_leaves_no_branch() -> None:
    def shows(a: Any, x: Any, y: Any) -> Any:
        r = a @ x
        part = r[1:3].copy()
        z = y * part[0]
        return r, a.T @ z

    compiled = njit(parallel=True)(shows)
    check(compiled, shows, arguments(6, 5))
    check(compiled, shows, arguments(150, 100))


def test_the_user_is_told_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    compiled = njit(parallel=True)(atax)
    compiled(*arguments(6, 5))
    text = str(compiled.mlir_diagnostics())
    text += capsys.readouterr().out
    assert "the product is a loop where the matrix has more than 64 KiB" in text
