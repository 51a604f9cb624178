"""Arrays of a function whose memory nothing else can reach.

Such an array is made by one call of ``np.empty`` or the like, and every statement that reads
its variable only looks at elements, sizes, or gives it to the caller.  Code may then assume
that no other array shares its memory.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numba.core import ir, types
from numba.parfors.parfor import Parfor

from numba_mlir.converters.operands import names_read

#: functions that return an array of their own
_MAKERS = (np.empty, np.empty_like, np.zeros, np.zeros_like, np.ones, np.ones_like, np.full,
           np.full_like)  # fmt: skip
_METADATA = frozenset({"shape", "strides", "ndim", "size", "itemsize", "nbytes", "dtype"})


def find(func_ir: Any, typemap: Any) -> frozenset[str]:
    """Names of variables that are alone in their memory, in a typed function with Parfors."""
    statements = list(_statements(func_ir.blocks.values()))
    definitions = _definitions(statements)
    single = _single(statements, definitions)
    makers = {
        name
        for name, value in single.items()
        if isinstance(typemap.get(name), types.Array)
        and any(callee(single, value) is one for one in _MAKERS)
    }
    uses = defaultdict(list)
    for stmt in statements:
        for name in names_read(stmt):
            uses[name].append(stmt)
    return frozenset(name for name in makers if _is_alone(name, uses, typemap, definitions))


def single_definitions(func_ir: Any) -> dict[str, Any]:
    """What is assigned to the variables that are assigned once, Parfors included."""
    statements = list(_statements(func_ir.blocks.values()))
    return _single(statements, _definitions(statements))


def _definitions(statements: list[Any]) -> Counter[str]:
    return Counter(s.target.name for s in statements if isinstance(s, ir.Assign))


def _single(statements: list[Any], definitions: Counter[str]) -> dict[str, Any]:
    return {
        s.target.name: s.value
        for s in statements
        if isinstance(s, ir.Assign) and definitions[s.target.name] == 1
    }


def _statements(blocks: Iterable[Any]) -> Iterator[Any]:
    for block in blocks:
        for stmt in block.body:
            if isinstance(stmt, Parfor):
                yield from _statements([stmt.init_block])
                yield from _statements(stmt.loop_body.values())
            else:
                yield stmt


def callee(single: dict[str, Any], value: Any) -> Any:
    """The Python function that an expression calls; None where it is not known."""
    if not isinstance(value, ir.Expr) or value.op != "call":
        return None
    return _object(single, single.get(value.func.name))


def _object(single: dict[str, Any], value: Any) -> Any:
    """The object behind a global, or an attribute of a module that is one."""
    if isinstance(value, (ir.Global, ir.FreeVar, ir.Const)):
        return value.value
    if isinstance(value, ir.Expr) and value.op == "getattr":
        owner = _object(single, single.get(value.value.name))
        return getattr(owner, value.attr, None)
    return None


def _is_alone(
    name: str, uses: dict[str, list[Any]], typemap: Any, definitions: Counter[str]
) -> bool:
    """Whether no use of ``name`` hands its memory to anything that stays in the function."""
    return all(
        _is_harmless(stmt, name, typemap) or _is_returned(stmt, uses, definitions)
        for stmt in uses[name]
    )


def _is_returned(stmt: Any, uses: dict[str, list[Any]], definitions: Counter[str]) -> bool:
    """Whether a statement only brings an array to the caller, in a tuple or by itself."""
    if isinstance(stmt, ir.Return):
        return True
    if not isinstance(stmt, ir.Assign) or definitions[stmt.target.name] != 1:
        return False
    brings = isinstance(stmt.value, ir.Var) or (
        isinstance(stmt.value, ir.Expr) and stmt.value.op in ("cast", "build_tuple")
    )
    return brings and all(_is_returned(s, uses, definitions) for s in uses[stmt.target.name])


def _is_harmless(stmt: Any, name: str, typemap: Any) -> bool:
    if isinstance(stmt, (ir.SetItem, ir.StaticSetItem)):
        return stmt.target.name == name and stmt.value.name != name
    if isinstance(stmt, (ir.Return, ir.Del)):
        return True
    value = stmt.value if isinstance(stmt, ir.Assign) else None
    if not isinstance(value, ir.Expr):
        return False
    result = typemap[stmt.target.name]
    if value.op in ("getitem", "static_getitem"):
        return value.value.name == name and _is_plain(result)
    if value.op == "getattr":
        return value.attr in _METADATA
    if value.op == "call":
        given = [typemap[arg.name] for arg in value.args] if not value.kws else [None]
        return _is_plain(result) and all(_is_argument(kind) for kind in given)
    return False


def _is_plain(kind: Any) -> bool:
    """Whether no value of the type holds an array."""
    if isinstance(kind, types.BaseTuple):
        return all(_is_plain(member) for member in kind)
    return isinstance(kind, (types.Number, types.Boolean, types.NoneType, types.Literal,
                             types.UnicodeType, types.DType))  # fmt: skip


def _is_argument(kind: Any) -> bool:
    """Whether a function cannot put an array into a value of the type."""
    if isinstance(kind, types.BaseTuple):
        return all(_is_argument(member) for member in kind)
    if isinstance(kind, types.Array):
        return _is_plain(kind.dtype)
    return _is_plain(kind)
