"""The interchange form to the LLVM dialect, and from there to the text of LLVM IR.

1. Every parallel loop becomes a nest of plain ones; sums of floating-point numbers that may
   be taken in any order go through blocks (:mod:`.reductions`).
2. What upstream has no pattern for is rewritten by hand: ``numba.wrap_index``,
   ``numba.undef``, functions of the C library (:mod:`.libm`), some complex operations.
3. Upstream's conversions, dialect by dialect.

Translation of a module that has anything else than the LLVM dialect ends the process, so
`translate` looks at every operation first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import (
    complex_parts,
    failures,
    lanes,
    libm,
    packing,
    row_sums,
    streams,
    stretched,
)
from numba_mlir.passes.base import source_position
from numba_mlir.passes.buffers import Unhoistable, allocations, hoist
from numba_mlir.passes.building import LOOP_ANNOTATION
from numba_mlir.passes.distribute import distribute
from numba_mlir.passes.failures import LEAVE_IF, LEAVE_WITH
from numba_mlir.passes.lanes import Vectors
from numba_mlir.passes.late_failures import raise_late
from numba_mlir.passes.reductions import Reductions
from numba_mlir.passes.signs import drop_wraps
from numba_mlir.passes.truth_bytes import as_bytes
from numba_mlir.passes.values import defined_inside, has_inner_loop, nested, operations


class NotLowerable(ValueError):
    """An operation without a form in the LLVM dialect; ``line`` is the user's."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


NO_VECTORS = Vectors()
#: what keeps vector units busy, and how much of it makes a loop dense
_DENSE = frozenset({"arith.addf", "arith.subf", "arith.mulf"})
_LEAST_DENSE = 8
#: flags with which LLVM adds in any order itself
_ANY_ORDER = frozenset({"fast", "reassoc"})
_CLEAN_UP = "builtin.module(canonicalize,cse)"
_LOOPS = (
    "builtin.module(func.func(scf-parallel-for-to-nested-fors),canonicalize,cse,"
    "loop-invariant-code-motion)"
)
_BRANCHES = "builtin.module(convert-scf-to-cf)"
#: conversions in order; those of a dialect are needed only where it is used
_CONVERSIONS = (
    ("convert-vector-to-llvm", "vector"),
    ("convert-complex-to-llvm", "complex"),
    ("expand-strided-metadata", ""),
    ("lower-affine", ""),
    ("finalize-memref-to-llvm", ""),
    ("convert-math-to-llvm", "math"),
    ("convert-arith-to-llvm", ""),
    ("convert-index-to-llvm", "index"),
    ("convert-ub-to-llvm", "ub"),
    ("convert-cf-to-llvm", ""),
    ("convert-func-to-llvm", ""),
    ("canonicalize", ""),
    ("cse", ""),
    ("reconcile-unrealized-casts", ""),
)
#: dialects of which the conversion may make operations of any other
_INTO_OTHERS = frozenset({"vector", "complex"})
#: dialects that `_CONVERSIONS` lowers; single operations of others
_LOWERED = frozenset({"arith", "math", "complex", "memref", "scf", "cf", "index", "func", "ub",
                      "llvm", "builtin"})  # fmt: skip


