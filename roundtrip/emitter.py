"""Building blocks of Numba IR: variables, types, calls, blocks, labels.

Everything is built beside the function; ``state`` is not touched before
:meth:`Emitter.commit`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from numba.core import ir, types
from numba.core.ir_utils import mk_unique_var
from numba.extending import _Intrinsic

from numba_mlir.converters.intrinsics import caster
from numba_mlir.passes.base import source_lines

#: types whose signatures are kept over compilations: there are few of them
_NUMBERS = frozenset({types.Boolean, types.Integer, types.Float, types.Complex})

#: by intrinsic and argument types: the signature, and the intrinsic's type, which knows
#: the implementation for it only as long as it lives
Signatures = dict[tuple[Any, tuple[Any, ...]], tuple[Any, Any]]
#: by operator and argument types: the signature
Operators = dict[tuple[Any, tuple[Any, ...]], Any]
#: by typing context: what is known of intrinsics and operators on numbers
_LASTING: WeakKeyDictionary[Any, tuple[Signatures, Operators]] = WeakKeyDictionary()


class Emitter:
    """Writes statements into the current block of the current body."""

    def __init__(self, state: Any, single_definitions: set[str], reserved: set[str]) -> None:
        self.state = state
        self.types: dict[str, Any] = {}
        self.calltypes: list[tuple[Any, Any]] = []
        self.scope = next(iter(state.func_ir.blocks.values())).scope
        self.loc = state.func_ir.loc
        self.blocks: dict[int, Any] = {}
        self.block: Any = None
        self._labels = itertools.count()
        #: names that a value may keep: assigned once originally, and still free
        self._free = single_definitions - reserved
        self._signatures: Signatures = {}
        #: by block, which is kept alive here: its variables that hold functions
        self._functions: dict[int, tuple[Any, dict[Any, tuple[Any, Any]]]] = {}
        self._operators: Operators = {}
        self._lasting = _LASTING.setdefault(state.typingctx, ({}, {}))
        self._locations: dict[Any, Any] = {}

    # -- locations -----------------------------------------------------------
    def at(self, location: Any) -> None:
        """Statements from now on come from the user's line in an MLIR location."""
        found = self._locations.get(location)
        if found is None:
            lines = source_lines(location)
            found = ir.Loc(lines[0].file, lines[0].line) if lines else self.state.func_ir.loc
            self._locations[location] = found
        self.loc = found

    # -- variables -----------------------------------------------------------
    def type_of(self, var: Any) -> Any:
        found = self.types.get(var.name)
        return self.state.typemap[var.name] if found is None else found

    def variable(self, hint: str | None, numba_type: Any) -> Any:
        """A new variable, called ``hint`` where that name is still free."""
        name = hint or "$mlir"
        if name in self._free and self.state.typemap.get(name) == numba_type:
            self._free.discard(name)
            return self.named(name, numba_type)
        base = name if hint is None else name.split(".")[0] or name
        unique = mk_unique_var(base)
        while unique in self.state.typemap or unique in self.types:
            unique = mk_unique_var(base)
        if not base.startswith("$"):
            # Numba's search for reductions looks for assignments to versions of one name.
            self.scope.var_redefinitions[base].add(unique)
        return self.named(unique, numba_type)

    def named(self, name: str, numba_type: Any) -> Any:
        """The variable ``name``, which is the caller's to keep apart from others."""
        if name not in self.state.typemap:
            self.types[name] = numba_type
        return self.reference(name)

    def reference(self, name: str) -> Any:
        if name not in self.scope.localvars:
            self.scope.define(name, self.loc)
        return ir.Var(self.scope, name, self.loc)

    # -- statements ----------------------------------------------------------
    def append(self, stmt: Any) -> None:
        self.block.append(stmt)

    def assign(self, value: Any, numba_type: Any, hint: str | None = None) -> Any:
        """``new variable = value``"""
        target = self.variable(hint, numba_type)
        self.store(target, value)
        return target

    def store(self, target: Any, value: Any) -> None:
        self.append(ir.Assign(value, target, self.loc))

    def constant(self, number: Any, numba_type: Any, hint: str | None = None) -> Any:
        return self.assign(ir.Const(number, self.loc), numba_type, hint)

    def typed(self, node: Any, sig: Any) -> Any:
        """Remember the signature of an expression or statement."""
        self.calltypes.append((node, sig))
        return node

    def function(self, value: Any, name: str) -> tuple[Any, Any]:
        """A variable that holds a global function, one for each block, and its Numba type."""
        block, held = self._functions.get(id(self.block), (self.block, {}))
        self._functions[id(block)] = block, held
        if value not in held:
            numba_type = self.value_type(value)
            var = self.assign(ir.Global(name, value, self.loc), numba_type, "$f")
            held[value] = var, numba_type
        return held[value]

    def value_type(self, value: Any) -> Any:
        """Numba's type of a global; a new intrinsic is known only after a refresh."""
        context = self.state.typingctx
        try:
            return context.resolve_value_type(value)
        except ValueError:
            context.refresh()
            return context.resolve_value_type(value)

    def call(
        self, function: Any, name: str, args: Sequence[Any], arg_types: Sequence[Any],
        hint: str | None = None,
    ) -> Any:  # fmt: skip
        """``new variable = function(*args)``, typed for arguments of ``arg_types``."""
        var, numba_type = self.function(function, name)
        sig = self.signature(function, numba_type, tuple(arg_types))
        expr = ir.Expr.call(var, tuple(args), (), self.loc)
        return self.assign(self.typed(expr, sig), sig.return_type, hint)

    def signature(self, function: Any, numba_type: Any, arg_types: tuple[Any, ...]) -> Any:
        """Numba's signature of a call; that of an intrinsic on numbers is looked up once."""
        lasts = isinstance(function, _Intrinsic) and all(type(t) in _NUMBERS for t in arg_types)
        known: Signatures = self._lasting[0] if lasts else self._signatures
        key = (function, arg_types)
        found = known.get(key)
        if found is None:
            sig = numba_type.get_call_type(self.state.typingctx, arg_types, {})
            found = known[key] = (sig, numba_type)
        return found[0]

    def operator(self, fn: Callable[..., Any], args: Sequence[Any], hint: str | None = None) -> Any:
        """``new variable = lhs <fn> rhs``"""
        sig = self.resolve(fn, tuple(self.type_of(a) for a in args))
        expr = self.typed(ir.Expr.binop(fn, *args, self.loc), sig)
        return self.assign(expr, sig.return_type, hint)

    def resolve(self, fn: Any, arg_types: tuple[Any, ...]) -> Any:
        """Numba's signature of a built-in operator; that for numbers is looked up once."""
        lasts = all(type(t) in _NUMBERS for t in arg_types)
        known: Operators = self._lasting[1] if lasts else self._operators
        key = (fn, arg_types)
        found = known.get(key)
        if found is None:
            found = self.state.typingctx.resolve_function_type(fn, arg_types, {})
            known[key] = found
        return found

    def cast(self, var: Any, to: Any) -> Any:
        """``var`` as a number of type ``to``; itself where it has that type."""
        if self.type_of(var) == to:
            return var
        return self.call(caster(to), f"as_{to}", [var], [self.type_of(var)])

    # -- blocks --------------------------------------------------------------
    def new_label(self) -> int:
        """A label of this body; labels are renumbered when the body is done."""
        return next(self._labels)

    def start(self, label: int) -> None:
        """Continue in a new block."""
        self.block = self.blocks[label] = ir.Block(self.scope, self.loc)

    def jump(self, label: int) -> None:
        self.append(ir.Jump(label, self.loc))

    def branch(self, condition: Any, yes: int, no: int) -> None:
        self.append(ir.Branch(condition, yes, no, self.loc))

    @contextmanager
    def body(self, blocks: dict[int, Any]):  # type: ignore[no-untyped-def]
        """Write into the blocks of another body for a while."""
        outer = self.blocks, self.block
        self.blocks = blocks
        try:
            yield
        finally:
            self.blocks, self.block = outer

    # -- the end -------------------------------------------------------------
    def commit(self) -> None:
        """Make types and signatures known to the compilation."""
        typemap, calltypes = self.state.typemap, self.state.calltypes
        for name, numba_type in self.types.items():
            typemap[name] = numba_type
        for node, sig in self.calltypes:
            calltypes[node] = sig
        self.state.typingctx.refresh()
        self.state.targetctx.refresh()
