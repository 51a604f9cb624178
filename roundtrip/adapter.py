"""MLIR passes as a pass of Numba's: import, verify, run them in order, export.

Numba's state is not touched before the export, which swaps the function's IR in one
step: whatever goes wrong before leaves the function as Numba had it.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from numba.core import config as numba_config
from numba.core import ir as numba_ir
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.cpu_options import ParallelOptions
from numba.core.errors import NumbaPerformanceWarning

from numba_mlir import config
from numba_mlir.errors import (
    MissingMLIRError,
    MLIRRoundtripError,
    PassError,
    UnsupportedConstruct,
    VerificationError,
)
from numba_mlir.passes.base import MLIRPass, Remark, source_position
from numba_mlir.roundtrip.device import device_rules
from numba_mlir.roundtrip.instruments import Record

if TYPE_CHECKING:
    from numba_mlir.roundtrip.importer import Imported


class RoundTrip(FunctionPass):
    """Typed Numba IR → one MLIR module → all of ``passes`` → typed Numba IR.

    Use the subclasses that `pass_class` makes.  Numba shares one instance of each
    between all compilations, so there is no state here: what happened is in the
    `Record` of the compilation.
    """

    _name: ClassVar[str] = "mlir_roundtrip"
    passes: ClassVar[tuple[MLIRPass, ...]] = ()
    strict: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Whether the function was changed."""
        record = Record.of(state)
        # no list of truth values in any(): every group has to run
        each = config.roundtrip_each()
        groups = [(one,) for one in self.passes] if each else [self.passes]
        modified = False
        for group in groups:
            modified |= self._round_trip(state, group, record, always_export=each)
        return modified

    def after_stage(self, record: Record, stage: str, module: Any) -> None:
        """Called with the live module after the import and after each pass."""
        record.keep_stage(stage, module)

    def _round_trip(
        self, state: Any, passes: tuple[MLIRPass, ...], record: Record, always_export: bool
    ) -> bool:
        imported = self.bring_in(state, record)
        if imported is None:
            return False
        module = imported.module
        self.after_stage(record, "imported", module)
        modified = always_export or imported.converted > 0 or bool(imported.repairs)
        for one in passes:
            if not one.applies(module):
                continue
            with translated_errors(state, f"the pass {one.name!r}"), record.timed(one.name):
                result = one.run(module)
                if result.modified:
                    module.operation.verify()
            modified |= result.modified
            record.passes.append(one.name)
            record.remarks.extend(result.remarks)
            if one.warns:
                _warn(result.remarks)
            self.after_stage(record, f"after-{one.name}", module)
        if modified:
            self.put_back(imported, state, record)
            record.exports += 1
        return modified

    def bring_in(self, state: Any, record: Record) -> Imported | None:
        """The verified module, or None when the function has to stay as it is.

        A loop that stays as it is (one opaque operation in the module) is a remark.
        """
        try:
            with translated_errors(state, "the import"), record.timed("import"):
                imported = self.imported(state)
                imported.module.operation.verify()
        except UnsupportedConstruct as refusal:
            if self._is_strict(state):
                raise
            record.refuse([one.name for one in self.passes], refusal.msg, refusal.loc)
            return None
        for loc, reason in (*imported.opaque, *imported.kept):
            if self._is_strict(state):
                raise UnsupportedConstruct(f"mlir_strict: {reason}", loc)
            record.remarks.append(Remark("missed", "import", reason, loc.line, loc.filename))
        for loc, what in imported.repairs:
            record.remarks.append(Remark("applied", "import", what, loc.line, loc.filename))
        return imported

    def imported(self, state: Any) -> Imported:
        """The function in MLIR; raises UnsupportedConstruct."""
        from numba_mlir.roundtrip.importer import import_function

        return import_function(state, range_loops=any(one.range_loops for one in self.passes))

    def put_back(self, imported: Imported, state: Any, record: Record) -> None:
        """Replace the function by what the module says."""
        from numba_mlir.roundtrip.exporter import export_function

        rules = device_rules(imported, state, record)
        with translated_errors(state, "the export"), record.timed("export"):
            export_function(imported, state, rules)

    def _is_strict(self, state: Any) -> bool:
        return self.strict or getattr(state.flags, "mlir_strict", None) is True