def lower(module: Any, fastmath: str = "", vectors: Vectors = NO_VECTORS) -> tuple[str, ...]:
    """Bring ``module`` into the LLVM dialect, in place; returns what there is to say about it.

    ``fastmath`` are flags of ``#arith.fastmath<...>`` for every operation that takes some;
    ``vectors`` says which vectors may be made here.
    Raises NotLowerable, and the bindings' MLIRError where a conversion fails.
    """
    with module.context:
        mlir.run_pipeline(module.operation, _CLEAN_UP)
        _check_supported(module)
        drop_wraps(module)
        _combine_in_any_order(module)
        body = function(module, "body")
        packed = packing.pack(body, vectors.bits, vectors.contract) if vectors.bits else []
        Reductions(parallel=False).run(module)
        spread = bool(vectors.bits) and lanes.spread(function(module, "body"), vectors)
        if not spread and not _ANY_ORDER.intersection(fastmath.split(",")):
            row_sums.interleave(function(module, "body"))
        if vectors.library:
            distribute(function(module, "body"))
        mlir.run_pipeline(module.operation, _LOOPS)
        raise_late(function(module, "body"))
        dense = any(_is_dense(op) for op in nested(function(module, "body")))
        if vectors.stream_from:
            streams.write_around_caches(function(module, "body"), vectors.stream_from)
        if vectors.bits:
            stretched.side_by_side(function(module, "body"))
        if fastmath:
            _set_flags(module, fastmath)
        for op in list(nested(module.operation)):
            rule = _RULES.get(op.name)
            if rule is not None:
                with op.location, mlir.ir.InsertionPoint(op):
                    _replace(op, rule(op))
        libm.call_library(module)
        _make_ways_out(module)
        mlir.run_pipeline(module.operation, _conversions(module))
        lowered = nested(module.operation)
        _annotate_loops(lowered)
        as_bytes(lowered)
        if vectors.bits and (packed or spread or dense or libm.is_called(module)):
            libm.prefer_width(function(module, "body"), vectors.bits)
    return tuple(packed)


def _annotate_loops(ops: Iterable[Any]) -> None:
    """Upstream's conversions carry what is said of a loop along, to where LLVM IR has no use of
    it: branches have an attribute of their own."""
    for op in ops:
        if op.name == "llvm.br" and LOOP_ANNOTATION in op.attributes:
            op.attributes["loop_annotation"] = op.attributes[LOOP_ANNOTATION]
            del op.attributes[LOOP_ANNOTATION]


def _conversions(module: Any) -> str:
    """The pipeline that brings ``module`` into the LLVM dialect."""
    used = {op.name.partition(".")[0] for op in nested(module.operation)}
    wanted = [
        name
        for name, dialect in _CONVERSIONS
        if not dialect or dialect in used or used & _INTO_OTHERS
    ]
    return f"builtin.module({','.join(wanted)})"


def _is_dense(loop: Any) -> bool:
    """Whether an innermost loop computes much more than it reads and writes along its index."""
    if loop.name != "scf.for" or has_inner_loop(loop):
        return False
    inside = [op for op in operations(loop.regions[0].blocks[0]) if not op.regions]
    accesses = [op for op in inside if op.name in ("memref.load", "memref.store")]
    moving = [op for op in accesses if any(defined_inside(v, loop) for v in _subscripts(op))]
    arithmetic = sum(op.name in _DENSE for op in inside)
    return arithmetic >= _LEAST_DENSE and arithmetic >= 2 * len(moving)


def _subscripts(access: Any) -> list[Any]:
    return list(access.operands)[1 if access.name == "memref.load" else 2 :]


def _make_ways_out(module: Any) -> None:
    """Arrays that the function makes, and its exceptions."""
    body = function(module, "body")
    try:
        hoist(body)
    except Unhoistable as reason:
        raise NotLowerable(str(reason), _line(reason.op)) from None
    mlir.run_pipeline(module.operation, _BRANCHES)
    if failures.can_fail(module):
        body = function(module, "body")
        buffers = [op.results[0] for op in allocations(body)]
        failures.leave(body, buffers, _zero)


def function(module: Any, name: str) -> Any:
    """The function of that name."""
    for op in module.body.operations:
        if mlir.ir.StringAttr(op.operation.attributes["sym_name"]).value == name:
            return op.operation
    raise KeyError(name)


def translate(module: Any) -> str:
    """The LLVM IR of a module in the LLVM dialect, as the bindings' LLVM prints it.

    Raises NotLowerable when an operation is of another dialect.
    """
    for op in nested(module.operation):
        if not op.name.startswith("llvm."):
            raise NotLowerable(f"the operation {op.name} is left over", _line(op))
    return mlir.llvm.translate_module_to_llvmir(module.operation)


