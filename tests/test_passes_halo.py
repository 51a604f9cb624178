"""Loops on neighbouring rows of temporary arrays run in blocks of rows."""

from __future__ import annotations

from ir_check import CONSTANTS, messages, parse, run_and_check

from numba_mlir.passes.base import PassResult
from numba_mlir.passes.fusion import Fusion

HEAD = """
%a: memref<?x?xf64> {numba.name = "a"}, %b: memref<?x?xf64> {numba.name = "b"},
%n: index, %m: index, %k: index
"""
PRODUCER = """
  %t = memref.alloc(%n, %m) : memref<?x?xf64> loc("t"("u.py":4:1))
  scf.parallel (%i, %j) = (%c0, %c0) to (%n, %m) step (%c1, %c1) {
    %x = memref.load %a[%i, %j] : memref<?x?xf64>
    %y = arith.mulf %x, %x : f64
    memref.store %y, %t[%i, %j] : memref<?x?xf64>
    scf.reduce
  } {numba.parfors = [3 : i64]} loc("u.py":4:1)
"""


def consumer(target: str, second: str = "%t") -> str:
    return f"""
  scf.parallel (%i, %j) = (%c0, %c0) to (%k, %m) step (%c1, %c1) {{
    %x = memref.load %t[%i, %j] : memref<?x?xf64>
    %i2 = arith.addi %i, %c2 : index
    %y = memref.load {second}[%i2, %j] : memref<?x?xf64>
    %z = arith.subf %x, %y : f64
    memref.store %z, {target}[%i, %j] : memref<?x?xf64>
    scf.reduce
  }} {{numba.parfors = [4 : i64]}} loc("u.py":5:1)
"""


def _function(body: str) -> str:
    constants = f"{CONSTANTS}\n  %c2 = arith.constant 2 : index"
    return f"func.func @f({HEAD}) -> memref<?x?xf64> {{\n{constants}\n{body}\n}}"


def in_blocks(body: str) -> PassResult:
    return run_and_check(_function(body), Fusion(block_bytes=4096))


def untouched(body: str) -> list[str]:
    module = parse(_function(body))
    before = str(module)
    result = Fusion().run(module)
    assert not result.modified
    assert str(module) == before
    return messages(result, "missed")


