"""The order of our passes relative to Numba's, on one screen: `plan`."""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numba.core.compiler import Compiler, CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.typed_passes import (
    InlineOverloads,
    NopythonRewrites,
    NoPythonSupportedFeatureValidation,
    NopythonTypeInference,
    ParforFusionPass,
    ParforPass,
    ParforPreLoweringPass,
    PreParforPass,
)
from numba.core.untyped_passes import InlineInlinables

from numba_mlir.passes.base import MLIRPass
from numba_mlir.roundtrip import block_cache, device, vectormath
from numba_mlir.roundtrip.adapter import RoundTrip, pass_class, switch_off_numba_fusion
from numba_mlir.roundtrip.array_inline import InlineArrayCalls
from numba_mlir.roundtrip.arrays_adapter import array_pass_class
from numba_mlir.roundtrip.call_inline import InlineCalls
from numba_mlir.roundtrip.codegen import codegen_class
from numba_mlir.roundtrip.device_inline import DeviceInline
from numba_mlir.roundtrip.flags import Selection, TileSizes, select
from numba_mlir.roundtrip.fresh_memory import FreshMemory
from numba_mlir.roundtrip.picking import PickByWords
from numba_mlir.roundtrip.sequential_codegen import sequential_class
from numba_mlir.roundtrip.shared_memory import MarkShared


def _broadcast(
    value: bool, versions: bool = True, products: bool = False, copies: bool = False
) -> MLIRPass:
    from numba_mlir.passes.broadcast import Broadcast

    return Broadcast(versions, products, copies)


def _identity(value: bool | str) -> MLIRPass:
    from numba_mlir.passes.identity import Identity

    return Identity(cleanup=value != "exact")


def _fusion(value: bool) -> MLIRPass:
    from numba_mlir.passes.fusion import Fusion

    return Fusion()


def _device_fusion() -> MLIRPass:
    from numba_mlir.passes.fusion import Fusion

    # A device has threads for all elements of each trip, and no cache for blocks.
    return Fusion(interchange=False)


def _tiling(value: bool | TileSizes, packed: bool = False) -> MLIRPass:
    from numba_mlir.passes.tiling import Tiling

    sizes = () if value is True else tuple(value)  # pyright: ignore[reportArgumentType]
    return Tiling(sizes, packed=packed)


def _row_fusion() -> MLIRPass:
    from numba_mlir.passes.fusion import RowFusion

    return RowFusion()


def _sequential_fusion() -> MLIRPass:
    from numba_mlir.passes.fusion import Fusion

    return Fusion(sweeps="sequential", interchange=False)


def _reductions(parallel: bool) -> MLIRPass:
    from numba_mlir.passes.reductions import Reductions

    return Reductions(parallel)


def _parallelize() -> MLIRPass:
    from numba_mlir.passes.parallelize import Parallelize

    return Parallelize()


def _gpu(value: bool | str) -> MLIRPass:
    from numba_mlir.passes.gpu_outline import GpuOutline

    return GpuOutline()


def _gpu_of(place: Any, selection: Selection, reductions_only: bool = False) -> MLIRPass:
    from numba_mlir.passes.gpu_outline import GpuOutline

    return GpuOutline(reductions_only, **device.outlining(place, selection.fp64_truncate))


def _to_sequential() -> MLIRPass:
    from numba_mlir.passes.sequential import Sequential

    return Sequential()


#: stage -> how its pass is made from the flag's value.  What is not here does not exist
#: yet and is refused when it is asked for.
PASSES: dict[str, Callable[[Any], MLIRPass]] = {
    "broadcast": _broadcast,
    "identity": _identity,
    "fusion": _fusion,
    "tiling": _tiling,
    "gpu": _gpu,
}
#: stages of this version; Codegen leaves Numba's IR as it is and so is no pass over modules
STAGES = (*PASSES, "codegen")


@dataclass(frozen=True)
class Step:
    """One round trip: its passes, the pass of Numba's that it stands behind, and whether
    it is the one that turns array statements into loops."""

    passes: tuple[MLIRPass, ...]
    behind: type
    arrays: bool = False

    def pass_class(self, strict: bool) -> type[RoundTrip]:
        return (array_pass_class if self.arrays else pass_class)(*self.passes, strict=strict)


