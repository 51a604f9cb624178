"""LLVM IR text of a body, and how it gets into Numba's own code library."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir as llvm_ir
from numba.core import cgutils, config, ir, types
from numba.core.codegen import dump

from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes import libm, panels, streams, to_llvm
from numba_mlir.passes.lanes import Vectors
from numba_mlir.roundtrip import nontemporal, scratch, threads, vectormath
from numba_mlir.roundtrip.body_import import Ways
from numba_mlir.roundtrip.llvm_text import readable


@dataclass(frozen=True)
class Options:
    """How bodies are compiled: flags of ``#arith.fastmath``, and scalar functions only."""

    fastmath: str = ""
    precise: bool = False


@dataclass(frozen=True)
class Code:
    """The text has a function ``body``, and perhaps others; `link` puts ``name`` in front.

    ``notes`` are what there is to say about it.
    """

    text: str
    name: str
    ways: Ways
    notes: tuple[str, ...] = ()

    def link(
        self,
        library: Any,
        context: Any,
        functions: tuple[str, ...],
        around: Callable[[llvm_ir.Module], None] | None = None,
    ) -> llvm.ModuleRef:
        """The module, to be added to ``library``; ``functions`` are those that it defines.

        ``around`` adds functions that call them.
        """
        for load in vectormath.loaders(self.text):
            load()
            library._reload_init.add(load)
        module = llvm.parse_assembly(self.text)
        module.name = self.name
        for name in (*functions, *[callback.symbol for callback in self.ways.callbacks]):
            module.get_function(name).name = f"{self.name}.{name}"
        extra = library.create_ir_module(self.name)
        for callback in self.ways.callbacks:
            callback.emit(self.name, extra, context)
        if around is not None:
            around(extra)
        for name, emit in _SHARED.items():
            called = name in extra.globals or f"@{name}(" in self.text
            if called and not defines(library, name):
                emit(extra, context)
                extra.globals[name].linkage = "linkonce_odr"
        module.link_in(llvm.parse_assembly(cgutils.normalize_ir_text(str(extra))))
        for callback in self.ways.callbacks:
            module.get_function(f"{self.name}.{callback.symbol}").linkage = "internal"
        return module


#: functions that all kernels of a library share, each added with the first that calls it: where
#: libraries are linked, LLVM drops those that nothing calls yet
_SHARED: dict[str, Callable[[llvm_ir.Module, Any], None]] = {
    threads.BOXES: threads.emit_boxes,
    threads.RUN: threads.emit_run,
    streams.COPY: nontemporal.emit_copy,
    streams.FENCE: nontemporal.emit_fence,
    panels.TAKE: scratch.emit_take,
    panels.GIVE_BACK: scratch.emit_give_back,
}


def defines(library: Any, name: str) -> bool:
    """Whether one of Numba's code libraries has the code of a function already."""
    try:
        return not library._final_module.get_function(name).is_declaration
    except NameError:
        return False


def add(module: llvm.ModuleRef, library: Any) -> None:
    """Make ``module`` part of one of Numba's code libraries.

    As ``library.add_llvm_module`` does, but without its passes over each function: what the
    library runs on all of its code begins with the same ones.  ``NUMBA_DUMP_LLVM`` prints it.
    """
    module.verify()
    if config.DUMP_LLVM:
        dump(f"LLVM DUMP {module.name}", str(module), "llvm")
    module.data_layout = library.codegen._data_layout
    library._final_module.link_in(module)


def compile_body(
    module: Any, ways: Ways, name: str, loc: Any, options: Options, around: str = ""
) -> Code:
    """LLVM IR text of a module in the interchange form that has a function ``body``.

    ``name`` begins the names of its functions, and ``around`` says what will call them: where
    all is the same, a library has them once.
    Raises UnsupportedConstruct where an operation has no form in LLVM.
    """
    with module.context:
        try:
            notes = to_llvm.lower(module, options.fastmath, _vectors(options))
            declared = libm.declared(module)
            text = readable(to_llvm.translate(module))
        except to_llvm.NotLowerable as reason:
            at = loc if reason.line is None else ir.Loc(loc.filename, reason.line)
            raise UnsupportedConstruct(str(reason), at) from None
    if not options.precise:
        text = libm.with_variants(text, declared, vectormath.variants)
    _check_readable(text, loc)
    # Code that calls back is not told by its text alone, and one library may link another's.
    unique = uuid.uuid4().hex if ways.callbacks else ""
    digest = hashlib.sha256(f"{text}{around}{unique}".encode()).hexdigest()[:16]
    return Code(text, f"mlir.{name}.{digest}", ways, notes)


def _check_readable(text: str, loc: Any) -> None:
    """Read the text as it is read again when Numba lowers the function, where it is too late."""
    try:
        llvm.parse_assembly(text).verify()
    except RuntimeError as error:
        raise UnsupportedConstruct(f"llvmlite refuses the code: {error}", loc) from error


def _vectors(options: Options) -> Vectors:
    bits, stream_from = vectormath.width(), nontemporal.least()
    dividing_bits = vectormath.dividing_width()
    if options.precise:
        return Vectors(bits, dividing_bits=dividing_bits, stream_from=stream_from)
    library = vectormath.available()
    return Vectors(bits, vectormath.widest, library, dividing_bits, stream_from, contract=True)


def raise_error(context: Any, builder: llvm_ir.IRBuilder, code: Any, excinfo: Any) -> None:
    """Leave Numba's function with an error that the code gave; ``excinfo`` is a cell."""
    kind = context.call_conv.get_function_type(types.none, ()).args[1].pointee
    description = builder.bitcast(builder.load(excinfo), kind)
    status = context.call_conv._get_return_status(builder, code, description)
    context.call_conv.return_status_propagate(builder, status)