def test_before_and_after() -> None:
    result = in_blocks(
        f"""
        {PRODUCER}
        %d = memref.alloc(%k, %m) : memref<?x?xf64>
        {consumer("%d")}
        return %d : memref<?x?xf64>
        // CHECK-LABEL: func.func @f(
        // CHECK-SAME:    %[[A:[^:]*]]: memref<?x?xf64> {{numba.name = "a"}},
        // CHECK-SAME:    %[[N:[^:, ]*]]: index, %[[M:[^:, ]*]]: index, %[[K:[^:, ]*]]: index
        // CHECK-DAG:   %[[C0:.*]] = arith.constant 0 : index
        // CHECK-DAG:   %[[C1:.*]] = arith.constant 1 : index
        // CHECK-DAG:   %[[C2:.*]] = arith.constant 2 : index
        // CHECK-NOT:   memref.alloc(%[[N]]
        // CHECK:       %[[D:.*]] = memref.alloc(%[[K]], %[[M]])
        // CHECK:       %[[REST:.*]] = arith.subi %[[K]], %[[C0]]
        // CHECK:       %[[SPAN:.*]] = arith.maxsi %[[REST]], %[[C0]]
        // CHECK:       %[[C8:.*]] = arith.constant 8 : index
        // CHECK:       %[[ROW:.*]] = arith.muli %[[C8]], %[[M]]
        // CHECK:       %[[BYTES:.*]] = arith.constant 4096 : index
        // CHECK:       %[[SOME:.*]] = arith.maxui %[[ROW]], %[[C1]]
        // CHECK:       %[[FIT:.*]] = arith.divui %[[BYTES]], %[[SOME]]
        // CHECK:       %[[C64:.*]] = arith.constant 64 : index
        // CHECK:       %[[SHARE:.*]] = arith.ceildivui %[[SPAN]], %[[C64]]
        // CHECK:       %[[LESS:.*]] = arith.minui %[[FIT]], %[[SHARE]]
        // CHECK:       %[[ROWS:.*]] = arith.maxui %[[LESS]], %[[C8]]
        // CHECK:       %[[COUNT:.*]] = arith.ceildivui %[[SPAN]], %[[ROWS]]
        // CHECK:       scf.parallel (%[[BLOCK:.*]]) = (%[[C0]]) to (%[[COUNT]]) step (%[[C1]]) {{
        // CHECK:         %[[BEFORE:.*]] = arith.muli %[[BLOCK]], %[[ROWS]]
        // CHECK:         %[[LOW:.*]] = arith.addi %[[C0]], %[[BEFORE]]
        // CHECK:         %[[END:.*]] = arith.addi %[[LOW]], %[[ROWS]]
        // CHECK:         %[[HIGH:.*]] = arith.minsi %[[END]], %[[K]]
        // CHECK:         %[[BEYOND:.*]] = arith.addi %[[HIGH]], %[[C2]]
        // CHECK:         %[[SIZE:.*]] = arith.subi %[[BEYOND]], %[[LOW]]
        // CHECK:         %[[T:.*]] = memref.alloc(%[[SIZE]], %[[M]])
        // CHECK:         %[[FROM:.*]] = arith.maxsi %[[LOW]], %[[C0]]
        // CHECK:         %[[TO:.*]] = arith.minsi %[[BEYOND]], %[[N]]
        // CHECK:         scf.for %[[I:.*]] = %[[FROM]] to %[[TO]] step %[[C1]] {{
        // CHECK-NEXT:      scf.for %[[J:.*]] = %[[C0]] to %[[M]] step %[[C1]] {{
        // CHECK-NEXT:        %[[X:.*]] = memref.load %[[A]][%[[I]], %[[J]]]
        // CHECK-NEXT:        %[[Y:.*]] = arith.mulf %[[X]], %[[X]]
        // CHECK-NEXT:        %[[R:.*]] = arith.subi %[[I]], %[[LOW]]
        // CHECK-NEXT:        memref.store %[[Y]], %[[T]][%[[R]], %[[J]]]
        // CHECK:         scf.for %[[I:.*]] = %[[LOW]] to %[[HIGH]] step %[[C1]] {{
        // CHECK-NEXT:      scf.for %[[J:.*]] = %[[C0]] to %[[M]] step %[[C1]] {{
        // CHECK-NEXT:        %[[R:.*]] = arith.subi %[[I]], %[[LOW]]
        // CHECK-NEXT:        %[[X:.*]] = memref.load %[[T]][%[[R]], %[[J]]]
        // CHECK-NEXT:        %[[I2:.*]] = arith.addi %[[I]], %[[C2]]
        // CHECK-NEXT:        %[[R2:.*]] = arith.subi %[[I2]], %[[LOW]]
        // CHECK-NEXT:        %[[Y:.*]] = memref.load %[[T]][%[[R2]], %[[J]]]
        // CHECK-NEXT:        %[[Z:.*]] = arith.subf %[[X]], %[[Y]]
        // CHECK-NEXT:        memref.store %[[Z]], %[[D]][%[[I]], %[[J]]]
        // CHECK:         scf.reduce
        // CHECK-NEXT:  }} {{numba.parfors = [3, 4]}}
        // CHECK-NEXT:  return %[[D]]
        """
    )
    assert messages(result, "applied") == [
        "2 loops of lines 4, 5 run together in blocks of rows; "
        "of t there are only the rows of a block and 2 more"
    ]
    assert messages(result, "missed") == []


