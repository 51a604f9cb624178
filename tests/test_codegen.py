"""Machine code of parallel loops by MLIR, beside plain Python and plain Numba."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from codegen_support import thread_counts
from compare import beside_python, names
from corpus_dtypes import DTYPES
from corpus_functions import FUNCTIONS
from corpus_loops import LOOPS
from numba import prange
from processes import run

from numba_mlir import errors, njit
from numba_mlir.roundtrip import vectormath

#: functions that plain Numba refuses or computes wrongly, whatever compiles their loops
_NOT_NUMBA = {"reductions", "more_reductions", "subscripts"}
#: functions that are mostly loops of Numba's library, and slow to compile
_SLOW = {"arrays_summed", "whole_arrays"}
CASES = [c for c in LOOPS + DTYPES + FUNCTIONS if c[0].__name__ not in _NOT_NUMBA | _SLOW]


def remarks(compiled: Any, kind: str) -> list[str]:
    (record,) = (cres.metadata["mlir"] for cres in compiled.overloads.values())
    return [remark.message for remark in record.remarks if remark.kind == kind]


def check(function: Any, make: Any, **options: Any) -> Any:
    """Compiled with MLIR's code, ``function`` gives what Python gives, in arguments as well."""
    compiled = njit(parallel=True, mlir_codegen=True, **options)(function)
    beside_python(function, compiled, make)
    return compiled


@pytest.mark.parametrize(("function", "make"), CASES, ids=names(CASES))
def test_corpus(function: Any, make: Any) -> None:
    check(function, make)


def signs(x):
    return np.sign(x), np.sign(x - x.dtype.type(2))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "float32"])
@pytest.mark.parametrize("codegen", [False, True])
def test_sign_of_unsigned(dtype: str, codegen: bool) -> None:
    """Plain Numba gives -1 for large ones."""
    x = np.array([0, 1, 2, 3, np.iinfo(dtype).max if "int" in dtype else np.nan], dtype)
    found = njit(parallel=True, mlir_codegen=codegen)(signs)(x)
    for got, want in zip(found, signs(x), strict=True):
        np.testing.assert_array_equal(got, want)


def between(x, low, high):
    return (low <= x) & (x < high)


def count(mask):
    total = 0
    for i in prange(mask.size):
        if mask[i]:
            total += 1
    return total, np.where(mask, 2, 3), mask.sum()


def test_masks_are_bytes_in_memory() -> None:
    """LLVM makes no vectors of bits in memory."""
    x = np.random.default_rng(0).random(1000)
    compiled, counted = njit(parallel=True)(between), njit(parallel=True)(count)
    mask = compiled(x, 0.2, 0.6)
    np.testing.assert_array_equal(mask, between(x, 0.2, 0.6), strict=True)
    got = counted(mask)
    assert (got[0], got[2]) == (np.count_nonzero(mask),) * 2
    np.testing.assert_array_equal(got[1], np.where(mask, 2, 3))
    for one in (compiled, counted):
        text = one.inspect_llvm(one.signatures[0])
        assert "store i1" not in text
        assert "load i1," not in text


def test_bytes_of_masks_that_are_not_one() -> None:
    mask = np.array([0, 2, 1, 255, 0], np.uint8).view(np.bool_)
    for parallel in (True, False):
        total, chosen, _ = njit(parallel=parallel)(count)(mask)
        assert total == 3
        np.testing.assert_array_equal(chosen, [3, 2, 2, 2, 3])


def bits(x):
    total, largest, smallest = 0.1, -np.inf, np.inf
    for i in prange(x.shape[0]):
        total += x[i] * 1.1
        largest = max(largest, x[i])
        smallest = min(smallest, x[i])
    return total, largest, smallest, np.exp(x).sum()


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 300_000])
def test_reductions_do_not_depend_on_the_number_of_threads(size: int) -> None:
    compiled = njit(parallel=True, mlir_codegen=True)(bits)
    x = np.random.default_rng(size).normal(size=size)
    found = []
    for _ in thread_counts():
        found.append(np.array(compiled(x)).tobytes())
    assert len(set(found)) == 1
    with np.errstate(all="ignore"):
        expected = [0.1 + (x * 1.1).sum(), x.max(initial=-np.inf), x.min(initial=np.inf)]
    np.testing.assert_allclose(np.frombuffer(found[0])[:3], expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sums_are_as_exact_as_numpys(dtype: Any) -> None:
    @njit(parallel=True, mlir_codegen=True, mlir_strict=True)
    def f(x, total):
        for i in prange(x.shape[0]):
            total += x[i]
        return total, x.sum()

    for size in (7, 60, 100, 127, 300, 511, 600, 1000, 10_007):
        wrong = []
        for seed in range(200):
            x = np.random.default_rng(seed).random(size).astype(dtype)
            wrong.append([abs(math.fsum([*x, -total])) for total in (*f(x, dtype(0)), x.sum())])
        *ours, numpys = np.mean(wrong, axis=0)
        assert max(ours) <= 1.2 * numpys, size  # of 200 draws the mean is within a tenth
    for size in (100_003, 3_000_000):
        x = np.random.default_rng(size).random(size).astype(dtype)
        exact = math.fsum(x)
        assert np.max(np.abs([*f(x, dtype(0))] - np.float64(exact))) <= exact * np.finfo(dtype).eps
    for special in ([np.inf, 1], [np.inf, -np.inf], [np.nan, 1], [1, -np.inf]):
        x = np.array(special, dtype)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(f(x, dtype(0)), [x.sum(), x.sum()])


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (1, 100_003), (100_003, 1), (0, 4),
                                   (5, 0, 3), (2, 3, 4, 5), (40, 50, 60)])  # fmt: skip
