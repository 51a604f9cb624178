"""Which variables of a Parfor are reductions, and by which operation.

A variable that an iteration reads before it assigns it is one when every statement that
touches its running value (the variable, copies and partial results: its *family*) is a step
of one associative operation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from numba.core import ir, types
from numba.core.typing.builtins import IndexValueType
from numba.parfors.parfor import Parfor

from numba_mlir.converters.frame import Frame, array_type
from numba_mlir.converters.operands import from_numbas_loops, hashable
from numba_mlir.converters.slots import MISSING, Env
from numba_mlir.errors import UnsupportedConstruct

#: kinds that Numba's own lowering refuses
_REPAIRED = {"and": "by &", "or": "by |", "xor": "by ^"}
#: kinds with an operator and its inverse, which Numba's lowering refuses in one loop
_BOTH_WAYS = {"add": "+= and -=", "mul": "*= and /="}
#: kind of a reduction over whole arrays, or over Numba's pairs of index and value, kept as
#: the statement that it is
KEPT = "kept"


class LeftToNumba(UnsupportedConstruct):
    """A reduction that Numba's own lowering knows, and that has no form here."""


@dataclass(frozen=True)
class KeptStep:
    """The statement that combines the variable ``running`` with an iteration's ``own``.

    ``extremum`` is "max" or "min" for pairs, None for ``array += value``.
    """

    stmt: Any
    running: str
    own: str
    extremum: str | None = None


def readable(names: set[str]) -> str:
    return ", ".join(repr(name.lstrip("$").split(".")[0]) for name in sorted(names))


_OPERATORS = {
    "add": "add", "iadd": "add", "sub": "add", "isub": "add",
    "mul": "mul", "imul": "mul", "truediv": "mul", "itruediv": "mul",
    "or_": "or", "ior": "or", "and_": "and", "iand": "and", "xor": "xor", "ixor": "xor",
}  # fmt: skip
_ANTICOMMUTATIVE = frozenset({"sub", "isub", "truediv", "itruediv"})
#: what Numba knows of reductions into arrays
_IN_PLACE = frozenset({"iadd", "isub", "imul", "itruediv"})
_EXTREMA: dict[Any, str] = {max: "max", min: "min"}
#: np.max and np.min propagate NaN, unlike Python's max and min, which Numba writes for them
_NUMPYS = {"max": "maximum", "min": "minimum"}


def _statements(parfor: Any) -> Iterator[Any]:
    """Every statement of the loop body, those of nested Parfors included."""
    for block in parfor.loop_body.values():
        for stmt in block.body:
            if isinstance(stmt, Parfor):
                yield from stmt.init_block.body
                yield from _statements(stmt)
            else:
                yield stmt


def reduction_kind(
    frame: Frame, env: Env, parfor: Any, name: str, carried: Collection[str] = ()
) -> str:
    """How the body combines variable ``name``: a kind of :mod:`..converters.reductions`.

    ``carried`` are all the variables that go from one iteration to another.
    Raises UnsupportedConstruct when it is used in any other way.
    """
    where = f"{readable({name})} is carried from one iteration to another"
    numba_type = frame.type_of(name)
    if array_type(numba_type) is not None or isinstance(numba_type, IndexValueType):
        kept_step(frame, env, parfor, name)
        return KEPT
    if not isinstance(numba_type, (types.Number, types.Boolean)):
        raise UnsupportedConstruct(f"{where} and is a {numba_type}", parfor.loc)
    statements = list(_statements(parfor))
    family, kinds = _family(frame, env, statements, name)
    functions = _functions(frame, env, statements)
    for stmt in statements:
        uses = frame.accesses.of_statement(stmt).uses & family
        if not _keeps_to(frame, stmt, family) or (uses and _step(stmt, family, functions) is None):
            raise UnsupportedConstruct(f"{where} other than by a reduction", stmt.loc)
    if others := (family & set(carried)) - {name}:
        raise UnsupportedConstruct(f"{where} through {readable(others)}", parfor.loc)
    if len(kinds) != 1:
        raise UnsupportedConstruct(f"{where} by {len(kinds)} different operators", parfor.loc)
    (kind,) = kinds
    divides = any("truediv" in _name(s) for s in statements if _touches(frame, s, family))
    if divides and not isinstance(numba_type, (types.Float, types.Complex)):
        raise UnsupportedConstruct(f"{where} by an integer division", parfor.loc)
    numpys = kind in _NUMPYS and _from_numpy(frame, statements, family)
    return _NUMPYS[kind] if numpys else kind