def test_a_target_that_may_overlap_is_tested_at_run_time() -> None:
    result = in_blocks(
        f"""
        {PRODUCER}
        {consumer("%b")}
        return %b : memref<?x?xf64>
        // CHECK:      %[[A:[^:]*]]: memref<?x?xf64> {{numba.name = "a"}},
        // CHECK-SAME:   %[[B:[^:]*]]: memref<?x?xf64> {{numba.name = "b"}}
        // CHECK:      %[[APART:.*]] = "numba.disjoint"(%[[A]], %[[B]])
        // CHECK-NEXT: scf.if %[[APART]] {{
        // CHECK:        scf.parallel (%{{{{[^,]*}}}}) =
        // CHECK:      }} else {{
        // CHECK-NEXT:   %[[T:.*]] = memref.alloc
        // CHECK-NEXT:   scf.parallel (%[[I:.*]], %[[J:.*]]) =
        // CHECK:          memref.store %{{{{.*}}}}, %[[T]][%[[I]], %[[J]]]
        // CHECK:        scf.parallel (%[[I:.*]], %[[J:.*]]) =
        // CHECK:          memref.store %{{{{.*}}}}, %[[B]][%[[I]], %[[J]]]
        """
    )
    assert messages(result, "applied")[0].endswith(
        "where arrays overlap they run one after the other"
    )


def test_what_a_producer_reads_must_not_be_written() -> None:
    (reason,) = untouched(f"{PRODUCER}\n{consumer('%a')}\nreturn %a : memref<?x?xf64>")
    assert reason.startswith("2 loops of lines 4, 5 do not run together in blocks of rows: a is")
    assert reason.endswith(" and written by the last one")


def test_a_temporary_that_is_returned_stays() -> None:
    untouched(f"""
      {PRODUCER}
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      {consumer("%d")}
      return %t : memref<?x?xf64>""")


def test_a_temporary_that_a_statement_sees_stays() -> None:
    untouched(f"""
      {PRODUCER}
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      {consumer("%d")}
      "pyir.stmt"(%t) {{stmt = 0 : i64, text = "print(t)"}} : (memref<?x?xf64>) -> ()
      return %d : memref<?x?xf64>""")


def test_rows_at_a_distance_that_is_not_constant_stay() -> None:
    untouched(f"""
      {PRODUCER}
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      {consumer("%d").replace("%i2 = arith.addi %i, %c2", "%i2 = arith.addi %i, %k")}
      return %d : memref<?x?xf64>""")


def test_too_many_rows_beyond_a_block_stay() -> None:
    (reason,) = untouched(f"""
      {PRODUCER}
      %far = arith.constant 100 : index
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      {consumer("%d").replace("%i2 = arith.addi %i, %c2", "%i2 = arith.addi %i, %far")}
      return %d : memref<?x?xf64>""")
    assert reason.endswith("a block would need 100 rows beyond it (the limit is 32)")


def test_a_statement_with_effects_in_between_keeps_them_apart() -> None:
    untouched(f"""
      {PRODUCER}
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      "pyir.stmt"(%a) {{stmt = 0 : i64, text = "f(a)"}} : (memref<?x?xf64>) -> ()
      {consumer("%d", "%a")}
      return %d : memref<?x?xf64>""")


def test_a_reduction_at_the_end_stays() -> None:
    (reason,) = untouched(f"""
      {PRODUCER}
      %s = scf.parallel (%i, %j) = (%c0, %c0) to (%k, %m) step (%c1, %c1) init (%zero) -> f64 {{
        %i2 = arith.addi %i, %c2 : index
        %x = memref.load %t[%i2, %j] : memref<?x?xf64>
        scf.reduce(%x : f64) {{
        ^bb0(%p: f64, %q: f64):
          %r = arith.addf %p, %q : f64
          scf.reduce.return %r : f64
        }}
      }} loc("u.py":5:1)
      memref.store %s, %b[%c0, %c0] : memref<?x?xf64>
      return %a : memref<?x?xf64>""")
    assert reason.endswith("the last one is a reduction, whose order would change")


def test_functions_make_blocks_longer() -> None:
    body = f"""
      {PRODUCER.replace("arith.mulf %x, %x", "math.exp %x")}
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      {consumer("%d")}
      return %d : memref<?x?xf64>
      // CHECK: %[[LEAST:.*]] = arith.constant 32 : index
      // CHECK: arith.maxui %{{{{.*}}}}, %[[LEAST]]
    """
    in_blocks(body)


