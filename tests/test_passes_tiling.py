"""Tiling on MLIR text: what becomes of a nest, what stays, and what is said about it."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from ir_check import CONSTANTS, messages, parse, run_and_check

from numba_mlir.passes.machine import Machine, _from_sysfs, _registers, this_machine
from numba_mlir.passes.tiling import Tiling

MACHINE = Machine(l1=32 << 10, l2=512 << 10, l3=32 << 20, line=64)
F = "memref<?x?xf64, strided<[?, ?], offset: ?>>"


def _function(body: str) -> str:
    arrays = ", ".join(
        f'%{name}: memref<?x?xf64> {{numba.name = "{name}"}}' for name in ("a", "b", "c")
    )
    fortran = f'%f: {F} {{numba.name = "f", numba.type = "array(float64, 2d, F)"}}'
    sizes = ", ".join(f"%{name}: index" for name in "nmk")
    head = f"func.func @f({arrays}, {fortran}, %v: memref<?xf64>, {sizes})"
    return f"{head} {{\n{CONSTANTS}\n{body}\nreturn\n}}"


def _tiled(body: str, *sizes: int) -> list[str]:
    result = run_and_check(_function(body), Tiling(sizes, MACHINE))
    assert result.modified
    return messages(result, "applied")


def _refused(body: str) -> list[str]:
    module = parse(_function(body))
    before = str(module)
    result = Tiling(machine=MACHINE).run(module)
    assert not result.modified
    assert str(module) == before
    return messages(result, "missed")


def test_loops_over_contiguous_elements_go_innermost_and_sums_live_in_the_array() -> None:
    applied = _tiled(
        """
        %x = memref.alloc(%n, %m) : memref<?x?xf64>
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            %s = scf.for %q = %c0 to %k step %c1 iter_args(%acc = %zero) -> (f64) {
              %p = memref.load %a[%i, %q] : memref<?x?xf64>
              %r = memref.load %b[%q, %j] : memref<?x?xf64>
              %t = arith.mulf %p, %r : f64
              %u = arith.addf %acc, %t : f64
              scf.yield %u : f64
            }
            memref.store %s, %x[%i, %j] : memref<?x?xf64>
          }
          scf.reduce
        } {numba.parfors = [3 : i64]}
        "pyir.stmt"(%x) : (memref<?x?xf64>) -> ()
        // CHECK-DAG:   %[[ZERO:.*]] = arith.constant 0.000000e+00 : f64
        // CHECK-DAG:   %[[C4:.*]] = arith.constant 4 : index
        // CHECK:       %[[X:.*]] = memref.alloc
        // CHECK:       memref.extract_aligned_pointer_as_index %[[X]]
        // CHECK:       scf.parallel (%[[TILE:.*]]) = (%{{.*}}) to (%[[TILES:.*]]) step
        // CHECK:         memref.store %[[ZERO]], %[[X]][%{{.*}}, %{{.*}}]
        // CHECK:         scf.for %[[KT:.*]] = %{{.*}} to %{{.*}} step %c32 {
        // CHECK:           scf.for %[[JT:.*]] = %c0 to %[[END:.*]] step %c384 {
        // CHECK:             %[[LATEST:.*]] = arith.maxsi %[[JT]], %[[MISSING:.*]] : index
        // CHECK:             %[[LOW:.*]] = arith.subi %[[LATEST]], %[[MISSING]] : index
        // CHECK:             scf.for %[[I:.*]] = %{{.*}} to %{{.*}} step %[[C4]] {
        // CHECK:               scf.for %[[K:.*]] = %[[KT]] to %{{.*}} step %[[C4]] {
        // CHECK:                 scf.for %[[J:.*]] = %[[LOW]] to %{{.*}} step %c1 {
        // CHECK:                   %[[OLD:.*]] = memref.load %[[X]][%[[I]], %[[J]]]
        // CHECK:                   %[[P:.*]] = memref.load %{{.*}}[%[[I]], %[[K]]]
        // CHECK:                   %[[R:.*]] = memref.load %{{.*}}[%[[K]], %[[J]]]
        // CHECK:                   %[[T:.*]] = arith.mulf %[[P]], %[[R]] : f64
        // CHECK:                   %[[U:.*]] = arith.addf %[[OLD]], %[[T]] : f64
        // CHECK:                   arith.addf %[[U]],
        // CHECK:       } {numba.parfors = [3]}
        """
    )  # fmt: skip
    assert applied == [
        "index an index innermost, along which the arrays are contiguous; "
        "unrolled 4 of an index by 4 of an index; blocks of 32 over an index; "
        "blocks of 384 over an index"
    ]


def test_parallel_indices_are_permuted_for_fortran_order() -> None:
    applied = _tiled(
        f"""
        %x = "pyir.stmt"() {{numba.type = "array(float64, 2d, F)", fresh}} : () -> {F}
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {{
          %p = memref.load %f[%i, %j] : {F}
          memref.store %p, %x[%i, %j] : {F}
          scf.reduce
        }} {{numba.parfors = [0 : i64]}}
        // CHECK-SAME: %[[N:[^ ]*]]: index, %[[M:[^ ]*]]: index, %{{{{.*}}}}: index)
        // CHECK:      scf.parallel (%[[J:.*]], %[[I:.*]]) = (%{{{{.*}}}}) to (%[[M]], %[[N]])
        // CHECK-NEXT:   %[[P:.*]] = memref.load %{{{{.*}}}}[%[[I]], %[[J]]]
        // CHECK-NEXT:   memref.store %[[P]], %{{{{.*}}}}[%[[I]], %[[J]]]
        """.replace("// CHECK-SAME:", "// CHECK-LABEL: func.func @f(\n        // CHECK-SAME:")
    )
    assert applied == ["index an index innermost, along which the arrays are contiguous"]


def test_strides_of_unknown_order_are_compared_at_run_time() -> None:
    applied = _tiled(
        """
        %x = "pyir.stmt"() {numba.type = "array(float64, 2d, A)", fresh} : () -> STRIDED
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {
          memref.store %zero, %x[%i, %j] : STRIDED
          scf.reduce
        }
        // CHECK:      %[[X:.*]] = "pyir.stmt"
        // CHECK-NEXT: %[[F:.*]] = "numba.column_major"(%[[X]]) :
        // CHECK-NEXT: scf.if %[[F]] {
        // CHECK-NEXT:   scf.parallel (%[[J:.*]], %[[I:.*]]) = (%{{.*}}) to
        // CHECK-SAME:     (%[[M:[^,]*]], %[[N:[^)]*]]) step
        // CHECK-NEXT:     memref.store %{{.*}}, %[[X]][%[[I]], %[[J]]]
        // CHECK:      } else {
        // CHECK-NEXT:   scf.parallel (%[[I:.*]], %[[J:.*]]) = (%{{.*}}) to (%[[N]], %[[M]])
        // CHECK-NEXT:     memref.store %{{.*}}, %[[X]][%[[I]], %[[J]]]
        """.replace("STRIDED", F)
    )
    assert "(where these lie in F order: a temporary array)" in applied[0]


def test_arguments_that_may_overlap_are_compared_at_run_time() -> None:
    applied = _tiled(
        """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            %o = memref.load %v[%i] : memref<?xf64>
            %p = memref.load %a[%j, %i] : memref<?x?xf64>
            %t = arith.addf %o, %p : f64
            memref.store %t, %v[%i] : memref<?xf64>
          }
          scf.reduce
        }
        // CHECK:      %[[APART:.*]] = "numba.disjoint"(%[[V:.*]], %[[A:.*]]) :
        // CHECK-NEXT: scf.if %[[APART]] {
        // CHECK:        scf.parallel
        // CHECK:          scf.for %[[J:.*]] = %{{.*}} to %{{.*}} step %c8 {
        // CHECK:            scf.for %[[I:.*]] = %{{.*}} to %{{.*}} step %c1 {
        // CHECK:              %[[O:.*]] = memref.load %[[V]][%[[I]]]
        // CHECK:              %[[P:.*]] = memref.load %[[A]][%[[J]], %[[I]]]
        // CHECK:              arith.addf %[[O]], %[[P]]
        // CHECK:      } else {
        // CHECK:        scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:     scf.for %[[J:.*]] = %{{.*}} to %{{.*}} step %c1 {
        // CHECK-NEXT:       memref.load %[[V]][%[[I]]]
        // CHECK-NEXT:       memref.load %[[A]][%[[J]], %[[I]]]
        """
    )
    assert "(where these do not overlap: a temporary array and a)" in applied[0]


_SCALED_PRODUCT = """
    scf.parallel (%i) = (%c0) to (%n) step (%c1) {
      scf.for %q = %c0 to %k step %c1 {
        scf.for %j = %c0 to %m step %c1 {
          %o = memref.load %x[%i, %j] : memref<?x?xf64>
          %p = memref.load %a[%i, %q] : memref<?x?xf64>
          %r = memref.load %b[%q, %j] : memref<?x?xf64>
          %w = memref.load %c[%q, %i] : memref<?x?xf64>
          %y = arith.mulf %p, %w : f64
          %t = arith.mulf %y, %r : f64
          %u = arith.addf %o, %t : f64
          memref.store %u, %x[%i, %j] : memref<?x?xf64>
        }
      }
      scf.reduce
    }
    "pyir.stmt"(%x) : (memref<?x?xf64>) -> ()
