"""The table of flags, their checks, and the preset rule."""

from __future__ import annotations

from typing import Any

import pytest
from numba.core.compiler import Flags

from numba_mlir import errors, jit, njit
from numba_mlir.roundtrip.flags import (
    FLAGS,
    WHERE_IT_GAINS,
    MLIRFlags,
    MLIRTargetOptions,
    Selection,
    select,
    with_mlir_flags,
)

ALL = ("broadcast", "identity", "fusion", "tiling", "gpu", "codegen")
WHOLE = tuple(
    (stage, WHERE_IT_GAINS if stage == "codegen" else True) for stage in ALL if stage != "identity"
)


def without(*stages: str) -> tuple[tuple[str, Any], ...]:
    return tuple(item for item in WHOLE if item[0] not in stages)


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        ({}, WHOLE),
        ({"mlir_strict": False, "mlir_check": True, "parallel": True}, WHOLE),
        ({"mlir_fusion": True}, (("fusion", True),)),
        ({"mlir_gpu": "sycl", "mlir_fusion": True}, (("fusion", True), ("gpu", "sycl"))),
        ({"mlir_tiling": (64, 64)}, (("tiling", (64, 64)),)),
        ({"mlir_tiling": (8,), "mlir_fusion": False}, (("tiling", (8,)),)),
        ({"mlir_fusion": False}, without("fusion")),
        ({"mlir_fusion": False, "mlir_gpu": False}, without("fusion", "gpu")),
        ({"mlir_identity": False}, WHOLE),
        ({"mlir_identity": "exact"}, (("identity", "exact"),)),
    ],
)
def test_preset_rule(given: dict[str, Any], passes: tuple[tuple[str, Any], ...]) -> None:
    assert select(given, ALL).passes == passes


def test_the_whole_pipeline_is_what_this_version_has() -> None:
    assert select({}, ["identity", "fusion"]).passes == (("fusion", True),)
    assert select({"mlir_fusion": False}, ["identity", "fusion"]).passes == ()
    assert select({"mlir_tiling": False}, ["fusion"]).passes == (("fusion", True),)


def test_value_of_a_stage() -> None:
    selection = select({"mlir_tiling": (4,)}, ALL)
    assert selection.value("tiling") == (4,)
    assert selection.value("fusion") is False
    assert not selection.strict
    assert select({"mlir_strict": True}, ALL).strict


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("mlir_fusion", 1),
        ("mlir_fusion", "yes"),
        ("mlir_fusion", None),
        ("mlir_broadcast", ()),
        ("mlir_tiling", 64),
        ("mlir_tiling", ()),
        ("mlir_tiling", (0, 64)),
        ("mlir_tiling", (64, True)),
        ("mlir_tiling", (2,) * 5),
        ("mlir_tiling", [64, 64]),
        ("mlir_gpu", "opencl"),
        ("mlir_identity", "approximately"),
        ("mlir_strict", 0),
        ("mlir_check", "first"),
    ],
)
@pytest.mark.parametrize("decorator", [jit, njit])
def test_wrong_value(decorator: Any, flag: str, wrong: Any) -> None:
    with pytest.raises(errors.InvalidFlagError, match=f"{flag} must be .*, not .*") as caught:
        decorator(**{flag: wrong})
    assert isinstance(caught.value, ValueError)


def test_unknown_mlir_flag_is_named_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="Unrecognized options: mlir_fussion") as caught:
        njit(mlir_fussion=True)
    assert isinstance(caught.value, errors.UnknownFlagError)
    assert all(name in str(caught.value) for name in FLAGS)


def test_other_unknown_flags_raise_as_with_numba() -> None:
    with pytest.raises(KeyError, match="Unrecognized options"):
        njit(fussion=True)(lambda x: x)(1)


@pytest.mark.parametrize("flag", ["mlir_broadcast", "mlir_tiling", "mlir_gpu", "mlir_codegen"])
def test_a_pass_that_does_not_exist_is_refused(flag: str) -> None:
    with pytest.raises(errors.InvalidFlagError, match=f"{flag}: this version has no such pass"):
        select({flag: True}, ["identity", "fusion"])


def test_flags_of_numba_are_kept_and_ours_enter_the_mangled_name() -> None:
    plain = Flags()
    plain.fastmath = True
    extended = with_mlir_flags(plain, {"fastmath": True, "mlir_fusion": True})
    assert extended.fastmath == plain.fastmath
    assert extended.mlir_fusion is True
    assert extended.mlir_tiling is None
    assert "mlir_fusion=True" in MLIRFlags.demangle(extended.get_mangle_string())
    assert type(extended.copy()) is MLIRFlags
    assert not plain.is_set("auto_parallel")


def test_the_users_parallel_dict_is_not_changed() -> None:
    parallel = {"fusion": False}
    for _ in range(2):
        flags = Flags()
        MLIRTargetOptions.parse_as_flags(flags, {"parallel": parallel, "mlir_fusion": True})
        assert flags.auto_parallel.fusion is False
    assert parallel == {"fusion": False}


def test_selections_are_equal_by_content() -> None:
    assert select({"mlir_fusion": True}, ALL) == Selection((("fusion", True),))
    assert hash(select({}, ALL)) == hash(select({"mlir_check": True}, ALL))