def in_any_order(frame: Frame, env: Env, parfor: Any, name: str) -> bool:
    """Whether a variable is a sum or product of NumPy's, which adds pairwise.  What the user
    wrote as a loop keeps its order within a thread."""
    statements = list(_statements(parfor))
    family, _ = _family(frame, env, statements, name)
    return _from_numpy(frame, statements, family)


def _from_numpy(frame: Frame, statements: list[Any], family: set[str]) -> bool:
    """Whether the steps of a reduction are Numba's loops for a function of NumPy's."""
    return all(from_numbas_loops(s) for s in statements if _touches(frame, s, family))


def beyond_numba(frame: Frame, env: Env, parfor: Any, name: str, kind: str) -> str | None:
    """What about an imported reduction Numba's own lowering refuses or gets wrong."""
    if kind in ("maximum", "minimum"):
        return f"np.{kind[:3]} gives NaN where there is one"
    if kind in _REPAIRED:
        return f"the reduction of {readable({name})} {_REPAIRED[kind]}"
    if kind not in _BOTH_WAYS:
        return None
    statements = list(_statements(parfor))
    family, _ = _family(frame, env, statements, name)
    operators = {_name(s).lstrip("i") for s in statements if _touches(frame, s, family)} - {""}
    both = f"the reduction of {readable({name})} by {_BOTH_WAYS[kind]}"
    return both if len(operators) > 1 else None


def kept_step(frame: Frame, env: Env, parfor: Any, name: str) -> tuple[KeptStep, set[str]]:
    """The one step of each iteration, and the variable's family.

    Raises UnsupportedConstruct when there is not exactly one, and LeftToNumba when it is
    not ``+=`` or ``*=`` at the end of the body.
    """
    pair = isinstance(frame.type_of(name), IndexValueType)
    where = f"the {'pair' if pair else 'array'} {readable({name})}"
    where += " is carried from one iteration to another"
    statements = list(_statements(parfor))
    family, kinds = _family(frame, env, statements, name)
    steps = [s for s in statements if _touches(frame, s, family) and not _is_copy(s)]
    if any(not _keeps_to(frame, s, family) for s in statements) or len(steps) != 1:
        raise UnsupportedConstruct(f"{where} other than by one in-place operator", parfor.loc)
    found = (_pair_step if pair else _array_step)(steps[0], family, kinds, where)
    reason = LeftToNumba if not pair else UnsupportedConstruct
    if not any(s is found.stmt for s in parfor.loop_body[max(parfor.loop_body)].body):
        raise reason(f"{where} in a part of the body", found.stmt.loc)
    if frame.mlir_type(frame.type_of(found.own)) != frame.mlir_type(frame.type_of(name)):
        raise reason(f"{where} with another type", found.stmt.loc)
    if _name(found.stmt) in _ANTICOMMUTATIVE:
        raise reason(f"{where} other than by += or *=", found.stmt.loc)
    return found, family


def _array_step(step: Any, family: set[str], _: set[str], where: str) -> KeptStep:
    value = step.value
    in_place = isinstance(value, ir.Expr) and value.op == "inplace_binop"
    if not in_place or value.lhs.name not in family or _name(step) not in _IN_PLACE:
        raise UnsupportedConstruct(f"{where} other than by += or *=", step.loc)
    return KeptStep(step, value.lhs.name, value.rhs.name)


