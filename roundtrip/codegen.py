"""The pass Codegen: machine code of Parfors by MLIR, in Numba's own code library.

It changes nothing in the function but ``Parfor.lowerer``, which Numba's lowering calls
instead of compiling the loop itself.  A Parfor that MLIR cannot lower stays Numba's.
"""

from __future__ import annotations

import functools
import re
from typing import Any, ClassVar

from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.parfors.parfor import Parfor

from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.passes.base import Remark
from numba_mlir.roundtrip.adapter import translated_errors
from numba_mlir.roundtrip.instruments import Record

NAME = "codegen"


class CodegenPass(FunctionPass):
    """Goes behind Numba's ParforPreLoweringPass.  Use the classes that `codegen_class` makes."""

    _name: ClassVar[str] = "mlir_codegen"
    strict: ClassVar[bool] = False
    precise: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """False: the IR stays as it is."""
        parfors = [stmt for block in state.func_ir.blocks.values() for stmt in block.body
                   if isinstance(stmt, Parfor) and stmt.lowerer is None]  # fmt: skip
        if parfors:
            record = Record.of(state)
            with translated_errors(state, f"the pass {NAME!r}"), record.timed(NAME):
                self._compile(state, parfors, record)
            record.passes.append(NAME)
        return False

    def _compile(self, state: Any, parfors: list[Any], record: Record) -> None:
        from numba_mlir.roundtrip.importer import check_importable
        from numba_mlir.roundtrip.kernel_import import KernelImporter

        try:
            check_importable(state.func_ir)
        except UnsupportedConstruct as refusal:
            if self._is_strict(state):
                raise
            record.refuse([NAME], refusal.msg, refusal.loc)
            return
        importer = KernelImporter(state)
        for parfor in parfors:
            loc = parfor.loc
            try:
                parfor.lowerer = self._lowerer(state, importer, parfor, record)
            except UnsupportedConstruct as refusal:
                if self._is_strict(state):
                    raise
                remark = Remark("missed", NAME, refusal.msg, loc.line, loc.filename)
            else:
                text = "; ".join(("machine code by MLIR", *parfor.lowerer.code.notes))
                remark = Remark("applied", NAME, text, loc.line, loc.filename)
            record.remarks.append(remark)

    def _lowerer(self, state: Any, importer: Any, parfor: Any, record: Record) -> Any:
        from numba_mlir.roundtrip.code import Options
        from numba_mlir.roundtrip.kernel import compile_kernel

        kernel = importer.run(parfor)
        kernel.module.operation.verify()
        record.keep_stage("kernel", kernel.module)
        name = re.sub(r"\W+", "_", state.func_id.func_name)
        options = Options(fastmath_of(state.flags), self.precise)
        return compile_kernel(kernel, name, options)

    def _is_strict(self, state: Any) -> bool:
        return self.strict or getattr(state.flags, "mlir_strict", None) is True


def fastmath_of(flags: Any) -> str:
    """Numba's flags as those of MLIR."""
    return ",".join(sorted(getattr(flags.fastmath, "flags", ())))


@functools.cache
def codegen_class(strict: bool = False, precise: bool = False) -> type[CodegenPass]:
    """The pass for Numba's pass manager; equal options give the same class."""
    options = [name for name, on in (("strict", strict), ("precise", precise)) if on]
    name = "_".join(["mlir_codegen", *options])
    body = {"_name": name, "strict": strict, "precise": precise, "__module__": __name__}
    made = type(f"CodegenPass_{name}", (CodegenPass,), body)
    return register_pass(mutates_CFG=False, analysis_only=True)(made)
