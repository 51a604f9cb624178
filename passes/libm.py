"""Functions of the C library: ``math`` operations as calls that LLVM can make vectors of.

LLVM's vectoriser takes a call of ``exp`` for eight numbers where the declaration of ``exp``
names a function that does so, in the attribute "vector-function-abi-variant" (the names are
those of the Vector Function ABI of the processor, which `variants` gets from its caller).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.values import nested

#: the length of a vector of two numbers; the ``math`` dialect has no operation for it
HYPOT = "numba.hypot"
#: operation -> name for float64; that for float32 has an f behind it
FUNCTIONS: dict[str, str] = {"math.powf": "pow", "math.fpowi": "pow", HYPOT: "hypot"} | {
    f"math.{name}": name
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "erf",
        "erfc", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "sin", "sinh", "tan",
        "tanh",
    )
}  # fmt: skip

#: the functions' symbols
_SYMBOLS = {name + suffix for name in FUNCTIONS.values() for suffix in ("", "f")}

#: what does not read or write memory; errno is nobody's here, as in Numba
_PURE = (
    "#llvm.memory_effects<other = none, argMem = none, inaccessibleMem = none, "
    "errnoMem = none, targetMem0 = none, targetMem1 = none>"
)


def symbol(name: str, type_: Any) -> str:
    """The symbol of ``name`` (that of the float64 function) for a type of MLIR's."""
    return name if str(type_) == "f64" else name + "f"


def call(name: str, operands: Sequence[Any]) -> Any:
    """``name`` (that of the float64 function) of ``operands``, at the insertion point."""
    ir, (first, *_) = mlir.ir, operands
    attributes = {
        "callee": ir.FlatSymbolRefAttr.get(symbol(name, first.type)),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(operands), 0]),
        "op_bundle_sizes": ir.DenseI32ArrayAttr.get([]),
    }
    return ir.Operation.create("llvm.call", [first.type], list(operands), attributes).results[0]


def call_library(module: Any) -> None:
    """Replace the operations of `FUNCTIONS` and declare every function that is called."""
    for op in list(nested(module.operation)):
        name = FUNCTIONS.get(op.name)
        if name is None:
            continue
        with op.location, mlir.ir.InsertionPoint(op):
            value = call(name, _floats(op))
            if "fastmath" in op.attributes:
                flags = str(op.attributes["fastmath"]).replace("#arith.", "#llvm.")
                value.owner.attributes["fastmathFlags"] = mlir.ir.Attribute.parse(flags)
        op.results[0].replace_all_uses_with(value)
        op.erase()
    _declare(module)


def _floats(op: Any) -> list[Any]:
    """The operands; ``math.fpowi`` has an integer exponent."""
    base, *others = op.operands
    if op.name == "math.fpowi":
        others = [mlir.arith.sitofp(base.type, others[0])]
    return [base, *others]


def declared(module: Any) -> list[str]:
    """The symbols of functions that are declared only."""
    functions = (op.operation for op in module.body.operations)
    return [
        mlir.ir.StringAttr(op.attributes["sym_name"]).value
        for op in functions
        if op.name == "llvm.func" and not len(op.regions[0].blocks)
    ]


def is_called(module: Any) -> bool:
    """Whether a function of `FUNCTIONS` is called, in a module in the LLVM dialect."""
    calls = (op for op in nested(module.operation) if op.name == "llvm.call")
    return any(mlir.ir.FlatSymbolRefAttr(op.attributes["callee"]).value in _SYMBOLS for op in calls)


def prefer_width(function: Any, bits: int) -> None:
    """Let LLVM use vectors of ``bits`` in an ``llvm.func``.

    For some processors it takes shorter ones than they have, which pays for loads and stores
    but not for arithmetic.
    """
    ir = mlir.ir
    pair = [ir.StringAttr.get(text) for text in ("prefer-vector-width", str(bits))]
    function.attributes["passthrough"] = ir.ArrayAttr.get([ir.ArrayAttr.get(pair)])


def declare(module: Any, symbol: str, arguments: Sequence[Any], *results: Any) -> None:
    """``func.func private`` for a function that is defined elsewhere, once."""
    ir = mlir.ir
    block = module.operation.regions[0].blocks[0]
    for op in block.operations:
        if ir.StringAttr(op.operation.attributes["sym_name"]).value == symbol:
            return
    attributes = {
        "sym_name": ir.StringAttr.get(symbol),
        "function_type": ir.TypeAttr.get(ir.FunctionType.get(list(arguments), results)),
        "sym_visibility": ir.StringAttr.get("private"),
    }
    with ir.InsertionPoint.at_block_begin(block), ir.Location.unknown():
        ir.Operation.create("func.func", attributes=attributes, regions=1)


