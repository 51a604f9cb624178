"""Combiners of reductions: built in MLIR, recognised again, and run in parallel loops."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from numba import get_num_threads, njit, prange, set_num_threads, types

from numba_mlir import mlir
from numba_mlir.converters import reductions, scalars
from numba_mlir.converters.reductions import Reduction, describe

ALIVE: list[Any] = []


def block_of(kind: str, ty: types.Type) -> Any:
    """A canonicalised block of two arguments that combines them, or None."""
    ir = mlir.ir
    with mlir.context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            type_ = scalars.to_mlir(ty)
            func = mlir.func.FuncOp("f", ([type_, type_], [type_]))
        with ir.InsertionPoint(func.add_entry_block()):
            value = reductions.combiner(kind, *func.arguments, ty)
            if value is None:
                return None
            mlir.func.ReturnOp([value])
    return simplified(module)


def parsed(text: str) -> Any:
    with mlir.context():
        return simplified(mlir.ir.Module.parse(text))


def simplified(module: Any) -> Any:
    """The only block of the module's function; the module is kept alive for it."""
    ALIVE.append(module)
    mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
    return module.body.operations[0].regions[0].blocks[0]


def loop(reduction: Reduction) -> Any:
    """``f(a, start)``: the parallel loop that the description asks for."""
    if reduction.form == "inplace":
        sign = {operator.iadd: "+=", operator.imul: "*="}[reduction.operator]  # type: ignore[index]
        step, first, last = f"acc {sign} a[i]", "start", "acc"
    else:
        step, first, last = "acc = f(acc, a[i])", "start", "acc"
        if reduction.neutral is not None:
            first, last = "neutral", "f(start, acc)"
    text = f"""
def run(a, start):
    acc = {first}
    for i in prange(a.size):
        {step}
    return {last}
"""
    dtype = np.dtype(str(reduction.type)).type
    neutral = None if reduction.neutral is None else dtype(reduction.neutral)
    scope = {"prange": prange, "f": reduction.function, "neutral": neutral}
    exec(text, scope)
    return njit(parallel=True)(scope["run"])


@pytest.fixture(autouse=True)
def environment() -> Any:
    before = get_num_threads()
    set_num_threads(min(4, before))
    yield
    ALIVE.clear()
    set_num_threads(before)


INTEGER = {
    "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("int64", kind) for kind in INTEGER), ("uint8", "add"), ("uint8", "max"), ("uint8", "xor")],
)
def test_integers(name: str, kind: str) -> None:
    reduction = describe(block_of(kind, getattr(types, name)))
    assert reduction is not None
    signed = np.dtype(name.removeprefix("u"))
    assert reduction.type == getattr(types, str(signed))
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, 1001).astype(name) | np.array(1, name)
    start = np.array(77, name)
    want = INTEGER[kind].reduce(np.append(a, start), dtype=name)
    got = loop(reduction)(a.view(signed), start.view(signed)[()])
    assert np.array(got, signed).view(name) == want


FLOATS = ("add", "mul", "max", "min", "maximum", "minimum")


@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("float64", kind) for kind in FLOATS), ("float32", "add"), ("float32", "maximum")],
)
def test_floats(name: str, kind: str) -> None:
    reduction = describe(block_of(kind, getattr(types, name)))
    assert reduction is not None
    a = np.random.default_rng(2).uniform(0.99, 1.01, 501).astype(name)
    ufunc = {"add": np.add, "mul": np.multiply}.get(kind) or getattr(np, kind[:3] + "imum")
    start = a.dtype.type(1.5)
    got = loop(reduction)(a, start)
    assert got == pytest.approx(ufunc.reduce(a) * 1.5 if kind == "mul" else
                                ufunc.reduce(np.append(a, start)), rel=1e-4)  # fmt: skip


