"""Comparisons, truth values, selection, minima and maxima."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir as llvm
from numba.core import types

from numba_mlir import mlir
from numba_mlir.converters import casts, scalars
from numba_mlir.converters.lowering import Emission
from numba_mlir.converters.registry import EMITTERS
from numba_mlir.converters.scalars import kind

Type = types.Type

# ---- forward ----------------------------------------------------------------------

#: operator -> (integer predicate without its sign, float predicate)
PREDICATES: dict[Callable[..., Any], tuple[str, str]] = {
    operator.eq: ("eq", "OEQ"),
    operator.ne: ("ne", "UNE"),
    operator.lt: ("lt", "OLT"),
    operator.le: ("le", "OLE"),
    operator.gt: ("gt", "OGT"),
    operator.ge: ("ge", "OGE"),
}


def compare(fn: Callable[..., Any], ty: Type, a: Any, b: Any) -> Any | None:
    """``a <fn> b`` of two values of type ``ty`` as i1; None for the order of complexes."""
    arith = mlir.arith
    integer, floating = PREDICATES[fn]
    match kind(ty):
        case "bool" | "int":
            if integer not in ("eq", "ne"):
                integer = ("s" if scalars.is_signed(ty) else "u") + integer
            return arith.cmpi(getattr(arith.CmpIPredicate, integer), a, b)
        case "float":
            return arith.cmpf(getattr(arith.CmpFPredicate, floating), a, b)
        case "complex" if fn in (operator.eq, operator.ne):
            return _complex_equality(fn, ty, a, b)
        case _:
            return None


def _complex_equality(fn: Callable[..., Any], ty: Type, a: Any, b: Any) -> Any:
    part = ty.underlying_float
    real = compare(fn, part, mlir.complex.re(a), mlir.complex.re(b))
    imag = compare(fn, part, mlir.complex.im(a), mlir.complex.im(b))
    return (mlir.arith.andi if fn is operator.eq else mlir.arith.ori)(real, imag)


def complex_order(fn: Callable[..., Any], ty: Type, a: Any, b: Any) -> Any | None:
    """NumPy's lexicographic order of complex numbers (false with a NaN); other types as
    :func:`compare`."""
    if kind(ty) != "complex" or fn in (operator.eq, operator.ne):
        return compare(fn, ty, a, b)
    arith, part = mlir.arith, ty.underlying_float
    (ar, ai), (br, bi) = ((mlir.complex.re(z), mlir.complex.im(z)) for z in (a, b))
    strict = operator.lt if fn in (operator.lt, operator.le) else operator.gt
    ordered = arith.cmpf(arith.CmpFPredicate.ORD, ai, bi)
    first = arith.andi(compare(strict, part, ar, br), ordered)
    second = arith.andi(compare(operator.eq, part, ar, br), compare(fn, part, ai, bi))
    return arith.ori(first, second)


def python_extremum(fn: Callable[..., Any], ty: Type, a: Any, b: Any) -> Any | None:
    """builtin ``max`` (``fn`` is operator.gt) or ``min`` (operator.lt) of two values."""
    better = compare(fn, ty, b, a)
    return None if better is None else mlir.arith.select(better, b, a)


def numpy_extremum(fn: Callable[..., Any], nan_wins: bool, ty: Type, a: Any, b: Any) -> Any | None:
    """np.maximum/np.fmax (``fn`` is operator.ge) or np.minimum/np.fmin (operator.le).

    ``nan_wins`` tells maximum and minimum from fmax and fmin.  Complexes give None.
    """
    arith = mlir.arith
    match kind(ty):
        case "bool":
            return (arith.ori if fn is operator.ge else arith.andi)(a, b)
        case "int":
            return arith.select(compare(fn, ty, a, b), a, b)
        case "float":
            number = arith.select(compare(fn, ty, a, b), a, b)
            nan = arith.select(is_nan(ty, a), *((a, b) if nan_wins else (b, a)))
            return arith.select(arith.cmpf(arith.CmpFPredicate.UNO, a, b), nan, number)
        case _:
            return None


def is_nan(ty: Type, a: Any) -> Any | None:
    """i1: is NaN; false for integers; None for complexes."""
    match kind(ty):
        case "bool" | "int":
            return scalars.constant(types.boolean, False)
        case "float":
            return mlir.arith.cmpf(mlir.arith.CmpFPredicate.UNO, a, a)
        case "complex":
            parts = mlir.complex.re(a), mlir.complex.im(a)
            return mlir.arith.cmpf(mlir.arith.CmpFPredicate.UNO, *parts)
        case _:
            return None


def is_inf(ty: Type, a: Any) -> Any | None:
    arith = mlir.arith
    match kind(ty):
        case "bool" | "int":
            return scalars.constant(types.boolean, False)
        case "float":
            infinities = (scalars.constant(ty, s * float("inf")) for s in (1, -1))
            tests = (compare(operator.eq, ty, a, infinity) for infinity in infinities)
            return arith.ori(*tests)
        case "complex":
            part = ty.underlying_float
            return arith.ori(is_inf(part, mlir.complex.re(a)), is_inf(part, mlir.complex.im(a)))
        case _:
            return None


def is_finite(ty: Type, a: Any) -> Any | None:
    arith = mlir.arith
    match kind(ty):
        case "bool" | "int":
            return scalars.constant(types.boolean, True)
        case "float":
            difference = arith.subf(a, a)
            return arith.cmpf(arith.CmpFPredicate.ORD, difference, difference)
        case "complex":
            part = ty.underlying_float
            parts = is_finite(part, mlir.complex.re(a)), is_finite(part, mlir.complex.im(a))
            return arith.andi(*parts)
        case _:
            return None


def logical_not(ty: Type, a: Any) -> Any:
    return mlir.arith.xori(casts.is_true(a, ty), scalars.constant(types.boolean, True))


# ---- backward ---------------------------------------------------------------------

#: ``arith.cmpi`` predicate number -> (llvmlite method, operator)
_CMPI = (
    ("icmp_signed", "=="), ("icmp_signed", "!="),
    ("icmp_signed", "<"), ("icmp_signed", "<="), ("icmp_signed", ">"), ("icmp_signed", ">="),
    ("icmp_unsigned", "<"), ("icmp_unsigned", "<="),
    ("icmp_unsigned", ">"), ("icmp_unsigned", ">="),
)  # fmt: skip
CMPI_NAMES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")

#: ``arith.cmpf`` predicate number -> (llvmlite method, operator); None is a constant
_CMPF = (
    None,
    ("fcmp_ordered", "=="), ("fcmp_ordered", ">"), ("fcmp_ordered", ">="),
    ("fcmp_ordered", "<"), ("fcmp_ordered", "<="), ("fcmp_ordered", "!="), ("fcmp_ordered", "ord"),
    ("fcmp_unordered", "=="), ("fcmp_unordered", ">"), ("fcmp_unordered", ">="),
    ("fcmp_unordered", "<"), ("fcmp_unordered", "<="), ("fcmp_unordered", "!="),
    ("fcmp_unordered", "uno"),
    None,
)  # fmt: skip
CMPF_NAMES = (
    "false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord",
    "ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true",
)  # fmt: skip


@EMITTERS.rule("arith.cmpi")
def _cmpi(e: Emission) -> llvm.Value:
    method, op = _CMPI[e.spec.attribute("predicate")]
    return getattr(e.builder, method)(op, *e.args)


@EMITTERS.rule("index.cmp")
def _index_cmp(e: Emission) -> llvm.Value:
    method, op = _CMPI[CMPI_NAMES.index(e.spec.attribute("pred"))]
    return getattr(e.builder, method)(op, *e.args)


@EMITTERS.rule("arith.cmpf")
def _cmpf(e: Emission) -> llvm.Value:
    predicate = e.spec.attribute("predicate")
    rule = _CMPF[predicate]
    if rule is None:
        return llvm.Constant(llvm.IntType(1), CMPF_NAMES[predicate] == "true")
    method, op = rule
    return getattr(e.builder, method)(op, *e.args, flags=e.fastmath)


@EMITTERS.rule("arith.select")
def _select(e: Emission) -> llvm.Value:
    return e.builder.select(*e.args)


def _integer_extremum(method: str, op: str) -> Callable[[Emission], llvm.Value]:
    def emit(e: Emission) -> llvm.Value:
        return e.builder.select(getattr(e.builder, method)(op, *e.args), *e.args)

    return emit


for _prefix in ("arith", "index"):
    for _name, _op in (("max", ">"), ("min", "<")):
        _suffixes = ("si", "ui") if _prefix == "arith" else ("s", "u")
        for _suffix, _method in zip(_suffixes, ("icmp_signed", "icmp_unsigned"), strict=True):
            EMITTERS.add(f"{_prefix}.{_name}{_suffix}", _integer_extremum(_method, _op))

for _name in ("maximum", "minimum", "maxnum", "minnum"):
    EMITTERS.add(f"arith.{_name}f", lambda e, n=_name: e.intrinsic(n, *e.args))
