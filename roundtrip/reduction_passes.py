"""Two passes around type inference that give NumPy's reductions types of ours.

In front of it, a call such as ``np.max(a, axis=1)`` or ``a.sum(axis=0, keepdims=True)``
whose axis, keepdims, dtype and ddof are constants becomes a call of a `Reduction`, which
types it where `reduction_calls.plan` understands the array, and asks Numba about the
original call where not.  Behind it, the first become calls of our intrinsics, and the
others are put back as they were.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import types as python_types
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numba import prange
from numba.core import errors, ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.extending import typeof_impl
from numba.core.ir_utils import build_definitions, get_definition, guard, mk_unique_var
from numba.core.typing import Signature, signature

from numba_mlir.converters import reduction_calls
from numba_mlir.converters.reduction_calls import ReductionCall
from numba_mlir.roundtrip.device import METADATA_KEY

_MISSING: Any = inspect.Parameter.empty

#: NumPy's functions -> kind
FUNCTIONS: dict[Any, str] = {
    np.sum: "sum", np.prod: "prod", np.mean: "mean", np.var: "var", np.std: "std",
    np.max: "max", np.min: "min", np.amax: "max", np.amin: "min", np.ptp: "ptp",
    np.any: "any", np.all: "all", np.argmax: "argmax", np.argmin: "argmin",
    np.cumsum: "cumsum", np.cumprod: "cumprod", np.diff: "diff",
}  # fmt: skip
_UFUNCS: dict[Any, str] = {
    np.add: "sum", np.multiply: "prod", np.maximum: "max", np.minimum: "min",
    np.logical_or: "any", np.logical_and: "all",
}  # fmt: skip
#: methods of arrays -> the names of their parameters, in order
_METHODS: dict[str, str] = {
    "sum": "axis dtype out keepdims", "prod": "axis dtype out keepdims",
    "mean": "axis dtype out keepdims", "var": "axis dtype out ddof keepdims",
    "std": "axis dtype out ddof keepdims", "max": "axis out keepdims",
    "min": "axis out keepdims", "any": "axis out keepdims", "all": "axis out keepdims",
    "argmax": "axis out keepdims", "argmin": "axis out keepdims",
    "cumsum": "axis dtype out", "cumprod": "axis dtype out",
}  # fmt: skip
_REDUCE = "axis dtype out keepdims"
_UNDERSTOOD = frozenset({"axis", "dtype", "out", "keepdims", "ddof", "n"})


class Original:
    """A call that became one of a `Reduction`, and what it called: NumPy's function, a ufunc (its
    ``reduce``), or a method of the first argument by its name."""

    def __init__(self, call: ReductionCall, function: Any) -> None:
        self.call = call
        self.function = function


class Reduction(types.Callable):
    """The type of a callee: reduces its first argument."""

    def __init__(self, original: Original) -> None:
        self.original = original
        super().__init__(name=f"reduction({original.call.kind}, {id(original)})")

    @property
    def key(self) -> Any:
        return self.original

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Signature | None:
        found = reduction_calls.plan(self.original.call, args[0])
        if found is not None:
            return signature(found.returned, *args)
        sig = original_type(context, self.original, args).get_call_type(
            context, *original_arguments(self.original, args, kws)
        )
        return None if sig is None else signature(sig.return_type, *args)

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        return [], False

    def get_impl_key(self, sig: Any) -> Any:
        raise NotImplementedError("replaced behind type inference")


def original_type(context: Any, original: Original, args: Any) -> Any:
    """The type of the callee of the original call, for these types of arguments."""
    function = original.function
    if isinstance(function, str):
        found = context.resolve_getattr(args[0], function)
        if found is None:
            raise errors.TypingError(f"Unknown attribute '{function}' of type {args[0]}")
        return found
    if isinstance(function, np.ufunc):
        raise errors.TypingError(f"np.{function.__name__}.reduce of {args[0]} is not supported")
    return context.resolve_value_type(function)


def original_arguments(original: Original, args: Any, kws: Any) -> tuple[Any, Any]:
    return (args[1:] if isinstance(original.function, str) else args), dict(kws)


@typeof_impl.register(Original)
def _(original: Original, context: Any) -> Reduction:
    return Reduction(original)


# -- in front of type inference ----------------------------------------------------
@register_pass(mutates_CFG=False, analysis_only=False)
class TakeReductions(FunctionPass):
    """Calls of NumPy's reductions become calls of a `Reduction`."""

    _name: ClassVar[str] = "mlir_take_reductions"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        func_ir = state.func_ir
        found = [
            (block, stmt, original, args)
            for block in func_ir.blocks.values()
            for stmt in block.body
            if isinstance(stmt, ir.Assign)
            and isinstance(stmt.value, ir.Expr)
            and stmt.value.op == "call"
            for original, args in _recognised(func_ir, stmt.value)
        ]
        if not found:
            return False
        uses = _uses(func_ir)
        threads = prange_blocks(func_ir) if METADATA_KEY in state.metadata else None
        for block, stmt, original, args in found:
            if threads is not None:
                place = "thread" if any(block is one for one in threads) else "device"
                original.call = dataclasses.replace(original.call, place=place)
            _take(func_ir, block, stmt, original, args, uses)
        func_ir._definitions = build_definitions(func_ir.blocks)
        return True


