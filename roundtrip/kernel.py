"""One Parfor from MLIR to machine code in Numba's own code library.

`compile_kernel` does the MLIR part while the function is still typed Numba IR; what it
returns is called by Numba's lowering in place of its own code for the Parfor.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm_ir
from numba.core import cgutils, ir, types

from numba_mlir.converters import bare
from numba_mlir.passes.cost import iteration_cost
from numba_mlir.passes.values import nested
from numba_mlir.roundtrip import launch
from numba_mlir.roundtrip.code import Code, Options, add, compile_body, defines, raise_error
from numba_mlir.roundtrip.kernel_import import Kernel


@dataclass(frozen=True)
class CompiledKernel:
    """Code of a kernel, and how Numba's lowering calls it.

    ``reductions`` are the names and Numba types of the variables that are reduced into.
    """

    code: Code
    captured: tuple[tuple[str, Any], ...]
    rank: int
    reductions: tuple[tuple[str, Any], ...]
    cost: float

    def __call__(self, lowerer: Any, parfor: Any) -> None:
        """Emit the loop into the function that ``lowerer`` is at (``Parfor.lowerer``)."""
        for instruction in parfor.init_block.body:
            lowerer.lower_inst(instruction)
        plan = self._plan(lowerer.context)
        if not defines(lowerer.library, plan.name):
            self._link(plan, lowerer)
        self._call(plan, lowerer, parfor)

    def _plan(self, context: Any) -> launch.Plan:
        captured = [t for _, kind in self.captured for t in bare.llvm_types(context, kind)]
        partials = [context.get_value_type(kind) for _, kind in self.reductions]
        return launch.Plan(self.code.name, tuple(captured), self.rank, tuple(partials), self.cost,
                           self.code.ways.fails)  # fmt: skip

    def _link(self, plan: launch.Plan, lowerer: Any) -> None:
        """Add body, worker and driver to the library of the function."""
        from numba.np.ufunc.parallel import _launch_threads

        _launch_threads()
        library, context = lowerer.library, lowerer.context
        functions = ("body", *[f"combine{number}" for number in range(len(self.reductions))])
        around = functools.partial(launch.emit, plan)
        module = self.code.link(library, context, functions, around)
        for name in (*functions, "worker"):
            module.get_function(f"{plan.name}.{name}").linkage = "internal"
        # a function of its own in profiles, whose arguments keep what is known about them
        module.get_function(f"{plan.name}.body").add_function_attribute("noinline")
        add(module, library)

    def _call(self, plan: launch.Plan, lowerer: Any, parfor: Any) -> None:
        context, builder = lowerer.context, lowerer.builder
        arguments = []
        for name, kind in self.captured:
            value = _load(lowerer, name, kind)
            arguments += bare.send(context, builder, kind, value)
        for nest in parfor.loop_nests:
            arguments += [_word(lowerer, bound) for bound in (nest.start, nest.stop)]
        cells = []
        for (name, _), kind in zip(self.reductions, plan.partials, strict=True):
            cells.append(cgutils.alloca_once(builder, kind))
            builder.store(lowerer.loadvar(name), cells[-1])
        function = cgutils.get_or_insert_function(builder.module, plan.driver_type, plan.name)
        if plan.fails:
            self._call_or_raise(lowerer, function, [*arguments, *cells])
        else:
            builder.call(function, [*arguments, *cells])
        for (name, _), cell in zip(self.reductions, cells, strict=True):
            lowerer.storevar(builder.load(cell), name)

    def _call_or_raise(self, lowerer: Any, function: Any, arguments: list[Any]) -> None:
        """The call; an exception of the loop's body is raised behind it."""
        context, builder = lowerer.context, lowerer.builder
        excinfo = cgutils.alloca_once(builder, launch.BYTES)
        code = builder.call(function, [*arguments, excinfo])
        with cgutils.if_unlikely(builder, builder.icmp_signed("!=", code, code.type(0))):
            raise_error(context, builder, code, excinfo)


def _load(lowerer: Any, name: str, kind: Any) -> Any:
    return None if isinstance(kind, types.Literal) else lowerer.loadvar(name)


def _word(lowerer: Any, bound: Any) -> llvm_ir.Value:
    """A bound of the loop as 64 bits."""
    if not isinstance(bound, ir.Var):
        return launch.WORD(int(bound))
    kind = lowerer.fndesc.typemap[bound.name]
    value = lowerer.loadvar(bound.name)
    return lowerer.context.cast(lowerer.builder, value, types.unliteral(kind), types.int64)


def compile_kernel(kernel: Kernel, name: str, options: Options) -> CompiledKernel:
    """LLVM IR text of an imported Parfor; ``name`` begins the names of its functions.

    Raises UnsupportedConstruct where an operation has no form in LLVM.
    """
    module = kernel.module
    with module.context:
        # a loop without effects is gone by now
        loop = next((op for op in nested(module.operation) if _is_outer(op)), None)
        cost = iteration_cost(module.operation if loop is None else loop)
    reductions = tuple((reduction.name, reduction.type) for reduction in kernel.reductions)
    around = f"{kernel.rank} {cost} {[str(kind) for _, kind in reductions]}"
    code = compile_body(module, kernel.ways, name, kernel.parfor.loc, options, around)
    return CompiledKernel(code, kernel.captured, kernel.rank, reductions, cost)


def _is_outer(op: Any) -> bool:
    return op.name == "scf.parallel" and op.parent.name == "func.func"
