"""Marks on arrays, for Numba's own passes: that something else holds on to one, for its
removal of dead code, and that one is what it is and not what made it.

Numba follows views of an array, but not tuples and lists: what is written into an array after
it was put into a tuple counts as dead when the array's own name is not used any more.
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.core.extending import intrinsic
from numba.core.imputils import impl_ret_borrowed
from numba.core.ir_utils import alias_func_extensions


@intrinsic
def escapes(typingctx: Any, array: Any) -> Any:
    """Does nothing; from here on somebody else may read the array."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.none(array), codegen


@intrinsic
def as_it_is(typingctx: Any, array: Any) -> Any:
    """The array itself, by a name that hides how it was made."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return array(array), codegen


def _mark(target: str, args: Any, alias_map: dict[str, set[str]], arg_aliases: Any) -> None:
    """The array, and what is a view of it so far, is as an argument, which the caller sees."""
    if isinstance(arg_aliases, dict):
        return  # Numba's lowering of one loop asks with a dict and looks at ``alias_map`` alone
    todo = [args[0].name]
    while todo:
        name = todo.pop()
        if name not in arg_aliases:
            arg_aliases.add(name)
            todo.extend(alias_map.get(name, ()))


#: Numba's own table of functions that its alias analysis asks about; the key is ours alone
alias_func_extensions[("escapes", __name__)] = _mark
