"""Remarks, source positions, and the identity pass."""

from __future__ import annotations

import dataclasses

import pytest
from ir_check import parse, parsed, run_and_check

from numba_mlir import mlir
from numba_mlir.passes.base import (
    MLIRPass,
    PassResult,
    Remark,
    SourceLine,
    location_name,
    source_lines,
    source_position,
)
from numba_mlir.passes.fusion import Fusion
from numba_mlir.passes.identity import Identity

LOCATIONS = """
func.func @f() {
  %a = arith.constant 1 : i64 loc("user.py":3:5)
  %b = arith.constant 2 : i64 loc("x"("user.py":4:1))
  %c = arith.constant 3 : i64 loc(fused["y"("user.py":5:1), "user.py":7:2, "user.py":5:9])
  %d = arith.constant 4 : i64 loc(unknown)
  return
}
"""


def test_lines_and_names_are_found_inside_named_and_fused_locations() -> None:
    with parsed(LOCATIONS) as module:
        function = next(iter(module.body))
        locations = [op.operation.location for op in function.regions[0].blocks[0].operations]
        a, b, c, d, *_ = locations
        assert source_position(a) == ("user.py", 3)
        assert source_position(b) == ("user.py", 4)
        assert source_lines(c) == [SourceLine("user.py", 5), SourceLine("user.py", 7)]
        assert source_position(d) == (None, None)
        assert [location_name(loc) for loc in (a, b, c, d)] == [None, "x", "y", None]


def test_a_remark_is_made_at_the_users_line() -> None:
    with parsed(LOCATIONS) as module:
        function = next(iter(module.body))
        op = function.regions[0].blocks[0].operations[1].operation
        remark = Identity().remark("missed", "why", op.location)
    assert remark == Remark("missed", "identity", "why", 4, "user.py")
    assert str(remark) == "user.py:4: identity missed: why"
    assert str(Identity().remark("analysis", "fact")) == "identity analysis: fact"


def test_a_pass_must_define_run() -> None:
    @dataclasses.dataclass(frozen=True)
    class Nothing(MLIRPass):
        name = "nothing"

    with pytest.raises(NotImplementedError, match=r"Nothing\.run"):
        Nothing().run(None)


@pytest.mark.parametrize("a_pass", [Identity(), Identity(cleanup=False), Fusion(), Fusion(3)])
def test_passes_are_values(a_pass: MLIRPass) -> None:
    assert a_pass == dataclasses.replace(a_pass)
    assert hash(a_pass) == hash(dataclasses.replace(a_pass))
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_pass.anything = 1  # type: ignore[attr-defined]
    assert a_pass.name == type(a_pass).name != MLIRPass.__name__


def test_identity_cleans_up_and_reports_a_change() -> None:
    result = run_and_check(
        """
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME: %[[X:.*]]: i64)
        // CHECK-NEXT: %[[Y:.*]] = arith.muli %[[X]], %[[X]] : i64
        // CHECK-NEXT: return %[[Y]]
        func.func @f(%x: i64) -> i64 {
          %zero = arith.constant 0 : i64
          %same = arith.addi %x, %zero : i64
          %y = arith.muli %same, %x : i64
          return %y : i64
        }
        """,
        Identity(),
    )
    assert result == PassResult(modified=True)


def test_exact_identity_changes_nothing_and_still_reports_a_change() -> None:
    module = parse(
        "func.func @f(%x: i64) -> i64 {\n%y = arith.addi %x, %x : i64\nreturn %x : i64 }"
    )
    before = str(module)
    assert Identity(cleanup=False).run(module) == PassResult(modified=True)
    assert str(module) == before


def test_fusion_leaves_a_module_alone_where_there_is_nothing_to_fuse() -> None:
    module = parse("func.func private @external(i64)\nfunc.func @f() { return }")
    before = str(module)
    assert Fusion().run(module) == PassResult(modified=False)
    assert str(module) == before
    assert mlir.context() is module.context
