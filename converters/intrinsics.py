"""From a scalar MLIR operation back to Numba: intrinsics, constants, plain expressions.

Numba types the bodies of parallel loops again when it compiles them, so an operation
whose width matters comes back as a call of an intrinsic with a fixed signature, e.g.
``mlir_addi_i32(int32, int32) -> int32``.  Numba casts arguments of another scalar type
to that signature; between integers of one width this changes no bit.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import types
from numba.core.extending import intrinsic
from numba.core.typing import Signature, signature

from numba_mlir.converters import arithmetic, casts, complexes, mathfuncs, scalars
from numba_mlir.converters.comparisons import CMPF_NAMES, CMPI_NAMES
from numba_mlir.converters.lowering import Emission, OpSpec
from numba_mlir.converters.registry import EMITTERS

#: the modules that enter their backward rules in EMITTERS when they are imported
RULES = (arithmetic, casts, complexes, mathfuncs)

_NAMES = {ty: text for text, ty in scalars.CANONICAL.items()} | {
    types.complex64: "c64",
    types.complex128: "c128",
}


def short(ty: types.Type) -> str:
    """The name of a canonical scalar type in names of intrinsics, e.g. ``i32``."""
    return _NAMES[ty]


@dataclass(frozen=True)
class ScalarIntrinsic:
    """An object for ``ir.Global`` and the only signature that a call of it can have."""

    name: str
    function: Any
    signature: Signature


def for_op(op: Any) -> ScalarIntrinsic | None:
    """The intrinsic that computes MLIR operation ``op``; None where there is none.

    Operations equal in name, attributes and types share one intrinsic per process.
    After a new one was made, the typing and target contexts need a ``refresh()``.
    """
    spec = OpSpec.of(op)
    if spec is None or spec.name not in EMITTERS:
        return None
    return of_spec(spec)


@functools.cache
def of_spec(spec: OpSpec) -> ScalarIntrinsic:
    """The intrinsic for a described operation; its name must be in EMITTERS."""

    def codegen(context: Any, builder: llvm.IRBuilder, _: Signature, args: Any) -> llvm.Value:
        return emit(spec, context, builder, args)

    name = _name(spec)
    sig = signature(spec.result, *spec.operands)
    made = ScalarIntrinsic(name, make(name, __name__, sig, codegen), sig)
    _SPECS[made.function] = spec
    return made


#: intrinsic -> the operation that it computes
_SPECS: dict[Any, OpSpec] = {}


def spec_of(function: Any) -> OpSpec | None:
    """The operation that an intrinsic of `of_spec` computes; None for anything else."""
    return _SPECS.get(function)


@functools.cache
def caster(to: types.Type) -> Any:
    """An intrinsic that converts any number to type ``to`` as Numba casts it."""

    def definition(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return context.cast(builder, args[0], sig.args[0], to)

        return signature(to, types.unliteral(value)), codegen

    definition.__name__ = definition.__qualname__ = f"as_{to}"
    made = intrinsic(definition)
    _CASTS[made] = to
    return made


#: intrinsic -> the type that it converts to
_CASTS: dict[Any, types.Type] = {}


def cast_of(function: Any) -> types.Type | None:
    """The type that an intrinsic of `caster` converts to; None for anything else."""
    return _CASTS.get(function)


def emit(spec: OpSpec, context: Any, builder: llvm.IRBuilder, args: Any) -> llvm.Value:
    """The LLVM value of the operation on ``args``, which have its operand types."""
    emitter = EMITTERS.get(spec.name)
    assert emitter is not None, spec.name
    return emitter(Emission(spec, context, builder, tuple(args)))


def make(name: str, module: str, sig: Signature, codegen: Callable[..., llvm.Value]) -> Any:
    """A Numba intrinsic ``name`` that has signature ``sig`` whatever it is called with."""

    def one(typingctx: Any, a: Any) -> Any:
        return sig, codegen

    def two(typingctx: Any, a: Any, b: Any) -> Any:
        return sig, codegen

    def three(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        return sig, codegen

    definition = {1: one, 2: two, 3: three}[len(sig.args)]
    definition.__name__ = definition.__qualname__ = name
    definition.__module__ = module
    return intrinsic(definition)


def _name(spec: OpSpec) -> str:
    dialect, op = spec.name.split(".", 1)
    words = ["mlir", op] if dialect in ("arith", "math") else ["mlir", dialect, op]
    predicate = spec.attribute("predicate")
    if predicate is not None:
        words.append((CMPI_NAMES if op == "cmpi" else CMPF_NAMES)[predicate])
    if spec.attribute("pred"):
        words.append(spec.attribute("pred"))
    kinds = [short(ty) for ty in spec.operands]
    words += kinds[:1] if len(set(kinds)) == 1 else kinds
    if spec.result not in spec.operands and predicate is None:
        words.append(short(spec.result))
    words += [flag for key in ("overflowFlags", "fastmath") for flag in spec.attribute(key, ())]
    return "_".join(words)


# ---- constants ----------------------------------------------------------------------


def constant(op: Any) -> tuple[Any, types.Type] | None:
    """``(Python value, Numba type)`` of a constant operation; None for any other.

    Integers are two's complement values of the canonical type (signed, except for
    ``index``); ``ub.poison`` is zero.
    """
    op = op.operation
    reader = _CONSTANTS.get(op.name)
    ty = scalars.canonical(op.results[0].type) if len(op.results) == 1 else None
    return None if reader is None or ty is None else (reader(op, ty), ty)


def _number(op: Any, ty: types.Type) -> Any:
    value = op.attributes["value"].value
    if scalars.kind(ty) == "bool":
        return bool(value)
    if scalars.kind(ty) == "int":
        wrapped = scalars.wrap(value, ty.bitwidth)
        return wrapped if scalars.is_signed(ty) else wrapped % (1 << ty.bitwidth)
    return value


def _pair(op: Any, ty: types.Type) -> complex:
    real, imag = op.attributes["value"]
    return complex(real.value, imag.value)


_CONSTANTS: dict[str, Callable[[Any, types.Type], Any]] = {
    "arith.constant": _number,
    "index.constant": _number,
    "index.bool.constant": _number,
    "complex.constant": _pair,
    "ub.poison": lambda op, ty: {"bool": False, "int": 0, "float": 0.0, "complex": 0j}[
        scalars.kind(ty) or ""
    ],
}

# ---- plain expressions ----------------------------------------------------------------

_EXPRESSIONS = {
    "arith.addf": operator.add,
    "arith.subf": operator.sub,
    "arith.mulf": operator.mul,
    "arith.addi": operator.add,
    "arith.subi": operator.sub,
    "arith.muli": operator.mul,
}
_CMPI_EXPRESSIONS = {
    "eq": operator.eq, "ne": operator.ne, "slt": operator.lt,
    "sle": operator.le, "sgt": operator.gt, "sge": operator.ge,
}  # fmt: skip
_CMPF_EXPRESSIONS = {
    "oeq": operator.eq, "une": operator.ne, "olt": operator.lt,
    "ole": operator.le, "ogt": operator.gt, "oge": operator.ge,
}  # fmt: skip


def as_expr(op: Any) -> Callable[..., Any] | None:
    """The operator whose plain ``binop`` on operands of the canonical types is ``op``.

    Only where Numba's lowering is the same: float64/float32 arithmetic and comparisons
    without fast-math flags, signed int64 comparisons, int64 arithmetic with ``nsw``.
    The caller must have operands of exactly the canonical Numba types (an int64 and a
    uint64 would give a float64).
    """
    spec = OpSpec.of(op)
    if spec is None or len(spec.operands) != 2 or spec.attribute("fastmath"):
        return None
    ty = spec.operands[0]
    floating, integer = ty in (types.float32, types.float64), ty == types.int64
    if spec.name == "arith.cmpi" and integer:
        return _CMPI_EXPRESSIONS.get(CMPI_NAMES[spec.attribute("predicate")])
    if spec.name == "arith.cmpf" and floating:
        return _CMPF_EXPRESSIONS.get(CMPF_NAMES[spec.attribute("predicate")])
    wraps = spec.name.endswith("i") and spec.attribute("overflowFlags") != ("nsw",)
    return _EXPRESSIONS.get(spec.name) if (floating or integer) and not wraps else None
