"""Functions without ``parallel=True`` whose loops MLIR compiles, beside plain Numba."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numba
import numpy as np
import pytest
from compare import call, identical, names
from corpus_functions import FUNCTIONS
from corpus_loops import LOOPS
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.typed_passes import NoPythonSupportedFeatureValidation
from processes import run
from random_programs import Program

from numba_mlir import njit
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes.identity import Identity
from numba_mlir.roundtrip import Codegen, pass_class, pipeline, vectormath

needs_vectors = pytest.mark.skipif(
    not vectormath.variants("exp"), reason="no vector functions on this machine"
)
#: functions of the corpora that are quick to compile, and others of every kind
_NAMES = {"reductions", "nested", "ranges", "branches", "scalars", "several_returns", "objects"}
CASES = [case for case in LOOPS + FUNCTIONS if case[0].__name__ in _NAMES]


def remarks(compiled: Any, kind: str) -> list[str]:
    records = [cres.metadata["mlir"] for cres in compiled.overloads.values()]
    return [remark.message for one in records for remark in one.remarks if remark.kind == kind]


def same_as_numba(function: Any, make: Any, **options: Any) -> Any:
    """Results, exceptions and arguments of ``function`` are those of plain Numba, bit by bit."""
    plain = numba.njit(**options)(function)
    compiled = njit(mlir_codegen=True, mlir_precise=True, **options)(function)
    expected_args, args = make(), make()
    expected, found = call(plain, expected_args), call(compiled, args)
    assert identical(found, expected), (found, expected)
    assert identical(args, expected_args)
    return compiled


@pytest.mark.parametrize(("function", "make"), CASES, ids=names(CASES))
def test_corpus(function: Any, make: Any) -> None:
    same_as_numba(function, make)


OPTIONS: list[dict[str, Any]] = [{}, {"boundscheck": True}, {"error_model": "numpy"}]


@pytest.mark.parametrize("seed", [2, 7, 9, 17, 21, 26, 33, 44, 50, 66])
def test_random_programs(seed: int) -> None:
    program, options = Program(seed), OPTIONS[seed % 3]
    function = program.function()
    plain = numba.njit(**options)(function)
    compiled = njit(mlir_codegen=True, mlir_precise=True, **options)(function)
    for number in range(8):
        expected_args, args = program.arguments(number), program.arguments(number)
        expected, found = call(plain, expected_args), call(compiled, args)
        assert identical(found, expected), f"{found}, not {expected}:\n{program.source}"
        assert identical(args, expected_args), program.source
    assert remarks(compiled, "applied"), program.source


def exponentials(a, out):
    for i in range(a.shape[0]):
        out[i] = math.exp(a[i]) * 2
    return out


def ordered_sum(a):
    total = 0.0
    for x in range(a.shape[0]):
        total += math.exp(-a[x])
    return total


def array_statement(a, b):
    return np.exp(a) + b


@needs_vectors
def test_loops_call_vector_functions_by_default() -> None:
    a = np.linspace(-3, 3, 1003)
    for function, args in (
        (exponentials, (a, np.empty_like(a))),
        (ordered_sum, (a,)),
        (array_statement, (a, a)),
    ):
        fast, precise = njit(function), njit(mlir_precise=True)(function)
        expected = numba.njit(function)(*args)
        np.testing.assert_allclose(fast(*args), expected, rtol=1e-14, atol=1e-14)
        np.testing.assert_array_equal(precise(*args), expected)
        (text,) = fast.inspect_asm().values()
        assert "v_exp" in text
        assert "mlir." in "".join(fast.inspect_llvm().values())
        assert "v_exp" not in "".join(precise.inspect_asm().values())


def mean(a):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i]
    return total / 2


def iterated(a):
    x = a[0]
    for _ in range(9):
        x = math.sin(x) + 0.5
    return x


def search(a):
    for i in range(a.shape[0]):
        if math.exp(a[i]) > 9:
            return i
    return -1


def sometimes(a):
    total = 0.0
    for i in range(a.shape[0]):
        if a[i] > 2:
            total += math.exp(a[i])
    return total


@pytest.mark.parametrize("function", [mean, iterated, search, sometimes])
def test_what_gains_nothing_is_left_to_numba(function: Any) -> None:
    a = np.arange(9.0)
    by_default, asked = njit(function), njit(mlir_codegen=True, mlir_strict=True)(function)
    np.testing.assert_allclose([by_default(a), asked(a)], function(a), rtol=1e-14)
    assert "mlir." not in "".join(by_default.inspect_llvm().values())
    assert remarks(asked, "applied") == ["machine code of the whole function by MLIR"]


def relax(a: Any, b: Any) -> None:
    for _ in range(3):
        b[1:-1] = 0.25 * (a[:-2] + a[2:]) + 0.5 * a[1:-1]
        a[1:-1] = 0.25 * (b[:-2] + b[2:]) + 0.5 * b[1:-1]


def by_masks(a: Any, b: Any) -> None:
    m = (a > 0.3) & (b < 0.7)
    a[m] = b[m] * 2
    b += m


@pytest.mark.parametrize("function", [relax, by_masks])
def test_loops_of_array_statements_by_default(function: Any) -> None:
    compiled = njit(function)
    for n in (3, 4, 17, 1000):
        for make in (lambda a: a, lambda a: np.repeat(a, 2)[::2], lambda a: a[::-1]):
            rng = np.random.default_rng(n)
            a, b = make(rng.random(n)), make(rng.random(n))
            c, d = a.copy(), b.copy()
            compiled(a, b)
            function(c, d)
            np.testing.assert_allclose(a, c, rtol=1e-13)
            np.testing.assert_allclose(b, d, rtol=1e-13)
    assert "machine code of the loop by MLIR" in compiled.mlir_diagnostics()


def test_arrays_of_array_statements_may_overlap() -> None:
    compiled = njit(relax)
    for shift in (1, 2, 5):
        memory = np.random.default_rng(shift).random(40)
        copy = memory.copy()
        compiled(memory[:-shift], memory[shift:])
        relax(copy[:-shift], copy[shift:])
        np.testing.assert_allclose(memory, copy, rtol=1e-13)


def windows(a: Any, w: Any) -> Any:
    k, n = w.shape[0], a.shape[0] - w.shape[0] + 1
    out = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            out[i, j] = (a[i : i + k, j : j + k] * w).sum()
    return out


def test_sums_of_windows_are_no_calls() -> None:
    compiled, rng = njit(windows), np.random.default_rng(0)
    for k in (1, 2, 3, 7):
        a, w = rng.random((11, 11)), rng.random((k, k))
        np.testing.assert_allclose(compiled(a, w), windows(a, w), rtol=1e-13)
    (text,) = compiled.inspect_llvm().values()
    assert "machine code of the loop by MLIR" in compiled.mlir_diagnostics()
    assert not re.search(r"call [^\n]*@mlir\.windows", text)


@needs_vectors
def test_functions_of_numbers_are_inlined_into_loops_of_others() -> None:
    scale = njit(lambda x: math.exp(-x * x) + 1)

    @numba.njit
    def apply(a, out):
        for i in range(a.shape[0]):
            out[i] = scale(a[i])
        return out

    a = np.linspace(-2, 2, 1001)
    np.testing.assert_allclose(apply(a, np.empty_like(a)), np.exp(-a * a) + 1, rtol=1e-14)
    (text,) = apply.inspect_asm().values()
    assert any(f"_ZGV{code}N" in text for code in "ed"), "the loop is vectorised"


def test_orders_of_sums_are_kept_unless_fastmath_says_otherwise() -> None:
    def f(a):
        total = np.float32(0)
        for i in range(a.shape[0]):
            total += a[i]
        return total

    a = np.random.default_rng(0).normal(size=10_001).astype(np.float32)
    assert njit(mlir_codegen=True)(f)(a) == numba.njit(f)(a)
    fast = njit(mlir_codegen=True, fastmath=True)(f)
    np.testing.assert_allclose(fast(a), f(a), rtol=1e-3)
    assert fast(a) != f(a) or "fast" in "".join(fast.inspect_llvm().values())


@njit(mlir_codegen=True)
def norm(a, b):
    return math.hypot(a, b) + math.gamma(a)


def test_functions_that_numba_calls_as_symbols_of_c() -> None:
    def f(a):
        for i in range(a.shape[0]):
            a[i] = math.hypot(a[i], 2.0) - math.lgamma(a[i]) + norm(a[i], 1.0)

    same_as_numba(f, lambda: (np.linspace(0.5, 3, 7),))


def divides(a, b, n):
    for i in range(n):
        if b[i] < -5:
            raise ValueError("too small", 7)
        a[i] = math.exp(a[i]) / b[i]
    assert n < 8, "many"
    return a[0] // b[n - 1]


@pytest.mark.parametrize("case", [[1, 2], [1, 0, 3], [1, -9, 3], [2.0] * 9, [1.0, 0.0]])
def test_exceptions_and_what_was_done_before_them(case: list[float]) -> None:
    def make() -> Any:
        return np.ones(len(case)), np.array(case, float), len(case)

    for options in ({}, {"error_model": "numpy"}):
        same_as_numba(divides, make, **options)


def test_functions_that_never_return() -> None:
    def f(x):
        while x < 100:
            x = math.exp(x) + 1
        raise ValueError("never")

    def g(x):
        while True:
            x += 1
            if x > 9:
                raise OverflowError(x)

    for function in (f, g):
        same_as_numba(function, lambda: (1.5,))


def test_what_has_no_form_stays_and_says_why() -> None:
    def f(a):
        found = []
        for i in range(a.shape[0]):
            found.append(math.exp(a[i]))
        return len(found)

    a = np.arange(4.0)
    compiled = njit(mlir_codegen=True)(f)
    assert compiled(a) == 4
    assert any("no MLIR form" in message for message in remarks(compiled, "missed"))
    with pytest.raises(UnsupportedConstruct, match="no MLIR form"):
        njit(mlir_codegen=True, mlir_strict=True)(f)(a)


def test_inner_loops_are_compiled_where_outer_ones_cannot_be() -> None:
    def f(a, n):
        seen = {0: 0}
        for k in range(n):
            for i in range(a.shape[0]):
                a[i] = math.sin(a[i]) * 2
            seen[k] = len(seen)
        return len(seen)

    compiled = same_as_numba(f, lambda: (np.arange(5.0), 3))
    assert remarks(compiled, "applied") == ["machine code of the loop by MLIR"]


def test_pickled_functions_and_custom_pipelines() -> None:
    copy = pickle.loads(pickle.dumps(njit(mlir_codegen=True)(exponentials)))
    a = np.linspace(0, 1, 9)
    expected = numba.njit(exponentials)(a, np.empty_like(a))
    np.testing.assert_allclose(copy(a, np.empty_like(a)), expected, rtol=1e-14)
    assert remarks(copy, "applied")
    stock = numba.njit(pipeline_class=pipeline(codegen=True))(exponentials)
    np.testing.assert_allclose(stock(a, np.empty_like(a)), expected, rtol=1e-14)
    assert "mlir." in "".join(stock.inspect_llvm().values())


class UserCompiler(CompilerBase):
    """A pipeline of a user's, with machine code by MLIR and no other pass of ours."""

    def define_pipelines(self) -> list[Any]:
        pm = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pm.add_pass_after(pass_class(Codegen(precise=True)), NoPythonSupportedFeatureValidation)
        pm.finalize()
        return [pm]


