"""Every scalar function, to MLIR and back, gives the bits that plain Numba gives.

One MLIR function holds the results of all functions on a tuple of argument types; its
operations come back as calls of intrinsics in a generated Python function.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from numba import njit, types
from numba.core.registry import cpu_target

from numba_mlir import mlir
from numba_mlir.converters import arithmetic, intrinsics, mathfuncs, scalars

SHIFTS = {operator.lshift, operator.rshift, operator.ilshift, operator.irshift,
          np.left_shift, np.right_shift}  # fmt: skip
CONSTRUCTORS = (int, float, bool, complex, np.float32, np.float64, np.int8, np.uint16, types.int32)
BINARY = [*(fn for fn in arithmetic.BINARY if fn not in SHIFTS),
          *(fn for fn in mathfuncs.UFUNCS if fn.nin == 2 and fn not in SHIFTS),
          math.atan2, math.copysign, math.pow, pow, max, min, complex]  # fmt: skip
UNARY = [*arithmetic.UNARY, *(fn for fn in mathfuncs.UFUNCS if fn.nin == 1),
         *(fn for fn in mathfuncs.MATH if fn not in (math.atan2, math.copysign, math.pow)),
         *mathfuncs.PREDICATES, abs, np.real, np.imag, *CONSTRUCTORS]  # fmt: skip

Case = tuple[Callable[..., Any], Any]  # function, resolved signature


def resolve(fn: Callable[..., Any], args: tuple[types.Type, ...]) -> Any | None:
    """Numba's signature of ``fn`` on scalars; None when it has none."""
    context = cpu_target.typing_context
    context.refresh()
    function = context.resolve_value_type(fn)
    if isinstance(function, types.NumberClass):
        return function.instance_type(*args)
    try:
        sig = function.get_call_type(context, args, {})
    except Exception:
        return None
    return sig if sig is not None and scalars.kind(sig.return_type) else None


def forward(fn: Callable[..., Any], sig: Any, args: list[Any], tys: tuple[types.Type, ...]) -> Any:
    if fn in arithmetic.BINARY:
        return arithmetic.binary(fn, sig, args[0], tys[0], args[1], tys[1], error_model="numpy")
    if fn in arithmetic.UNARY:
        return arithmetic.unary(fn, sig, args[0], tys[0])
    return mathfuncs.call(fn, sig, args, tys, error_model="numpy")


def build(fns: Iterable[Any], tys: tuple[types.Type, ...]) -> tuple[Any, list[Case]]:
    """A module with one function that returns the results of all convertible ``fns``."""
    ir = mlir.ir
    with mlir.context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            func = mlir.func.FuncOp("f", ([scalars.to_mlir(ty) for ty in tys], []))
        cases, results = [], []
        with ir.InsertionPoint(func.add_entry_block()):
            for fn in fns:
                sig = resolve(fn, tys)
                value = sig and forward(fn, sig, list(func.arguments), tys)
                if value is not None:
                    assert value.type == scalars.to_mlir(sig.return_type), (fn, sig)
                    cases.append((fn, sig))
                    results.append(value)
            mlir.func.ReturnOp(results)
        outputs = [value.type for value in results]
        func.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get([scalars.to_mlir(ty) for ty in tys], outputs)
        )
        module.operation.verify()
    return module, cases


def export(func: Any) -> Any:
    """The body of an MLIR function as a compiled function that returns a tuple."""
    block = func.regions[0].blocks[0]
    names = {argument: f"a{i}" for i, argument in enumerate(block.arguments)}
    scope: dict[str, Any] = {}
    lines = [f"def exported({', '.join(names.values())}):"]
    *body, terminator = block.operations
    for op in (op.operation for op in body):
        name = names[op.results[0]] = f"v{len(names)}"
        constant = intrinsics.constant(op)
        if constant is not None:
            scope[f"c_{name}"] = constant[0]
            lines.append(f"    {name} = c_{name}")
            continue
        found = intrinsics.for_op(op)
        assert found is not None, op
        scope[found.name] = found.function
        lines.append(f"    {name} = {found.name}({', '.join(names[v] for v in op.operands)})")
    returned = [names[value] for value in terminator.operation.operands]
    lines.append(f"    return ({', '.join(returned)},)")
    exec("\n".join(lines), scope)
    return njit(scope["exported"])


def plain(cases: list[Case], arity: int) -> Any:
    """The same functions called by plain Numba."""
    scope = {f"fn{i}": fn for i, (fn, _) in enumerate(cases)}
    args = ", ".join(f"a{i}" for i in range(arity))
    calls = ", ".join(f"{name}({args})" for name in scope)
    exec(f"def plain({args}):\n    return ({calls},)", scope)
    return njit(error_model="numpy")(scope["plain"])