def add_passes(pm: PassManager, state: Any, selection: Selection) -> None:
    """Insert the selected passes into ``pm``, one of Numba's nopython pipelines."""
    place = state.metadata.get(device.METADATA_KEY)
    selection = dataclasses.replace(selection, boundscheck=bool(state.flags.boundscheck))
    device.check_wanted(state.args, selection.value("gpu"), place)
    steps = plan(pm, selection) if place is None else device_plan(selection, place)
    if place is not None:
        # Behind everything: arguments and results have plain array types until here.
        pm.add_pass_after(device.Leave, NoPythonSupportedFeatureValidation)
        pm.add_pass_after(DeviceInline, InlineInlinables)
        pm.add_pass_after(device.EarlyCalls, NopythonTypeInference)
        # No Parfor gets as far as this pass of Numba's.
        pm.passes = [one for one in pm.passes if one[0] is not ParforPreLoweringPass]
    if any(step.arrays for step in steps) and _has(pm, NopythonTypeInference):
        _type_reductions(pm)
    for step in steps:
        pm.add_pass_after(step.pass_class(selection.strict), step.behind)
    before_parfors(pm, selection)
    if place is None and _has(pm, InlineOverloads):
        inline_calls(pm, steps, selection)
    if selection.value("codegen"):
        options = selection.strict, selection.precise
        everything = selection.value("codegen") is True
        made = codegen_class(*options), sequential_class(*options, everything)
        generate_code(pm, *made, on_device=place is not None)
    before_lowering(pm)
    if _has(pm, ParforFusionPass) and selection.value("fusion"):
        # Numba's own pass would fuse first, by rules of its own, and hide loops from ours.
        switch_off_numba_fusion(state)
    if place is not None:
        # Last: other passes are placed by the one that this replaces.
        quiet = {ParforPass: device.QuietParforPass}
        pm.passes = [(quiet.get(one, one), text) for one, text in pm.passes]
    pm.finalize()


def inline_calls(pm: PassManager, steps: list[Step], selection: Selection) -> None:
    """Calls that become part of a function: with arrays for Fusion, with numbers for vectors."""
    if selection.value("fusion") and any(step.arrays for step in steps):
        # In front of that pass, which has work in what was called.
        _add_in_front(pm, InlineArrayCalls, InlineOverloads)
    if selection.value("codegen"):
        pm.add_pass_after(InlineCalls, InlineOverloads)


def generate_code(
    pm: PassManager, parallel: type, sequential: type, on_device: bool = False
) -> None:
    """Machine code: last, since nothing may change the loops behind it.

    ``parallel`` is the pass for Parfors, ``sequential`` that for functions without them.
    """
    if _has(pm, ParforPreLoweringPass):
        # In front of that pass the reduction variables of Parfors are not known yet.
        pm.add_pass_after(parallel, ParforPreLoweringPass)
    last = NoPythonSupportedFeatureValidation  # pipelines of Python objects have none
    if on_device or not _has(pm, last):
        return
    if block_cache.AVAILABLE:
        # Behind Codegen, which looks for np.empty; Numba's legalisation counts references later.
        pm.add_pass_after(FreshMemory, last)
    pm.add_pass_after(sequential, last)
    pm.add_pass_after(PickByWords, last)


def _type_reductions(pm: PassManager) -> None:
    """Types of ours for NumPy's reductions, whose loops the array stage makes."""
    from numba_mlir.roundtrip.reduction_passes import TakeReductions, TypeReductions

    # In front of type inference, where Numba would refuse most of them, and behind
    # everything that brings constants to where they are used.
    _add_in_front(pm, TakeReductions, NopythonTypeInference)
    # At once behind it: the passes that follow look for Numba's own calls.
    pm.add_pass_after(TypeReductions, NopythonTypeInference)


