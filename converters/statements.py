"""Forward rules: one Numba statement → MLIR operations.

``convert`` tries the rule of the statement's kind; where a rule returns False the
statement is kept as it is (see :meth:`Frame.opaque`).  Terminators and loops are the
business of the region importer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.core.typing.builtins import IndexValueType
from numba.parfors.parfor import Parfor

from numba_mlir.converters import arithmetic, arrays, calls, kernels, sizefacts
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import names_read
from numba_mlir.converters.slots import MISSING, Env, Slot
from numba_mlir.errors import UnsupportedConstruct

Rule = Callable[[Frame, Env, Any, Any], "Slot | None"]


def convert(frame: Frame, env: Env, stmt: Any) -> None:
    """Import one statement that is not a terminator; new variables go into ``env``."""
    if id(stmt) in frame.taken_out:
        return
    name = stmt.target.name if isinstance(stmt, ir.Assign) else None
    with frame.location(stmt.loc, name):
        if frame.stage is not None and frame.stage(frame, env, stmt):
            pass
        elif isinstance(stmt, ir.Assign):
            _assign(frame, env, stmt)
        elif isinstance(stmt, Parfor):
            frame.import_parfor(frame, env, stmt)
        elif isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
            if not arrays.store(frame, env, stmt):
                _keep(frame, env, stmt)
        elif isinstance(stmt, (ir.EnterWith, ir.PopBlock)):
            raise UnsupportedConstruct("a with or try block", stmt.loc)
        elif not isinstance(stmt, ir.Del):
            _keep(frame, env, stmt)
        if isinstance(stmt, ir.Assign) and isinstance(stmt.value, ir.Expr):
            sizefacts.learn(frame, env, stmt)


def _keep(frame: Frame, env: Env, stmt: Any, **flags: Any) -> None:
    defs = (stmt.target.name,) if isinstance(stmt, ir.Assign) else ()
    frame.opaque(env, stmt, names_read(stmt), defs, **flags)


def _assign(frame: Frame, env: Env, stmt: Any) -> None:
    target, value = stmt.target.name, stmt.value
    wanted = frame.type_of(target)
    if isinstance(value, ir.Yield):
        raise UnsupportedConstruct("a generator", stmt.loc)
    slot: Slot | None = None
    if isinstance(value, ir.Var):
        slot = env.get(value.name) or frame.undefined(frame.type_of(value.name))
    elif isinstance(value, (ir.Const, ir.Global, ir.FreeVar)):
        slot = _const(frame, value, wanted)
    elif isinstance(value, ir.Arg):
        slot = env.get(f"arg.{value.index}.{target}")
    elif isinstance(value, ir.Expr):
        rule = _EXPRESSIONS.get(value.op)
        slot = rule(frame, env, value, wanted) if rule is not None else None
    if slot is not None:
        slot = frame.coerce(slot, wanted)
    if slot is not None:
        env[target] = slot
        return
    if slot is None and _is_remat(frame, env, value):
        python = _python_object(frame, env, value)
        number = _number(frame, python, wanted)
        slot = number or frame.deferred(env, stmt, names_read(stmt), python)
        env[target] = replace(slot, elements=_members(frame, python, wanted))
        return
    if isinstance(value, ir.Expr) and value.op == "call" and calls.is_check(frame, env, value):
        frame.check(env, stmt, names_read(stmt))
        env[target] = frame.undefined(wanted)
        return
    _keep(frame, env, stmt, **_purity(frame, env, value))
    _remember(frame, env, stmt)


def _const(frame: Frame, value: Any, wanted: Any) -> Slot | None:
    if isinstance(wanted, types.Literal):
        return None
    return _number(frame, value.value, wanted)


def _number(frame: Frame, python: Any, wanted: Any) -> Slot | None:
    """A number of Python's or NumPy's as a constant, such as ``np.inf``; None for other objects."""
    if isinstance(wanted, types.Literal) or not isinstance(wanted, (types.Number, types.Boolean)):
        return None
    if isinstance(python, (np.number, np.bool_)):
        python = python.item()
    if not isinstance(python, (bool, int, float, complex)):
        return None
    return Slot(wanted, frame.constant(python, frame.mlir_type(wanted)), python)


def _members(frame: Frame, python: Any, wanted: Any) -> tuple[Slot, ...] | None:
    """The members of a constant tuple of numbers; None for another object."""
    if not isinstance(python, tuple) or not isinstance(wanted, types.BaseTuple):
        return None
    pairs = zip(python, wanted, strict=True)
    members = [
        Slot(kind, None, value) if isinstance(kind, types.Literal) else _number(frame, value, kind)
        for value, kind in pairs
    ]
    return None if any(m is None for m in members) else tuple(m for m in members if m)


#: attributes of values that are looked up without any effect
_ARRAY_METADATA = frozenset({"shape", "strides", "ndim", "size", "itemsize", "nbytes", "dtype"})
_ARRAY_VIEWS = frozenset({"T"})


def _is_remat(frame: Frame, env: Env, value: Any) -> bool:
    """Whether a value may be made again wherever it is used: constants, globals, modules."""
    if isinstance(value, ir.Const):
        return True
    if isinstance(value, (ir.Global, ir.FreeVar)):
        return not hasattr(value.value, "__array_interface__")
    if isinstance(value, ir.Expr) and value.op == "getattr":
        owner = env.get(value.value.name)
        made_again = owner is not None and owner.deferred is not None
        kind = frame.type_of(value.value.name)
        return made_again and isinstance(kind, (types.Module, types.NumberClass))
    return False


def _python_object(frame: Frame, env: Env, value: Any) -> Any:
    """The Python object behind a constant, global or attribute of a module."""
    if isinstance(value, ir.Expr):
        owner = env.get(value.value.name)
        return MISSING if owner is None else getattr(owner.python, value.attr, MISSING)
    return value.value


def _purity(frame: Frame, env: Env, value: Any) -> dict[str, Any]:
    """Flags of a statement that is kept: ``pure``, ``view_of``, ``metadata``."""
    if isinstance(value, (ir.Global, ir.FreeVar)):
        return {"pure": True}
    if isinstance(value, ir.Var):
        return {"pure": True, "view_of": _view_of(frame, value)}
    if not isinstance(value, ir.Expr):
        return {}
    if value.op == "getattr":
        owner = frame.type_of(value.value.name)
        if isinstance(owner, types.Array):
            if value.attr in _ARRAY_METADATA:
                return {"pure": True, "metadata": True}
            if value.attr in _ARRAY_VIEWS:
                return {"pure": True, "view_of": 0}
        return {"pure": isinstance(owner, (types.Number, types.BaseTuple, IndexValueType))}
    if value.op in ("build_tuple", "pair_first", "pair_second"):
        return {"pure": True}
    if value.op == "cast":
        return {"pure": True, "view_of": _view_of(frame, value.value)}
    if value.op in ("static_getitem", "getitem"):
        return arrays.getitem_flags(frame, env, value)
    if value.op == "exhaust_iter":
        return {"pure": isinstance(frame.type_of(value.value.name), types.BaseTuple)}
    if value.op in ("binop", "inplace_binop", "unary"):
        return calls.operator_flags(frame, env, value)
    if value.op == "call":
        return {"pure": calls.is_pure_call(frame, env, value)}
    return {}


def _view_of(frame: Frame, var: Any) -> int | None:
    return 0 if isinstance(frame.type_of(var.name), types.Array) else None


def _remember(frame: Frame, env: Env, stmt: Any) -> None:
    """Knowledge about a kept value that later rules use: Python objects, tuple members."""
    target, value = stmt.target.name, stmt.value
    slot = env.get(target)
    assert slot is not None
    if isinstance(value, (ir.Global, ir.FreeVar)):
        env[target] = Slot(slot.type, slot.value, value.value)
    elif isinstance(value, ir.Expr):
        if value.op == "getattr":
            owner = env.get(value.value.name)
            if value.attr == "shape" and owner is not None and arrays.is_native(owner):
                env[target] = Slot(slot.type, slot.value, elements=arrays.shape(frame, owner))
        elif value.op == "build_tuple":
            members = tuple(frame.use(env, v.name) for v in value.items)
            if isinstance(slot.type, types.BaseTuple) and len(slot.type) == len(members):
                env[target] = Slot(slot.type, slot.value, elements=members)


# -- expressions ---------------------------------------------------------------
_PARTS = {"real": kernels.real, "imag": kernels.imag}


def _binop(frame: Frame, env: Env, expr: Any, _: Any) -> Slot | None:
    left, right = frame.scalar(env.get(expr.lhs.name)), frame.scalar(env.get(expr.rhs.name))
    if left is None or right is None:
        return None
    fn = expr.immutable_fn if expr.op == "inplace_binop" else expr.fn
    sig = frame.calltypes[expr]
    value = arithmetic.binary(fn, sig, *left, *right, error_model=frame.error_model)
    return None if value is None else Slot(sig.return_type, value)


def _unary(frame: Frame, env: Env, expr: Any, _: Any) -> Slot | None:
    operand = frame.scalar(env.get(expr.value.name))
    if operand is None:
        return None
    sig = frame.calltypes[expr]
    value = arithmetic.unary(expr.fn, sig, *operand)
    return None if value is None else Slot(sig.return_type, value)


def _static_getitem(frame: Frame, env: Env, expr: Any, _: Any) -> Slot | None:
    slot = env.get(expr.value.name)
    if slot is None or not isinstance(expr.index, int):
        return None
    if slot.elements is not None:
        return tuple_member(env, expr)
    if arrays.is_native(slot) and slot.type.ndim == 1:
        return arrays.load(frame, slot, [arrays.literal_index(expr.index)])
    return None


def tuple_member(env: Env, expr: Any) -> Slot | None:
    """The member of a tuple that a subscript with a constant selects, where it is known."""
    slot = env.get(expr.value.name)
    if slot is None or slot.elements is None:
        return None
    index = expr.index
    if isinstance(index, ir.Var):
        at = env.get(index.name)
        index = None if at is None else at.python
    if not isinstance(index, int) or not -len(slot.elements) <= index < len(slot.elements):
        return None
    return slot.elements[index]


def _getattr(frame: Frame, env: Env, expr: Any, _: Any) -> Slot | None:
    slot = env.get(expr.value.name)
    if expr.attr == "size" and arrays.is_native(slot):
        return arrays.size(frame, slot)
    part, number = _PARTS.get(expr.attr), frame.scalar(slot)
    if part is None or number is None or not isinstance(number[1], types.Number):
        return None
    value, kind = number
    of_complex = isinstance(kind, types.Complex)
    return Slot(kind.underlying_float if of_complex else kind, part(kind, value))


def _exhaust_iter(frame: Frame, env: Env, expr: Any, wanted: Any) -> Slot | None:
    slot = env.get(expr.value.name)
    return slot if slot is not None and slot.type == wanted and slot.elements else None


def _cast(frame: Frame, env: Env, expr: Any, _: Any) -> Slot | None:
    return env.get(expr.value.name)


def _getitem(frame: Frame, env: Env, expr: Any, _: Any) -> Slot | None:
    return arrays.getitem(frame, env, expr)


_EXPRESSIONS: dict[str, Rule] = {
    "binop": _binop,
    "inplace_binop": _binop,
    "unary": _unary,
    "static_getitem": _static_getitem,
    "getattr": _getattr,
    "exhaust_iter": _exhaust_iter,
    "cast": _cast,
    "getitem": _getitem,
    "call": calls.call,
}