def _line(op: Any) -> int | None:
    return source_position(op.location)[1]


def _check_supported(module: Any) -> None:
    """Every operation has a form in the LLVM dialect, or one of `_RULES`.

    Of several that have none, a statement is named rather than a constant that it reads.
    """
    left = [op for op in nested(module.operation) if not _is_supported(op)]
    left.sort(key=lambda op: "remat" in op.attributes)
    if left:
        raise NotLowerable(_what(left[0]), _line(left[0]))


def _is_supported(op: Any) -> bool:
    if op.name in _RULES or op.name in (LEAVE_IF, LEAVE_WITH):
        return True
    return op.name.partition(".")[0] in _LOWERED


def _what(op: Any) -> str:
    """The statement behind an operation that was kept."""
    attributes = op.attributes
    if "text" in attributes:
        return f"the statement {mlir.ir.StringAttr(attributes['text']).value!r} has no MLIR form"
    if "variable" in attributes:
        name = mlir.ir.StringAttr(attributes["variable"]).value
        return f"the variable {name.lstrip('$').split('.')[0]!r} has no MLIR form"
    return f"the operation {op.name} has no form in LLVM"


# -- flags -------------------------------------------------------------------------
_FREE = {"arith.addf", "arith.mulf"}
_FLAGGED = frozenset(
    {f"arith.{name}f" for name in ("add", "sub", "mul", "div", "rem", "neg", "cmp", "maximum",
                                   "minimum", "maxnum", "minnum")}
)  # fmt: skip


def _combine_in_any_order(module: Any) -> None:
    """The order of a parallel loop's iterations is free, so that of its reductions is."""
    flags = mlir.ir.Attribute.parse("#arith.fastmath<reassoc>")
    for op in nested(module.operation):
        if op.name == "scf.reduce":
            for region in op.regions:
                for step in region.blocks[0].operations:
                    if step.operation.name in _FREE:
                        step.operation.attributes["fastmath"] = flags


def _set_flags(module: Any, fastmath: str) -> None:
    flags = mlir.ir.Attribute.parse(f"#arith.fastmath<{fastmath}>")
    for op in nested(module.operation):
        if op.name in _FLAGGED or op.name.startswith("math."):
            op.attributes["fastmath"] = flags


# -- operations without a pattern upstream -------------------------------------------
def _replace(op: Any, value: Any) -> None:
    op.results[0].replace_all_uses_with(value)
    op.erase()


def _zero(type_: Any) -> Any:
    ir = mlir.ir
    text = str(type_)
    if text.startswith("complex<"):
        part = ir.ComplexType(type_).element_type
        return mlir.complex.create_(type_, _zero(part), _zero(part))
    if text[0] in "fb":
        return mlir.arith.constant(type_, ir.FloatAttr.get(type_, 0.0))
    return mlir.arith.constant(type_, ir.IntegerAttr.get(type_, 0))


def _undefined(op: Any) -> Any:
    """Zero, which Numba's variables hold before they are assigned."""
    kind = op.results[0].type
    if str(kind).startswith(("!", "memref")):
        raise NotLowerable("a variable that is not always assigned", _line(op))
    return _zero(kind)


def _wrap_index(op: Any) -> Any:
    arith, (number, size) = mlir.arith, list(op.operands)
    index = mlir.ir.IndexType.get()
    number = arith.index_cast(index, number)
    negative = arith.cmpi(arith.CmpIPredicate.slt, number, _zero(index))
    return arith.select(negative, arith.addi(number, size), number)


def _clamp(op: Any) -> Any:
    value, low, high = op.operands
    return mlir.arith.minimumf(mlir.arith.maximumf(value, low), high)


#: operation -> its value built from others, at the operation
_RULES: dict[str, Callable[[Any], Any]] = {
    "numba.undef": _undefined,
    "numba.wrap_index": _wrap_index,
    "math.clampf": _clamp,
    **complex_parts.RULES,
}
