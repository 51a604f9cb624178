"""What a Numba statement reads, and where it comes from."""

from __future__ import annotations

from typing import Any

from numba.core import ir
from numba.parfors import parfor


def names_read(stmt: Any) -> tuple[str, ...]:
    """Variables that a statement other than a Parfor reads, each once, in order."""
    value = stmt.value if isinstance(stmt, ir.Assign) else stmt
    if isinstance(value, ir.Var):
        return (value.name,)
    if isinstance(value, ir.Expr) and value.op in _OPERANDS:
        return tuple(dict.fromkeys(v.name for v in _OPERANDS[value.op](value)))
    if value is stmt or isinstance(value, (ir.Expr, ir.Yield)):
        return tuple(dict.fromkeys(v.name for v in value.list_vars()))
    return ()


#: operands of the common expressions (``list_vars`` serves all of them, but slowly)
_OPERANDS: dict[str, Any] = {
    "binop": lambda e: (e.lhs, e.rhs),
    "inplace_binop": lambda e: (e.lhs, e.rhs),
    "unary": lambda e: (e.value,),
    "getattr": lambda e: (e.value,),
    "getitem": lambda e: (e.value, e.index),
    "build_tuple": lambda e: e.items,
    "call": lambda e: e.list_vars() if e.kws or e.vararg is not None else (e.func, *e.args),
}


#: where Numba has loops for NumPy's functions
_NUMBAS_LOOPS = parfor.max_parallel_impl.__code__.co_filename


def from_numbas_loops(node: Any) -> bool:
    """Whether a statement or expression comes from a loop that Numba has for a function of
    NumPy's.  Numba fuses such loops with each other and with the user's."""
    return node.loc.filename == _NUMBAS_LOOPS


def hashable(thing: Any) -> bool:
    """Whether a Python object can be looked up in a table (ctypes functions cannot)."""
    try:
        hash(thing)
    except TypeError:
        return False
    return True
