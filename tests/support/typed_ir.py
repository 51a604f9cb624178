"""Functions as typed Numba IR, where our passes see them, without compiling them further."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numba import typeof
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags, compile_extra
from numba.core.compiler import _EarlyPipelineCompletion as EarlyCompletion
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.cpu_options import ParallelOptions
from numba.core.registry import cpu_target
from numba.core.typed_passes import ParforFusionPass
from numba.parfors.parfor import Parfor

from numba_mlir.roundtrip.exporter import export_function
from numba_mlir.roundtrip.importer import Imported, import_function


@register_pass(mutates_CFG=False, analysis_only=True)
class _Stop(FunctionPass):
    """Ends the compilation; its result is the compiler's state."""

    _name = "tests_stop_at_typed_ir"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        raise EarlyCompletion(state)


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[PassManager]:
        pm = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pm.add_pass_after(_Stop, ParforFusionPass)
        pm.finalize()
        return [pm]


def typed(function: Callable[..., Any], *args: Any) -> Any:
    """The state of a parallel compilation of ``function`` for ``args`` behind ParforFusionPass.

    Numba's own fusion is off: one statement is one loop.
    """
    flags = Flags()
    flags.nrt = True
    flags.auto_parallel = ParallelOptions({"fusion": False})
    types = tuple(typeof(arg) for arg in args)
    contexts = cpu_target.typing_context, cpu_target.target_context
    for context in contexts:
        context.refresh()
    return compile_extra(*contexts, function, types, None, flags, {}, pipeline_class=_Compiler)


def imported(function: Callable[..., Any], *args: Any) -> Imported:
    """The import of ``function`` for ``args``, verified."""
    found = import_function(typed(function, *args))
    assert found.module.operation.verify()
    return found


def round_tripped(function: Callable[..., Any], *args: Any) -> Any:
    """The state of `typed` after an export of what was imported."""
    state = typed(function, *args)
    export_function(import_function(state), state)
    return state


def statements(blocks: Any) -> Iterator[Any]:
    """Every statement of Numba IR blocks, those of Parfors included."""
    for label in sorted(blocks):
        for stmt in blocks[label].body:
            yield stmt
            if isinstance(stmt, Parfor):
                yield from stmt.init_block.body
                yield from statements(stmt.loop_body)


def parfors(blocks: Any) -> list[Any]:
    """The Parfors among `statements`."""
    return [stmt for stmt in statements(blocks) if isinstance(stmt, Parfor)]


def expressions(blocks: Any, op: str) -> list[Any]:
    """The values of all assignments that are expressions of kind ``op``."""
    values = (stmt.value for stmt in statements(blocks) if isinstance(stmt, ir.Assign))
    return [value for value in values if isinstance(value, ir.Expr) and value.op == op]
