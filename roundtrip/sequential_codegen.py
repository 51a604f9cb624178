"""The pass Codegen for functions without ``parallel=True``: pieces of them by MLIR.

Loops, or whole functions of numbers, are compiled by MLIR as functions of their own, which
what remains of Numba's function calls.  By default only loops of functions with array
statements, and where functions of the C library that have vector versions are called: LLVM
makes the same of everything else.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, ClassVar

from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import _the_max_label, build_definitions
from numba.parfors.parfor import Parfor

from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes.base import MLIRPass, Remark
from numba_mlir.roundtrip import vectormath
from numba_mlir.roundtrip.adapter import translated_errors
from numba_mlir.roundtrip.codegen import NAME, codegen_class, fastmath_of
from numba_mlir.roundtrip.instruments import Record

#: a sum over so many loops is one of few elements in many cases (a window of an image): it is
#: computed where it stands, since a call would take as long
_WINDOW = 3


class SequentialCodegenPass(FunctionPass):
    """Goes in front of Numba's IRLegalization.  Use the classes that `sequential_class` makes.

    ``everything`` asks for all pieces that MLIR has a form for, not only those that gain.
    """

    _name: ClassVar[str] = "mlir_sequential_codegen"
    strict: ClassVar[bool] = False
    precise: ClassVar[bool] = False
    everything: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Whether some of the function was replaced."""
        blocks = state.func_ir.blocks
        if any(isinstance(s, Parfor) for block in blocks.values() for s in block.body):
            return False
        if not (self.everything or self._may_gain(state)):
            return False
        record = Record.of(state)
        with translated_errors(state, f"the pass {NAME!r}"), record.timed(NAME):
            done = self._compile(state, record)
        record.passes.append(NAME)
        return done

    def _may_gain(self, state: Any) -> bool:
        """A quick look for array statements and functions that have vector versions."""
        from numba_mlir.roundtrip.vectorcalls import calls_vector_functions

        record = Record.made(state)
        if record is not None and record.array_statements:
            return True
        return not self.precise and calls_vector_functions(state)

    def _compile(self, state: Any, record: Record) -> bool:
        from numba_mlir.roundtrip.importer import check_importable

        try:
            check_importable(state.func_ir)
        except UnsupportedConstruct as refusal:
            if self.is_strict(state):
                raise
            record.refuse([NAME], refusal.msg, refusal.loc)
            return False
        _the_max_label.update(max(state.func_ir.blocks))
        done = _Pieces(self, state, record).run()
        if done:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return done

    def is_strict(self, state: Any) -> bool:
        asked = self.strict or getattr(state.flags, "mlir_strict", None) is True
        return self.everything and asked


