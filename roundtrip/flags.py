"""The ``mlir_*`` and ``gpu_*`` flags: one table, their type checks, and the preset rule.

The rule: no pass flag given, the whole pipeline; one or more switched on, those passes
and no other; one switched off, the whole pipeline without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from numba.core import compiler, cpu
from numba.core.targetconfig import Option

from numba_mlir.errors import InvalidFlagError, UnknownFlagError

#: names that begin so are ours; the second kind says how code for a device is made
PREFIXES = ("mlir_", "gpu_")
TileSizes = tuple[int, ...]


@dataclass(frozen=True)
class Flag:
    """A flag: ``accepts`` tells good values from bad, ``expects`` says which are good.

    ``stage`` is the name of the pass it switches, None for those that switch none.
    ``preset`` says whether the whole pipeline has that pass, with ``preset_value``.
    """

    name: str
    accepts: Callable[[Any], bool]
    expects: str
    doc: str
    stage: str | None = None
    preset: bool = True
    preset_value: Any = True

    def check(self, value: Any) -> Any:
        """``value``; InvalidFlagError when it is of the wrong type or out of range."""
        if not self.accepts(value):
            raise InvalidFlagError(f"{self.name} must be {self.expects}, not {value!r}")
        return value


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_tile(value: Any) -> bool:
    sizes = isinstance(value, tuple) and 0 < len(value) <= 4
    return _is_bool(value) or (sizes and all(type(n) is int and n > 0 for n in value))


def _is_gpu(value: Any) -> bool:
    return _is_bool(value) or value in ("sycl", "cuda")


def _is_truncation(value: Any) -> bool:
    return _is_bool(value) or value == "auto"


def _is_identity(value: Any) -> bool:
    return _is_bool(value) or value == "exact"


#: value of the stage "codegen" where nobody asked for it by name: sequential loops and functions
#: are only compiled by MLIR where they get faster
WHERE_IT_GAINS = "where it gains"
_BOOL = "True or False"
_TILES = f"{_BOOL}, or a tuple of one to four positive sizes such as (64, 64)"

#: every flag, in the order of the pipeline
FLAGS: dict[str, Flag] = {
    flag.name: flag
    for flag in (
        Flag("mlir_broadcast", _is_bool, _BOOL, "array expressions to loops", "broadcast"),
        Flag(
            "mlir_identity",
            _is_identity,
            f"{_BOOL}, or 'exact' (no clean-up)",
            "import and export only: for tests",
            "identity",
            preset=False,
        ),
        Flag("mlir_fusion", _is_bool, _BOOL, "fuse loops, remove temporaries", "fusion"),
        Flag("mlir_tiling", _is_tile, _TILES, "cut loops into blocks", "tiling"),
        Flag("mlir_gpu", _is_gpu, f"{_BOOL}, 'sycl' or 'cuda'", "offload loops", "gpu"),
        Flag(
            "mlir_codegen",
            _is_bool,
            _BOOL,
            "machine code by MLIR",
            "codegen",
            preset_value=WHERE_IT_GAINS,
        ),
        Flag("mlir_strict", _is_bool, _BOOL, "a refused function or loop is an error"),
        Flag("mlir_precise", _is_bool, _BOOL, "no vector versions of exp, sin and the like"),
        Flag("mlir_check", _is_bool, _BOOL, "compare first calls with plain Numba"),
        Flag(
            "gpu_fp64_truncate",
            _is_truncation,
            f"{_BOOL}, or 'auto' (where the device has no float64)",
            "float64 arithmetic of kernels in float32",
        ),
        Flag("gpu_use_64bit_index", _is_bool, _BOOL, "indices of kernels have 64 bits"),
    )
}


@dataclass(frozen=True)
class Selection:
    """The passes of a pipeline, each with its flag's value, in the table's order.

    ``boundscheck`` is Numba's flag.
    """

    passes: tuple[tuple[str, Any], ...] = ()
    strict: bool = False
    precise: bool = False
    fp64_truncate: bool | str = False
    use_64bit_index: bool = True
    boundscheck: bool = False

    def value(self, stage: str) -> Any:
        """The value of the flag of ``stage``; False when the pass is not wanted."""
        return dict(self.passes).get(stage, False)


def select(given: Mapping[str, Any], available: Collection[str]) -> Selection:
    """The preset rule over flags by name; others than ours are ignored.

    ``available`` names the passes of this version.  Raises UnknownFlagError for an
    unknown name with one of our prefixes, InvalidFlagError for a wrong value and for a pass that is
    switched on and not available.
    """
    values = _checked(given)
    stages = {flag.stage: flag for flag in FLAGS.values() if flag.stage is not None}
    chosen = {s: values[f.name] for s, f in stages.items() if values.get(f.name, False)}
    if missing := sorted(chosen.keys() - set(available)):
        names = ", ".join(stages[stage].name for stage in missing)
        has = ", ".join(sorted(stages[stage].name for stage in available))
        raise InvalidFlagError(f"{names}: this version has no such pass; it has {has}")
    if not chosen:
        chosen = {
            stage: flag.preset_value
            for stage, flag in stages.items()
            if flag.preset and stage in available and values.get(flag.name, True)
        }
    return Selection(
        tuple(chosen.items()),
        strict=values.get("mlir_strict", False),
        precise=values.get("mlir_precise", False),
        fp64_truncate=values.get("gpu_fp64_truncate", False),
        use_64bit_index=values.get("gpu_use_64bit_index", True),
    )


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in given.items() if name.startswith(PREFIXES)}
    unknown = sorted(values.keys() - FLAGS.keys())
    if unknown:
        raise UnknownFlagError(
            f"Unrecognized options: {', '.join(unknown)}. Known options of this package are "
            f"{', '.join(FLAGS)}"
        )
    return {name: FLAGS[name].check(value) for name, value in values.items()}


def _option(flag: Flag) -> Option:
    return Option(type=flag.check, default=None, doc=flag.doc)


#: Numba's compiler flags and ours; given flags enter the mangled names of functions
MLIRFlags: Any = type(compiler.Flags)(
    "MLIRFlags",
    (compiler.Flags,),
    {
        "__slots__": (),
        "__module__": __name__,
        "__doc__": "Compiler flags of functions that the dispatchers of this project compile.",
        "keeps_mlir_text": True,
        **{name: _option(flag) for name, flag in FLAGS.items()},
    },
)


def with_mlir_flags(flags: compiler.Flags, options: Mapping[str, Any]) -> Any:
    """An MLIRFlags copy of ``flags`` with those of the target options that are ours."""
    extended = MLIRFlags(copy_from=flags)
    for name in FLAGS.keys() & options.keys():
        setattr(extended, name, options[name])
    return extended


class MLIRTargetOptions(cpu.CPUTargetOptions):
    """The CPU target's options; `with_mlir_flags` reads those that are ours."""

    @classmethod
    def parse_as_flags(cls, flags: Any, options: Mapping[str, Any]) -> Any:
        """As Numba's, without touching ``options`` (Numba pops keys from ``parallel``)."""
        plain = {name: value for name, value in options.items() if name not in FLAGS}
        if isinstance(plain.get("parallel"), dict):
            plain["parallel"] = dict(plain["parallel"])
        return super().parse_as_flags(flags, plain)