def test_every_element_once(shape: tuple[int, ...]) -> None:
    @njit(parallel=True, mlir_codegen=True)
    def f(x):
        return x + 1, x.sum()

    x = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    for view in (x, x.T, x[::2], x[..., ::-1], np.asfortranarray(x)):
        more, total = f(view)
        np.testing.assert_array_equal(more, view + 1)
        assert total == view.sum()


def test_chunk_size_and_thread_mask_are_respected() -> None:
    @njit(parallel=True, mlir_codegen=True)
    def f(x):
        out = np.empty_like(x)
        for i in prange(x.shape[0]):
            out[i] = np.sin(x[i])
        return out, numba.get_num_threads(), numba.get_parallel_chunksize()

    x = np.random.rand(100_000)
    numba.set_num_threads(2)
    with numba.parallel_chunksize(1000):
        out, threads, size = f(x)
    np.testing.assert_allclose(out, np.sin(x), rtol=1e-15)
    assert (threads, size) == (2, 1000)


def transcendental(x):
    return np.exp(x) + np.sin(x) * np.log(x)


@pytest.mark.skipif(not vectormath.variants("exp"), reason="no vector functions on this machine")
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_loops_call_vector_functions(dtype: str) -> None:
    x = np.linspace(0.1, 9, 1001).astype(dtype)
    fast = njit(parallel=True, mlir_codegen=True)(transcendental)
    precise = njit(parallel=True, mlir_codegen=True, mlir_precise=True)(transcendental)
    limit = 1e-14 if dtype == "f8" else 1e-5
    for compiled in (fast, precise):
        np.testing.assert_allclose(compiled(x), transcendental(x), rtol=limit, atol=limit)
    suffix = "f" if dtype == "f4" else ""
    (text,) = fast.inspect_asm().values()
    for name in ("exp", "sin", "log"):
        assert any(f"_ZGV{code}" in line and f"v_{name}{suffix}" in line
                   for code in "edbn" for line in text.splitlines()), name  # fmt: skip
    (text,) = precise.inspect_asm().values()
    assert "_ZGV" not in text


def test_what_has_no_form_stays_with_numba_and_says_why() -> None:
    def f(x):
        out = np.empty(x.shape[0], np.int64)
        for i in prange(x.shape[0]):
            out[i] = len(str(x[i]))
        return out + 1

    x = np.array([1, 22, 333])
    compiled = check(f, lambda: (x,))
    (missed,) = remarks(compiled, "missed")
    assert "has no MLIR form" in missed
    with pytest.raises(errors.UnsupportedConstruct, match="has no MLIR form"):
        njit(parallel=True, mlir_codegen=True, mlir_strict=True)(f)(x)


def test_fastmath_reaches_the_operations() -> None:
    @njit(parallel=True, fastmath={"contract", "reassoc"}, mlir_codegen=True)
    def f(x, y):
        return x * y + 1.5

    x = np.arange(100.0)
    np.testing.assert_allclose(f(x, x), x * x + 1.5)
    (text,) = f.inspect_asm().values()
    assert "fma" in text or "vfmadd" in text or "fmla" in text


RUN = """
    import sys
    import numpy as np
    from numba_mlir import njit
    from numba import prange

    @njit(parallel=True, cache=True, mlir_codegen=True)
    def f(x):
        total = 0.0
        for i in prange(x.shape[0]):
            total += np.exp(x[i])
        return np.cos(x) + 1, total

    x = np.linspace(0, 1, 200_000)
    y, total = f(x)
    np.testing.assert_allclose(y, np.cos(x) + 1, rtol=1e-14)
    np.testing.assert_allclose(total, np.exp(x).sum(), rtol=1e-14)
    hits = sum(f.stats.cache_hits.values())
    bindings = [name for name in ("mlir", "torch_mlir") if f"{name}.ir" in sys.modules]
    print(hits, bindings)
"""


def test_cached_code_runs_in_a_new_process_without_the_bindings(tmp_path: Path) -> None:
    assert run(tmp_path, RUN).startswith("0 [")
    assert run(tmp_path, RUN) == "1 []"


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_threading_layers(tmp_path: Path, layer: str) -> None:
    program = (
        RUN
        + f"""
    import numba
    assert numba.threading_layer() == {layer!r}
    """
    )
    run(tmp_path, program, NUMBA_THREADING_LAYER=layer)


def several(x: Any) -> Any:
    return x.sum(), x.max(), x.prod(), x.min()


def mixed(x: Any) -> Any:
    total, largest = x.sum(), -np.inf
    for i in prange(x.shape[0]):
        largest = max(largest, x[i])
    return total, largest, np.max(x)


@pytest.mark.parametrize("flags", [{"mlir_codegen": True}, {"mlir_identity": True},
                                   {"mlir_tiling": True}, {}])  # fmt: skip
def test_each_reduction_of_loops_that_numba_fused_has_its_own_operation(flags: Any) -> None:
    x = np.random.default_rng(0).random(1000) + 0.5
    expected = (x.sum(), x.max(), x.prod(), x.min())
    compiled = njit(parallel=True, **flags)
    np.testing.assert_allclose(compiled(several)(x), expected)
    np.testing.assert_allclose(compiled(mixed)(x), (x.sum(), x.max(), x.max()))
    x[700] = np.nan
    np.testing.assert_allclose(compiled(several)(x), [np.nan] * 4)
    np.testing.assert_allclose(compiled(mixed)(x), (np.nan, np.nanmax(x), np.nan))