def _warn(remarks: Iterable[Remark]) -> None:
    """Numba's performance warning for each thing that was missed, unless the user has none."""
    for remark in remarks:
        if remark.kind == "missed" and not numba_config.DISABLE_PERFORMANCE_WARNINGS:
            loc = None if remark.line is None else numba_ir.Loc(remark.file or "", remark.line)
            warnings.warn(NumbaPerformanceWarning(f"\n{remark.message}", loc), stacklevel=2)


def switch_off_numba_fusion(state: Any) -> None:
    """Numba's own fusion off for this compilation; the caller's Flags stay as they are."""
    options = ParallelOptions(state.flags.auto_parallel)
    options.fusion = False
    state.flags = state.flags.copy()
    state.flags.auto_parallel = options


@contextlib.contextmanager
def translated_errors(state: Any, step: str) -> Iterator[None]:
    """Errors that leave the block tell ``step``, the function and the user's line.

    MLIR's own errors become VerificationError with its diagnostics; anything that is
    not an error of this project is a bug of it and becomes PassError.
    """
    try:
        yield
    except MissingMLIRError as exc:
        raise MissingMLIRError(exc.msg, exc.loc or state.func_ir.loc) from None
    except MLIRRoundtripError:
        raise
    except Exception as exc:
        name = state.func_id.func_qualname
        diagnostics = getattr(exc, "error_diagnostics", None)
        if diagnostics is None:
            what = f"{type(exc).__name__}: {exc}"
            message = f"internal error in {step}, compiling {name!r}: {what}"
            raise PassError(message, state.func_ir.loc) from exc
        message = f"MLIR refused the module in {step}, compiling {name!r}:\n{exc}"
        raise VerificationError(message, _user_loc(diagnostics, state)) from exc


def _user_loc(diagnostics: Any, state: Any) -> Any:
    """The first of the diagnostics' locations that is a source line, else the function's."""
    for diagnostic in diagnostics:
        file, line = source_position(diagnostic.location)
        if file is not None and line is not None:
            return numba_ir.Loc(file, line)
    return state.func_ir.loc


def pass_class(*passes: MLIRPass, strict: bool = False) -> type[FunctionPass]:
    """A registered Numba pass that runs ``passes`` in this order on one live module.

    For a pass manager, behind Numba's parfor fusion::

        pm.add_pass_after(pass_class(Fusion()), ParforFusionPass)

    `Codegen` stands alone, behind everything else.

    Equal passes give the same class.  With ``strict`` a function or loop that has no
    MLIR form is an UnsupportedConstruct error instead of being left as it is.
    Raises TypeError for anything that is not a pass object.
    """
    for one in passes:
        if not isinstance(one, MLIRPass):
            hint = ": write Fusion(), not Fusion" if isinstance(one, type) else ""
            raise TypeError(f"pass_class() takes MLIR pass objects, not {one!r}{hint}")
    if not passes:
        raise TypeError("pass_class() needs at least one pass")
    alone = next((one for one in passes if hasattr(one, "numba_pass")), None)
    if alone is not None:
        if len(passes) > 1:
            raise TypeError(f"{alone!r} is a pass of its own: pass_class({alone!r})")
        return alone.numba_pass(strict)  # pyright: ignore[reportAttributeAccessIssue]
    return _pass_class(passes, strict)


@functools.cache
def _pass_class(passes: tuple[MLIRPass, ...], strict: bool) -> type[RoundTrip]:
    return new_pass_class(RoundTrip, passes, strict)


def new_pass_class(
    base: type[RoundTrip], passes: tuple[MLIRPass, ...], strict: bool = False
) -> type[RoundTrip]:
    """A new registered subclass of ``base`` for ``passes``.

    Its Numba name (``NUMBA_DEBUG_PRINT_AFTER``) is ``mlir_`` and the passes' names, with
    a number from the second class with these names on.
    """
    stem = "mlir_" + "_".join(one.name.replace("-", "_") for one in passes)
    number = _NAMES[stem] = _NAMES.get(stem, 0) + 1
    name = stem if number == 1 else f"{stem}_{number}"
    body = {"_name": name, "passes": passes, "strict": strict, "__module__": __name__}
    made = type(f"RoundTrip_{name}", (base,), body)
    return register_pass(mutates_CFG=True, analysis_only=False)(made)


#: stem of a pass name -> how many classes have it
_NAMES: dict[str, int] = {}
