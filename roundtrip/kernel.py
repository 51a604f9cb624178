"""One Parfor from MLIR to machine code in Numba's own code library.

`compile_kernel` does the MLIR part while the function is still typed Numba IR; what it
returns is called by Numba's lowering in place of its own code for the Parfor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir as llvm_ir
from numba.core import cgutils, ir, types

from numba_mlir.converters import bare
from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes import libm, to_llvm
from numba_mlir.passes.cost import iteration_cost
from numba_mlir.passes.lanes import Vectors
from numba_mlir.passes.streams import COPY, FENCE
from numba_mlir.passes.values import nested
from numba_mlir.roundtrip import launch, nontemporal, vectormath
from numba_mlir.roundtrip.kernel_import import Kernel
from numba_mlir.roundtrip.llvm_text import readable


@dataclass(frozen=True)
class Options:
    """How kernels are compiled: flags of ``#arith.fastmath``, and scalar functions only."""

    fastmath: str = ""
    precise: bool = False


@dataclass(frozen=True)
class CompiledKernel:
    """LLVM IR of a kernel, and how Numba's lowering calls it.

    ``reductions`` are the names and Numba types of the variables that are reduced into.
    """

    text: str
    name: str
    captured: tuple[tuple[str, Any], ...]
    rank: int
    reductions: tuple[tuple[str, Any], ...]
    cost: float
    uses_vectors: bool
    callbacks: tuple[Any, ...]
    fails: bool

    def __call__(self, lowerer: Any, parfor: Any) -> None:
        """Emit the loop into the function that ``lowerer`` is at (``Parfor.lowerer``)."""
        for instruction in parfor.init_block.body:
            lowerer.lower_inst(instruction)
        plan = self._plan(lowerer.context)
        self._link(plan, lowerer)
        self._call(plan, lowerer, parfor)

    def _plan(self, context: Any) -> launch.Plan:
        captured = [t for _, kind in self.captured for t in bare.llvm_types(context, kind)]
        partials = [context.get_value_type(kind) for _, kind in self.reductions]
        return launch.Plan(self.name, tuple(captured), self.rank, tuple(partials), self.cost,
                           self.fails)  # fmt: skip

    def _link(self, plan: launch.Plan, lowerer: Any) -> None:
        """Add body, worker and driver to the library of the function."""
        from numba.np.ufunc.parallel import _launch_threads

        _launch_threads()
        library = lowerer.library
        if self.uses_vectors:
            vectormath.load()
            library._reload_init.add(vectormath.load)
        module = llvm.parse_assembly(self.text)
        names = ["body", *[f"combine{number}" for number in range(len(self.reductions))]]
        names += [callback.symbol for callback in self.callbacks]
        for name in names:
            module.get_function(name).name = f"{self.name}.{name}"
        around = library.create_ir_module(self.name)
        for callback in self.callbacks:
            callback.emit(self.name, around, lowerer.context)
        launch.emit(plan, around, lowerer.context)
        helpers = [name for name in (COPY, FENCE) if f"@{name}(" in self.text]
        if helpers:
            nontemporal.emit(around)
        module.link_in(llvm.parse_assembly(cgutils.normalize_ir_text(str(around))))
        for name in (*[f"{self.name}.{name}" for name in (*names, "worker")], *helpers):
            module.get_function(name).linkage = "internal"
        # a function of its own in profiles, whose arguments keep what is known about them
        module.get_function(f"{self.name}.body").add_function_attribute("noinline")
        module.verify()
        library.add_llvm_module(module)

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
        function = cgutils.get_or_insert_function(builder.module, plan.driver_type, self.name)
        if self.fails:
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
            kind = context.call_conv.get_function_type(types.none, ()).args[1].pointee
            description = builder.bitcast(builder.load(excinfo), kind)
            status = context.call_conv._get_return_status(builder, code, description)
            context.call_conv.return_status_propagate(builder, status)


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
        try:
            to_llvm.lower(module, options.fastmath, _vectors(options))
            declared = libm.declared(module)
            text = readable(to_llvm.translate(module))
        except to_llvm.NotLowerable as reason:
            file = kernel.parfor.loc.filename
            loc = kernel.parfor.loc if reason.line is None else ir.Loc(file, reason.line)
            raise UnsupportedConstruct(str(reason), loc) from None
    with_vectors = text
    if not options.precise:
        with_vectors = libm.with_variants(text, declared, vectormath.variants)
    _check_readable(with_vectors, kernel)
    identity = f"{with_vectors}{kernel.callbacks}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return CompiledKernel(
        with_vectors,
        f"mlir.{name}.{digest}",
        kernel.captured,
        kernel.rank,
        tuple((reduction.name, reduction.type) for reduction in kernel.reductions),
        cost,
        "@_ZGV" in with_vectors,
        kernel.callbacks,
        kernel.fails,
    )


def _check_readable(text: str, kernel: Kernel) -> None:
    """Read the text as it is read again when Numba lowers the loop, where it is too late."""
    try:
        llvm.parse_assembly(text).verify()
    except RuntimeError as error:
        raise UnsupportedConstruct(
            f"llvmlite refuses the code: {error}", kernel.parfor.loc
        ) from error


def _vectors(options: Options) -> Vectors:
    bits, stream_from = vectormath.width(), nontemporal.least()
    if options.precise:
        return Vectors(bits, stream_from=stream_from)
    library = vectormath.library() is not None
    return Vectors(bits, vectormath.widest, library, stream_from)


def _is_outer(op: Any) -> bool:
    return op.name == "scf.parallel" and op.parent.name == "func.func"
