"""Functions of ``math``, of NumPy and of the builtins on scalars, and the ``math`` dialect.

A function is converted only where Numba's own lowering is the same computation; the
functions of ``math`` do not raise in Numba.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir as llvm
from numba.core import types
from numba.np.numpy_support import ufunc_find_matching_loop

from numba_mlir import mlir
from numba_mlir.converters import comparisons, complexes, kernels, powers, scalars
from numba_mlir.converters.arithmetic import binary
from numba_mlir.converters.casts import cast, cast_all, is_true
from numba_mlir.converters.lowering import Emission
from numba_mlir.converters.registry import EMITTERS, Table
from numba_mlir.converters.scalars import constant, kind
from numba_mlir.dialect import HIDDEN

Type = types.Type
Kernel = Callable[..., Any]


def _dialect(name: str) -> Kernel:
    """The kernel that applies ``math.<name>`` to floats, None for other types."""

    def kernel(ty: Type, *args: Any) -> Any | None:
        return getattr(mlir.math, name)(*args) if kind(ty) == "float" else None

    return kernel


#: functions of one or two floats: name in MLIR -> Python functions with that meaning
_FLOAT_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "acos": (math.acos, np.arccos),
    "acosh": (math.acosh, np.arccosh),
    "asin": (math.asin, np.arcsin),
    "asinh": (math.asinh, np.arcsinh),
    "atan": (math.atan, np.arctan),
    "atan2": (math.atan2, np.arctan2),
    "atanh": (math.atanh, np.arctanh),
    "copysign": (math.copysign, np.copysign),
    "cos": (math.cos, np.cos),
    "cosh": (math.cosh, np.cosh),
    "erf": (math.erf,),
    "erfc": (math.erfc,),
    "exp": (math.exp, np.exp),
    "exp2": (math.exp2, np.exp2),
    "expm1": (math.expm1, np.expm1),
    "absf": (math.fabs, np.fabs),
    "log": (math.log, np.log),
    "log10": (math.log10, np.log10),
    "log1p": (math.log1p, np.log1p),
    "log2": (math.log2, np.log2),
    "sin": (math.sin, np.sin),
    "sinh": (math.sinh, np.sinh),
    "sqrt": (math.sqrt, np.sqrt),
    "tan": (math.tan, np.tan),
    "tanh": (math.tanh, np.tanh),
}
_NAMES = {
    **{fn: f"math.{name}" for name, fns in _FLOAT_FUNCTIONS.items() for fn in fns},
    **dict.fromkeys((math.pow, np.power, np.float_power), "math.powf"),
}
_KERNELS_OF = {fn: _dialect(name) for name, fns in _FLOAT_FUNCTIONS.items() for fn in fns}


def operation_name(pyfunc: Any) -> str | None:
    """The operation that a function of floats is; None for other functions."""
    return _NAMES.get(pyfunc)


def _times(factor: float) -> Kernel:
    """Multiplication by a constant of the operand's type."""
    return lambda ty, a: mlir.arith.mulf(a, constant(ty, factor)) if kind(ty) == "float" else None


_RADIANS, _DEGREES = _times(math.pi / 180), _times(180 / math.pi)


def _rounding(name: str) -> Kernel:
    """np.floor/ceil/trunc: integers and booleans stay as they are."""
    return lambda ty, a: getattr(mlir.math, name)(a) if kind(ty) == "float" else a


def _logical(name: str) -> Kernel:
    return lambda ty, a, b: getattr(mlir.arith, name)(is_true(a, ty), is_true(b, ty))


def _negative(ty: Type, a: Any) -> Any | None:
    return kernels.invert(ty, a) if kind(ty) == "bool" else kernels.negate(ty, a)


def _absolute(ty: Type, a: Any) -> Any | None:
    return a if kind(ty) == "bool" else kernels.absolute(ty, a)


