"""``njit`` and ``jit``: Numba's, with the ``mlir_*`` flags.

Numba is not patched.  The dispatchers are registered as those of a target of their own,
which is what `numba.jit` looks for (``_target``), and share the typing and target
contexts of Numba's CPU target: our functions and those of stock ``numba.njit`` call
each other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numba
from numba.core import sigutils
from numba.core.compiler import Compiler, CompilerBase
from numba.core.dispatcher import _FunctionCompiler
from numba.core.errors import TypingError
from numba.core.registry import CPUDispatcher, CPUTarget, cpu_target
from numba.core.target_extension import CPU, dispatcher_registry, target_registry

from numba_mlir.errors import InvalidFlagError
from numba_mlir.gpu import elementwise
from numba_mlir.gpu.recognition import device_type
from numba_mlir.gpu.transfer import Copies, Transfer
from numba_mlir.passes.base import Remark
from numba_mlir.roundtrip.caching import MLIRFunctionCache, identity_of
from numba_mlir.roundtrip.checking import Checker
from numba_mlir.roundtrip.diagnostics import Diagnostics, Report, show
from numba_mlir.roundtrip.flags import PREFIXES, MLIRTargetOptions, select, with_mlir_flags
from numba_mlir.roundtrip.instruments import record_of
from numba_mlir.roundtrip.pipeline import STAGES, compiler_class


class MLIRTarget(CPUTarget):
    """Numba's CPU target with our options.

    A context of its own would not know the functions of the other one ("No definition
    for lowering").
    """

    options = MLIRTargetOptions

    @property
    def target_context(self) -> Any:
        return cpu_target.target_context

    @property
    def typing_context(self) -> Any:
        return cpu_target.typing_context


class MLIRFunctionCompiler(_FunctionCompiler):
    """Compiles with our flags and with our passes in the pipeline."""

    def _customize_flags(self, flags: Any) -> Any:
        return with_mlir_flags(super()._customize_flags(flags), self.targetoptions)


class MLIRDispatcher(CPUDispatcher):
    """What `njit` returns.

    ``pipeline_class`` is the user's; it gets our passes in addition.
    """

    targetdescr = MLIRTarget("cpu")

    def __init__(
        self,
        py_func: Any,
        locals: dict[str, Any] | None = None,
        targetoptions: dict[str, Any] | None = None,
        pipeline_class: type[CompilerBase] = Compiler,
    ) -> None:
        super().__init__(py_func, locals, targetoptions, pipeline_class)
        self.user_pipeline = pipeline_class
        self._compiler = MLIRFunctionCompiler(
            py_func,
            self.targetdescr,
            self.targetoptions,
            self.locals,
            compiler_class(select(self.targetoptions, STAGES), pipeline_class),  # pyright: ignore[reportArgumentType]
        )

    def typeof_pyval(self, val: Any) -> Any:
        """Numba's type of an argument, or the type of an array on a device."""
        return device_type(val) or super().typeof_pyval(val)

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        try:
            return super()._compile_for_args(*args, **kws)
        except BufferError as error:
            # From Numba's search for arguments without a type: some arrays on devices refuse
            # to be asked for memory of the host.
            if isinstance(error.__context__, TypingError):
                raise error.__context__ from None
            raise

    def enable_caching(self) -> None:
        identity = identity_of(self.targetoptions, self.locals, self.user_pipeline)
        self._cache = MLIRFunctionCache(self.py_func, identity)

    def _reduce_states(self) -> dict[str, Any]:
        return {**super()._reduce_states(), "pipeline_class": self.user_pipeline}

    @classmethod
    def _rebuild(
        cls,
        uuid: str,
        py_func: Any,
        locals: dict[str, Any],
        targetoptions: dict[str, Any],
        can_compile: bool,
        sigs: list[Any],
        pipeline_class: type[CompilerBase],
    ) -> MLIRDispatcher:
        known = cls._memo.get(uuid)
        if known is not None:
            return known
        self = cls(py_func, locals, targetoptions, pipeline_class)
        self._set_uuid(uuid)
        for sig in sigs:
            self.compile(sig)
        self._can_compile = can_compile
        return self

    def plain(self) -> CPUDispatcher:
        """A new stock dispatcher for the same function, options, and declared signatures."""
        options = {k: v for k, v in self.targetoptions.items() if not k.startswith(PREFIXES)}
        made = CPUDispatcher(self.py_func, self.locals, copy.deepcopy(options), self.user_pipeline)
        if not self._can_compile:
            for signature in self.nopython_signatures:
                made.compile(signature)
            made.disable_compile()
        return made

    def inspect_mlir(self, signature: Any = None, stage: str | None = None) -> str:
        """MLIR of the stages of compilation: "imported", "after-fusion", ...

        One text, each part under a comment with the function, the signature and the
        stage; parts are divided by ``// -----``, as ``mlir-opt -split-input-file`` has
        it.  Without ``signature`` all compiled ones, without ``stage`` all stages.
        Raises KeyError for a signature that is not compiled or a stage that is not there.
        """
        parts = [part for sig in self._compiled(signature) for part in self._mlir(sig, stage)]
        return "\n// -----\n\n".join(parts)

    def _mlir(self, args: tuple[Any, ...], stage: str | None) -> list[str]:
        head = f"// {self.py_func.__qualname__}({_names(args)})"
        record = record_of(self.overloads[args])
        if record is None:
            return [f"{head}: {self._why_no_record(args)}\n"]
        if not record.stages:
            reasons = record.refusals or ["no statements on whole arrays"]
            return [f"{head}: left as Numba had it: {reason}\n" for reason in reasons]
        stages = record.stages if stage is None else [stage]
        return [f"{head}: {one}\n{record.text(one)}" for one in stages]

    def mlir_diagnostics(
        self, signature: Any = None, level: int = 1, format: str = "text"
    ) -> Diagnostics | str:
        """What the passes did with each source line, what they did not, and why.

        ``format="text"`` prints the report, as `parallel_diagnostics` does, and returns
        it: a string that notebooks show as HTML (there it is not printed).
        ``format="json"`` returns JSON and prints nothing.  Level 1 has what was done and
        what was missed, 2 the analyses as well, 3 also the time of each step.
        Raises KeyError for a signature that is not compiled, ValueError for another
        level or format.
        """
        reports = [self._report(args) for args in self._compiled(signature)]
        return show(reports, level, format)

    def _report(self, args: tuple[Any, ...]) -> Report:
        record = record_of(self.overloads[args])
        note = None if record is not None else self._why_no_record(args)
        code = self.py_func.__code__
        where = (
            self.py_func.__qualname__,
            f"({_names(args)})",
            code.co_filename,
            code.co_firstlineno,
        )
        return Report(*where, record=record, note=note)

    def _why_no_record(self, args: tuple[Any, ...]) -> str:
        if self.overloads[args].metadata is None:
            return "loaded from the on-disk cache: nothing was recorded"
        return "no pass of numba_mlir was in its pipeline"

    def _compiled(self, signature: Any) -> list[tuple[Any, ...]]:
        """Argument types of the compiled signature asked for, or of all of them."""
        if signature is None:
            return self.signatures
        args = tuple(sigutils.normalize_signature(signature)[0])
        if args not in self.overloads:
            there = "; ".join(map(_names, self.overloads)) or "none"
            name = self.py_func.__qualname__
            raise KeyError(f"{name!r} is not compiled for {_names(args)}; compiled: {there}")
        return [args]


def _names(args: tuple[Any, ...]) -> str:
    return ", ".join(map(str, args))


class CheckedDispatcher(MLIRDispatcher):
    """``mlir_check=True``: the first call of each signature is made by plain Numba as well.

    Only calls from Python are checked; each costs a few microseconds more.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._checker = Checker(self.py_func, super().__call__, self.plain)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._checker.check(args, kwargs)
        return super().__call__(*args, **kwargs)


class OffloadDispatcher(MLIRDispatcher):
    """``mlir_gpu="sycl"`` or ``"cuda"``: NumPy arrays are copied to the device for a call.

    Only in calls from Python.  Arguments that are not read-only are copied back.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._copies = Copies()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        transfer = Transfer(self.targetoptions["mlir_gpu"], self._copies)
        return transfer.call(super().__call__, args, kwargs)

    def _report(self, args: tuple[Any, ...]) -> Report:
        report = super()._report(args)
        if report.record is None:
            return report
        remark = Remark("applied", "gpu", str(self._copies), report.line, report.file)
        record = replace(report.record, remarks=[*report.record.remarks, remark])
        return replace(report, record=record)


class _Target(CPU):
    """Numba's token for `MLIRDispatcher`."""


class _CheckedTarget(_Target):
    """Numba's token for `CheckedDispatcher`."""


class _OffloadTarget(_Target):
    """Numba's token for `OffloadDispatcher`."""


_TARGET, _CHECKED_TARGET = "numba_mlir", "numba_mlir_checked"
_OFFLOAD_TARGET = "numba_mlir_offload"
target_registry[_OFFLOAD_TARGET] = _OffloadTarget
dispatcher_registry[_OffloadTarget] = OffloadDispatcher
target_registry[_TARGET] = _Target
target_registry[_CHECKED_TARGET] = _CheckedTarget
dispatcher_registry[_Target] = MLIRDispatcher
dispatcher_registry[_CheckedTarget] = CheckedDispatcher


def jit(*args: Any, **options: Any) -> Any:
    """`numba.jit` with our passes; takes everything it takes, and:

    ``mlir_fusion``, ``mlir_broadcast``, ``mlir_tiling``, ``mlir_gpu``, ``mlir_codegen``
        The passes.  None given: the whole pipeline (without tiling).  One or more on: those and
        no other.  One switched off: the whole pipeline without it.
    ``mlir_strict``
        A function or loop that cannot be imported is an error at its line.
    ``mlir_precise``
        Scalar versions of exp, sin and the like instead of vector ones.
    ``mlir_check``
        The first call of each signature is compared with plain Numba on copies of the
        arguments; a difference raises CheckError.

    ``gpu_fp64_truncate``
        Arithmetic of kernels on float64 numbers in float32; "auto": where the device has no
        float64.  Arrays stay what they are.
    ``gpu_use_64bit_index``
        False: kernels compute indices with 32 bits, and larger arrays are an error.

    Raises UnknownFlagError (a KeyError) for other names that begin with ``mlir_`` or ``gpu_`` and
    InvalidFlagError (a ValueError) for wrong values, both where the decorator stands.
    """
    return numba.jit(*args, _target=_target_for(options), **options)


def njit(*args: Any, **options: Any) -> Any:
    """`numba.njit` with our passes: see `jit`."""
    return numba.njit(*args, _target=_target_for(options), **options)


elementwise.use(njit)


def _target_for(options: Mapping[str, Any]) -> str:
    """The target whose dispatcher has these options; wrong flags raise here."""
    select(options, STAGES)
    if isinstance(options.get("mlir_gpu"), str):
        if options.get("mlir_check"):
            raise InvalidFlagError("mlir_check compares on the host: not with mlir_gpu of a name")
        return _OFFLOAD_TARGET
    return _CHECKED_TARGET if options.get("mlir_check") else _TARGET
