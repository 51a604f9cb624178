"""Passes in Numba's pipelines: the adapter, the order, stock ``numba.njit``."""

from __future__ import annotations

import dataclasses
import pickle
import re
import subprocess
import sys
from typing import Any, ClassVar

import numba
import numpy as np
import pytest
from numba import cloudpickle
from numba.core import ir as numba_ir
from numba.core.compiler import Compiler, CompilerBase, DefaultPassBuilder, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.cpu_options import ParallelOptions
from numba.core.typed_passes import (
    NopythonRewrites,
    NopythonTypeInference,
    ParforFusionPass,
    ParforPass,
    ParforPreLoweringPass,
)

import numba_mlir
from numba_mlir import errors, mlir
from numba_mlir.passes.base import MLIRPass, PassResult, Remark
from numba_mlir.roundtrip import importer, pass_class
from numba_mlir.roundtrip.adapter import RoundTrip, new_pass_class
from numba_mlir.roundtrip.array_inline import InlineArrayCalls
from numba_mlir.roundtrip.escape_passes import MarkEscaping
from numba_mlir.roundtrip.flags import Selection
from numba_mlir.roundtrip.index_passes import NumberIndices, UnitSteps
from numba_mlir.roundtrip.masks import HidePicked
from numba_mlir.roundtrip.pipeline import switch_off_numba_fusion
from numba_mlir.roundtrip.reduction_passes import TakeReductions, TypeReductions


@dataclasses.dataclass(frozen=True)
class Look(MLIRPass):
    """Changes nothing; keeps the modules that it was given in ``seen``."""

    label: str = ""
    name: ClassVar[str] = "look"
    seen: ClassVar[list[Any]] = []

    def run(self, module: Any) -> PassResult:
        self.seen.append(module)
        return PassResult(False, (Remark("analysis", self.name, f"looked {self.label}"),))


@dataclasses.dataclass(frozen=True)
class Broken(MLIRPass):
    name: ClassVar[str] = "broken"

    def run(self, module: Any) -> PassResult:
        raise IndexError("nothing there")


@dataclasses.dataclass(frozen=True)
class Spoil(MLIRPass):
    """Makes the module invalid: drops the function's return."""

    name: ClassVar[str] = "spoil"

    def run(self, module: Any) -> PassResult:
        function = module.body.operations[0]
        blocks = list(function.regions[0].blocks)
        blocks[-1].operations[len(blocks[-1].operations) - 1].operation.erase()
        return PassResult(True)


@pytest.fixture(autouse=True)
def _forget() -> None:
    Look.seen.clear()


def with_passes(*passes: MLIRPass, **options: Any) -> type[CompilerBase]:
    """A user's compiler class, as the README shows it."""

    class Mine(CompilerBase):
        def define_pipelines(self) -> list[PassManager]:
            pm = DefaultPassBuilder.define_nopython_pipeline(self.state)
            pm.add_pass_after(pass_class(*passes, **options), ParforFusionPass)
            pm.finalize()
            return [pm]

    return Mine


def double(x):
    y = x * 2
    return y


def lazily(n):
    yield n


def compiled(func: Any, *passes: MLIRPass, **options: Any) -> Any:
    return numba.njit(parallel=True, pipeline_class=with_passes(*passes, **options))(func)


def record(dispatcher: Any) -> Any:
    return dispatcher.get_metadata(dispatcher.signatures[0])["mlir"]


def test_equal_passes_give_the_same_class() -> None:
    assert pass_class(Look()) is pass_class(Look())
    assert pass_class(Look()) is not pass_class(Look("x"))
    assert pass_class(Look()) is not pass_class(Look(), strict=True)
    names = {pass_class(*p).name() for p in [(Look(),), (Look("x"),), (Look(), Look("x"))]}
    assert len(names) == 3
    assert all(name.startswith("mlir_look") for name in names)