def before_parfors(pm: PassManager, selection: Selection) -> None:
    """Add what ParforPass needs to see: marks on arrays, steps of 1, plain numbers."""
    if not _has(pm, ParforPass) or all(stage == "identity" for stage, _ in selection.passes):
        return
    from numba_mlir.roundtrip.escape_passes import MarkEscaping
    from numba_mlir.roundtrip.extrema_passes import ComplexExtrema
    from numba_mlir.roundtrip.index_passes import NumberIndices, UnitSteps
    from numba_mlir.roundtrip.masks import HidePicked

    if _has(pm, PreParforPass):
        # In front of that pass, which replaces the calls by what does not compile.
        _add_in_front(pm, ComplexExtrema, PreParforPass)
    # At once in front of ParforPass, which removes dead code and looks for copies of a loop's
    # index: round trips before that read the statements as the user wrote them.
    for one in (UnitSteps, NumberIndices, HidePicked, MarkEscaping):
        _add_in_front(pm, one, ParforPass)


def before_lowering(pm: PassManager) -> None:
    """Add what Numba's lowering of Parfors needs to see: arrays that share memory."""
    if _has(pm, ParforPreLoweringPass):
        # Behind that pass, which removes what looks like dead code.
        pm.add_pass_after(MarkShared, NoPythonSupportedFeatureValidation)


def plan(pm: PassManager, selection: Selection) -> list[Step]:
    """Where the selected passes go in ``pm``; nothing in a pipeline without typed IR."""
    return (_parallel if _has(pm, ParforFusionPass) else _sequential)(pm, selection)


def _parallel(pm: PassManager, selection: Selection) -> list[Step]:
    steps: list[Step] = []
    if (value := selection.value("broadcast")) and _has(pm, NopythonRewrites):
        # Behind NopythonRewrites, which makes array expressions, and in front of ParforPass,
        # which takes them apart under the assumption that no size is stretched.
        fusion = bool(selection.value("fusion"))
        passes = [_broadcast(True, products=fusion, copies=fusion and _packs(selection))]
        if selection.value("fusion"):
            # Here array statements with reductions are still loops in loops; what is
            # fused behind ParforPass sees those inside as any user's.
            passes.append(_row_fusion())
        # Reductions behind everything that fuses: it cuts their loops into blocks.
        passes.append(_reductions(parallel=True))
        steps.append(Step(tuple(passes), NopythonRewrites, arrays=True))

    loops: list[MLIRPass] = []  # neighbours here share one live module: one import, one export
    # Identity first: it has to see what Numba made.
    if value := selection.value("identity"):
        loops.append(PASSES["identity"](value))
    # Fusion before Tiling: blocks of a fused loop keep its temporaries in the cache.
    # GpuOutline last of these: what is a kernel has to be known after fusion and tiling.
    optimising = [PASSES["fusion"](value)] if (value := selection.value("fusion")) else []
    if value := selection.value("tiling"):
        optimising.append(_tiling(value, packed=_packs(selection)))
    if optimising:
        # Parallelize first: the loops that it makes, or leaves sequential, are like any other.
        loops += [_parallelize(), *optimising]
    if loops:
        # Behind ParforFusionPass even so: its two rounds of simplify() remove the dead
        # iterators of prange loops, which stand between loops that can be fused.
        steps.append(Step(tuple(loops), ParforFusionPass))
    return steps


def _packs(selection: Selection) -> bool:
    """Whether Codegen packs what contractions read: with vectors, and no check of subscripts."""
    return bool(selection.value("codegen") and vectormath.width()) and not selection.boundscheck


def device_plan(selection: Selection, place: Any) -> list[Step]:
    """Steps of a function whose arrays live on a device."""
    steps: list[Step] = []
    fusion = [_device_fusion()] if selection.value("fusion") else []
    if value := selection.value("broadcast"):
        # No versions and no blocks: a kernel has its own order, and its threads see sizes.
        # Reductions become kernels here: Numba has no form for those that may be computed
        # in any order.
        passes = (
            _broadcast(value, versions=False),
            *fusion,
            _gpu_of(place, selection, reductions_only=True),
        )
        steps.append(Step(passes, NopythonRewrites, arrays=True))
    # GpuOutline last: what is a kernel has to be known after fusion.
    steps.append(Step((*fusion, _gpu_of(place, selection)), ParforFusionPass))
    return steps