MASKED = """
  scf.parallel (%i, %j) = (%c0, %c0) to (%k, %m) step (%c1, %c1) {
    %row = arith.andi %i, %mask : index
    %x = memref.load %t[%row, %j] : memref<?x?xf64>
    %below = arith.addi %row, %c2 : index
    %y = memref.load %t[%below, %j] : memref<?x?xf64>
    %z = arith.subf %x, %y : f64
    memref.store %z, %d[%i, %j] : memref<?x?xf64>
    scf.reduce
  } loc("u.py":5:1)
"""
MASK = """
  %all = arith.constant -1 : index
  %one = arith.cmpi eq, %n, %c1 : index
  %mask = arith.select %one, %c0, %all : index
"""


def test_sizes_that_may_be_stretched_are_tested() -> None:
    result = in_blocks(
        f"""
        {MASK}
        {PRODUCER}
        %d = memref.alloc(%k, %m) : memref<?x?xf64>
        {MASKED}
        return %d : memref<?x?xf64>
        // CHECK:      %[[ONE:.*]] = arith.cmpi eq, %{{{{.*}}}}, %{{{{.*}}}} : index
        // CHECK-NEXT: %[[MASK:.*]] = arith.select %[[ONE]],
        // CHECK:      %[[TRUE:.*]] = arith.constant true
        // CHECK:      %[[MANY:.*]] = arith.xori %[[ONE]], %[[TRUE]] : i1
        // CHECK-NEXT: scf.if %[[MANY]] {{
        // CHECK:        scf.parallel (%[[BLOCK:[^,)]*]]) =
        // CHECK-NOT:      arith.andi
        // CHECK:          scf.for
        // CHECK-NEXT:       scf.for
        // CHECK:          scf.for %[[I:.*]] = %[[LOW:.*]] to
        // CHECK-NEXT:       scf.for
        // CHECK-NOT:          arith.andi
        // CHECK:              memref.store %{{{{.*}}}}, %{{{{.*}}}}[%[[I]],
        // CHECK:      }} else {{
        // CHECK:        scf.parallel (%[[I:.*]], %[[J:.*]]) =
        // CHECK:          arith.andi %[[I]], %[[MASK]] : index
        """
    )
    assert messages(result, "applied")[0].endswith("where a size is 1 they run one after the other")


def test_a_mask_of_a_masked_index_is_dropped_too() -> None:
    twice = MASKED.replace(
        "%row = arith.andi %i, %mask : index",
        "%once = arith.andi %i, %mask : index\n%row = arith.andi %once, %other : index",
    )
    other = """
      %narrow = arith.cmpi eq, %m, %c1 : index
      %other = arith.select %narrow, %c0, %all : index
    """
    in_blocks(
        f"""
        {MASK}
        {other}
        {PRODUCER}
        %d = memref.alloc(%k, %m) : memref<?x?xf64>
        {twice}
        return %d : memref<?x?xf64>
        // CHECK:      scf.if
        // CHECK:        scf.parallel (%[[BLOCK:[^,)]*]]) =
        // CHECK-NOT:      arith.andi
        // CHECK:      }} else {{
        // CHECK:          %[[ONCE:.*]] = arith.andi %{{{{.*}}}}, %{{{{.*}}}} : index
        // CHECK-NEXT:     arith.andi %[[ONCE]], %{{{{.*}}}} : index
        """
    )


def test_nothing_is_assumed_where_sizes_were_found_to_differ() -> None:
    module = parse(
        _function(f"""
        {MASK}
        %same = arith.cmpi eq, %n, %k : index
        %d = memref.alloc(%k, %m) : memref<?x?xf64>
        scf.if %same {{
        }} else {{
          {PRODUCER}
          {MASKED}
        }}
        return %d : memref<?x?xf64>""")
    )
    assert messages(Fusion().run(module), "applied") == []


def test_masks_of_another_kind_stay() -> None:
    other = MASK.replace("arith.constant -1", "arith.constant -2")
    untouched(f"""
      {other}
      {PRODUCER}
      %d = memref.alloc(%k, %m) : memref<?x?xf64>
      {MASKED}
      return %d : memref<?x?xf64>""")
