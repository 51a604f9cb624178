"""The import before Numba makes Parfors: statements on whole arrays become loops.

Everything else is kept as it is, numbers included: Numba's own passes, which come next,
find ``prange`` loops, reductions and sizes by the form of the statements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.np.ufunc.dufunc import DUFunc

from numba_mlir.converters import (
    allocations,
    arrayexprs,
    arrays,
    axes,
    build,
    calls,
    elementwise,
    picks,
    products,
    reduction_calls,
    reduction_loops,
    scans,
    statements,
    stencil_kernels,
    trees,
    views,
)
from numba_mlir.converters.arrayexprs import Refused
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.operands import names_read
from numba_mlir.converters.slots import MISSING, Env, Slot
from numba_mlir.converters.stencils import Stencils
from numba_mlir.converters.windows import Bounds

#: a statement that stayed as it is: its location, and why
Refusal = tuple[Any, str]


def has_work(blocks: Any, typemap: Any) -> bool:
    """Whether a function has a statement that this import may turn into a loop."""
    statements = [stmt for block in blocks.values() for stmt in block.body]
    if any(is_candidate(stmt, typemap) for stmt in statements):
        return True
    # one product alone stays with BLAS, if that does not need a copy; two may share their matrix
    expressions = [s.value for s in statements if isinstance(s, ir.Assign)]
    found = [e for e in expressions if isinstance(e, ir.Expr) and products.is_product(e, typemap)]
    return len(found) > 1 or any(products.needs_copy(e, typemap) for e in found)


def is_candidate(stmt: Any, typemap: Any) -> bool:
    if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
        return isinstance(typemap[stmt.target.name], types.Array)
    if not isinstance(stmt, ir.Assign) or not isinstance(stmt.value, ir.Expr):
        return False
    if _reduction(stmt.value, typemap) is not None:
        return True
    if not isinstance(typemap[stmt.target.name], types.Array):
        return False
    if stmt.value.op == "call":
        callee = typemap[stmt.value.func.name]
        if stencil_kernels.function_of(callee) is not None:
            return True
        return isinstance(callee, types.Function) and _is_array_function(callee.typing_key)
    return stmt.value.op in ("arrayexpr", "inplace_binop")


def _reduction(expr: Any, typemap: Any) -> Any:
    """The reduction that a call of one of our intrinsics computes."""
    if expr.op != "call" or not isinstance(callee := typemap[expr.func.name], types.Function):
        return None
    return reduction_calls.call_of(callee.typing_key)


def _is_array_function(function: Any) -> bool:
    return isinstance(function, (np.ufunc, DUFunc)) or function in _CALLS


#: functions that make one loop each
_CALLS: dict[Any, Any] = {
    np.where: arrayexprs.where,
    np.clip: arrayexprs.clip,
    np.outer: arrayexprs.outer,
}


class ArrayStage:
    """Converts a statement before the common rules do; collects what was refused.

    ``reductions`` are ids of statements ``r += t`` that Numba makes a reduction of.
    """

    def __init__(
        self, stencils: Stencils | None = None, reductions: frozenset[int] = frozenset()
    ) -> None:
        self.stencils = stencils
        self.reductions = reductions
        self.refusals: list[Refusal] = []
        self.loops = 0

    def __call__(self, frame: Frame, env: Env, stmt: Any) -> bool:
        """Whether the statement was converted; the common rules take it otherwise."""
        if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
            if not self._try(frame, lambda: arrayexprs.assignment(frame, env, stmt), stmt):
                keep(frame, env, stmt)
            return True
        if not isinstance(stmt, ir.Assign) or not isinstance(stmt.value, ir.Expr):
            return False
        if isinstance(frame.type_of(stmt.target.name), types.Array) and (
            axes.convert(frame, env, stmt) or products.convert(frame, env, stmt)
        ):
            return True
        rule = _RULES.get(stmt.value.op)
        if isinstance(frame.type_of(stmt.target.name), types.BoundFunction):
            rule = _method
        if rule is None:
            return False
        rule(self, frame, env, stmt)
        return True

    def statement(self, frame: Frame, env: Env, stmt: Any, rule: Callable[..., Slot]) -> None:
        """Convert ``x = <something on arrays>`` by ``rule``, or keep it."""
        target = stmt.target.name
        slots: list[Slot] = []

        def convert() -> None:
            slots.append(rule(frame, env, stmt, frame.type_of(target)))

        if self._try(frame, convert, stmt):
            env[target] = slots[0]
        else:
            keep(frame, env, stmt)

    def _try(self, frame: Frame, convert: Callable[[], None], stmt: Any) -> bool:
        mark = build.Mark()
        try:
            convert()
        except Refused as reason:
            mark.erase_behind()
            if is_candidate(stmt, frame.typemap) and str(reason):
                self.refusals.append((stmt.loc, str(reason)))
            return False
        self.loops += 1
        return True


def keep(frame: Frame, env: Env, stmt: Any, **flags: Any) -> None:
    """Keep a statement as it is, with the functions that its ufuncs are called by."""
    defs = (stmt.target.name,) if isinstance(stmt, ir.Assign) else ()
    uses = names_read(stmt)
    value = stmt.value if isinstance(stmt, ir.Assign) else None
    if isinstance(value, ir.Expr) and value.op == "arrayexpr":
        uses += _callees(frame, env, value.expr)
    frame.opaque(env, stmt, uses, defs, **flags)


def _callees(frame: Frame, env: Env, tree: Any) -> tuple[str, ...]:
    """Variables of the ufuncs in an array expression: Numba's ParforPass looks for them."""
    wanted = trees.functions(tree)
    return tuple(
        name
        for name, kind in frame.typemap.items()
        if isinstance(kind, types.Function)
        and any(kind.typing_key is function for function in wanted)
        and env.get(name) is not None
    )


