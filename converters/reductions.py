"""Reductions: ``scf.reduce`` combiners <-> the two forms of reduction that Numba has.

* "inplace": ``acc += x`` or ``acc *= x``.  Numba starts each thread at 0 or 1 and adds
  the variable's value before the loop once.
* "function": ``acc = f(acc, x)``.  Numba accepts calls of the builtins ``max`` and
  ``min`` only, by name: it starts EACH thread at the variable's value before the loop and
  calls f again to combine.  An intrinsic that Numba's ``find_callname`` sees as
  ``builtins.max`` is accepted too, so any combiner can be given.  Starting each thread
  at the old value is right when ``f(a, a) == a``; otherwise ``neutral`` has to be the
  start, and the old value is combined once after the loop.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import types
from numba.core.typing import Signature, signature

from numba_mlir.converters import build, comparisons, intrinsics, kernels, scalars
from numba_mlir.converters.comparisons import CMPF_NAMES
from numba_mlir.converters.lowering import OpSpec
from numba_mlir.converters.registry import EMITTERS, Table
from numba_mlir.converters.scalars import kind

Type = types.Type

# ---- forward ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """How to combine two values of a type, and the value that changes nothing."""

    combine: Callable[[Type, Any, Any], Any]
    neutral: Callable[[Type], Any]


def _lowest(ty: Type) -> Any:
    return {"bool": False, "float": float("-inf")}.get(kind(ty) or "", getattr(ty, "minval", None))


def _highest(ty: Type) -> Any:
    return {"bool": True, "float": float("inf")}.get(kind(ty) or "", getattr(ty, "maxval", None))


def _zero(ty: Type) -> Any:
    """What adding changes nothing: -0.0 for floats, since ``0.0 + -0.0`` is 0.0."""
    zeros = {"bool": False, "int": 0, "float": -0.0, "complex": complex(-0.0, -0.0)}
    return zeros.get(kind(ty) or "")


def _one(ty: Type) -> Any:
    return {"bool": True, "int": 1, "float": 1.0}.get(kind(ty) or "")


def _extremum(rule: Callable[..., Any], *options: Any) -> Callable[[Type, Any, Any], Any]:
    return functools.partial(rule, *options)


_python = comparisons.python_extremum


def _propagating(better: Any, ty: Type, lhs: Any, rhs: Any) -> Any:
    """NaN where there is one.  MLIR's own operation is one that LLVM makes vectors of."""
    if kind(ty) != "float":
        return _python(better, ty, lhs, rhs)
    name = "arith.maximumf" if better is operator.gt else "arith.minimumf"
    return build.value(name, (lhs, rhs), lhs.type)


KINDS: Table[str, _Kind] = Table("reductions")
KINDS.update(
    {
        "add": _Kind(kernels.add, _zero),
        "mul": _Kind(kernels.mul, _one),
        "max": _Kind(_extremum(_python, operator.gt), _lowest),
        "min": _Kind(_extremum(_python, operator.lt), _highest),
        "maximum": _Kind(_extremum(_propagating, operator.gt), _lowest),
        "minimum": _Kind(_extremum(_propagating, operator.lt), _highest),
        "and": _Kind(kernels.bit_and, lambda ty: True if kind(ty) == "bool" else -1),
        "or": _Kind(kernels.bit_or, lambda ty: False if kind(ty) == "bool" else 0),
        "xor": _Kind(kernels.bit_xor, lambda ty: False if kind(ty) == "bool" else 0),
    }
)


def neutral(kind_: str, ty: Type) -> Any | None:
    """The Python constant that a reduction of ``kind_`` over type ``ty`` can start at.

    None where there is none.  Raises KeyError for an unknown kind.
    """
    return _kind(kind_).neutral(ty)


def combiner(kind_: str, lhs: Any, rhs: Any, ty: Type) -> Any | None:
    """The SSA value of ``lhs`` combined with ``rhs``, both of Numba type ``ty``.

    ``max``/``min`` follow the builtins (the first operand stays unless the second is
    better), ``maximum``/``minimum`` give NaN if there is one.  None where the type has
    no such operation.  Raises KeyError for an unknown kind.
    """
    return _kind(kind_).combine(ty, lhs, rhs)


def _kind(name: str) -> _Kind:
    found = KINDS.get(name)
    if found is None:
        raise KeyError(f"unknown reduction {name!r}; known are {', '.join(KINDS)}")
    return found


# ---- backward ---------------------------------------------------------------------


@dataclass(frozen=True)
class Reduction:
    """How Numba can run a combiner.

    ``form`` is "inplace" (``operator`` is operator.iadd or imul) or "function"
    (``function`` is the object for ``ir.Global``, called as ``function(acc, x)``).
    ``neutral`` is None when the loop may start at the variable's value before it; else
    the accumulator must start at this Python constant of type ``type``.
    """

    form: str
    type: Type
    operator: Callable[..., Any] | None = None
    function: Any = None
    signature: Signature | None = None
    neutral: Any = None


@dataclass(frozen=True)
class _Step:
    """One operation of a combiner, or a constant; operands number earlier values, the
    block's arguments being 0 and 1."""

    spec: OpSpec | None
    operands: tuple[int, ...] = ()
    value: Any = None
    type: Type = types.none


