"""Several iterations of a parallel loop at once, where an inner loop has to keep its order.

A sum in an inner loop stays in its order (:mod:`.reductions`), so LLVM cannot make vectors of
that loop.  The iterations of the parallel loop around it are independent: with one of them in
each lane of a vector, every lane adds in its own order, and results are the same to the last bit.

1. The last parallel index is cut: a loop in steps of the number of lanes, whose values are
   vectors, and the loop as it was for what is left.
2. A value is *uniform* (the same in all lanes), *linear* (the index plus something uniform) or
   *varying*.  Uniform and linear ones stay numbers.
3. Functions of the C library are called for as many lanes as they have versions for.
4. Refused: a subscript that varies other than linearly in the last, contiguous dimension, a
   bound that varies, a store to one element from all lanes, functions that have no version for
   vectors, complex numbers and booleans in memory, and loops without an ordered sum inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.building import index
from numba_mlir.passes.values import nested, operations

#: vectors in flight: additions of one chain have to wait for one another
_CHAINS = 2
_SLOW = frozenset({"arith.divf", "math.sqrt"})


class Kind(IntEnum):
    UNIFORM = 0
    LINEAR = 1
    VARYING = 2


class Refused(Exception):
    """The loop has no vector form."""


@dataclass(frozen=True)
class Vectors:
    """``bits`` of the processor's vectors, 0 where none are to be made, and functions on them.

    ``function`` gives for a scalar function's symbol the vector version's, and its lanes.
    """

    bits: int = 0
    function: Callable[[str], tuple[str, int] | None] = lambda symbol: None
    #: whether there are any such functions
    library: bool = False
    #: the same for loops that wait for divisions and square roots; 0 for ``bits``
    dividing_bits: int = 0
    #: bytes of fresh arrays from which they are written past the caches; 0 for never
    stream_from: int = 0
    #: whether a product that is added may go without a rounding of its own, in contractions
    contract: bool = False


def spread(function: Any, vectors: Vectors) -> bool:
    """Vectorise the parallel loops of ``function`` that gain by it."""
    done = False
    loops = [op for op in nested(function) if op.name == "scf.parallel" and op.parent == function]
    for op in loops:
        if len(op.results) or not _has_ordered_sum(op):
            continue
        try:
            spreader = _Spread(op, vectors)
        except Refused:
            continue
        with op.location, mlir.ir.InsertionPoint(op):
            spreader.run()
        done = True
    return done


def _has_ordered_sum(loop: Any) -> bool:
    """Whether an inner loop carries a floating-point number from iteration to iteration."""
    return any(
        op.name == "scf.for" and any(str(r.type) in ("f32", "f64") for r in op.results)
        for op in nested(loop)
    )


def _divides_inside(loop: Any) -> bool:
    """Whether an inner loop divides or takes square roots."""
    inner = [op for op in nested(loop) if op.name == "scf.for"]
    return any(op.name in _SLOW for one in inner for op in nested(one))


def _is_elementwise(op: Any) -> bool:
    if op.name in libm.FUNCTIONS or len(op.regions) or len(op.results) != 1:
        return False
    return op.name.startswith(("arith.", "math."))


def _is_harmless(op: Any) -> bool:
    """Whether an operation may be computed where the program does not."""
    divides = op.name in ("arith.divsi", "arith.divui", "arith.remsi", "arith.remui")
    return _is_elementwise(op) and not divides


def _numbers(*values: int) -> Any:
    wide = mlir.ir.IntegerType.get_signless(64)
    return mlir.ir.ArrayAttr.get([mlir.ir.IntegerAttr.get(wide, value) for value in values])


_SCALARS = frozenset({"f32", "f64", "i1", "i8", "i16", "i32", "i64", "index"})


class _Spread:
    def __init__(self, loop: Any, vectors: Vectors) -> None:
        self._loop, self._library = loop, vectors
        self._block = loop.regions[0].blocks[0]
        self._kinds: dict[Any, Kind] = {self._block.arguments[-1]: Kind.LINEAR}
        self._classify(self._block)
        pieces = [self._version(op) for op in nested(loop) if op.name in libm.FUNCTIONS]
        bits = _CHAINS * vectors.bits
        if 0 < vectors.dividing_bits < vectors.bits and not pieces and _divides_inside(loop):
            bits = vectors.dividing_bits
        self._lanes = bits // self._widest()
        if any(piece is not None and self._lanes % piece[1] for piece in pieces):
            raise Refused
        self._values: dict[Any, Any] = {}
        self._vectors: dict[Any, Any] = {}

    def _widest(self) -> int:
        floats = {str(r.type) for op in nested(self._loop) for r in op.results}
        return 64 if floats & {"f64", "i64"} else 32

    # -- which values vary --------------------------------------------------------------
    def _kind(self, value: Any) -> Kind:
        return self._kinds.get(value, Kind.UNIFORM)

    def _mark(self, value: Any, kind: Kind) -> bool:
        """Whether this is news."""
        if kind is Kind.UNIFORM or self._kind(value) >= kind:
            return False
        if str(value.type) not in _SCALARS:
            raise Refused
        self._kinds[value] = kind
        return True

    def _classify(self, block: Any) -> None:
        for op in operations(block):
            kinds = [self._kind(value) for value in op.operands]
            if op.name == "scf.for":
                self._classify_for(op, kinds)
            elif op.name == "memref.load":
                self._mark(op.results[0], self._access(op.operands[0], kinds[1:], op))
            elif op.name == "memref.store":
                if self._access(op.operands[1], kinds[2:], op) is Kind.UNIFORM:
                    raise Refused
            elif op.name == "memref.dim":
                if any(kinds):
                    raise Refused
            elif op.name == "scf.if":
                self._classify_if(op, kinds[0])
            elif op.name in libm.FUNCTIONS:
                if any(kinds) and self._version(op) is None:
                    raise Refused
                self._mark(op.results[0], Kind.VARYING if any(kinds) else Kind.UNIFORM)
            elif _is_elementwise(op):
                self._mark(op.results[0], self._result_kind(op, kinds))
            elif op.name not in ("scf.yield", "scf.reduce") or len(op.regions):
                raise Refused

    def _version(self, op: Any) -> tuple[str, int] | None:
        """The vector version of a function of the C library."""
        kind = str(op.results[0].type)
        if any(str(value.type) != kind for value in op.operands) or kind not in ("f32", "f64"):
            return None
        return self._library.function(libm.FUNCTIONS[op.name] + ("f" if kind == "f32" else ""))

    def _classify_for(self, op: Any, kinds: list[Kind]) -> None:
        if any(kinds[:3]):
            raise Refused
        body = op.regions[0].blocks[0]
        carried = list(body.arguments)[1:]
        *_, last = operations(body)
        changed = True
        while changed:
            changed = False
            for value, init in zip(carried, list(op.operands)[3:], strict=True):
                changed |= self._mark(value, Kind.VARYING if self._kind(init) else Kind.UNIFORM)
            self._classify(body)
            for value, new in zip(carried, last.operands, strict=True):
                changed |= self._mark(value, Kind.VARYING if self._kind(new) else Kind.UNIFORM)
        for value, result in zip(carried, op.results, strict=True):
            self._mark(result, self._kind(value))

    def _classify_if(self, op: Any, condition: Kind) -> None:
        """Both arms are computed and their results selected."""
        arms = [region.blocks[0] for region in op.regions if len(region.blocks)]
        inside = [inner for arm in arms for inner in operations(arm)[:-1]]
        if len(arms) != 2 or not all(_is_harmless(inner) for inner in inside):
            raise Refused
        for arm in arms:
            self._classify(arm)
        for number, result in enumerate(op.results):
            yields = [operations(arm)[-1].operands[number] for arm in arms]
            varies = condition or any(self._kind(value) for value in yields)
            self._mark(result, Kind.VARYING if varies else Kind.UNIFORM)

    def _access(self, memref: Any, subscripts: list[Kind], op: Any) -> Kind:
        """UNIFORM, or VARYING for neighbours in memory."""
        if not any(subscripts):
            return Kind.UNIFORM
        kind = mlir.ir.MemRefType(memref.type)
        *outer, last = subscripts
        if any(outer) or last is not Kind.LINEAR or "strided" in str(kind):
            raise Refused
        if str(kind.element_type) not in _SCALARS - {"i1", "index"}:
            raise Refused
        return Kind.VARYING

    def _result_kind(self, op: Any, kinds: list[Kind]) -> Kind:
        if not any(kinds):
            return Kind.UNIFORM
        if Kind.VARYING not in kinds:
            if op.name == "arith.addi" and Kind.UNIFORM in kinds:
                return Kind.LINEAR
            if op.name == "arith.subi" and kinds[1] is Kind.UNIFORM:
                return Kind.LINEAR
            if op.name == "arith.index_cast" and str(op.operands[0].type) in ("index", "i64"):
                return Kind.LINEAR if str(op.results[0].type) in ("index", "i64") else Kind.VARYING
        return Kind.VARYING

    # -- the new loop ---------------------------------------------------------------------
    def run(self) -> None:
        ir, arith, loop = mlir.ir, mlir.arith, self._loop
        rank = len(self._block.arguments)
        operands = list(loop.operands)
        low, high = operands[rank - 1], operands[2 * rank - 1]
        lanes = index(self._lanes)
        length = arith.maxsi(arith.subi(high, low), index(0))
        middle = arith.addi(low, arith.muli(arith.divui(length, lanes), lanes))
        bounds = [*operands[:rank], *operands[rank : 2 * rank - 1], middle]
        steps = [*operands[2 * rank : 3 * rank - 1], lanes]
        attributes = {name: loop.attributes[name] for name in loop.attributes}
        made = ir.Operation.create("scf.parallel", [], [*bounds, *steps], attributes, regions=1)
        kinds = [ir.IndexType.get()] * rank
        block = ir.Block.create_at_start(made.regions[0], kinds, [ir.Location.current] * rank)
        self._values.update(zip(self._block.arguments, block.arguments, strict=True))
        with ir.InsertionPoint(block):
            self._emit(self._block)
            ir.Operation.create("scf.reduce")
        loop.operands[rank - 1] = middle

    def _type(self, scalar: Any) -> Any:
        return mlir.ir.VectorType.get([self._lanes], scalar)

    def _number(self, value: Any) -> Any:
        return self._values.get(value, value)

    def _vector(self, value: Any) -> Any:
        """A value in every lane."""
        kind = self._kind(value)
        if kind is Kind.VARYING:
            return self._vectors[value]
        ir, number = mlir.ir, self._number(value)
        type_ = self._type(value.type)
        spread_ = ir.Operation.create("vector.broadcast", [type_], [number]).results[0]
        if kind is Kind.UNIFORM:
            return spread_
        steps = ir.Operation.create("vector.step", [self._type(ir.IndexType.get())]).results[0]
        if str(value.type) != "index":
            steps = ir.Operation.create("arith.index_cast", [type_], [steps]).results[0]
        return mlir.arith.addi(spread_, steps)

    def _emit(self, block: Any) -> None:
        for op in operations(block):
            with op.location:
                if op.name == "scf.for":
                    self._emit_for(op)
                elif op.name == "scf.if":
                    self._emit_if(op)
                elif op.name == "memref.load" and self._kind(op.results[0]):
                    where = [self._number(value) for value in op.operands]
                    type_ = self._type(op.results[0].type)
                    made = mlir.ir.Operation.create("vector.load", [type_], where)
                    self._vectors[op.results[0]] = made.results[0]
                elif op.name == "memref.store":
                    value, *where = op.operands
                    operands = [self._vector(value), *map(self._number, where)]
                    mlir.ir.Operation.create("vector.store", operands=operands)
                elif op.name not in ("scf.yield", "scf.reduce"):
                    self._emit_simple(op)

    def _emit_simple(self, op: Any) -> None:
        (result,) = op.results
        if self._kind(result) is not Kind.VARYING:
            clone = op.clone().operation
            for number, value in enumerate(clone.operands):
                clone.operands[number] = self._number(value)
            self._values[result] = clone.results[0]
            return
        operands = [self._vector(value) for value in op.operands]
        if op.name in libm.FUNCTIONS:
            self._vectors[result] = self._call(op, operands)
            return
        attributes = {name: op.attributes[name] for name in op.attributes}
        made = mlir.ir.Operation.create(op.name, [self._type(result.type)], operands, attributes)
        self._vectors[result] = made.results[0]

    def _call(self, op: Any, operands: list[Any]) -> Any:
        """The vector version, called for one piece of the lanes after the other."""
        ir = mlir.ir
        version = self._version(op)
        assert version is not None
        symbol, count = version
        scalar = op.results[0].type
        piece = ir.VectorType.get([count], scalar)
        libm.declare(self._module(), symbol, [piece] * len(operands), piece)
        callee = {"callee": ir.FlatSymbolRefAttr.get(symbol)}
        if count == self._lanes:
            return ir.Operation.create("func.call", [piece], operands, callee).results[0]
        zero = ir.DenseElementsAttr.get_splat(self._type(scalar), ir.FloatAttr.get(scalar, 0.0))
        result = mlir.arith.constant(self._type(scalar), zero)
        one = _numbers(1)
        for start in range(0, self._lanes, count):
            where = {"offsets": _numbers(start), "strides": one}
            cut = {**where, "sizes": _numbers(count)}
            parts = [
                ir.Operation.create("vector.extract_strided_slice", [piece], [v], cut).results[0]
                for v in operands
            ]
            value = ir.Operation.create("func.call", [piece], parts, callee).results[0]
            result = ir.Operation.create(
                "vector.insert_strided_slice", [result.type], [value, result], where
            ).results[0]
        return result

    def _module(self) -> Any:
        op = self._loop
        while op.parent is not None:
            op = op.parent
        return op

    def _emit_for(self, op: Any) -> None:
        ir = mlir.ir
        body = op.regions[0].blocks[0]
        carried = list(body.arguments)[1:]
        start = [self._as(value, init)
                 for value, init in zip(carried, list(op.operands)[3:], strict=True)]  # fmt: skip
        bounds = [self._number(value) for value in list(op.operands)[:3]]
        made = ir.Operation.create("scf.for", [v.type for v in start], [*bounds, *start], regions=1)
        kinds = [ir.IndexType.get(), *[v.type for v in start]]
        here = [ir.Location.current] * len(kinds)
        block = ir.Block.create_at_start(made.regions[0], kinds, here)
        self._values[body.arguments[0]] = block.arguments[0]
        for values in ((carried, list(block.arguments)[1:]), (op.results, made.results)):
            for old, new in zip(*values, strict=True):
                (self._vectors if self._kind(old) else self._values)[old] = new
        *_, last = operations(body)
        with ir.InsertionPoint(block):
            self._emit(body)
            new = [self._as(v, y) for v, y in zip(carried, last.operands, strict=True)]
            ir.Operation.create("scf.yield", operands=new)

    def _emit_if(self, op: Any) -> None:
        arms = [region.blocks[0] for region in op.regions]
        for arm in arms:
            self._emit(arm)
        for number, result in enumerate(op.results):
            yields = [operations(arm)[-1].operands[number] for arm in arms]
            if self._kind(result):
                values = map(self._vector, (op.operands[0], *yields))
                self._vectors[result] = mlir.arith.select(*values)
            else:
                values = map(self._number, (op.operands[0], *yields))
                self._values[result] = mlir.arith.select(*values)

    def _as(self, carried: Any, value: Any) -> Any:
        """``value`` as ``carried`` is held: a vector or a number."""
        return self._vector(value) if self._kind(carried) else self._number(value)
