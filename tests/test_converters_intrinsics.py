"""Scalar MLIR operations as Numba intrinsics, one by one, against Python and NumPy."""

from __future__ import annotations

import itertools
import math
import operator
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit, prange, types

from numba_mlir import mlir
from numba_mlir.converters import comparisons, intrinsics, scalars
from numba_mlir.converters.registry import EMITTERS, DuplicateRule, Table

COVERED: set[str] = set()
WIDTH = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "index": 64}


def operations(arguments: str, *lines: str) -> list[Any]:
    """The operations of a function with ``arguments`` and the body ``lines``."""
    body = "\n".join(f"%r{i} = {line}" for i, line in enumerate(lines))
    text = f"func.func @f({arguments}) {{\n{body}\nreturn\n}}"
    with mlir.context():
        module = mlir.ir.Module.parse(text)
    operations.alive = module  # type: ignore[attr-defined]
    *ops, _ = module.body.operations[0].regions[0].blocks[0].operations
    return ops


def compiled(arguments: str, *lines: str) -> Any:
    """A compiled function that returns the tuple of the operations' results."""
    ops = operations(arguments, *lines)
    found = [intrinsics.for_op(op) for op in ops]
    assert None not in found, [str(op) for op, f in zip(ops, found, strict=True) if f is None]
    COVERED.update(op.operation.name for op in ops)
    names = [part.split(":")[0].strip("% ") for part in arguments.split(",")]
    scope = {f"f{i}": f.function for i, f in enumerate(found) if f is not None}
    block = ops[0].operation.block
    names_of = dict(zip(block.arguments, names, strict=True))
    calls = (
        f"f{i}({', '.join(names_of[v] for v in op.operation.operands)})" for i, op in enumerate(ops)
    )
    exec(f"def run({', '.join(names)}):\n    return ({', '.join(calls)},)", scope)
    return njit(scope["run"])


def unsigned(value: int, bits: int) -> int:
    return int(value) & ((1 << bits) - 1)


def signed(value: int, bits: int) -> int:
    return int(value) if bits == 1 else scalars.wrap(int(value), bits)


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