# -- rules -------------------------------------------------------------------------------
def _arrayexpr(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    stage.statement(frame, env, stmt, arrayexprs.array_expression)


def _inplace(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    if id(stmt) in stage.reductions:
        keep(frame, env, stmt)
    elif isinstance(frame.type_of(stmt.value.lhs.name), types.Array):
        stage.statement(frame, env, stmt, arrayexprs.inplace)
    else:
        _number(stage, frame, env, stmt)


def _number(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    """Operators on numbers and other things."""
    keep(frame, env, stmt, **calls.operator_flags(frame, env, stmt.value))


def _call(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    callee = env.get(stmt.value.func.name)
    function = MISSING if callee is None else callee.python
    if is_candidate(stmt, frame.typemap):
        key = frame.type_of(stmt.value.func.name).typing_key
        reduction = reduction_calls.call_of(key)
        if reduction is not None:
            stage.statement(frame, env, stmt, functools.partial(_reduced, reduction))
            return
        if stencil_kernels.function_of(frame.type_of(stmt.value.func.name)) is not None:
            stage.statement(frame, env, stmt, functools.partial(_stencil, stage, key))
            return
        rule: Any = _CALLS.get(key)
        if rule is None:
            stage.statement(
                frame,
                env,
                stmt,
                lambda f, e, s, wanted: arrayexprs.ufunc_call(f, e, s, key, wanted),
            )
        else:
            stage.statement(frame, env, stmt, rule)
        return
    if function is np.empty:
        slot = calls.call(frame, env, stmt.value, frame.type_of(stmt.target.name))
        if slot is not None and slot.type == frame.type_of(stmt.target.name):
            env[stmt.target.name] = slot
            return
    target = stmt.target.name
    if isinstance(frame.type_of(target), types.Array):
        known = allocations.sizes(frame, env, stmt.value, frame.type_of(target).ndim)
        keep(frame, env, stmt, fresh=allocations.is_fresh(frame, env, stmt.value))
        if known is not None:
            _learn(env, stmt, sizes=known)
        return
    is_len = function is len and len(stmt.value.args) == 1
    array = env.get(stmt.value.args[0].name) if is_len else None
    if picks.is_picked(array):
        env[target] = arrays.size_slot(frame, array, 0)
        return
    keep(frame, env, stmt, pure=calls.is_pure_call(frame, env, stmt.value))
    if arrays.is_native(array) and array.type.ndim:
        _learn(env, stmt, index=arrays.dim(frame, array, 0))
    if function is slice:
        parts = [env.get(arg.name) for arg in stmt.value.args]
        if all(part is not None and part.python is not MISSING for part in parts):
            _learn(env, stmt, python=slice(*(part.python for part in parts if part is not None)))
        else:
            _learn(env, stmt, bounds=Bounds.from_slots(parts))


def _stencil(
    stage: ArrayStage, function: Any, frame: Frame, env: Env, stmt: Any, wanted: Any
) -> Slot:
    """The call of a function that ``numba.stencil`` made"""
    if stage.stencils is None:
        raise Refused("a stencil")
    return stage.stencils.call(function, frame, env, stmt, wanted)


def _reduced(reduction: Any, frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
    """``np.sum(a, axis=1)`` and the like"""
    array = frame.use(env, stmt.value.args[0].name)
    if not elementwise.has_elements(array):
        raise Refused(f"arrays of type {array.type} have no MLIR form")
    if reduction.problem(array.type.ndim) is not None:
        raise Refused(reduction.problem(array.type.ndim)[1])
    plan = reduction_calls.plan(reduction, array.type)
    if plan is None or plan.returned != wanted:
        raise Refused(f"the result has not the type {wanted}")
    loops = scans if reduction.kind in reduction_calls.ALONG else reduction_loops
    return loops.emit(frame, plan, array, stmt.loc)


def _learn(env: Env, stmt: Any, **facts: Any) -> None:
    slot = env.get(stmt.target.name)
    assert slot is not None
    env[stmt.target.name] = Slot(slot.type, slot.value, **facts)


def _getitem(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    """Members of tuples are looked up; views are kept; so are loads, which have an order."""
    expr = stmt.value
    owner = frame.type_of(expr.value.name)
    if isinstance(owner, types.BaseTuple):
        slot = statements.tuple_member(env, expr)
        if slot is not None and slot.type == frame.type_of(stmt.target.name):
            env[stmt.target.name] = slot
        else:
            keep(frame, env, stmt, pure=True)
        return
    flags = arrays.getitem_flags(frame, env, expr) or picks.flags(frame, env, expr)
    keep(frame, env, stmt, **flags)
    array, view = env.get(expr.value.name), env.get(stmt.target.name)
    if "view_of" not in flags or not arrays.is_native(array) or not arrays.is_native(view):
        return
    found = views.subscripts(frame, env, expr)
    if found is not None:
        env[stmt.target.name] = views.known(frame, array, *found, view)


def _method(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    """``a.copy`` and other methods, not called yet"""
    keep(frame, env, stmt, pure=True)
    owner = env.get(stmt.value.value.name)
    if owner is not None and arrays.is_native(owner):
        _learn(env, stmt, sizes=elementwise.sizes(frame, owner))


def _ordered(stage: ArrayStage, frame: Frame, env: Env, stmt: Any) -> None:
    """Parts of loops, which Numba looks for."""
    keep(frame, env, stmt)


_RULES: dict[str, Callable[[ArrayStage, Frame, Env, Any], None]] = {
    "arrayexpr": _arrayexpr,
    "inplace_binop": _inplace,
    "binop": _number,
    "unary": _number,
    "call": _call,
    "getitem": _getitem,
    "static_getitem": _getitem,
    "getiter": _ordered,
    "iternext": _ordered,
    "pair_first": _ordered,
    "pair_second": _ordered,
}