def test_codegen_alone_in_a_pipeline_of_the_users() -> None:
    a = np.linspace(0, 1, 99)
    for options in ({}, {"parallel": True}):
        compiled = numba.njit(pipeline_class=UserCompiler, **options)(in_parallel)
        np.testing.assert_array_equal(compiled(a), numba.njit(in_parallel)(a))
        assert "mlir." in "".join(compiled.inspect_llvm().values()), options
    with pytest.raises(TypeError, match="a pass of its own"):
        pass_class(Codegen(), Identity())


def in_parallel(a):
    out = np.empty_like(a)
    for i in numba.prange(a.shape[0]):
        out[i] = math.exp(a[i]) + 1
    return out


PROGRAM = """
    import math, sys, threading
    import numpy as np
    from numba_mlir import njit

    @njit(cache=True)
    def f(x):
        total = 0.0
        for i in range(x.shape[0]):
            total += math.exp(x[i])
        return np.cos(x) + 1, total

    x = np.linspace(0, 1, 2000)
    y, total = f(x)
    np.testing.assert_allclose(y, np.cos(x) + 1, rtol=1e-14)
    np.testing.assert_allclose(total, np.exp(x).sum(), rtol=1e-13)
    assert "numba.np.ufunc.omppool" not in sys.modules
    assert "numba.np.ufunc.workqueue" not in sys.modules
    assert "numba.np.ufunc.tbbpool" not in sys.modules
    bindings = [name for name in ("mlir", "torch_mlir") if f"{name}.ir" in sys.modules]
    print(sum(f.stats.cache_hits.values()), bindings)
"""


def test_cached_code_needs_neither_the_bindings_nor_threads(tmp_path: Any) -> None:
    assert run(tmp_path, PROGRAM).startswith("0 [")
    assert run(tmp_path, PROGRAM) == "1 []"