#: ufunc -> kernel on the type of the ufunc's inner loop
UFUNCS: Table[np.ufunc, Kernel] = Table("ufuncs")
UFUNCS.update({fn: kernel for fn, kernel in _KERNELS_OF.items() if isinstance(fn, np.ufunc)})
UFUNCS.update(
    {
        np.add: kernels.add,
        np.subtract: kernels.sub,
        np.multiply: kernels.mul,
        np.true_divide: complexes.divide,
        np.floor_divide: kernels.floor_divide,
        np.remainder: kernels.remainder,
        np.fmod: kernels.fmod,
        np.power: powers.power,
        np.float_power: powers.float_power,
        np.square: kernels.square,
        np.reciprocal: kernels.reciprocal,
        np.negative: _negative,
        np.positive: kernels.positive,
        np.absolute: _absolute,
        np.sign: kernels.sign,
        np.signbit: kernels.signbit,
        np.conjugate: kernels.conjugate,
        np.rint: _dialect("roundeven"),
        np.floor: _rounding("floor"),
        np.ceil: _rounding("ceil"),
        np.trunc: _rounding("trunc"),
        np.deg2rad: _RADIANS,
        np.radians: _RADIANS,
        np.rad2deg: _DEGREES,
        np.degrees: _DEGREES,
        np.bitwise_and: kernels.bit_and,
        np.bitwise_or: kernels.bit_or,
        np.bitwise_xor: kernels.bit_xor,
        np.invert: kernels.invert,
        np.left_shift: kernels.shift_left,
        np.right_shift: kernels.shift_right,
        np.logical_and: _logical("andi"),
        np.logical_or: _logical("ori"),
        np.logical_xor: _logical("xori"),
        np.logical_not: comparisons.logical_not,
        np.isnan: comparisons.is_nan,
        np.isinf: comparisons.is_inf,
        np.isfinite: comparisons.is_finite,
        np.maximum: partial(comparisons.numpy_extremum, operator.ge, True),
        np.minimum: partial(comparisons.numpy_extremum, operator.le, True),
        np.fmax: partial(comparisons.numpy_extremum, operator.ge, False),
        np.fmin: partial(comparisons.numpy_extremum, operator.le, False),
        np.equal: partial(comparisons.complex_order, operator.eq),
        np.not_equal: partial(comparisons.complex_order, operator.ne),
        np.less: partial(comparisons.complex_order, operator.lt),
        np.less_equal: partial(comparisons.complex_order, operator.le),
        np.greater: partial(comparisons.complex_order, operator.gt),
        np.greater_equal: partial(comparisons.complex_order, operator.ge),
    }
)


def _ufunc(ufunc: np.ufunc, sig: Any, args: Sequence[Any], arg_tys: Sequence[Type]) -> Any | None:
    """One element of ``ufunc``: cast to its inner loop's types, compute, cast back."""
    kernel = UFUNCS.get(ufunc)
    inputs = tuple(map(types.unliteral, sig.args))
    if kernel is None or len(args) != ufunc.nin or ufunc.nout != 1:
        return None
    loop = ufunc_find_matching_loop(ufunc, (*inputs, sig.return_type))
    if loop is None or len(set(loop.inputs)) > 1:
        return None
    ty, result = loop.inputs[0], loop.outputs[0]
    compute = result if ufunc is np.true_divide else ty
    values = cast_all(args, arg_tys, inputs)
    values = values and cast_all(values, inputs, [compute] * len(inputs))
    value = kernel(compute, *values) if values else None
    return None if value is None else cast(value, result, sig.return_type)


# ---- functions of the math module and builtins --------------------------------------

#: function of ``math`` -> kernel on a float type; integer arguments become float64
MATH: Table[Any, Kernel] = Table("functions of the math module")
MATH.update({fn: kernel for fn, kernel in _KERNELS_OF.items() if not isinstance(fn, np.ufunc)})
MATH.update(
    {
        math.floor: _rounding("floor"),
        math.ceil: _rounding("ceil"),
        math.trunc: _rounding("trunc"),
        math.radians: _RADIANS,
        math.degrees: _DEGREES,
        math.pow: powers.float_power,
        round: _dialect("roundeven"),
    }
)
#: functions with a result of the kernel's own type: on the argument's type as it is
PREDICATES: Table[Any, Kernel] = Table("predicates")
PREDICATES.update(
    {
        math.isnan: comparisons.is_nan,
        math.isinf: comparisons.is_inf,
        math.isfinite: comparisons.is_finite,
    }
)
_CONSTRUCTORS = {int, float, bool, complex}


