"""Complex numbers as two numbers each, in the loops and branches of one function.

What loops carry and branches yield is two values instead of one; operations on complex numbers
are spelled out, as upstream's conversion to the LLVM dialect does it.  Numbers that are read from
arrays or stored there, and what has no rule here, stay complex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.values import nested, operations

_STRUCTURES = frozenset({"scf.for", "scf.while", "scf.if"})
Parts = tuple[Any, Any]


def is_carried(function: Any) -> bool:
    """Whether a loop or a branch hands over complex numbers."""
    return any(
        op.name in _STRUCTURES and any(map(_is_complex, op.results)) for op in nested(function)
    )


def split(function: Any) -> None:
    """Make two numbers of each complex one in ``function``, which has no blocks but structure."""
    for op in [op for op in nested(function) if op.name in _STRUCTURES]:
        if any(map(_is_complex, [*op.operands, *op.results])):
            _split_structure(op)
    for op in nested(function):
        rule = _ALL.get(op.name)
        if rule is None and len(op.results) == 1 and _is_complex(op.results[0]):
            rule = _OF_ANY_TYPE.get(op.name)
        if rule is not None:
            with op.location, mlir.ir.InsertionPoint(op):
                op.results[0].replace_all_uses_with(rule(op))
            op.erase()


def _is_complex(value: Any) -> bool:
    return str(value.type).startswith("complex<")


def _parts(value: Any) -> Parts:
    return mlir.complex.re(value), mlir.complex.im(value)


def _expanded(values: Any) -> list[Any]:
    """``values`` with two numbers in the place of each complex one, at the insertion point."""
    found: list[Any] = []
    for value in values:
        found += _parts(value) if _is_complex(value) else [value]
    return found


def _part_types(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        kind = value.type
        found += [mlir.ir.ComplexType(kind).element_type] * 2 if _is_complex(value) else [kind]
    return found


def _together(old: Any, new: list[Any]) -> list[Any]:
    """The values of ``old``'s types that ``new`` are the parts of, at the insertion point."""
    rest = iter(new)
    found: list[Any] = []
    for value in old:
        part = next(rest)
        if _is_complex(value):
            part = mlir.complex.create_(value.type, part, next(rest))
        found.append(part)
    return found


def _split_structure(op: Any) -> None:
    ir = mlir.ir
    with op.location, ir.InsertionPoint(op):
        made = ir.Operation.create(
            op.name, _part_types(op.results), _expanded(op.operands), regions=len(op.regions)
        )
        for new, old in zip(made.regions, op.regions, strict=True):
            if len(old.blocks):
                block = old.blocks[0]
                block.append_to(new)
                _split_block(block)
    with op.location, ir.InsertionPoint(op):
        for old, new in zip(op.results, _together(op.results, list(made.results)), strict=True):
            old.replace_all_uses_with(new)
    op.erase()


def _split_block(block: Any) -> None:
    """Arguments and terminator of a block."""
    ir = mlir.ir
    old = list(block.arguments)
    here = ir.Location.current
    new = [block.add_argument(kind, here) for kind in _part_types(old)]
    with ir.InsertionPoint.at_block_begin(block):
        for before, after in zip(old, _together(old, new), strict=True):
            before.replace_all_uses_with(after)
    for _ in old:
        block.erase_argument(0)
    last = operations(block)[-1]
    with last.location, ir.InsertionPoint(last):
        ir.Operation.create(last.name, operands=_expanded(last.operands))
    last.erase()


# -- operations -----------------------------------------------------------------------
def _by_parts(function: Callable[..., Parts]) -> Callable[[Any], Any]:
    def rule(op: Any) -> Any:
        parts = function(*map(_parts, op.operands))
        return mlir.complex.create_(op.results[0].type, *parts)

    return rule


def _add(a: Parts, b: Parts) -> Parts:
    return mlir.arith.addf(a[0], b[0]), mlir.arith.addf(a[1], b[1])


def _subtract(a: Parts, b: Parts) -> Parts:
    return mlir.arith.subf(a[0], b[0]), mlir.arith.subf(a[1], b[1])


def _multiply(a: Parts, b: Parts) -> Parts:
    arith = mlir.arith
    real = arith.subf(arith.mulf(a[0], b[0]), arith.mulf(a[1], b[1]))
    return real, arith.addf(arith.mulf(a[1], b[0]), arith.mulf(a[0], b[1]))


def _constant(op: Any) -> Any:
    ir, type_ = mlir.ir, op.results[0].type
    kind = ir.ComplexType(type_).element_type
    parts = [mlir.arith.constant(kind, ir.FloatAttr(part)) for part in op.attributes["value"]]
    return mlir.complex.create_(type_, *parts)


def _negate(a: Parts) -> Parts:
    return mlir.arith.negf(a[0]), mlir.arith.negf(a[1])


def _conjugate(a: Parts) -> Parts:
    return a[0], mlir.arith.negf(a[1])


def _anything(op: Any) -> Any:
    """A value that is not given: its parts are not either."""
    type_ = op.results[0].type
    kind = mlir.ir.ComplexType(type_).element_type
    parts = (mlir.ir.Operation.create(op.name, [kind]).results[0] for _ in range(2))
    return mlir.complex.create_(type_, *parts)


def _select(op: Any) -> Any:
    test, *values = op.operands
    pairs = zip(*map(_parts, values), strict=True)
    parts = [mlir.arith.select(test, *pair) for pair in pairs]
    return mlir.complex.create_(op.results[0].type, *parts)


def _equality(predicate: str, join: str) -> Callable[[Any], Any]:
    def rule(op: Any) -> Any:
        arith = mlir.arith
        pairs = zip(*map(_parts, op.operands), strict=True)
        tests = (arith.cmpf(getattr(arith.CmpFPredicate, predicate), *pair) for pair in pairs)
        return getattr(arith, join)(*tests)

    return rule


def _absolute(op: Any) -> Any:
    (result,) = op.results
    parts = _parts(op.operands[0])
    return mlir.ir.Operation.create(libm.HYPOT, [result.type], list(parts)).results[0]


def _angle(op: Any) -> Any:
    real, imag = _parts(op.operands[0])
    return mlir.math.atan2(imag, real)


#: operation -> its value built from others, at the operation: what upstream has no conversion for
RULES: dict[str, Callable[[Any], Any]] = {
    "complex.neg": _by_parts(_negate),
    "complex.conj": _by_parts(_conjugate),
    "complex.eq": _equality("OEQ", "andi"),
    "complex.neq": _equality("UNE", "ori"),
    "complex.abs": _absolute,
    "complex.angle": _angle,
}
_ALL = RULES | {
    "complex.add": _by_parts(_add),
    "complex.sub": _by_parts(_subtract),
    "complex.mul": _by_parts(_multiply),
    "complex.constant": _constant,
}
#: operations of other dialects, where their result is a complex number
_OF_ANY_TYPE: dict[str, Callable[[Any], Any]] = {
    "arith.select": _select,
    "ub.poison": _anything,
    "numba.undef": _anything,
}
