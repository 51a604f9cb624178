"""Code of a Numba function on its way to MLIR as a function ``body`` of its own.

What loops of parallel functions (`kernel_import`) and pieces of sequential ones
(`region_import`) have in common: arguments, calls back into Numba's code, exceptions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numba.core import ir

from numba_mlir import mlir
from numba_mlir.converters import arithmetic, bare, build, divisions
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.passes import failures
from numba_mlir.passes.base import source_position
from numba_mlir.passes.bounds import OUT_OF_BOUNDS, check_bounds
from numba_mlir.passes.buffers import NEGATIVE_SIZE, NO_MEMORY
from numba_mlir.passes.to_llvm import function
from numba_mlir.passes.values import nested
from numba_mlir.roundtrip.callbacks import Callback, Callbacks, Raiser, declare_raisers

#: stands for a variable that the function does not get
OUTSIDE = "pyir.outside"
#: operations that need a way out of the function
_MAY_FAIL = frozenset({"pyir.stmt", "memref.alloc", failures.LEAVE_IF})
_ALLOCATION_ERRORS: dict[str, tuple[type[Exception], str]] = {
    NO_MEMORY: (MemoryError, "Allocation failed (probably too large)."),
    NEGATIVE_SIZE: (ValueError, "negative dimensions not allowed"),
}
_ERRORS: dict[str, tuple[type[Exception], str]] = {
    arithmetic.ZERO_DIVISION: (ZeroDivisionError, "integer division or modulo by zero"),
    arithmetic.FLOAT_ZERO_DIVISION: (ZeroDivisionError, divisions.MESSAGE),
    OUT_OF_BOUNDS: (IndexError, "index is out of bounds"),
}

#: Numba variables behind the arguments of a body, with their types
Captured = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Ways:
    """How a body calls Numba's code, and whether it can leave with an error."""

    callbacks: tuple[Callback | Raiser, ...] = ()
    fails: bool = False


class BodyImport:
    """Builds the function; ``loc`` is where errors without a line of their own come from."""

    def __init__(self, state: Any, frame: Frame, loc: Any) -> None:
        self._state, self._frame, self._loc = state, frame, loc

    # -- the function ----------------------------------------------------------------------
    def captured(self, names: Iterable[str]) -> Captured:
        """Those of the variables that can be arguments."""
        types_ = [(name, self._frame.type_of(name)) for name in sorted(names)]
        return tuple((n, t) for n, t in types_ if bare.leaves(t) is not None)

    def function(self, name: str, inputs: Sequence[Any], results: Sequence[Any] = ()) -> Any:
        ir_ = mlir.ir
        kind = ir_.FunctionType.get(list(inputs), list(results))
        attributes = {
            "sym_name": ir_.StringAttr.get(name),
            "function_type": ir_.TypeAttr.get(kind),
        }
        return build.op("func.func", (), (), attributes, regions=1)

    def blocks(self, region: Any, inputs: list[Any]) -> tuple[Any, Any]:
        """The entry block, which takes constants, and the block of the code behind it."""
        here = mlir.ir.Location.unknown()
        entry = region.blocks.append(*inputs, arg_locs=[here] * len(inputs))
        body = region.blocks.append()
        with mlir.ir.InsertionPoint(entry), here:
            mlir.cf.BranchOp([], body)
        self._frame.entry = entry
        return entry, body

    def variables(self, read: Collection[str], captured: Captured, entry: Any) -> Env:
        """What the code reads from outside, at the end of ``entry``."""
        frame, env = self._frame, Env()
        arguments = iter(entry.arguments)
        with mlir.ir.InsertionPoint.at_block_terminator(entry):
            for name, kind in captured:
                env[name] = bare.receive(frame, kind, arguments)
            for name in sorted(set(read) - {name for name, _ in captured}):
                kind = frame.type_of(name)
                attributes = {"variable": mlir.ir.StringAttr.get(name)}
                value = build.value(OUTSIDE, (), frame.mlir_type(kind), attributes)
                env[name] = Slot(kind, value)
        return env

    def mark_alone(self, module: Any, captured: Captured, alone: frozenset[str]) -> None:
        """Tell LLVM which arrays share no memory with others."""
        ir_ = mlir.ir
        body = function(module, "body")
        plain, marked = ir_.DictAttr.get({}), ir_.DictAttr.get({"llvm.noalias": ir_.UnitAttr.get()})
        given = [marked if leaf.role == "data" and name in alone else plain
                 for name, kind in captured for leaf in bare.leaves(kind) or ()]  # fmt: skip
        rest = len(body.regions[0].blocks[0].arguments) - len(given)
        body.attributes["arg_attrs"] = ir_.ArrayAttr.get([*given, *[plain] * rest])

    # -- calls and exceptions --------------------------------------------------------------
    def call_back(self, module: Any) -> Ways:
        """Calls of Numba's code for what has no MLIR form, and exceptions."""
        mlir.run_pipeline(module.operation, "builtin.module(canonicalize,cse)")
        body = function(module, "body")
        if self._state.flags.boundscheck:
            check_bounds(body)
        for op in list(nested(body)):
            if op.name == OUTSIDE and not list(op.results[0].uses):
                op.erase()
        if not any(op.name in _MAY_FAIL or op.name.startswith("numba.expr") for op in nested(body)):
            return Ways()
        excinfo = failures.give_way_out(body)
        callbacks = Callbacks(self._frame, self._state.targetctx)
        callbacks.replace(body, excinfo)
        raisers = self._raisers(body)
        declare_raisers(module, raisers)
        return Ways((*callbacks.made, *raisers), fails=True)

    def _raisers(self, body: Any) -> list[Raiser]:
        """The exceptions of operations inside ``body``."""
        name, loc = self._state.func_id.func_qualname, self._loc
        found = {}
        for op in nested(body):
            if op.name == "memref.alloc":
                for symbol, (kind, message) in _ALLOCATION_ERRORS.items():
                    found[symbol] = Raiser(symbol, kind, message, loc, name)
            elif op.name == failures.LEAVE_IF and failures.RAISER in op.attributes:
                raiser = self._at_line(op, name)
                found[raiser.symbol] = raiser
        return list(found.values())

    def _at_line(self, op: Any, name: str) -> Raiser:
        """The exception of a ``pyir.leave_if``, raised at the user's line."""
        file, line = source_position(op.location)
        loc = self._loc if file is None or line is None else ir.Loc(file, line)
        which = mlir.ir.FlatSymbolRefAttr(op.attributes[failures.RAISER]).value
        symbol = f"{which}_{loc.line}"
        op.attributes[failures.RAISER] = mlir.ir.FlatSymbolRefAttr.get(symbol)
        return Raiser(symbol, *_ERRORS[which], loc, name)