def _sequential(pm: PassManager, selection: Selection) -> list[Step]:
    """Steps of functions without parallel=True; those behind one pass in reverse order."""
    steps: list[Step] = []
    wanted = any(selection.value(stage) for stage in ("broadcast", "fusion", "tiling"))
    if _has(pm, NopythonRewrites) and wanted:
        # Array statements become loops as in parallel functions, all on one live module.
        # Fusion needs Broadcast in front: it compares the bounds of loops.
        fusion = selection.value("fusion")
        fuses = bool(fusion)
        copies = fuses and _packs(selection)
        passes = [_broadcast(True, versions=fuses, products=fuses, copies=copies)]
        if fusion:
            passes.append(_sequential_fusion())
        if tiling := selection.value("tiling"):
            passes.append(PASSES["tiling"](tiling))
        passes.append(_reductions(parallel=False))
        # Sequential last: it takes from the loops what the other passes know them by.
        passes.append(_to_sequential())
        steps.append(Step(tuple(passes), NopythonRewrites, arrays=True))
    if value := selection.value("identity"):
        places = (NopythonRewrites, InlineOverloads)
        steps += [Step((_identity(value),), place) for place in places if _has(pm, place)][:1]
    return steps


def _add_in_front(pm: PassManager, made: type, of: type) -> None:
    """Add a pass at once in front of another, which is not the first one."""
    order = [one for one, _ in pm.passes]
    pm.add_pass_after(made, order[order.index(of) - 1])


def _has(pm: PassManager, wanted: type) -> bool:
    return any(one is wanted for one, _ in pm.passes)


class MLIRCompiler(CompilerBase):
    """Base of the compiler classes that `compiler_class` makes."""

    selection: ClassVar[Selection] = Selection()

    def define_pipelines(self) -> list[PassManager]:
        """The base class's pipelines with our passes."""
        device.enter(self.state)
        pipelines = super().define_pipelines()
        for pm in pipelines:
            add_passes(pm, self.state, self.selection)
        return pipelines


def pipeline(
    *,
    broadcast: bool | None = None,
    fusion: bool | None = None,
    tiling: bool | TileSizes | None = None,
    gpu: bool | str | None = None,
    codegen: bool | None = None,
    identity: bool | str | None = None,
    strict: bool = False,
    precise: bool = False,
) -> type[CompilerBase]:
    """A compiler class for stock ``numba.njit(parallel=True, pipeline_class=...)``.

    Arguments are those of the flags with the same names and follow the same rule: none
    given, the whole pipeline; some True, those and no other; some False, all but those.
    Equal arguments give the same class, and it is pickled by its arguments.

    Stock Numba forgets ``pipeline_class`` when it pickles a function and does not have
    it in the key of its on-disk cache; `numba_mlir.njit` does neither.
    Raises InvalidFlagError for a wrong value and for a pass that does not exist.
    """
    given = {
        "mlir_broadcast": broadcast,
        "mlir_fusion": fusion,
        "mlir_tiling": tiling,
        "mlir_gpu": gpu,
        "mlir_codegen": codegen,
        "mlir_identity": identity,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    options = {**flags, "mlir_strict": strict, "mlir_precise": precise}
    return compiler_class(select(options, STAGES))


@functools.cache
def compiler_class(selection: Selection, base: type[CompilerBase] = Compiler) -> type[CompilerBase]:
    """A subclass of ``base`` (a user's ``pipeline_class``) with the selected passes."""
    body = {"selection": selection, "__module__": __name__}
    name = _encode(selection) if base is Compiler else f"MLIR{base.__name__}"
    return type(name, (MLIRCompiler, base), body)


# Pickle stores a class as its module and name and gets it back with getattr.  The names
# of the classes made for stock Numba hold their options, and the module's __getattr__
# makes the class again from them.

_NAME = "MLIRCompiler_"


def _encode(selection: Selection) -> str:
    options = {"strict": selection.strict} | ({"precise": True} if selection.precise else {})
    return _NAME + repr({**dict(selection.passes), **options})


def __getattr__(name: str) -> Any:
    if name.startswith(_NAME):
        values = ast.literal_eval(name.removeprefix(_NAME))
        strict, precise = values.pop("strict"), values.pop("precise", False)
        if values.keys() <= set(STAGES):
            return compiler_class(Selection(tuple(values.items()), strict, precise))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
