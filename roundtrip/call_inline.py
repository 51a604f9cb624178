"""Short compiled functions of numbers become part of the loops that call them.

``def scaled(x): return x * np.exp(-x)``, called in a ``prange`` loop, is a call to MLIR, with the
``exp`` that it was compiled with.  Its statements in the place of the call are statements of the
loop, like those a user would have written there.

A division by zero raises ZeroDivisionError in a callee with Numba's usual error model, but
not in the body of a ``prange`` loop.  So where it may make a difference, quotients become calls
of functions that do what the callee does.

Behind type inference, so that only calls are taken of which nothing is known that the
callee does not say: its variables get the types that they have in it.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
from typing import Any

from numba import prange
from numba.core import ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.cpu import FastMathOptions
from numba.core.dispatcher import Dispatcher
from numba.core.inline_closurecall import InlineWorker, callee_ir_validator
from numba.core.ir_utils import dead_code_elimination, mk_unique_var, simplify_CFG
from numba.core.typing.typeof import typeof

from numba_mlir.converters.divisions import divide, quotient

#: statements of a callee, and of all that becomes part of one function, at most
SHORT, ALL = 100, 1000
_STATEMENTS = (ir.Assign, ir.Branch, ir.Jump, ir.Return, ir.Del)
_QUOTIENTS = (operator.truediv, operator.itruediv)
_REMAINDERS = (operator.floordiv, operator.mod, operator.ifloordiv, operator.imod)


@register_pass(mutates_CFG=True, analysis_only=False)
class InlineCalls(FunctionPass):
    """Inlines calls of short functions of numbers, compiled with the options of the caller.

    Left are functions with ``raise`` or ``prange``, and those that were compiled for given
    signatures or with types of local variables (whose casts would be lost).
    """

    _name = "mlir_inline_calls"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        return Inliner(state).run()


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A block, the error model of the function that it came from, and the functions around it."""

    block: Any
    model: str
    within: frozenset[Any] = frozenset()


class Inliner:
    """Inlines calls of functions of numbers into the function that ``state`` holds."""

    #: options of a callee that say nothing of how it computes
    harmless = frozenset({"nopython", "nogil", "cache", "inline", "error_model"})

    def __init__(self, state: Any) -> None:
        self.state = state
        self._count = 0
        """statements that were put in"""
        self._bodies: dict[tuple[Any, str], tuple[Any, int] | None] = {}
        self._worker = InlineWorker(
            state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags,
            callee_ir_validator, state.typemap, state.calltypes,
        )  # fmt: skip

    def run(self) -> bool:
        """Whether something was inlined."""
        state = self.state
        work = [_Piece(block, state.flags.error_model) for block in state.func_ir.blocks.values()]
        while work:
            work += self._first_call(work.pop())
        if not self._count:
            return False
        blocks = state.func_ir.blocks
        for dead in compute_cfg_from_blocks(blocks).dead_nodes():
            del blocks[dead]
        dead_code_elimination(state.func_ir, typemap=state.typemap)
        state.func_ir.blocks = simplify_CFG(state.func_ir.blocks)
        return True

    def _first_call(self, piece: _Piece) -> list[_Piece]:
        """Inline the first call of a block that can be; the blocks to look at then.

        A function is not inlined into itself.
        """
        block = piece.block
        for position, stmt in enumerate(block.body):
            if not isinstance(stmt, ir.Assign) or not isinstance(stmt.value, ir.Expr):
                continue
            callee = self._callee(stmt)
            if callee is None or callee in piece.within:
                continue
            # one that the callee does not set is that of the function which calls it
            model = callee.targetoptions.get("error_model", piece.model)
            body, length = self._body(callee, model) or (None, 0)
            if body is None or self._count + length > ALL:
                continue
            if made := self.inlined(block, position, callee, body):
                self._count += length
                (_, rest), *inner = made
                within = piece.within | {callee}
                return [dataclasses.replace(piece, block=rest),
                        *(_Piece(one, model, within) for _, one in inner)]  # fmt: skip
        return []

    def _body(self, callee: Any, model: str) -> tuple[Any, int] | None:
        """The statements of a callee with an error model and their number; None where it has
        some that are not to be inlined."""
        key = callee, model
        if key not in self._bodies:
            flags = self.state.flags
            ssa = flags.enable_ssa
            body = self._worker.run_untyped_passes(callee.py_func)
            flags.enable_ssa = ssa  # which that sets, of the caller
            length = _length(body)
            fits = length is not None and self.fits(body, model)
            self._bodies[key] = (body, length) if length is not None and fits else None
        return self._bodies[key]

    def fits(self, body: Any, model: str) -> bool:
        """Whether statements of a callee with an error model mean the same in the caller."""
        return self._is_error_model(model) or _replace_quotients(body, model)

    def inlined(self, block: Any, position: int, callee: Any, body: Any) -> list[Any]:
        """The labelled blocks that were made of a call, the rest of ``block`` first."""
        state = self.state
        # as they are passed: a literal argument is a number to the callee
        args = state.calltypes.pop(block.body[position].value).args
        body = body.derive(body.blocks)  # with names of its own for the variables
        *_, made = self._worker.inline_ir(
            state.func_ir, block, position, body, callee.py_func.__code__.co_freevars,
            tuple(map(passed, args)),
        )  # fmt: skip
        return made

    def _is_error_model(self, model: str) -> bool:
        """Whether a division does this everywhere in the caller."""
        flags = self.state.flags
        return model == flags.error_model and (model == "numpy" or not flags.auto_parallel.enabled)

    def _callee(self, stmt: Any) -> Any:
        """The compiled function that a call can be replaced by; None for anything else."""
        expr = stmt.value
        if expr.op != "call" or expr.vararg is not None:
            return None
        kind = self.state.typemap.get(expr.func.name)
        sig = self.state.calltypes.get(expr)
        if not isinstance(kind, types.Dispatcher) or sig is None or not self.is_wanted(stmt, sig):
            return None
        callee = kind.dispatcher
        if not isinstance(callee, Dispatcher) or not callee._can_compile:
            return None
        function = callee.py_func
        if function is self.state.func_id.func or inspect.isgeneratorfunction(function):
            return None
        positional = [p.kind is p.POSITIONAL_OR_KEYWORD for p in _parameters(function)]
        fits = len(positional) == len(sig.args) and all(positional)
        return callee if fits and self.is_like_caller(callee) else None

    def is_wanted(self, stmt: Any, sig: Any) -> bool:
        """Whether a call is to be inlined, by its types and what is beside it."""
        return all(is_number(passed(one)) for one in (*sig.args, sig.return_type))

    def is_like_caller(self, callee: Any) -> bool:
        """Whether a callee was compiled such that its statements mean the same in the caller."""
        flags, options = self.state.flags, dict(callee.targetoptions)
        if callee.locals or not _is_standard(callee._compiler.pipeline_class):
            return False
        # those that the callee does not set are the caller's, as where Numba compiles it for a call
        fastmath = FastMathOptions(flags.fastmath)
        if FastMathOptions(options.pop("fastmath", fastmath)) != fastmath:
            return False
        return not flags.debuginfo and all(
            name in self.harmless or not value for name, value in options.items()
        )