def prange_blocks(func_ir: Any) -> list[Any]:
    """The blocks inside loops over ``prange``."""
    found: list[Any] = []
    loops = list(compute_cfg_from_blocks(func_ir.blocks).loops().values())
    for loop in loops:
        inner = {n for one in loops if one.body < loop.body for n in one.body}
        own = [func_ir.blocks[label] for label in loop.body if label not in inner]
        if any(_is_prange(func_ir, block) for block in own):
            found += [func_ir.blocks[label] for label in loop.body]
    return found


def _is_prange(func_ir: Any, header: Any) -> bool:
    """Whether the block that begins an iteration takes the next number of a ``prange``."""
    for step in header.find_exprs("iternext"):
        getiter = guard(get_definition, func_ir, step.value)
        call = getiter and guard(get_definition, func_ir, getiter.value)
        if isinstance(call, ir.Expr) and call.op == "call":
            return _static(func_ir, guard(get_definition, func_ir, call.func)) is prange
    return False


def _uses(func_ir: Any) -> Counter[str]:
    return Counter(
        var.name
        for block in func_ir.blocks.values()
        for stmt in block.body
        for var in (stmt.value.list_vars() if isinstance(stmt, ir.Assign) and
                    not isinstance(stmt.value, ir.Var) and hasattr(stmt.value, "list_vars")
                    else stmt.list_vars())
    )  # fmt: skip


def _take(
    func_ir: Any, block: Any, stmt: Any, original: Original, args: list[Any], uses: Counter[str]
) -> None:
    expr = stmt.value
    definition = guard(get_definition, func_ir, expr.func)
    name = mk_unique_var("$reduction")
    callee = ir.Var(block.scope, name, stmt.loc)
    holder = ir.Assign(ir.Global(name, original, stmt.loc), callee, stmt.loc)
    block.body.insert(block.body.index(stmt), holder)
    stmt.value = ir.Expr.call(callee, args, expr.kws, expr.loc)
    if not isinstance(original.function, python_types.FunctionType) and uses[expr.func.name] == 1:
        # a method has no type of its own before it is called, and np.add.reduce may have none
        for other in func_ir.blocks.values():
            for one in other.body:
                if isinstance(one, ir.Assign) and one.value is definition:
                    other.body.remove(one)
                    return


def _recognised(func_ir: Any, expr: Any) -> Iterator[tuple[Original, list[Any]]]:
    """The reduction that a call is, with the arguments of the new call; nothing otherwise."""
    if expr.vararg is not None or len(expr.args) + len(expr.kws) > 6:
        return
    definition = guard(get_definition, func_ir, expr.func)
    function = _function(func_ir, definition)
    if function is None:
        return
    kws = dict(expr.kws)
    if isinstance(function, str):
        kind, names = function, ["a", *_METHODS[function].split()]
        args = [definition.value, *expr.args]
    elif isinstance(function, np.ufunc):
        kind, names = _UFUNCS[function], ["a", *_REDUCE.split()]
        args = list(expr.args)
    else:
        kind, names = FUNCTIONS[function], list(inspect.signature(function).parameters)
        args = list(expr.args)
    if not args or len(args) > len(names) or not kws.keys() <= _UNDERSTOOD & set(names[1:]):
        return
    given = dict(zip(names, args, strict=False)) | kws
    values = {name: _constant(func_ir, var) for name, var in given.items() if name != names[0]}
    if isinstance(function, np.ufunc):
        values.setdefault("axis", 0)
    elif kind == reduction_calls.DIFFERENCE:
        values.setdefault("axis", -1)
    call = _call(kind, values)
    if call is not None:
        yield Original(call, function), args


def _function(func_ir: Any, definition: Any) -> Any:
    """NumPy's function, a ufunc (whose ``reduce`` is called), or the name of a method."""
    if isinstance(definition, ir.Expr) and definition.op == "getattr":
        owner = _static(func_ir, guard(get_definition, func_ir, definition.value))
        attr = definition.attr
        if owner is _MISSING:
            return attr if attr in _METHODS else None
        if isinstance(owner, np.ufunc):
            return owner if attr == "reduce" and owner in _UFUNCS else None
    value = _static(func_ir, definition)
    try:
        return value if value in FUNCTIONS else None
    except TypeError:  # not hashable
        return None