#: operation with a neutral element -> (kind, Numba's in-place operator)
_NEUTRAL: dict[str, tuple[str, Callable[..., Any] | None]] = {
    "arith.addf": ("add", operator.iadd),
    "arith.addi": ("add", operator.iadd),
    "complex.add": ("add", operator.iadd),
    "arith.mulf": ("mul", operator.imul),
    "arith.muli": ("mul", operator.imul),
    "complex.mul": ("mul", operator.imul),
    "arith.xori": ("xor", None),
}
#: types on which ``acc += x`` does not widen when Numba types the loop's body again
_INPLACE_TYPES = {types.int64, types.float32, types.float64, types.complex64, types.complex128}
#: operations with f(a, a) == a
_IDEMPOTENT = {
    f"arith.{name}"
    for name in ("andi", "ori", "maxsi", "maxui", "minsi", "minui",
                 "maximumf", "minimumf", "maxnumf", "minnumf")
}  # fmt: skip


def describe(block: Any) -> Reduction | None:
    """The Numba reduction for an ``scf.reduce`` block of two scalar arguments.

    None when the block uses values from outside or an operation without an intrinsic,
    or when no start value is known for its combiner.
    """
    ty = scalars.canonical(block.arguments[0].type)
    found = None if ty is None else _steps(block)
    if ty is None or found is None:
        return None
    steps, result = found
    single = steps[0].spec if len(steps) == 1 and set(steps[0].operands) == {0, 1} else None
    name = single.name if single else ""
    start = None
    if single and name in _NEUTRAL:
        kind_, inplace = _NEUTRAL[name]
        if inplace and ty in _INPLACE_TYPES and not single.attribute("fastmath"):
            return Reduction("inplace", ty, operator=inplace)
        start = neutral(kind_, ty)
    if start is None and name not in _IDEMPOTENT and not _selects(steps, result):
        return None
    function, sig = _function(ty, steps, result)
    function.combines = _kind_of(steps, result)
    return Reduction("function", ty, function=function, signature=sig, neutral=start)


def _steps(block: Any) -> tuple[tuple[_Step, ...], int] | None:
    """The block as steps and the number of its result."""
    numbers = {argument: i for i, argument in enumerate(block.arguments)}
    steps: list[_Step] = []
    *body, terminator = block.operations
    for op in body:
        step = _step(op, numbers)
        if step is None:
            return None
        numbers[op.operation.results[0]] = 2 + len(steps)
        steps.append(step)
    result = numbers.get(terminator.operation.operands[0])
    return None if result is None else (tuple(steps), result)


def _step(op: Any, numbers: dict[Any, int]) -> _Step | None:
    constant = intrinsics.constant(op)
    if constant is not None:
        return _Step(None, value=constant[0], type=constant[1])
    spec = OpSpec.of(op)
    operands = [numbers.get(value) for value in op.operation.operands]
    if spec is None or spec.name not in EMITTERS or None in operands:
        return None
    return _Step(spec, tuple(operands))  # type: ignore[arg-type]


#: operation that is a kind's whole combiner, and the predicates of builtin max and min
_KIND_OF = {
    **{name: kind for name, (kind, _) in _NEUTRAL.items() if name.startswith("arith")},
    "arith.maximumf": "maximum", "arith.minimumf": "minimum", "arith.andi": "and",
    "arith.ori": "or", "arith.maxsi": "max", "arith.maxui": "max", "arith.minsi": "min",
    "arith.minui": "min",
}  # fmt: skip
_PREDICATES = {"ogt": "max", "olt": "min"}


def _kind_of(steps: tuple[_Step, ...], result: int) -> str | None:
    """The kind whose combiner this is, for the loop's next import; None for another."""
    match [(step.spec.name if step.spec else "", step.operands) for step in steps]:
        case [(name, (0, 1))] if result == 2:
            return _KIND_OF.get(name)
        case [("arith.cmpf", (1, 0)), ("arith.select", (2, 1, 0))] if result == 3:
            spec = steps[0].spec
            predicate = None if spec is None else spec.attribute("predicate")
            return None if predicate is None else _PREDICATES.get(CMPF_NAMES[predicate])
        case _:
            return None


def _selects(steps: tuple[_Step, ...], result: int) -> bool:
    """Whether the result is always one of the two arguments, so that f(a, a) is a."""
    if result < 2:
        return True
    step = steps[result - 2]
    if step.spec is None or step.spec.name != "arith.select":
        return False
    return all(_selects(steps, operand) for operand in step.operands[1:])


@functools.cache
def _function(ty: Type, steps: tuple[_Step, ...], result: int) -> tuple[Any, Signature]:
    """An intrinsic that computes ``steps``, named so that Numba takes it for ``max``."""

    def codegen(context: Any, builder: llvm.IRBuilder, _: Signature, args: Any) -> llvm.Value:
        values = list(args)
        for step in steps:
            if step.spec is None:
                values.append(context.get_constant(step.type, step.value))
            else:
                operands = [values[i] for i in step.operands]
                values.append(intrinsics.emit(step.spec, context, builder, operands))
        return values[result]

    sig = signature(ty, ty, ty)
    words = [step.spec.name.split(".")[-1] for step in steps if step.spec]
    name = "_".join(["mlir_reduce", *words, intrinsics.short(ty)])
    function = intrinsics.make(name, "builtins", sig, codegen)
    function.name = "max"
    return function, sig
