"""Functions whose arrays live on a device: their types, and the passes around ours.

In such a function every array is on the device that its arguments are on.  Inside it they
have Numba's plain array types, so that type inference and all passes work as they do for
the host.  Behind the last pass the arguments and results get their own types back, and a
check makes sure that the host does not touch an element.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from numba.core import ir, ir_utils
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.cpu_options import ParallelOptions
from numba.core.errors import NumbaPerformanceWarning
from numba.core.typed_passes import ParforPass

from numba_mlir.errors import InvalidFlagError, MixedDevicesError, UnsupportedConstruct
from numba_mlir.gpu.backend import backend
from numba_mlir.gpu.places import DeviceArray, Place, arrays_in, has_host_array, on_device, on_host
from numba_mlir.roundtrip.device_check import check
from numba_mlir.roundtrip.instruments import Record

if TYPE_CHECKING:
    from numba_mlir.roundtrip.importer import Imported

#: key of Numba's metadata of a compilation: the `Place` of the function
METADATA_KEY = "mlir_place"


def place_of(args: Sequence[Any]) -> Place | None:
    """The device that the arguments' arrays live on; None when they live on the host.

    Raises MixedDevicesError for arrays of two devices, and of a device and the host.
    """
    found: dict[Place | None, tuple[int, Any]] = {}
    for number, arg in enumerate(args):
        for array in arrays_in(arg):
            place = array.place if isinstance(array, DeviceArray) else None
            found.setdefault(place, (number, array))
    if len(found) > 1:
        texts = [f"argument {number} is on {place or 'the host'} ({array})"
                 for place, (number, array) in found.items()]  # fmt: skip
        raise MixedDevicesError(
            f"arrays of one function must live on one device: {' and '.join(texts[:2])}"
        )
    return next(iter(found), None)


def enter(state: Any) -> Place | None:
    """Give a compilation for arrays on a device the types that it has inside.

    Such a function is always compiled with Numba's ``parallel``: that makes the loops.
    """
    place = place_of(state.args)
    if place is None:
        return None
    state.metadata[METADATA_KEY] = place
    state.args = tuple(on_host(arg) for arg in state.args)
    if not state.flags.auto_parallel.enabled:
        state.flags = state.flags.copy()
        state.flags.auto_parallel = ParallelOptions(True)
    return place


#: threads whose registers can be exchanged, by back end: CUDA's warps
_SUBGROUPS = {"cuda": 32}
#: blocks of a reduction for each unit of the device: all of them run at the same time
_BLOCKS_PER_UNIT = {"cuda": 4}


def outlining(place: Place, truncate: bool | str) -> dict[str, Any]:
    """Options of the pass GpuOutline for a device; ``truncate`` is ``gpu_fp64_truncate``."""
    subgroup = _SUBGROUPS.get(place.backend, 0)
    found = backend(place.backend).properties(place)
    options: dict[str, Any] = {"subgroup": subgroup, "last_block": bool(subgroup)}
    options |= {"landing": found.landing, "block": found.max_block}
    options |= {"truncate": truncate is True or (truncate == "auto" and not found.fp64),
                "fp64": found.fp64}  # fmt: skip
    if each := _BLOCKS_PER_UNIT.get(place.backend):
        options["reduction_blocks"] = each * found.compute_units
    return options


def check_wanted(args: Sequence[Any], wanted: bool | str, place: Place | None) -> None:
    """Compare the value of ``mlir_gpu`` with where the arrays are.

    Raises InvalidFlagError where the flag excludes the place.
    """
    if place is not None and not wanted:
        raise InvalidFlagError(f"an argument is {place}, and mlir_gpu is switched off")
    if not isinstance(wanted, str):
        return
    if place is not None and place.backend != wanted:
        raise InvalidFlagError(f"an argument is {place}, and mlir_gpu is {wanted!r}")
    if place is None and any(True for arg in args for _ in arrays_in(arg)):
        raise InvalidFlagError(
            f"mlir_gpu={wanted!r} with arrays of the host: they are copied only in calls from "
            "Python; pass arrays of the device"
        )


@register_pass(mutates_CFG=True, analysis_only=False)
class QuietParforPass(ParforPass):
    """Numba's, without its warning where it finds no loop: ours may have taken them all."""

    _name = "mlir_device_parfor_pass"

    def run_pass(self, state: Any) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaPerformanceWarning)
            return super().run_pass(state)


@register_pass(mutates_CFG=False, analysis_only=False)
class EarlyCalls(FunctionPass):
    """Calls of functions of the arrays' library that Numba would make loops of."""

    _name: ClassVar[str] = "mlir_device_early_calls"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        from numba_mlir.roundtrip import device_calls

        device_calls.rewrite_early(state)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class Leave(FunctionPass):
    """Arguments and results get the types that the caller sees."""

    _name: ClassVar[str] = "mlir_device_types"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        from numba_mlir.roundtrip import device_calls

        place = state.metadata[METADATA_KEY]
        device_calls.rewrite(state)
        check(state, place, Record.of(state))
        names = state.func_ir.arg_names
        args = []
        for name, arg in zip(names, state.args, strict=True):
            outside = on_device(arg, place)
            key = f"arg.{name}"
            if key in state.typemap and outside != state.typemap[key]:
                del state.typemap[key]
                state.typemap[key] = outside
            args.append(outside)
        state.args = tuple(args)
        outside = on_device(state.return_type, place)
        if has_host_array(outside):
            raise UnsupportedConstruct(
                f"a result of type {state.return_type} has no form for arrays on {place}: return "
                "arrays, numbers, or tuples of them",
                state.func_ir.loc,
            )
        if outside != state.return_type:
            for block in state.func_ir.blocks.values():
                if isinstance(block.body[-1], ir.Return):
                    self._cast_result(state, block, outside)
            state.return_type = outside
        return True

    def _cast_result(self, state: Any, block: Any, outside: Any) -> None:
        """Lowering wants a returned variable to have the function's type."""
        last = block.body[-1]
        name = ir_utils.mk_unique_var("$result")
        var = ir.Var(block.scope, name, last.loc)
        state.typemap[name] = outside
        cast = ir.Assign(ir.Expr.cast(last.value, last.loc), var, last.loc)
        block.body[-1:] = [cast, ir.Return(var, last.loc)]


def device_rules(imported: Imported, state: Any, record: Record) -> dict[str, Any]:
    """Rules of the export for a function on a device, whose kernels are compiled now."""
    place = state.metadata.get(METADATA_KEY)
    if place is None:
        return {}
    from numba_mlir.roundtrip import gpu_compile, gpu_export

    bits = 32 if state.flags.gpu_use_64bit_index is False else 64
    imported.kernels = gpu_compile.compiled(imported.module, place, bits, record, state.func_ir.loc)
    return gpu_export.RULES