def _declare(module: Any) -> None:
    ir = mlir.ir
    calls = (op for op in nested(module.operation) if op.name == "llvm.call")
    called = {ir.FlatSymbolRefAttr(op.attributes["callee"]).value: op for op in calls}
    with ir.InsertionPoint.at_block_begin(module.body), ir.Location.unknown():
        for symbol, op in called.items():
            types = ", ".join(str(value.type) for value in op.operands)
            kind = ir.Type.parse(f"!llvm.func<{op.results[0].type} ({types})>")
            attributes = {
                "sym_name": ir.StringAttr.get(symbol),
                "function_type": ir.TypeAttr.get(kind),
                "memory_effects": ir.Attribute.parse(_PURE),
                "no_unwind": ir.UnitAttr.get(),
                "will_return": ir.UnitAttr.get(),
                "linkage": ir.Attribute.parse("#llvm.linkage<external>"),
            }
            ir.Operation.create("llvm.func", attributes=attributes, regions=1)


#: a call in LLVM IR text: the function and its arguments
_CALL = re.compile(r"(\bcall\b[^@\n]*@)(\w+)(\([^()\n]*\))")
#: LLVM makes intrinsics of them where it knows the sign of the argument, or by fastmath, and
#: ``exp2`` of ``pow``: calls of functions without vector versions
_HIDDEN = {name + suffix for name in ("log", "log2", "log10", "pow") for suffix in ("", "f")}

Variants = Callable[[str], Iterable[tuple[str, str]]]
"""Symbol of a scalar function -> its vector versions: (mangled ABI name, declaration)."""


def with_variants(text: str, symbols: Iterable[str], variants: Variants) -> str:
    """LLVM IR text in which the declarations of ``symbols`` name their vector versions."""
    used: list[str] = []
    lines: list[str] = []
    for symbol in sorted(symbols):
        found = list(variants(symbol))
        if not found:
            continue
        names = ",".join(name for name, _ in found)
        text = _with_attribute(text, symbol, f'"vector-function-abi-variant"="{names}"')
        if symbol in _HIDDEN:
            text, hidden = _hidden(text, symbol)
            names = names.replace(f"_{symbol}(", f"_{hidden}(")
            text = _with_attribute(text, hidden, f'"vector-function-abi-variant"="{names}"')
        for name, declaration in found:
            vector = name[name.index("(") + 1 : -1]
            used.append(f"ptr @{vector}")
            if f" @{vector}(" not in text:
                lines.append(declaration)
    if not used:
        return text
    kept = f"[{len(used)} x ptr] [{', '.join(used)}]"
    lines.append(f'@llvm.compiler.used = appending global {kept}, section "llvm.metadata"')
    return text + "\n".join(lines) + "\n"


def _hidden(text: str, symbol: str) -> tuple[str, str]:
    """LLVM IR text in which ``symbol`` is called under another name, of which LLVM knows
    nothing, and that name; ``x ** 2.0`` stays a call of ``pow``, which becomes ``x * x``."""
    (declaration,) = re.findall(rf"^declare (\w+ )@{symbol}\((.*?)\)", text, re.MULTILINE)
    name, (kind, types) = f"numba_mlir.{symbol}", declaration

    def renamed(call: re.Match[str]) -> str:
        before, called, arguments = call.groups()
        changes = called == symbol and arguments.split(" ")[-1].startswith("%")
        return f"{before}{name if changes else called}{arguments}"

    text = _CALL.sub(renamed, text)
    names = [f"{one} %{n}" for n, one in enumerate(types.split(", "))]
    given = ", ".join(names)
    body = f"  %r = call {kind}@{symbol}({given})\n  ret {kind}%r\n"
    head = f"define linkonce_odr {kind}@{name}({given}) noinline nounwind willreturn memory(none)"
    return f"{text}\n{head} {{\n{body}}}\n", name


def _with_attribute(text: str, symbol: str, attribute: str) -> str:
    """``attribute`` at the end of the declaration of ``symbol``, or in front of its body."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith(("declare ", "define ")) and f"@{symbol}(" in line:
            head = line.removesuffix(" {")
            lines[number] = f"{head} {attribute}{line[len(head) :]}"
    return "\n".join(lines)