@pytest.mark.parametrize("kind", ["maximum", "minimum"])
def test_nan_propagates(kind: str) -> None:
    run = loop(describe(block_of(kind, types.float64)))  # type: ignore[arg-type]
    a = np.arange(100.0)
    assert run(a, 50.0) == {"maximum": 99.0, "minimum": 0.0}[kind]
    a[70] = np.nan
    assert np.isnan(run(a, 50.0))
    a[70] = 0.0
    assert np.isnan(run(a, np.nan))


def test_python_max_ignores_later_nans() -> None:
    run = loop(describe(block_of("max", types.float64)))  # type: ignore[arg-type]
    a = np.array([1.0, np.nan, 3.0, np.nan])
    assert run(a, 2.0) == 3.0


@pytest.mark.parametrize("kind", ["and", "or", "xor", "add", "mul", "max", "min"])
def test_booleans(kind: str) -> None:
    reduction = describe(block_of(kind, types.boolean))
    assert reduction is not None and reduction.form == "function"
    meaning = {"and": all, "mul": all, "min": all, "or": any, "add": any, "max": any,
               "xor": lambda v: bool(sum(v) % 2)}[kind]  # fmt: skip
    run = loop(reduction)
    for a in ([True] * 9, [True] * 8 + [False], [False] * 9):
        for start in (True, False):
            assert run(np.array(a), start) == meaning([*a, start])


def test_complex_sum() -> None:
    reduction = describe(block_of("add", types.complex128))
    assert reduction is not None and reduction.operator is operator.iadd
    assert block_of("max", types.complex128) is None


@pytest.mark.parametrize("kind", reductions.KINDS)
@pytest.mark.parametrize("name", ["int8", "uint64", "float32", "boolean"])
def test_neutral_element_folds_away(kind: str, name: str) -> None:
    """Combining with the neutral constant is the other operand, for MLIR too."""
    ty = getattr(types, name)
    start = reductions.neutral(kind, ty)
    ir = mlir.ir
    with mlir.context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            func = mlir.func.FuncOp("f", ([scalars.to_mlir(ty)], [scalars.to_mlir(ty)]))
        with ir.InsertionPoint(func.add_entry_block()):
            value = None
            if start is not None:
                args = func.arguments[0], scalars.constant(ty, start), ty
                value = reductions.combiner(kind, *args)
            if value is None:
                assert name == "float32" and kind in ("and", "or", "xor")
                return
            mlir.func.ReturnOp([value])
    block = simplified(module)
    if kind in ("add", "mul") or name != "float32":
        assert len(block.operations) == 1, block


def test_composite_combiners() -> None:
    selects = """func.func @f(%a: f64, %b: f64) -> f64 {
        %0 = math.absf %a : f64
        %1 = math.absf %b : f64
        %2 = arith.cmpf oge, %0, %1 : f64
        %3 = arith.select %2, %a, %b : f64
        return %3 : f64 }"""
    run = loop(describe(parsed(selects)))  # type: ignore[arg-type]
    assert run(np.array([1.0, -9.0, 3.0, 8.0]), 0.5) == -9.0
    not_idempotent = """func.func @f(%a: f64, %b: f64) -> f64 {
        %0 = arith.mulf %b, %b : f64
        %1 = arith.addf %a, %0 : f64
        return %1 : f64 }"""
    assert describe(parsed(not_idempotent)) is None


def test_fast_math_sums_keep_their_flags() -> None:
    block = parsed("""func.func @f(%a: f64, %b: f64) -> f64 {
        %0 = arith.addf %a, %b fastmath<reassoc> : f64
        return %0 : f64 }""")
    reduction = describe(block)
    assert reduction is not None and reduction.form == "function"
    run = loop(reduction)
    a = np.arange(100.0)
    assert run(a, 1.0) == 4951.0
    assert "fadd reassoc" in run.inspect_llvm(run.signatures[0])


def test_unknown_kind() -> None:
    with pytest.raises(KeyError, match="unknown reduction 'median'"):
        reductions.neutral("median", types.float64)