@pytest.mark.parametrize("wrong", [(), (Look,), ("look",), (Look(), None)])
def test_pass_class_takes_pass_objects(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        pass_class(*wrong)


def test_neighbours_share_one_live_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_MLIR_ROUNDTRIP_EACH", raising=False)
    f = compiled(double, Look("a"), Look("b"))
    assert f(np.ones(3)).tolist() == [2.0, 2.0, 2.0]
    first, second = Look.seen
    assert first is second
    assert record(f).passes == ["look", "look"]
    assert [r.message for r in record(f).remarks] == ["looked a", "looked b"]
    assert record(f).exports == 0, "nothing was modified"
    assert {"import", "look"} == record(f).timings.keys()
    assert record(f).stages == [], "no text is kept for stock Numba's functions"


def test_forced_round_trip_after_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_MLIR_ROUNDTRIP_EACH", "1")
    f = compiled(double, Look("a"), Look("b"))
    assert f(np.ones(3)).tolist() == [2.0, 2.0, 2.0]
    first, second = Look.seen
    assert first is not second
    assert record(f).exports == 2
    assert "export" in record(f).timings


def test_a_bug_of_a_pass_names_pass_function_and_line() -> None:
    f = compiled(double, Look(), Broken())
    with pytest.raises(errors.PassError, match="internal error in the pass 'broken'") as caught:
        f(np.ones(3))
    assert "'double'" in str(caught.value)
    assert "IndexError: nothing there" in str(caught.value)
    assert "test_pipeline.py" in str(caught.value)
    assert isinstance(caught.value.__cause__, IndexError)


def test_invalid_ir_tells_mlirs_message_and_the_users_line() -> None:
    f = compiled(double, Spoil())
    with pytest.raises(errors.VerificationError, match="the pass 'spoil'") as caught:
        f(np.ones(3))
    assert "empty block" in str(caught.value) or "terminator" in str(caught.value)
    assert isinstance(caught.value.__cause__, mlir.ir.MLIRError)
    line = double.__code__.co_firstlineno
    assert line <= caught.value.loc.line <= line + 2
    assert caught.value.loc.filename == __file__


def test_a_failure_before_the_export_leaves_numbas_state() -> None:
    seen: list[tuple[Any, str, int]] = []

    class Spy(RoundTrip):
        def bring_in(self, state: Any, record: Any) -> Any:
            seen.append((state, state.func_ir.dump_to_string(), len(state.typemap)))
            return super().bring_in(state, record)

    spy = new_pass_class(Spy, (Spoil(),))

    class Mine(CompilerBase):
        def define_pipelines(self) -> list[PassManager]:
            pm = DefaultPassBuilder.define_nopython_pipeline(self.state)
            pm.add_pass_after(spy, ParforFusionPass)
            pm.finalize()
            return [pm]

    with pytest.raises(errors.VerificationError):
        numba.njit(parallel=True, pipeline_class=Mine)(double)(np.ones(3))
    ((state, text, variables),) = seen
    assert (state.func_ir.dump_to_string(), len(state.typemap)) == (text, variables)


def test_refused_function_stays_as_numba_had_it() -> None:
    f = compiled(lazily, Look())
    assert list(f(3)) == [3]
    assert Look.seen == []
    (reason,) = record(f).refusals
    assert "generator" in reason
    (remark,) = record(f).remarks
    assert (remark.kind, remark.file) == ("missed", __file__)


def test_strict_makes_a_refusal_an_error_at_the_line() -> None:
    f = compiled(lazily, Look(), strict=True)
    with pytest.raises(errors.UnsupportedConstruct, match="generator") as caught:
        f(3)
    line = lazily.__code__.co_firstlineno
    assert line <= caught.value.loc.line <= line + 1


def test_strict_and_a_loop_that_was_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    line = double.__code__.co_firstlineno + 1
    original = importer.import_function

    def with_an_opaque_loop(state: Any, **options: Any) -> Any:
        imported = original(state, **options)
        imported.opaque.append((numba_ir.Loc(__file__, line), "a loop of another kind"))
        return imported

    monkeypatch.setattr(importer, "import_function", with_an_opaque_loop)
    f = compiled(double, Look())
    f(np.ones(3))
    assert record(f).remarks[0] == Remark(
        "missed", "import", "a loop of another kind", line, __file__
    )
    with pytest.raises(errors.UnsupportedConstruct, match="a loop of another kind") as caught:
        compiled(double, Look(), strict=True)(np.ones(3))
    assert caught.value.loc.line == line


def test_missing_bindings_are_told_with_the_users_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise errors.MissingMLIRError("no MLIR Python bindings found")

    monkeypatch.setattr(mlir, "context", missing)
    with pytest.raises(errors.MissingMLIRError, match=r"no MLIR(.|\n)*test_pipeline.py"):
        compiled(double, Look())(np.ones(3))


# -- pipeline() ------------------------------------------------------------------------


def passes_of(compiler: type[CompilerBase], parallel: Any = True) -> tuple[list[Any], Any]:
    """The passes that ``compiler`` would run on a function, and its state."""
    from numba.core.registry import cpu_target

    flags = Flags()
    flags.nrt = True
    flags.auto_parallel = ParallelOptions(parallel)
    one = compiler(cpu_target.typing_context, cpu_target.target_context, None, (), None, flags, {})
    one.state.func_id = numba.core.bytecode.FunctionIdentity.from_function(double)
    (pm,) = one.define_pipelines()
    assert pm.finalized
    return [cls for cls, _ in pm.passes], one.state


def stem(cls: Any) -> str:
    """The name of a pass class without its number, which depends on the classes before it."""
    return re.sub(r"_\d+$", "", cls.name())


def test_fusion_stands_behind_numbas_pass_which_does_not_fuse() -> None:
    passes, state = passes_of(numba_mlir.pipeline(fusion=True))
    place = passes.index(ParforFusionPass)
    assert stem(passes[place + 1]) == "mlir_parallelize_fusion"
    assert passes[place + 2] is ParforPreLoweringPass
    assert not state.flags.auto_parallel.fusion
    assert state.flags.auto_parallel.enabled


def test_numbas_fusion_stays_on_where_ours_is_off() -> None:
    passes, state = passes_of(numba_mlir.pipeline(identity=True))
    assert stem(passes[passes.index(ParforFusionPass) + 1]) == "mlir_identity"
    assert state.flags.auto_parallel.fusion


def test_broadcast_stands_in_front_of_parfors() -> None:
    passes, state = passes_of(numba_mlir.pipeline(broadcast=True))
    place = passes.index(NopythonRewrites)
    assert stem(passes[place + 1]) == "mlir_broadcast_reductions"
    in_front = [UnitSteps, NumberIndices, HidePicked, MarkEscaping, ParforPass]
    assert passes[place + 2 : place + 7] == in_front
    assert state.flags.auto_parallel.fusion


@pytest.mark.parametrize(
    "options, names",
    [
        ({"broadcast": True}, ["broadcast_reductions_sequential"]),
        ({"fusion": True}, ["broadcast_fusion_reductions_sequential"]),
        ({"identity": True}, ["identity"]),
        (
            {"identity": True, "fusion": True},
            ["identity", "broadcast_fusion_reductions_sequential"],
        ),
    ],
)
def test_sequential_functions_get_one_round_trip(
    options: dict[str, bool], names: list[str]
) -> None:
    passes, _ = passes_of(numba_mlir.pipeline(**options), parallel=False)  # pyright: ignore
    place = passes.index(NopythonRewrites)
    found = passes[place + 1 : place + 1 + len(names)]
    assert [stem(cls) for cls in found] == [f"mlir_{name}" for name in names]
    del passes[place + 1 : place + 1 + len(names)]
    assert (InlineArrayCalls in passes) == ("fusion" in names[-1])
    around_typing = (TakeReductions, TypeReductions)
    rest = [one for one in passes if one not in (*around_typing, InlineArrayCalls)]
    assert rest == passes_of(Compiler, parallel=False)[0]
    if "broadcast" in names[-1]:
        place = passes.index(NopythonTypeInference)
        assert passes[place - 1 : place + 2 : 2] == list(around_typing)


def test_switching_numbas_fusion_off_does_not_reach_the_callers_flags() -> None:
    _, state = passes_of(Compiler)
    flags = state.flags
    switch_off_numba_fusion(state)
    assert flags.auto_parallel.fusion
    assert not state.flags.auto_parallel.fusion


def test_pipeline_follows_the_preset_rule() -> None:
    without_codegen = numba_mlir.pipeline(codegen=False)
    others = {"broadcast": True, "fusion": True, "tiling": True, "gpu": True}
    assert without_codegen is numba_mlir.pipeline(**others)
    assert numba_mlir.pipeline() is not without_codegen
    # asked for by name, it takes sequential loops that gain nothing as well
    assert numba_mlir.pipeline() is not numba_mlir.pipeline(codegen=True, **others)
    assert numba_mlir.pipeline(fusion=True) is not numba_mlir.pipeline(fusion=True, strict=True)
    assert numba_mlir.pipeline(tiling=(64, 64)) is not numba_mlir.pipeline(tiling=True)
    with pytest.raises(errors.InvalidFlagError, match="mlir_tiling must be"):
        numba_mlir.pipeline(tiling=64)  # pyright: ignore
    with pytest.raises(errors.InvalidFlagError, match="mlir_gpu must be"):
        numba_mlir.pipeline(gpu="no such back end")
    with pytest.raises(errors.InvalidFlagError, match="mlir_fusion must be"):
        numba_mlir.pipeline(fusion="yes")  # pyright: ignore
    with pytest.raises(TypeError):
        numba_mlir.pipeline(fussion=True)  # pyright: ignore


@pytest.mark.parametrize(
    "options",
    [{}, {"codegen": True, "precise": True}, {"identity": "exact", "fusion": True, "strict": True}],
)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_pipeline_classes_are_pickled_by_their_options(pickler: Any, options: Any) -> None:
    made = numba_mlir.pipeline(**options)
    assert pickle.loads(pickler.dumps(made)) is made


def test_pipeline_class_is_found_again_in_a_new_process() -> None:
    data = pickle.dumps(numba_mlir.pipeline(identity=True))
    code = f"import pickle; print(pickle.loads({data!r}).selection)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == repr(Selection((("identity", True),)))


def test_unknown_names_of_the_module_are_attribute_errors() -> None:
    from importlib import import_module

    module = import_module("numba_mlir.roundtrip.pipeline")
    for name in ("Nothing", "MLIRCompiler_{'nothing': True, 'strict': False}"):
        with pytest.raises(AttributeError):
            getattr(module, name)


def test_a_tuple_stays_behind_the_loops_that_fill_its_arrays() -> None:
    # Numba removes stores into an array that only a tuple made earlier still has.
    @numba_mlir.njit(parallel=True)
    def f(a):
        total = 0.0
        for x in a:
            total += x
        return total, np.exp(a), (a + 1, np.abs(a))

    a = np.linspace(-1, 1, 10)
    total, exp, (more, positive) = f(a)
    np.testing.assert_allclose(total, a.sum(), atol=1e-15)
    np.testing.assert_allclose(exp, np.exp(a))
    np.testing.assert_array_equal(more, a + 1)
    np.testing.assert_array_equal(positive, np.abs(a))


def test_an_array_that_a_loop_reduced_is_read_by_a_later_loop() -> None:
    @numba_mlir.njit(parallel=True, mlir_fusion=True)
    def f(a, rows):
        total = np.zeros(rows.shape[1])
        for i in numba.prange(rows.shape[0]):
            total += rows[i]
        return np.max(a), np.array([x * -1.5 for x in a]), np.square(total)

    a, rows = np.arange(4.0), np.arange(12.0).reshape(3, 4)
    greatest, scaled, squares = f(a, rows)
    assert greatest == 3
    np.testing.assert_array_equal(scaled, a * -1.5)
    np.testing.assert_array_equal(squares, rows.sum(axis=0) ** 2)