def _static(func_ir: Any, definition: Any) -> Any:
    """The Python object behind globals and attributes of modules."""
    if isinstance(definition, (ir.Global, ir.FreeVar, ir.Const)):
        return definition.value
    if isinstance(definition, ir.Expr) and definition.op == "getattr":
        owner = _static(func_ir, guard(get_definition, func_ir, definition.value))
        if isinstance(owner, python_types.ModuleType):
            return getattr(owner, definition.attr, _MISSING)
    return _MISSING


def _constant(func_ir: Any, var: Any) -> Any:
    definition = guard(get_definition, func_ir, var)
    if isinstance(definition, ir.Expr) and definition.op == "build_tuple":
        items = [_constant(func_ir, item) for item in definition.items]
        return _MISSING if any(item is _MISSING for item in items) else tuple(items)
    return _static(func_ir, definition)


def _call(kind: str, values: dict[str, Any]) -> ReductionCall | None:
    """The reduction with these constant arguments; None where one of them is not understood."""
    axis, keepdims = values.get("axis"), values.get("keepdims", False)
    ddof, dtype = values.get("ddof", 0), values.get("dtype")
    if not values.keys() <= _UNDERSTOOD or values.get("out") is not None:
        return None
    if values.get("n", 1) != 1 or type(values.get("n", 1)) is not int:  # of differences
        return None
    if type(keepdims) is not bool or type(ddof) not in (int, float):
        return None
    axes = axis if isinstance(axis, tuple) or axis is None else (axis,)
    if axes is not None and not all(type(one) is int for one in axes):
        return None
    one = kind in reduction_calls.ARG or kind in reduction_calls.ALONG
    if isinstance(axis, tuple) and (one or not axis):
        return None
    try:
        name = None if dtype is None else np.dtype(dtype).str
    except TypeError:
        return None
    return ReductionCall(kind, axes, keepdims, name, ddof)


# -- behind type inference ---------------------------------------------------------
@register_pass(mutates_CFG=False, analysis_only=False)
class TypeReductions(FunctionPass):
    """Calls of a `Reduction` become calls of our intrinsics, or what they were."""

    _name: ClassVar[str] = "mlir_type_reductions"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        modified = False
        for block in state.func_ir.blocks.values():
            for stmt in [s for s in block.body if _original(s) is not None]:
                _settle(state, block, stmt)
                modified = True
        if modified:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return modified


def _original(stmt: Any) -> Original | None:
    """What a statement holds that `TakeReductions` made."""
    if isinstance(stmt, ir.Assign) and isinstance(stmt.value, ir.Global):
        return stmt.value.value if isinstance(stmt.value.value, Original) else None
    return None


def _settle(state: Any, block: Any, holder: Any) -> None:
    original, callee = holder.value.value, holder.target.name
    position = block.body.index(holder)
    stmt = next(
        s
        for s in itertools.islice(block.body, position + 1, None)
        if isinstance(s, ir.Assign)
        and isinstance(s.value, ir.Expr)
        and s.value.op == "call"
        and s.value.func.name == callee
    )
    context, typemap = state.typingctx, state.typemap
    args = [typemap[arg.name] for arg in stmt.value.args]
    del typemap[callee]
    state.calltypes.pop(stmt.value)
    if reduction_calls.plan(original.call, args[0]) is not None:
        function = reduction_calls.function_of(original.call)
        context.refresh()
        state.targetctx.refresh()
        holder.value = ir.Global(holder.value.name, function, holder.loc)
        typemap[callee] = numba_type = context.resolve_value_type(function)
        stmt.value = ir.Expr.call(stmt.value.func, stmt.value.args[:1], (), stmt.value.loc)
        state.calltypes[stmt.value] = numba_type.get_call_type(context, tuple(args[:1]), {})
        return
    kws = {name: typemap[var.name] for name, var in stmt.value.kws}
    numba_type = original_type(context, original, args)
    sig = numba_type.get_call_type(context, *original_arguments(original, tuple(args), kws))
    typemap[callee] = numba_type
    _restore(holder, stmt)
    state.calltypes[stmt.value] = sig


def _restore(holder: Any, stmt: Any) -> None:
    """Make the call again that a statement was, of what ``holder`` then holds."""
    function, call, loc = holder.value.value.function, stmt.value, holder.loc
    args = call.args
    if isinstance(function, str):
        holder.value = ir.Expr.getattr(args[0], function, loc)
        args = args[1:]
    else:
        # by its own name: Numba's passes look for it
        holder.value = ir.Global(function.__name__, function, loc)
    stmt.value = ir.Expr.call(call.func, args, call.kws, call.loc)