def _is_standard(compiler: Any) -> bool:
    """Whether a compiler class is Numba's, or Numba's with passes of ours that may use vectors."""
    from numba_mlir.roundtrip.pipeline import MLIRCompiler

    ours = compiler.__bases__ == (MLIRCompiler, Compiler)
    return compiler is Compiler or (ours and not compiler.selection.precise)


def _parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _replace_quotients(func_ir: Any, model: str) -> bool:
    """Have quotients follow an error model wherever they stand; False where there are other
    divisions, or numbers that may be complex."""
    function = quotient if model == "numpy" else divide
    values = [stmt.value for block in func_ir.blocks.values() for stmt in block.body
              if isinstance(stmt, ir.Assign)]  # fmt: skip
    if not any(map(_divides, values)):
        return True
    if not all(map(_is_understood, values)):
        return False
    for block in func_ir.blocks.values():
        for stmt in list(block.find_insts(ir.Assign)):
            if _operator(stmt.value) in _QUOTIENTS:
                name = mk_unique_var("$divide")
                callee = block.scope.define(name, stmt.loc)
                held = ir.Assign(ir.Global(name, function, stmt.loc), callee, stmt.loc)
                block.body.insert(block.body.index(stmt), held)
                operands = [stmt.value.lhs, stmt.value.rhs]
                stmt.value = ir.Expr.call(callee, operands, (), stmt.loc)
    return True


def _divides(value: Any) -> bool:
    return _operator(value) in _QUOTIENTS or _has_remainder(value)


def _has_remainder(value: Any) -> bool:
    named = isinstance(value, (ir.Global, ir.FreeVar))
    return value.value is divmod if named else _operator(value) in _REMAINDERS


def _is_understood(value: Any) -> bool:
    known = isinstance(value, (ir.Global, ir.FreeVar, ir.Const))
    return not _has_remainder(value) and not (known and isinstance(value.value, complex))


def _operator(value: Any) -> Any:
    is_binary = isinstance(value, ir.Expr) and value.op in ("binop", "inplace_binop")
    return value.fn if is_binary else None


def is_number(kind: Any) -> bool:
    return isinstance(kind, (types.Number, types.Boolean))


def passed(kind: Any) -> Any:
    """The type that an argument has in the callee: that of its value, for a default one."""
    value = typeof(kind.value) if isinstance(kind, types.Omitted) else kind
    return types.unliteral(value)


def _length(func_ir: Any) -> int | None:
    """The number of statements; None where some are not to be inlined."""
    statements = [stmt for block in func_ir.blocks.values() for stmt in block.body]
    if len(statements) > SHORT or not all(isinstance(one, _STATEMENTS) for one in statements):
        return None
    values = [one.value for one in statements if isinstance(one, ir.Assign)]
    return None if any(map(_is_left, values)) else len(statements)


def _is_left(value: Any) -> bool:
    """Whether a value makes a function, or ``prange``, which the callee takes for ``range``."""
    if isinstance(value, ir.Expr):
        return value.op == "make_function" or (value.op == "getattr" and value.attr == "prange")
    return isinstance(value, (ir.Global, ir.FreeVar)) and value.value is prange