def call(
    pyfunc: Any, sig: Any, args: Sequence[Any], arg_tys: Sequence[Type], *, error_model: str
) -> Any | None:
    """``pyfunc(*args)`` as Numba computes it for the signature ``sig``.

    ``pyfunc`` is the Python callable (a ufunc, a function of ``math``, a builtin, a
    scalar type).  The result is an SSA value of ``sig.return_type``; None where there
    is no exact MLIR form or ``pyfunc`` is not known.
    """
    arg_tys = tuple(map(types.unliteral, arg_tys))
    result = types.unliteral(sig.return_type)
    if kind(result) is None or any(kind(ty) is None for ty in arg_tys):
        return None
    if isinstance(pyfunc, np.ufunc):
        return _ufunc(pyfunc, sig, args, arg_tys)
    try:
        hash(pyfunc)
    except TypeError:
        return None
    if pyfunc in MATH:
        return _math(pyfunc, sig, result, args, arg_tys)
    if pyfunc in PREDICATES and len(args) == 1:
        return PREDICATES.get(pyfunc)(arg_tys[0], args[0])  # type: ignore[misc]
    rule = BUILTINS.get(pyfunc)
    if rule is not None:
        return rule(result, args, arg_tys)
    if pyfunc in (operator.pow, pow) and len(args) == 2:
        return binary(operator.pow, sig, args[0], arg_tys[0], args[1], arg_tys[1],
                      error_model=error_model)  # fmt: skip
    if _is_constructor(pyfunc) and len(args) == 1:
        return cast(args[0], arg_tys[0], result)
    return None


def _math(
    fn: Any, sig: Any, result: Type, args: Sequence[Any], arg_tys: Sequence[Type]
) -> Any | None:
    if len(sig.args) != len(args):
        return None
    inputs = tuple(map(types.unliteral, sig.args))
    floats = [ty if kind(ty) == "float" else types.float64 for ty in inputs]
    mixed = len(set(inputs)) > 1
    if mixed or len(args) != (2 if fn in (math.pow, math.atan2, math.copysign) else 1):
        return None
    values = cast_all(args, arg_tys, inputs)
    values = values and cast_all(values, inputs, floats)
    value = MATH.get(fn)(floats[0], *values) if values else None  # type: ignore[misc]
    return None if value is None else cast(value, floats[0], result)


def _extremum(fn: Any, result: Type, args: Sequence[Any], arg_tys: Sequence[Type]) -> Any | None:
    if len(args) != 2:
        return None
    values = cast_all(args, arg_tys, (result, result))
    return values and comparisons.python_extremum(fn, result, *values)


def _abs(result: Type, args: Sequence[Any], arg_tys: Sequence[Type]) -> Any | None:
    value = kernels.absolute(arg_tys[0], args[0])
    if value is None or kind(arg_tys[0]) == "complex":
        return value
    return cast(value, arg_tys[0], result)


def _complex(result: Type, args: Sequence[Any], arg_tys: Sequence[Type]) -> Any | None:
    if len(args) == 1:
        return cast(args[0], arg_tys[0], result)
    part = result.underlying_float
    values = cast_all(args, arg_tys, [part] * len(args))
    return values and mlir.complex.create_(scalars.to_mlir(result), *values)


def _part(kernel: Kernel) -> Any:
    def rule(result: Type, args: Sequence[Any], arg_tys: Sequence[Type]) -> Any | None:
        ty = arg_tys[0].underlying_float if kind(arg_tys[0]) == "complex" else arg_tys[0]
        return cast(kernel(arg_tys[0], args[0]), ty, result)

    return rule


#: builtins and other functions -> rule on (result type, values, types)
BUILTINS: Table[Any, Callable[..., Any]] = Table("builtins")
BUILTINS.update(
    {
        max: partial(_extremum, operator.gt),
        min: partial(_extremum, operator.lt),
        abs: _abs,
        complex: _complex,
        np.real: _part(kernels.real),
        np.imag: _part(kernels.imag),
    }
)


def _is_constructor(pyfunc: Any) -> bool:
    """Whether ``pyfunc`` is a scalar type used as a function."""
    if isinstance(pyfunc, types.Type):
        return kind(pyfunc) is not None
    return pyfunc in _CONSTRUCTORS or (isinstance(pyfunc, type) and issubclass(pyfunc, np.generic))


# ---- purity -------------------------------------------------------------------------

#: pure functions without an MLIR form
_OPAQUE_PURE = {
    math.hypot, math.gamma, math.lgamma, math.gcd, math.nextafter, math.ldexp,
    operator.is_, operator.is_not,
}  # fmt: skip
_MAY_RAISE_OPERATORS = {
    operator.truediv, operator.itruediv, operator.floordiv, operator.ifloordiv,
    operator.mod, operator.imod, operator.pow, operator.ipow, pow, divmod,
}  # fmt: skip
#: np.power on integers raises for some negative exponents
_MAY_RAISE_UFUNCS = {np.power}