def values(ty: types.Type) -> list[Any]:
    """Edge values of a scalar type, as NumPy scalars."""
    dtype = np.dtype(str(ty).replace("boolean", "bool"))
    if dtype.kind == "b":
        return [np.False_, np.True_]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        numbers = {0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1}
        numbers |= {-1, -2, -3, -7} if dtype.kind == "i" else {info.max // 2 + 1}
        return [dtype.type(n) for n in sorted(numbers)]
    if dtype.kind == "c":
        parts = (0.0, -0.0, 1.0, -2.5, np.inf, np.nan)
        return [dtype.type(complex(a, b)) for a, b in itertools.product(parts, repeat=2)]
    info = np.finfo(dtype)
    tiny = (info.smallest_subnormal, info.tiny, info.max, info.eps)
    numbers = (0.0, 1.0, 0.5, 1.5, 2.5, 3.0, 0.3, 1e3, np.inf, np.nan, *tiny)
    return [dtype.type(s * n) for n in numbers for s in (1, -1)]


def same(result: Any, expected: Any, ty: types.Type) -> bool:
    """Equal bits (any NaN is equal to any other); integers modulo their width."""
    if isinstance(ty, types.Integer):
        return (int(result) - int(expected)) % (1 << ty.bitwidth) == 0
    if isinstance(ty, types.Boolean):
        return bool(result) == bool(expected)
    if isinstance(ty, types.Complex):
        part = ty.underlying_float
        pairs = ((result.real, expected.real), (result.imag, expected.imag))
        return all(same(a, b, part) for a, b in pairs)
    if math.isnan(result) or math.isnan(expected):
        return math.isnan(result) and math.isnan(expected)
    return result == expected and math.copysign(1, result) == math.copysign(1, expected)


def defined(fn: Any, args: tuple[Any, ...]) -> bool:
    """Whether plain Numba's result is defined: not a float outside the integer's range."""
    real = np.real(args[0])
    whole = fn in (math.floor, math.ceil, math.trunc, round, int, types.int32, np.int8, np.uint16)
    limits = {np.int8: (-128, 127), np.uint16: (0, 65535), types.int32: (-(2**31), 2**31 - 1)}
    low, high = limits.get(fn, (-(2**63), 2**63 - 1025))
    is_float = np.asarray(args[0]).dtype.kind == "f"
    return not (whole and is_float) or bool(np.isfinite(real) and low <= real <= high)


def wanted(fn: Any, args: Any, numba: Any) -> Any:
    """What Numba gives; NumPy's sign of unsigned integers, which Numba compares as signed ones."""
    return fn(*args) if fn is np.sign and args[0].dtype.kind == "u" else numba


def compare(fns: Iterable[Any], tys: tuple[types.Type, ...], inputs: Any, optimise: bool) -> int:
    """Compare all of ``fns`` on all ``inputs``; the number of functions converted."""
    module, cases = build(fns, tys)
    if optimise:
        mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
    ours, theirs = export(module.body.operations[0]), plain(cases, len(tys))
    wrong = []
    for args in inputs:
        for (fn, sig), got, want in zip(cases, ours(*args), theirs(*args), strict=True):
            right = wanted(fn, args, want)
            if defined(fn, args) and not same(got, right, sig.return_type):
                wrong.append(f"{fn} {sig}: {args} gave {got}, not {right}")
    assert not wrong, "\n".join(wrong[:20])
    return len(cases)


def crashes(a: Any, b: Any) -> bool:
    """Plain Numba divides the smallest integer by -1 in np.remainder: SIGFPE."""
    if {a.dtype.kind, b.dtype.kind} != {"i"}:
        return False
    return bool(b == -1 and a in (np.iinfo(a.dtype).min, np.iinfo(b.dtype).min))


UNARY_TYPES = ("boolean", "int8", "int64", "uint8", "uint64", "float32", "float64", "complex128")
BINARY_TYPES = (
    "boolean,boolean", "int8,int8", "int64,int64", "uint8,int8", "uint64,uint64", "int64,uint64",
    "float64,float64", "float32,float32", "float32,int32", "boolean,int32",
    "complex128,complex128", "complex64,float32",
)  # fmt: skip


@pytest.mark.parametrize("name", UNARY_TYPES)
def test_unary(name: str) -> None:
    ty = getattr(types, name)
    inputs = [(value,) for value in values(ty)]
    assert compare(UNARY, (ty,), inputs, optimise=False) >= (12 if "complex" in name else 40)


@pytest.mark.parametrize("names", BINARY_TYPES)
def test_binary(names: str) -> None:
    left, right = tys = tuple(getattr(types, name) for name in names.split(","))
    inputs = [(a, b) for a in values(left) for b in values(right) if not crashes(a, b)]
    assert compare(BINARY, tys, inputs, optimise=True) >= (10 if "complex" in names else 20)


@pytest.mark.parametrize("name", ["int8", "int64", "uint8"])
def test_shifts(name: str) -> None:
    ty = getattr(types, name)
    inputs = [(a, type(a)(b)) for a in values(ty) for b in (0, 1, 3, 7)]
    assert compare(SHIFTS, (ty, ty), inputs, optimise=True) == len(SHIFTS)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 10, 40, -3])