"""


def test_a_crossing_read_gives_blocks_where_its_lines_do_not_stay_in_the_cache() -> None:
    applied = _tiled(
        """
        %x = memref.alloc(%n, %m) : memref<?x?xf64>
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            %p = memref.load %a[%j, %i] : memref<?x?xf64>
            memref.store %p, %x[%i, %j] : memref<?x?xf64>
          }
          scf.reduce
        }
        "pyir.stmt"(%x) : (memref<?x?xf64>) -> ()
        // CHECK-DAG:   %[[LEAST:.*]] = arith.constant 65536 : index
        // CHECK:       %[[X:.*]] = memref.alloc(%[[N:.*]], %[[M:.*]]) :
        // CHECK-DAG:   %[[SN:.*]] = arith.maxsi %[[N]],
        // CHECK-DAG:   %[[SM:.*]] = arith.maxsi %[[M]],
        // CHECK:       %[[ALL:.*]] = arith.muli %[[SM]], %[[SN]]
        // CHECK:       %[[PAYS:.*]] = arith.cmpi sge, %[[ALL]], %[[LEAST]]
        // CHECK:       scf.if %[[PAYS]] {
        // CHECK:         %[[ROW:.*]] = memref.dim %[[A:.*]], %c1 :
        // CHECK-NEXT:    %[[PITCH:.*]] = arith.muli %[[ROW]], %c8
        // CHECK-NEXT:    %[[OVER:.*]] = arith.remui %[[PITCH]], %c2048
        // CHECK-NEXT:    %[[MEET:.*]] = arith.cmpi eq, %[[OVER]], %c0
        // CHECK:         scf.parallel
        // CHECK:           scf.if %[[MEET]] {
        // CHECK:             scf.for %[[JT:.*]] = %{{.*}} to %[[M]] step %c128 {
        // CHECK:               scf.for %[[J:.*]] = %[[JT]] to %{{.*}} step %c8 {
        // CHECK:                 %[[J1:.*]] = arith.addi %[[J]], %c1
        // CHECK:                 scf.for %[[I:.*]] =
        // CHECK-NEXT:              %[[P:.*]] = memref.load %[[A]][%[[J]], %[[I]]]
        // CHECK-NEXT:              %[[P1:.*]] = memref.load %[[A]][%[[J1]], %[[I]]]
        // CHECK:                   memref.store %[[P]], %[[X]][%[[I]], %[[J]]]
        // CHECK-NEXT:              memref.store %[[P1]], %[[X]][%[[I]], %[[J1]]]
        // CHECK:           } else {
        // CHECK:             scf.for %[[JT:.*]] = %{{.*}} to %[[M]] step %c128 {
        // CHECK:               scf.for %[[I:.*]] =
        // CHECK:                 scf.for %[[J:.*]] = %[[JT]] to
        // CHECK-NEXT:              %[[P:.*]] = memref.load %[[A]][%[[J]], %[[I]]]
        // CHECK-NEXT:              memref.store %[[P]], %[[X]][%[[I]], %[[J]]]
        // CHECK:       } else {
        // CHECK:         scf.parallel (%[[I:.*]]) =
        // CHECK-NEXT:      scf.for %[[J:.*]] = %{{.*}} to %[[M]] step
        """
    )
    assert applied == ["blocks of 128 by 128 over an index and an index (from 65536 elements on)"]


def test_rows_of_large_elements_that_meet_are_treated_like_others() -> None:
    module = parse("""
    func.func @f(%a: memref<?x?xcomplex<f64>> {numba.name = "a"}, %n: index, %m: index)
        -> memref<?x?xcomplex<f64>> {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      %x = memref.alloc(%n, %m) : memref<?x?xcomplex<f64>>
      scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {
        %p = memref.load %a[%j, %i] : memref<?x?xcomplex<f64>>
        memref.store %p, %x[%i, %j] : memref<?x?xcomplex<f64>>
        scf.reduce
      }
      return %x : memref<?x?xcomplex<f64>>
    }""")
    (message,) = messages(Tiling(machine=MACHINE).run(module), "applied")
    assert message.startswith("blocks of 128 by 128 over")
    assert "arith.remui" not in str(module)


def test_an_array_that_may_be_stretched_is_tested_for_it() -> None:
    applied = _tiled(
        """
        %x = memref.alloc(%n, %m) : memref<?x?xf64>
        %size = memref.dim %b, %c0 : memref<?x?xf64>
        %one = arith.cmpi eq, %size, %c1 : index
        %none = arith.constant 0 : i64
        %zeroth = arith.index_cast %none : i64 to index
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {
          %at = arith.select %one, %zeroth, %j : index
          %p = memref.load %b[%at, %i] : memref<?x?xf64>
          memref.store %p, %x[%i, %j] : memref<?x?xf64>
          scf.reduce
        }
        "pyir.stmt"(%x) : (memref<?x?xf64>) -> ()
        // CHECK:       %[[SIZE:.*]] = memref.dim %[[B:.*]], %c0 :
        // CHECK:       %[[LARGE:.*]] = arith.cmpi sge,
        // CHECK:       %[[GOES:.*]] = arith.cmpi ne, %[[SIZE]], %c1
        // CHECK:       %[[PAYS:.*]] = arith.andi %[[LARGE]], %[[GOES]]
        // CHECK:       scf.if %[[PAYS]] {
        """
    )
    assert applied == ["blocks of 128 by 128 over an index and an index (from 65536 elements on)"]


@pytest.mark.parametrize(
    ("registers", "unrolled"), [(16, "2 of an index by 4"), (32, "4 of an index by 4")]
)
def test_what_is_unrolled_depends_on_the_registers(registers: int, unrolled: str) -> None:
    machine = dataclasses.replace(MACHINE, registers=registers)
    module = parse(_function("%x = memref.alloc(%n, %m) : memref<?x?xf64>" + _SCALED_PRODUCT))
    (message,) = messages(Tiling(machine=machine).run(module), "applied")
    assert unrolled in message


_REFUSALS = {
    "reduction over its parallel index": """
        %s = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f64 {
          %t = scf.for %j = %c0 to %m step %c1 iter_args(%x = %zero) -> (f64) {
            %p = memref.load %a[%j, %i] : memref<?x?xf64>
            %q = arith.addf %x, %p : f64
            scf.yield %q : f64
          }
          scf.reduce(%t : f64) {
          ^bb0(%l: f64, %r: f64):
            %z = arith.addf %l, %r : f64
            scf.reduce.return %z : f64
          }
        }""",
    "an iteration needs what another one writes": """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c1 to %m step %c1 {
            %l = arith.subi %j, %c1 : index
            %p = memref.load %c[%i, %l] : memref<?x?xf64>
            memref.store %p, %c[%i, %j] : memref<?x?xf64>
          }
          scf.reduce
        }""",
    "iterations may meet in one element": """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            %p = memref.load %a[%j, %i] : memref<?x?xf64>
            memref.store %p, %c[%j, %j] : memref<?x?xf64>
          }
          scf.reduce
        }""",
    "loops that depend on each other share the loop": """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %t = %c0 to %k step %c1 {
            scf.for %j = %c0 to %m step %c1 {
              %p = memref.load %b[%i, %j] : memref<?x?xf64>
              memref.store %p, %c[%i, %j] : memref<?x?xf64>
            }
            scf.for %j = %c0 to %m step %c1 {
              %p = memref.load %c[%i, %j] : memref<?x?xf64>
              memref.store %p, %b[%i, %j] : memref<?x?xf64>
            }
          }
          scf.reduce
        }""",
    "which is not understood": """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            "pyir.stmt"() : () -> ()
          }
          scf.reduce
        }""",
    "is not stored behind it": """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          %t = scf.for %j = %c0 to %m step %c1 iter_args(%x = %zero) -> (f64) {
            %p = memref.load %a[%j, %i] : memref<?x?xf64>
            %q = arith.addf %x, %p : f64
            scf.yield %q : f64
          }
          scf.for %j = %c0 to %m step %c1 {
            memref.store %t, %c[%i, %j] : memref<?x?xf64>
          }
          scf.reduce
        }""",
    "nothing to gain": """
        scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {
          %p = memref.load %a[%i, %j] : memref<?x?xf64>
          memref.store %p, %c[%i, %j] : memref<?x?xf64>
          scf.reduce
        }""",
    "has so few iterations that LLVM unrolls it": """
        %c3 = arith.constant 3 : index
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            scf.for %q = %c0 to %c3 step %c1 {
              %x = arith.addi %j, %q : index
              %p = memref.load %a[%i, %x] : memref<?x?xf64>
              %o = memref.load %c[%i, %j] : memref<?x?xf64>
              %t = arith.addf %o, %p : f64
              memref.store %t, %c[%i, %j] : memref<?x?xf64>
            }
          }
          scf.reduce
        }""",
    "nothing to gain, its arrays": """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c1 {
            %p = memref.load %a[%i, %j] : memref<?x?xf64>
            %e = math.exp %p : f64
            memref.store %e, %c[%j, %i] : memref<?x?xf64>
          }
          scf.reduce
        }""",
    "4 iterations are too few to pay": """
        %c2 = arith.constant 2 : index
        scf.parallel (%i, %j) = (%c0, %c0) to (%c2, %c2) step (%c1, %c1) {
          %p = memref.load %a[%j, %i] : memref<?x?xf64>
          memref.store %p, %c[%i, %j] : memref<?x?xf64>
          scf.reduce
        }""",
    "is not one": """
        %c2 = arith.constant 2 : index
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          scf.for %j = %c0 to %m step %c2 {
            %p = memref.load %a[%j, %i] : memref<?x?xf64>
            memref.store %p, %c[%i, %j] : memref<?x?xf64>
          }
          scf.reduce
        }""",
}


@pytest.mark.parametrize("reason", _REFUSALS)
def test_what_stays_as_it_is(reason: str) -> None:
    (message,) = _refused(_REFUSALS[reason])
    assert message.startswith("the loop was left as it is: ")
    assert reason in message


def test_loops_of_one_index_without_inner_ones_are_not_worth_a_remark() -> None:
    assert not _refused(
        """
        scf.parallel (%i) = (%c0) to (%n) step (%c1) {
          memref.store %zero, %v[%i] : memref<?xf64>
          scf.reduce
        }"""
    )


def test_cache_sizes_come_from_the_system(tmp_path: pathlib.Path) -> None:
    caches = ["1 Data 48K", "1 Instruction 32K", "2 Unified 2M", "3 Unified unreadable"]
    for number, words in enumerate(caches):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        names = ("level", "type", "size", "coherency_line_size", "ways_of_associativity")
        for name, text in zip(names, (*words.split(), "128", "12"), strict=True):
            (folder / name).write_text(text + "\n")
    assert _from_sysfs(tmp_path) == {"l1": 48 << 10, "l2": 2 << 20, "line": 128, "ways": 12}
    for file in tmp_path.glob("*/ways_of_associativity"):
        file.unlink()
    assert _from_sysfs(tmp_path) == {"l1": 48 << 10, "l2": 2 << 20, "line": 128}
    assert _from_sysfs(tmp_path / "nothing") == {}
    cpuinfo = tmp_path / "cpuinfo"
    assert [_registers(name, cpuinfo) for name in ("x86_64", "aarch64")] == [16, 32]
    cpuinfo.write_text("processor: 0\nflags\t: sse2 avx2 avx512f avx512vl\n")
    assert _registers("x86_64", cpuinfo) == 32
    machine = this_machine()
    assert 1 << 10 <= machine.l1 <= machine.l2
    assert machine.line in (32, 64, 128, 256)