#: operation -> (meaning on Python integers, whether they are unsigned)
INTEGER: dict[str, tuple[Callable[[int, int], int], bool]] = {
    "add": (operator.add, False), "sub": (operator.sub, False), "mul": (operator.mul, False),
    "and": (operator.and_, False), "or": (operator.or_, False), "xor": (operator.xor, False),
    "divs": (truncated, False), "divu": (operator.floordiv, True),
    "rems": (lambda a, b: a - truncated(a, b) * b, False), "remu": (operator.mod, True),
    "floordivs": (operator.floordiv, False),
    "ceildivs": (lambda a, b: -(-a // b), False), "ceildivu": (lambda a, b: -(-a // b), True),
    "maxs": (max, False), "maxu": (max, True), "mins": (min, False), "minu": (min, True),
    "shl": (lambda a, b: a << (b & 7), False), "shrs": (lambda a, b: a >> (b & 7), False),
    "shru": (lambda a, b: a >> (b & 7), True),
}  # fmt: skip


@pytest.mark.parametrize("type_", ["i8", "i16", "i32", "i64", "index"])
def test_integer_operations(type_: str) -> None:
    bits = WIDTH[type_]
    dialect, suffix = ("index", "") if type_ == "index" else ("arith", "i")
    names = {name: name + (suffix if name != "shl" or not suffix else "i") for name in INTEGER}
    lines = [
        f"{dialect}.{full} %a, {'%s' if name[:2] == 'sh' else '%b'}"
        + ("" if type_ == "index" else f" : {type_}")
        for name, full in names.items()
    ]
    run = compiled(f"%a : {type_}, %b : {type_}, %s : {type_}", *lines)
    edge = [1, 2, 7, -1, -2, -7, (1 << (bits - 1)) - 1, -(1 << (bits - 1))]
    for a, b in itertools.product([0, *edge], edge):
        if b == -1 and a == edge[-1]:
            continue  # the quotient overflows
        for (name, (meaning, as_unsigned)), got in zip(
            INTEGER.items(), run(a, b, b & 7), strict=True
        ):
            cast = unsigned if as_unsigned else signed
            want = meaning(cast(a, bits), cast(b, bits))
            assert unsigned(got, bits) == unsigned(want, bits), (name, a, b)


@pytest.mark.parametrize("type_", ["i1", "i8", "i64", "index"])
def test_integer_comparisons(type_: str) -> None:
    bits = WIDTH[type_]
    names = comparisons.CMPI_NAMES
    if type_ == "index":
        lines = [f"index.cmp {name}(%a, %b)" for name in names]
    else:
        lines = [f"arith.cmpi {name}, %a, %b : {type_}" for name in names]
    run = compiled(f"%a : {type_}, %b : {type_}", *lines)
    edge = [0, 1] if bits == 1 else [0, 1, -1, 5, (1 << (bits - 1)) - 1, -(1 << (bits - 1))]
    for a, b in itertools.product(edge, repeat=2):
        x, y = (bool(a), bool(b)) if bits == 1 else (a, b)
        for name, got in zip(names, run(x, y), strict=True):
            as_signed = (lambda v: -int(v)) if bits == 1 else (lambda v: v)
            cast = as_signed if name[0] == "s" else lambda v: unsigned(v, bits)
            assert got == getattr(operator, name[-2:])(cast(a), cast(b)), (name, a, b)


FLOATS = [0.0, -0.0, 1.0, -1.5, 2.5, np.inf, -np.inf, np.nan, 5e-324, 1e300]


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_float_comparisons(type_: str) -> None:
    names = comparisons.CMPF_NAMES
    lines = [f"arith.cmpf {name}, %a, %b : {type_}" for name in names]
    run = compiled(f"%a : {type_}, %b : {type_}", *lines)
    dtype = {"f32": np.float32, "f64": np.float64}[type_]
    with np.errstate(over="ignore"):
        values = [dtype(x) for x in FLOATS]
    for a, b in itertools.product(values, repeat=2):
        unordered = bool(np.isnan(a) or np.isnan(b))
        fixed = {"false": False, "true": True, "ord": not unordered, "uno": unordered}
        for name, got in zip(names, run(a, b), strict=True):
            want = fixed.get(name)
            if want is None and unordered:
                want = name[0] == "u"
            assert got == (getattr(operator, name[1:])(a, b) if want is None else want)


def same(got: Any, want: Any) -> bool:
    if math.isnan(got) or math.isnan(want):
        return math.isnan(got) and math.isnan(want)
    return got == want and math.copysign(1, got) == math.copysign(1, want)


def ieee_maximum(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    return max(a, b, key=lambda x: (x, math.copysign(1, x)))


def ieee_minimum(a: float, b: float) -> float:
    return -ieee_maximum(-a, -b)


def test_float_operations() -> None:
    lines = [f"arith.{name}f %a, %b : f64" for name in ("add", "sub", "mul", "div", "rem")]
    lines += [f"arith.{name}f %a, %b : f64" for name in ("maximum", "minimum")]
    lines += ["arith.negf %a : f64", "arith.select %c, %a, %b : f64", "math.copysign %a, %b : f64"]
    run = compiled("%a : f64, %b : f64, %c : i1", *lines)
    for a, b in itertools.product(map(np.float64, FLOATS), repeat=2):
        with np.errstate(all="ignore"):
            want = [a + b, a - b, a * b, a / b, np.fmod(a, b), ieee_maximum(a, b)]
            want += [ieee_minimum(a, b), -a, b, np.copysign(a, b)]
        for line, got, expected in zip(lines, run(a, b, False), want, strict=True):
            assert same(got, expected), (line, a, b, got)


def test_maxnum_and_minnum_prefer_numbers() -> None:
    run = compiled("%a : f64, %b : f64", "arith.maxnumf %a, %b : f64", "arith.minnumf %a, %b : f64")
    assert run(math.nan, 1.0) == (1.0, 1.0) == run(1.0, math.nan)
    assert run(1.0, 2.0) == (2.0, 1.0)


REFERENCE: dict[str, Any] = {
    "absf": np.abs, "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin,
    "asinh": np.arcsinh, "atan": np.arctan, "atanh": np.arctanh, "cbrt": np.cbrt,
    "ceil": np.ceil, "cos": np.cos, "cosh": np.cosh, "erf": np.vectorize(math.erf),
    "erfc": np.vectorize(math.erfc), "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "floor": np.floor, "log": np.log, "log10": np.log10, "log1p": np.log1p, "log2": np.log2,
    "roundeven": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "sinh": np.sinh,
    "sqrt": np.sqrt, "tan": np.tan, "tanh": np.tanh, "trunc": np.trunc,
    "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_math_functions(type_: str) -> None:
    run = compiled(f"%a : {type_}", *(f"math.{name} %a : {type_}" for name in REFERENCE))
    dtype, tolerance = {"f32": (np.float32, 3e-6), "f64": (np.float64, 1e-14)}[type_]
    for a in (dtype(x) for x in (0.0, -0.0, 0.3, -0.3, 1.0, 2.5, -2.5, np.inf, -np.inf, np.nan)):
        with np.errstate(all="ignore"):
            for (name, reference), got in zip(REFERENCE.items(), run(a), strict=True):
                want = reference(a)
                assert np.allclose(got, want, rtol=tolerance, equal_nan=True), (name, a, got)
                assert np.isnan(got) or np.signbit(got) == np.signbit(want), (name, a, got)


def test_math_functions_of_several_arguments() -> None:
    lines = ["math.atan2 %a, %b : f64", "math.powf %a, %b : f64", "math.fma %a, %b, %c : f64",
             "math.fpowi %a, %n : f64, i32", "math.clampf %a to [%b, %c] : f64"]  # fmt: skip
    run = compiled("%a : f64, %b : f64, %c : f64, %n : i32", *lines)
    got = run(1.5, 0.25, 2.0, 3)
    assert got == pytest.approx((math.atan2(1.5, 0.25), 1.5**0.25, 2.375, 3.375, 1.5))


def test_integer_functions() -> None:
    names = ("ctlz", "cttz", "ctpop", "absi")
    run = compiled("%a : i32", *(f"math.{name} %a : i32" for name in names))
    assert run(0) == (32, 32, 0, 0)
    assert run(-8) == (0, 3, 29, 8)
    assert run(-(2**31)) == (0, 31, 1, -(2**31))


def test_casts() -> None:
    lines = {
        "arith.extsi %a : i8 to i64": -2, "arith.extui %a : i8 to i64": 254,
        "arith.trunci %b : i64 to i8": 0x7F, "arith.sitofp %a : i8 to f32": -2.0,
        "arith.uitofp %a : i8 to f64": 254.0, "arith.fptosi %x : f64 to i32": -3,
        "arith.fptoui %y : f32 to i8": 200, "arith.truncf %x : f64 to f32": np.float32(-3.7),
        "arith.extf %y : f32 to f64": 200.5, "arith.bitcast %y : f32 to i32": 0x43488000,
        "arith.index_cast %a : i8 to index": 2**64 - 2, "arith.index_castui %a : i8 to index": 254,
        "arith.index_cast %i : index to i8": 5, "index.casts %a : i8 to index": 2**64 - 2,
        "index.castu %a : i8 to index": 254, "arith.extsi %t : i1 to i32": -1,
        "arith.extui %t : i1 to i32": 1, "arith.uitofp %t : i1 to f32": 1.0,
        "arith.index_cast %b : i64 to index": 0x17F,
    }  # fmt: skip
    arguments = "%a : i8, %b : i64, %x : f64, %y : f32, %i : index, %t : i1"
    run = compiled(arguments, *lines)
    got = run(np.int8(-2), 0x17F, -3.7, np.float32(200.5), np.uint64(5), True)
    as_bits = [v & 0xFF if "fptoui" in k else v for k, v in zip(lines, got, strict=True)]
    assert as_bits == list(lines.values())


def test_complex_operations() -> None:
    lines = [f"complex.{name} %a, %b : complex<f64>" for name in ("add", "sub", "mul", "eq", "neq")]
    lines += [f"complex.{name} %a : complex<f64>" for name in ("re", "im", "neg", "abs", "conj")]
    lines += ["complex.angle %a : complex<f64>", "complex.create %x, %x : complex<f64>"]
    run = compiled("%a : complex<f64>, %b : complex<f64>, %x : f64", *lines)
    a, b = 3 - 4j, 0.5 + 2j
    got = run(a, b, 7.0)
    assert got[:5] == (a + b, a - b, a * b, False, True)
    assert got[5:10] == (3.0, -4.0, -3 + 4j, 5.0, 3 + 4j)
    assert got[10:] == (math.atan2(-4, 3), 7 + 7j)


def test_wrap_index() -> None:
    run = compiled("%i : i64, %n : index", '"numba.wrap_index"(%i, %n) : (i64, index) -> index')
    n = np.uint64(10)
    assert [run(i, n)[0] for i in (-10, -1, 0, 9)] == [0, 9, 0, 9]


@pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="needs the tests above")
def test_every_backward_rule_is_tested_above() -> None:
    if not COVERED.issuperset({"arith.addi", "math.exp", "complex.add", "arith.extsi"}):
        pytest.skip("needs the tests above")
    assert set(EMITTERS) - COVERED == set()


# ---- signatures ----------------------------------------------------------------------


def only(arguments: str, line: str) -> Any:
    found = intrinsics.for_op(operations(arguments, line)[0])
    assert found is not None
    return found


def test_one_intrinsic_for_equal_operations() -> None:
    arguments = "%a : i32, %b : i32"
    first = only(arguments, "arith.addi %a, %b : i32")
    assert only(arguments, "arith.addi %b, %a {other = 1 : i64} : i32") is first
    assert only(arguments, "arith.addi %a, %b overflow<nsw> : i32") is not first
    assert first.name == "mlir_addi_i32"
    assert first.signature == types.int32(types.int32, types.int32)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("arith.addi %a, %b overflow<nsw> : i64", "mlir_addi_i64_nsw"),
        ("arith.cmpi ult, %a, %b : i64", "mlir_cmpi_ult_i64"),
        ("arith.cmpf oeq, %x, %x : f64", "mlir_cmpf_oeq_f64"),
        ("arith.mulf %x, %x fastmath<contract> : f64", "mlir_mulf_f64_contract"),
        ("arith.trunci %a : i64 to i8", "mlir_trunci_i64_i8"),
        ("arith.select %c, %a, %b : i64", "mlir_select_i1_i64_i64"),
        ("complex.re %z : complex<f32>", "mlir_complex_re_c64_f32"),
    ],
)
def test_names(line: str, name: str) -> None:
    arguments = "%a : i64, %b : i64, %x : f64, %c : i1, %z : complex<f32>"
    assert only(arguments, line).name == name


def test_arguments_of_other_types_are_reinterpreted() -> None:
    add = only("%a : i8, %b : i8", "arith.addi %a, %b : i8").function
    wide = only("%a : i64, %b : i64", "arith.divui %a, %b : i64").function
    run = njit(lambda a, b, c, d: (add(a, b), add(b, True), wide(c, d)))
    got = run(np.uint8(200), np.int8(100), np.uint64(2**64 - 2), 2)
    assert got == (scalars.wrap(300, 8), 101, 2**63 - 1)


def test_the_signature_survives_retyping_in_a_parallel_loop() -> None:
    mul = only("%a : i8, %b : i8", "arith.muli %a, %b : i8").function
    shr = only("%a : i8, %b : i8", "arith.shrui %a, %b : i8").function

    @njit(parallel=True)
    def run(a: Any, out: Any) -> None:
        for i in prange(a.size):
            out[i] = shr(mul(a[i], a[i]), 1)

    a = np.arange(200, dtype=np.uint8)
    out = np.empty(200, np.uint64)
    run(a, out)
    assert np.array_equal(out, (a * a) >> 1)


def test_fast_math_flags_reach_llvm() -> None:
    add = only("%a : f64", "arith.addf %a, %a fastmath<reassoc,contract> : f64").function
    run = njit(lambda a: add(a, a))
    run(1.0)
    assert "fadd reassoc contract double" in run.inspect_llvm(run.signatures[0])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("%a : f16", "arith.addf %a, %a : f16"),
        ("%a : i128", "arith.addi %a, %a : i128"),
        ("%a : vector<4xf64>", "arith.addf %a, %a : vector<4xf64>"),
        ("%a : memref<4xf64>, %i : index", "memref.load %a[%i] : memref<4xf64>"),
    ],
)
def test_no_intrinsic(arguments: str, line: str) -> None:
    op = operations(arguments, line)[0]
    assert intrinsics.for_op(op) is None
    assert intrinsics.as_expr(op) is None


