"""Equal sizes: structural keys, checks of sizes, dominance of blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from ir_check import parsed

from numba_mlir.passes.keys import Equalities, asserts_in, dimension, dominators
from numba_mlir.passes.values import operations

SIZES = """
func.func @f(%a: memref<?x4xf64>, %b: memref<?x4xf64>, %n: index, %m: i64) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %k1 = arith.constant 1 : i64
  %a0 = memref.dim %a, %c0 : memref<?x4xf64>
  %again = memref.dim %a, %c0 : memref<?x4xf64>
  %a1 = memref.dim %a, %c1 : memref<?x4xf64>
  %b0 = memref.dim %b, %c0 : memref<?x4xf64>
  %four = arith.constant 4 : index
  %wide = arith.index_cast %n : index to i64
  %back = arith.index_cast %wide : i64 to index
  %t = memref.alloc(%n, %b0) : memref<?x3x?xf64>
  %c2 = arith.constant 2 : index
  %t0 = memref.dim %t, %c0 : memref<?x3x?xf64>
  %t1 = memref.dim %t, %c1 : memref<?x3x?xf64>
  %t2 = memref.dim %t, %c2 : memref<?x3x?xf64>
  %three = arith.constant 3 : i64
  %n1 = arith.subi %wide, %k1 : i64
  %tw = arith.index_cast %t0 : index to i64
  %n2 = arith.subi %tw, %k1 : i64
  %swapped = arith.subi %k1, %tw : i64
  %narrow = arith.index_cast %n : index to i32
  %narrow_back = arith.index_cast %narrow : i32 to index
  %unknown = memref.dim %a, %n : memref<?x4xf64>
  "numba.assert_equal"(%a0, %b0, %n) {message = "m"} : (index, index, index) -> ()
  return
}
"""


@pytest.fixture
def values() -> Iterator[dict[str, Any]]:
    """The values of SIZES by name, and the check of sizes as ``assert``."""
    names = re.findall(r"%(\w+) = ", SIZES)
    with parsed(SIZES) as module:
        block = next(iter(module.body)).regions[0].blocks[0]
        ops = operations(block)
        found = {name: op.results[0] for name, op in zip(names, ops, strict=False)}
        found |= dict(zip(["a", "b", "n", "m"], block.arguments, strict=True))
        found["assert"] = ops[len(names)]
        yield found


@pytest.mark.parametrize(
    "pair",
    ["a0 again", "a1 four", "n back", "n wide", "t0 n", "t1 three", "t2 b0", "n1 n2"],
)
def test_equal_without_any_check(values: dict[str, Any], pair: str) -> None:
    left, right = (values[name] for name in pair.split())
    assert Equalities().equal([left], [right])


@pytest.mark.parametrize(
    "pair",
    ["a0 b0", "a0 a1", "n m", "t0 t2", "n1 swapped", "n n1", "narrow_back n", "unknown a0"],
)
def test_not_known_to_be_equal(values: dict[str, Any], pair: str) -> None:
    left, right = (values[name] for name in pair.split())
    assert not Equalities().equal([left], [right])


def test_lists_of_different_length_are_not_equal(values: dict[str, Any]) -> None:
    assert not Equalities().equal([values["n"]], [values["n"], values["n"]])


def test_a_check_makes_its_sizes_and_what_is_computed_from_them_equal(
    values: dict[str, Any],
) -> None:
    equal = Equalities([values["assert"]])
    assert equal.equal([values["a0"], values["b0"]], [values["n"], values["t0"]])
    assert equal.equal([values["t2"]], [values["wide"]])
    assert not equal.equal([values["a1"]], [values["n"]])
    assert not equal.equal([values["n1"]], [values["n"]])


def test_sizes_of_allocations(values: dict[str, Any]) -> None:
    assert dimension(values["t"], 0) == values["n"]
    assert dimension(values["t"], 1) == 3
    assert dimension(values["t"], 2) == values["b0"]
    assert dimension(values["t"], 3) is None
    assert dimension(values["a"], 0) is None


DIAMOND = """
func.func @f(%c: i1, %n: index, %m: index) {
  cf.cond_br %c, ^left, ^right
^left:
  "numba.assert_equal"(%n, %m) {message = "m"} : (index, index) -> ()
  cf.br ^join
^right:
  cf.br ^join
^join:
  cf.cond_br %c, ^left, ^end
^end:
  return
}
"""


def test_dominators_of_a_diamond_with_a_back_edge() -> None:
    with parsed(DIAMOND) as module:
        region = next(iter(module.body)).regions[0]
        entry, left, right, join, end = region.blocks
        assert dominators(region) == {
            entry: set(),
            left: {entry},
            right: {entry},
            join: {entry},
            end: {entry, join},
        }
        assert len(asserts_in(left)) == 1
        assert asserts_in(join) == []