@pytest.mark.parametrize("name", ["int64", "uint8", "float32", "float64"])
def test_powers_of_constant_exponent(name: str, exponent: int) -> None:
    ty = getattr(types, name)
    sig = resolve(operator.pow, (ty, types.int64))
    with mlir.context(), mlir.ir.Location.unknown():
        module = mlir.ir.Module.create()
        with mlir.ir.InsertionPoint(module.body):
            result = scalars.to_mlir(sig.return_type)
            func = mlir.func.FuncOp("f", ([scalars.to_mlir(ty)], [result]))
        with mlir.ir.InsertionPoint(func.add_entry_block()):
            args = func.arguments[0], ty, scalars.constant(types.int64, exponent), types.int64
            value = arithmetic.binary(operator.pow, sig, *args, error_model="numpy")
            if exponent < 0:
                assert value is None
                return
            mlir.func.ReturnOp([value])
    ours, theirs = export(func), njit(error_model="numpy")(lambda a: a**exponent)
    for value in values(ty):
        assert same(ours(value)[0], theirs(value), sig.return_type), value


def test_smallest_integer_divided_by_minus_one() -> None:
    fns = (operator.floordiv, operator.mod, np.floor_divide)
    inputs = [(np.int64(-(2**63)), np.int64(-1))]
    assert compare(fns, (types.int64, types.int64), inputs, optimise=True) == 3


# ---- what stays opaque -----------------------------------------------------------------


def converted(fn: Any, tys: tuple[types.Type, ...], error_model: str) -> bool:
    """Whether ``fn`` has a forward rule on ``tys`` under ``error_model``."""
    sig = resolve(fn, tys)
    ir = mlir.ir
    with mlir.context(), ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            func = mlir.func.FuncOp("f", ([scalars.to_mlir(ty) for ty in tys], []))
        with ir.InsertionPoint(func.add_entry_block()):
            args = list(func.arguments)
            if fn in arithmetic.BINARY:
                pairs = args[0], tys[0], args[1], tys[1]
                return arithmetic.binary(fn, sig, *pairs, error_model=error_model) is not None
            return mathfuncs.call(fn, sig, args, tys, error_model=error_model) is not None


RAISING = (operator.truediv, operator.floordiv, operator.mod, operator.itruediv)


@pytest.mark.parametrize("fn", RAISING)
@pytest.mark.parametrize("ty", [types.int64, types.float64])
def test_division_that_may_raise_stays_opaque(fn: Any, ty: types.Type) -> None:
    assert not converted(fn, (ty, ty), "python")
    assert converted(fn, (ty, ty), "numpy")


@pytest.mark.parametrize(
    ("fn", "tys"),
    [
        (operator.truediv, (types.complex128, types.complex128)),
        (operator.pow, (types.complex128, types.complex128)),
        (operator.pow, (types.int64, types.int64)),
        (operator.pow, (types.float64, types.int64)),
        (np.power, (types.int64, types.int64)),
        (np.exp, (types.complex128,)),
        (np.hypot, (types.float64, types.float64)),
        (math.gcd, (types.int64, types.int64)),
        (round, (types.float64, types.int64)),
        (np.logaddexp, (types.float64, types.float64)),
    ],
)
def test_what_has_no_exact_form_stays_opaque(fn: Any, tys: tuple[types.Type, ...]) -> None:
    assert not converted(fn, tys, "numpy")


def test_purity() -> None:
    pure = (math.sqrt, np.hypot, np.exp, math.gcd, abs, max, operator.add, operator.lt, np.float32,
            types.int8, float, np.floor_divide)  # fmt: skip
    impure = (print, operator.floordiv, operator.truediv, np.power, divmod, len, np.zeros, str,
              np.random.rand, [], "exp")  # fmt: skip
    assert [fn for fn in pure if not mathfuncs.is_pure(fn)] == []
    assert [fn for fn in impure if mathfuncs.is_pure(fn)] == []