class _Pieces:
    """The pieces of one function, from the outside to the inside."""

    def __init__(self, options: SequentialCodegenPass, state: Any, record: Record) -> None:
        self._options, self._state, self._record = options, state, record
        self._strict = options.is_strict(state)
        self._look()

    def _look(self) -> None:
        """The function as it is now."""
        from numba_mlir.roundtrip import freshness
        from numba_mlir.roundtrip.accesses import AccessTable
        from numba_mlir.roundtrip.outline import Function

        state = self._state
        self._accesses = AccessTable()
        self._function = Function(state.func_ir, state.typemap, self._accesses)
        self._fresh = freshness.find(state.func_ir, state.typemap)

    def run(self) -> bool:
        """Whether something was replaced."""
        from numba_mlir.roundtrip.outline import body_region

        loops = [loop.header for loop in self._function.inside()]
        if self._options.everything or not loops:
            context, kind = self._state.typingctx, self._state.return_type
            made = functools.partial(body_region, self._function, context, kind)
            if self._try(made, strict=self._strict and not loops):
                return True
        return self._loops(loops)

    def _loops(self, headers: list[int]) -> bool:
        from numba_mlir.roundtrip.outline import loop_region

        done = False
        for header in headers:
            loop = self._function.loops[header]
            inner = [one.header for one in self._function.inside(loop.body)]
            made = functools.partial(loop_region, self._function, loop, self._state.typingctx)
            # inner loops may do where an outer one is refused
            if self._try(made, strict=self._strict and not inner):
                done = True
            else:
                done |= self._loops(inner)
        return done

    def _try(self, make: Callable[[], Any], strict: bool) -> bool:
        """Replace a piece by a call of its code, where that can be and gains something."""
        try:
            replaced = self._replace(make())
        except UnsupportedConstruct as refusal:
            if strict:
                raise
            self._remark("missed", refusal.msg, refusal.loc)
            return False
        if replaced:
            self._look()
        return replaced

    def _replace(self, region: Any) -> bool:
        from numba_mlir.passes.gains import carrying_depth
        from numba_mlir.roundtrip.code import Options, compile_body
        from numba_mlir.roundtrip.region_call import CompiledPiece, Replacement, numbers_of
        from numba_mlir.roundtrip.region_import import RegionImport

        state = self._state
        piece = RegionImport(state, self._accesses, region).run(self._function, self._fresh)
        piece.module.operation.verify()
        if not (self._options.everything or self._gains(piece)):
            return False
        self._record.keep_stage("whole-function" if region.whole else "loop", piece.module)
        is_window = carrying_depth(piece.module.operation) >= _WINDOW
        name = re.sub(r"\W+", "_", state.func_id.func_name) + f".{region.loc.line}"
        options = Options(fastmath_of(state.flags), self._options.precise)
        code = compile_body(piece.module, piece.ways, name, region.loc, options)
        names = tuple(name for name, _ in piece.captured)
        compiled = CompiledPiece(
            code,
            tuple(kind for _, kind in piece.captured),
            numbers_of(piece.outs),
            inline=(region.whole and not self._function.loops) or is_window,
        )
        Replacement(state, self._function, region).run(compiled, names, piece.outs)
        what = "the whole function" if region.whole else "the loop"
        self._remark("applied", f"machine code of {what} by MLIR", region.loc)
        return True

    def _gains(self, piece: Any) -> bool:
        """Whether it is a loop of a function with array statements, whose arrays are known to be
        apart here, or calls functions that LLVM can make vectors of."""
        from numba_mlir.passes.gains import vector_functions
        from numba_mlir.passes.to_llvm import function

        if self._record.array_statements and not piece.region.whole:
            return True
        if self._options.precise:
            return False
        symbols = vector_functions(function(piece.module, "body"), inlined=piece.region.whole)
        return any(map(vectormath.variants, symbols))

    def _remark(self, kind: Any, message: str, loc: Any) -> None:
        loc = loc or self._state.func_ir.loc
        self._record.remarks.append(Remark(kind, NAME, message, loc.line, loc.filename))


@functools.cache
def sequential_class(
    strict: bool = False, precise: bool = False, everything: bool = False
) -> type[SequentialCodegenPass]:
    """The pass for Numba's pass manager; equal options give the same class."""
    options = {"strict": strict, "precise": precise, "everything": everything}
    name = "_".join(["mlir_sequential_codegen", *(n for n, on in options.items() if on)])
    body = {"_name": name, "__module__": __name__, **options}
    made = type(f"SequentialCodegenPass_{name}", (SequentialCodegenPass,), body)
    return register_pass(mutates_CFG=True, analysis_only=False)(made)


class _Everywhere(SequentialCodegenPass):
    """Parallel loops, and in functions without any the pieces of sequential ones."""

    def run_pass(self, state: Any) -> bool:
        codegen_class(self.strict, self.precise)().run_pass(state)
        return super().run_pass(state)


@dataclasses.dataclass(frozen=True)
class Codegen(MLIRPass):
    """Machine code by MLIR as a pass of a user's pipeline: ``pass_class(Codegen())``.

    It is not about one module, and goes alone behind NoPythonSupportedFeatureValidation, where
    nothing changes the function any more.
    """

    name: ClassVar[str] = NAME
    precise: bool = False

    def numba_pass(self, strict: bool) -> type[FunctionPass]:
        """The class for Numba's pass manager."""
        return _everywhere(strict, self.precise)


@functools.cache
def _everywhere(strict: bool, precise: bool) -> type[FunctionPass]:
    name = "_".join(["mlir_codegen_everywhere", *(["strict"] * strict), *(["precise"] * precise)])
    body = {"_name": name, "__module__": __name__, "strict": strict, "precise": precise}
    made = type(f"Codegen_{name}", (_Everywhere,), {**body, "everything": True})
    return register_pass(mutates_CFG=True, analysis_only=False)(made)