SCRIPT = """
import numpy as np
from numba import njit
from numba_mlir.converters import intrinsics
from numba_mlir.converters.lowering import OpSpec
from numba import types
spec = OpSpec("arith.addi", (types.int8, types.int8), types.int8)
add = intrinsics.of_spec(spec).function

@njit(cache=True)
def run(a, b):
    return add(a, b)

print(run(np.int8(100), np.int8(100)), sum(run.stats.cache_hits.values()))
"""


def test_cached_on_disk(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    outputs = [
        subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [line.split() for line in outputs] == [["-56", "0"], ["-56", "1"]]


# ---- constants and plain expressions ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "type_"),
    [
        ("arith.constant true", True, types.boolean),
        ("arith.constant -1 : i8", -1, types.int8),
        ("arith.constant 255 : i8", -1, types.int8),
        ("arith.constant -9223372036854775808 : i64", -(2**63), types.int64),
        ("arith.constant 7 : index", 7, types.uintp),
        ("arith.constant -1 : index", 2**64 - 1, types.uintp),
        ("index.constant 3", 3, types.uintp),
        ("index.bool.constant true", True, types.boolean),
        ("arith.constant -0.0 : f64", -0.0, types.float64),
        ("arith.constant 0x7FF0000000000000 : f64", math.inf, types.float64),
        ("arith.constant 0x7FC00000 : f32", math.nan, types.float32),
        ("arith.constant 5.0e-324 : f64", 5e-324, types.float64),
        ("arith.constant 0.1 : f32", float(np.float32(0.1)), types.float32),
        ("complex.constant [1.0, -0.0] : complex<f64>", complex(1, -0.0), types.complex128),
        ("ub.poison : i32", 0, types.int32),
    ],
)
def test_constants(text: str, value: Any, type_: types.Type) -> None:
    got, ty = intrinsics.constant(operations("", text)[0])  # type: ignore[misc]
    assert ty == type_
    assert type(got) is type(value)
    parts = [(x.real, x.imag) if isinstance(x, complex) else (x,) for x in (got, value)]
    assert all(same(a, b) for a, b in zip(*parts, strict=True))


def test_other_operations_are_no_constants() -> None:
    assert intrinsics.constant(operations("%a : f64", "arith.negf %a : f64")[0]) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("arith.addf %x, %x : f64", operator.add),
        ("arith.mulf %y, %y : f32", operator.mul),
        ("arith.addf %x, %x fastmath<fast> : f64", None),
        ("arith.divf %x, %x : f64", None),
        ("arith.addi %a, %a overflow<nsw> : i64", operator.add),
        ("arith.addi %a, %a : i64", None),
        ("arith.addi %b, %b overflow<nsw> : i32", None),
        ("arith.cmpi slt, %a, %a : i64", operator.lt),
        ("arith.cmpi ult, %a, %a : i64", None),
        ("arith.cmpf une, %x, %x : f64", operator.ne),
        ("arith.cmpf one, %x, %x : f64", None),
        ("arith.addi %i, %i : index", None),
    ],
)
def test_plain_expressions(line: str, expected: Any) -> None:
    arguments = "%x : f64, %y : f32, %a : i64, %b : i32, %i : index"
    assert intrinsics.as_expr(operations(arguments, line)[0]) is expected


def test_tables_refuse_a_second_rule() -> None:
    table: Table[str, int] = Table("numbers")
    table.add("one", 1)
    with pytest.raises(DuplicateRule, match="numbers: there is already a rule for 'one'"):
        table.add("one", 2)
    assert table.get("one") == 1
    assert table.get("two") is None