def _pair_step(step: Any, family: set[str], kinds: set[str], where: str) -> KeptStep:
    is_call = isinstance(step.value, ir.Expr) and step.value.op == "call"
    if not is_call or len(kinds) != 1 or step.value.args[0].name not in family:
        raise UnsupportedConstruct(f"{where} other than by max or min", step.loc)
    running, own = step.value.args
    (extremum,) = kinds
    return KeptStep(step, running.name, own.name, extremum)


def family_statements(frame: Frame, parfor: Any, family: set[str]) -> set[int]:
    """Ids of the statements that make members of a family."""
    return {id(s) for s in _statements(parfor) if frame.accesses.of_statement(s).defs & family}


def _is_copy(stmt: Any) -> bool:
    return isinstance(stmt, ir.Assign) and isinstance(stmt.value, ir.Var)


def _name(stmt: Any) -> str:
    value = stmt.value if isinstance(stmt, ir.Assign) else None
    if isinstance(value, ir.Expr) and value.op in ("binop", "inplace_binop"):
        return getattr(value.fn, "__name__", "")
    return ""


def _family(frame: Frame, env: Env, statements: list[Any], name: str) -> tuple[set[str], set[str]]:
    """Names that hold the running value, and the kinds of operation that change it."""
    family, kinds = {name}, set()
    functions = _functions(frame, env, statements)
    changed = True
    while changed:
        changed = False
        for stmt in statements:
            kind = _step(stmt, family, functions)
            if kind is None:
                continue
            if kind:
                kinds.add(kind)
            if stmt.target.name not in family:
                family.add(stmt.target.name)
                changed = True
    return family, kinds


def _functions(frame: Frame, env: Env, statements: list[Any]) -> dict[str, Any]:
    """Python functions behind callee variables of the body and from outside it."""
    found: dict[str, Any] = {}
    for stmt in statements:
        if isinstance(stmt, ir.Assign) and isinstance(stmt.value, (ir.Global, ir.FreeVar)):
            found[stmt.target.name] = stmt.value.value
    for stmt in statements:
        value = stmt.value if isinstance(stmt, ir.Assign) else None
        if isinstance(value, ir.Expr) and value.op == "call" and value.func.name not in found:
            slot = env.get(value.func.name)
            if slot is not None and slot.python is not MISSING:
                found[value.func.name] = slot.python
    return found


def _step(stmt: Any, family: set[str], functions: dict[str, Any]) -> str | None:
    """The kind by which ``stmt`` makes a new running value; "" for a copy, None for neither."""
    if not isinstance(stmt, ir.Assign):
        return None
    value = stmt.value
    if isinstance(value, ir.Var):
        return "" if value.name in family else None
    if not isinstance(value, ir.Expr):
        return None
    if value.op in ("binop", "inplace_binop"):
        fn = getattr(value.fn, "__name__", "")
        left, right = value.lhs.name in family, value.rhs.name in family
        if left and not right:
            return _OPERATORS.get(fn)
        return _OPERATORS.get(fn) if right and not left and fn not in _ANTICOMMUTATIVE else None
    if value.op == "call" and len(value.args) == 2 and not value.kws:
        inside = [arg.name in family for arg in value.args]
        if sum(inside) == 1:
            function = functions.get(value.func.name)
            if not hashable(function):
                return None
            return _EXTREMA.get(function) or getattr(function, "combines", None)
    return None


def _touches(frame: Frame, stmt: Any, family: set[str]) -> bool:
    access = frame.accesses.of_statement(stmt)
    return bool((access.uses | access.defs) & family)


def _keeps_to(frame: Frame, stmt: Any, family: set[str]) -> bool:
    """Whether ``stmt`` leaves the running value alone or is one of its steps."""
    access = frame.accesses.of_statement(stmt)
    if not access.uses & family:
        return not access.defs & family
    return isinstance(stmt, ir.Assign) and stmt.target.name in family


def user_line(parfor: Any) -> Any:
    """Where the user called the function of Numba's own source that this loop comes from."""
    for pattern in parfor.patterns:
        if pattern[0] == "prange" and len(pattern) > 2 and isinstance(pattern[2], tuple):
            where = pattern[2][-1]
            if isinstance(where, ir.Loc):
                return where
    return None