def is_pure(pyfunc: Any) -> bool:
    """Whether ``pyfunc`` on scalars has no side effect and does not raise.

    False for what is not known, and for the operators that raise ZeroDivisionError.
    """
    from numba.np.ufunc_db import get_ufuncs

    from numba_mlir.converters.arithmetic import BINARY, UNARY

    if isinstance(pyfunc, np.ufunc):
        return pyfunc in get_ufuncs() and pyfunc not in _MAY_RAISE_UFUNCS
    try:
        hash(pyfunc)
    except TypeError:
        return False
    if pyfunc in _MAY_RAISE_OPERATORS:
        return False
    known = (MATH, PREDICATES, BUILTINS, BINARY, UNARY, _OPAQUE_PURE)
    return any(pyfunc in table for table in known) or _is_constructor(pyfunc)


# ---- backward -------------------------------------------------------------------------

#: MLIR name -> LLVM intrinsic, where Numba too emits the intrinsic (or the same code)
_INTRINSICS = {
    "absf": "fabs", "ceil": "ceil", "copysign": "copysign", "cos": "cos", "exp": "exp",
    "exp2": "exp2", "floor": "floor", "fma": "fma", "log": "log", "log10": "log10",
    "log2": "log2", "powf": "pow", "round": "round", "roundeven": "rint", "sin": "sin",
    "sqrt": "sqrt", "trunc": "trunc", "ctpop": "ctpop",
}  # fmt: skip
_LIBM = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cosh", "erf", "erfc",
    "expm1", "log1p", "sinh", "tan", "tanh",
)  # fmt: skip

for _name, _code in _INTRINSICS.items():
    EMITTERS.add(f"math.{_name}", lambda e, c=_code: e.intrinsic(c, *e.args))
for _name in _LIBM:
    EMITTERS.add(f"math.{_name}", lambda e, n=_name: e.libm(n, *e.args))


EMITTERS.add(HIDDEN, lambda e: e.intrinsic("arithmetic.fence", *e.args))


@EMITTERS.rule("math.absi")
def _absi(e: Emission) -> llvm.Value:
    builder, (value,) = e.builder, e.args
    negative = builder.icmp_signed("<", value, value.type(0))
    return builder.select(negative, builder.neg(value), value)


@EMITTERS.rule("math.rsqrt")
def _rsqrt(e: Emission) -> llvm.Value:
    root = e.intrinsic("sqrt", *e.args)
    return e.builder.fdiv(root.type(1.0), root, flags=e.fastmath)


@EMITTERS.rule("math.fpowi")
def _fpowi(e: Emission) -> llvm.Value:
    """Through ``llvm.pow``: the helper that ``llvm.powi`` calls is not in the process."""
    base, exponent = e.args
    return e.intrinsic("pow", base, e.builder.sitofp(exponent, base.type))


@EMITTERS.rule("math.isnan")
def _isnan(e: Emission) -> llvm.Value:
    return e.builder.fcmp_unordered("uno", e.args[0], e.args[0])


@EMITTERS.rule("math.isinf")
def _isinf(e: Emission) -> llvm.Value:
    magnitude = e.intrinsic("fabs", *e.args)
    return e.builder.fcmp_ordered("==", magnitude, magnitude.type(float("inf")))


@EMITTERS.rule("math.isfinite")
def _isfinite(e: Emission) -> llvm.Value:
    difference = e.builder.fsub(e.args[0], e.args[0])
    return e.builder.fcmp_ordered("ord", difference, difference)


def _count_zeros(name: str) -> Callable[[Emission], llvm.Value]:
    """Count leading or trailing zeros; the width for zero."""

    def emit(e: Emission) -> llvm.Value:
        bit = llvm.IntType(1)
        function = llvm.FunctionType(e.result_type, [e.result_type, bit])
        declared = e.builder.module.declare_intrinsic(f"llvm.{name}", [e.result_type], function)
        return e.builder.call(declared, [e.args[0], bit(0)])

    return emit


EMITTERS.add("math.ctlz", _count_zeros("ctlz"))
EMITTERS.add("math.cttz", _count_zeros("cttz"))


@EMITTERS.rule("math.clampf")
def _clampf(e: Emission) -> llvm.Value:
    value, low, high = e.args
    return e.intrinsic("minimum", e.intrinsic("maximum", value, low), high)
