"""Several iterations of a loop at once, where an inner loop has to keep its order.

A sum in an inner loop stays in its order (:mod:`.reductions`), and a loop that is left early has
no known end, so LLVM cannot make vectors of them.  The iterations of the loop around it are
independent: with one of them in each lane of a vector, every lane computes in its own order, and
results are the same to the last bit.

1. The last index of a parallel loop is cut, or that of an inner loop whose iterations write
   where no other one reads or writes: a loop in steps of the number of lanes, whose values are
   vectors, and the loop as it was for what is left.
2. Values that are the same in all lanes, and indices, stay numbers (:mod:`.lane_kinds`).
3. Functions of the C library are called for as many lanes as they have versions for.
4. A loop that is left early goes on until the last lane has left it (`left_early`).
5. Refused: a subscript that varies other than linearly in the last, contiguous dimension, a
   bound that varies, a store to one element from all lanes, functions that have no version for
   vectors, complex numbers and booleans in memory, and loops with nothing to keep in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes import complex_parts, libm
from numba_mlir.passes.building import for_loop, index, with_last
from numba_mlir.passes.lane_kinds import (
    TERMINATORS,
    Kind,
    Kinds,
    Refused,
    is_poison,
    needs_a_lane,
)
from numba_mlir.passes.streams import is_alone
from numba_mlir.passes.structure import structure
from numba_mlir.passes.values import ACCESSES, constant_int, nested, operations

#: vectors in flight: additions of one chain have to wait for one another
_CHAINS = 2
_SLOW = frozenset({"arith.divf", "math.sqrt"})
_ORDERED = frozenset({"scf.for", "scf.while"})
_CLEAN_UP = "func.func(canonicalize,cse)"


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
    """Vectorise the loops of a function that gain by it; another function may take its place."""
    in_blocks = any(op.name == "scf.execute_region" for op in nested(function))
    if not in_blocks and not complex_parts.is_carried(function):
        return _spread(function, vectors)
    # A loop that is left early is simpler in blocks: structured only for the lanes.
    with mlir.ir.InsertionPoint(function):
        structured = function.clone().operation
    structure(structured)
    if complex_parts.is_carried(structured):
        complex_parts.split(structured)
        mlir.run_pipeline(structured, _CLEAN_UP)
    done = _spread(structured, vectors)
    (function if done else structured).erase()
    return done


def _spread(function: Any, vectors: Vectors) -> bool:
    loops = operations(function.regions[0].blocks[0])
    done = [_spread_loop(op, function, vectors) for op in loops]
    return any(done)


def _spread_loop(loop: Any, function: Any, vectors: Vectors) -> bool:
    """Vectorise a parallel loop, or an outer one around a loop that is left early."""
    if loop.name not in ("scf.parallel", "scf.for") or not any(map(_is_ordered, nested(loop))):
        return False
    try:
        _Spread(loop, function, vectors).run()
    except Refused:
        inner = operations(loop.regions[0].blocks[0])
        done = [_spread_loop(op, function, vectors) for op in inner]
        return any(done)
    return True


def _is_ordered(op: Any) -> bool:
    """Whether a loop is left early, or carries a floating-point number to the next iteration."""
    if op.name == "scf.for":
        return any(str(r.type) in ("f32", "f64") for r in op.results)
    return op.name == "scf.while"


def _divides_inside(loop: Any) -> bool:
    """Whether an inner loop divides or takes square roots."""
    inner = [op for op in nested(loop) if op.name in _ORDERED]
    return any(op.name in _SLOW for one in inner for op in nested(one))


def _is_independent(loop: Any, function: Any) -> bool:
    """Whether no iteration of an ``scf.for`` reads or writes where another one writes.

    What is written at its index may be accessed there alone, and lies in no other array.
    """
    places: dict[Any, set[Any]] = {}
    written: set[Any] = set()
    for op in nested(loop):
        if op.name in ACCESSES:
            array = op.operands[ACCESSES[op.name]]
            places.setdefault(array, set()).add(list(op.operands)[-1])
            if op.name == "memref.store":
                written.add(array)
    alone = {array for array in places if is_alone(array, function)}
    return all(
        len(places[array]) == 1 and (array in alone or not places.keys() - alone - {array})
        for array in written
    )


def _numbers(*values: int) -> Any:
    wide = mlir.ir.IntegerType.get_signless(64)
    return mlir.ir.ArrayAttr.get([mlir.ir.IntegerAttr.get(wide, value) for value in values])


class _Spread:
    """A loop in vectors; Refused where it has no such form, or gains nothing by it."""

    def __init__(self, loop: Any, function: Any, vectors: Vectors) -> None:
        self._loop, self._module = loop, function.parent
        self._block = loop.regions[0].blocks[0]
        parallel = loop.name == "scf.parallel"
        self._iv = self._block.arguments[-1 if parallel else 0]
        self._kinds = Kinds(self._block, self._iv, vectors.function)
        gains = self._kinds.leaves_early or (
            parallel and any(op.name == "scf.for" and _is_ordered(op) for op in nested(loop))
        )
        if not gains or len(loop.results) or not (parallel or _is_independent(loop, function)):
            raise Refused
        calls = [op for op in nested(loop) if op.name in libm.FUNCTIONS]
        pieces = [self._kinds.version(op) for op in calls]
        bits = _CHAINS * vectors.bits
        if 0 < vectors.dividing_bits < vectors.bits and not pieces and _divides_inside(loop):
            bits = vectors.dividing_bits
        self._lanes = bits // self._widest()
        if any(piece is not None and self._lanes % piece[1] for piece in pieces):
            raise Refused
        self._values: dict[Any, Any] = {}
        self._vectors: dict[Any, Any] = {}
        #: the lanes that are here, None for all
        self._mask: Any = None

    def _widest(self) -> int:
        kinds = {str(r.type) for op in nested(self._loop) for r in op.results}
        return 64 if kinds & {"f64", "i64"} else 32

    # -- the new loop ---------------------------------------------------------------------
    def run(self) -> None:
        loop = self._loop
        with loop.location, mlir.ir.InsertionPoint(loop):
            if loop.name == "scf.parallel":
                self._run_parallel()
            else:
                self._run_for()

    def _middle(self, low: Any, high: Any) -> Any:
        """Where the last whole vector ends."""
        arith, lanes = mlir.arith, index(self._lanes)
        length = arith.maxsi(arith.subi(high, low), index(0))
        return arith.addi(low, arith.muli(arith.divui(length, lanes), lanes))

    def _run_parallel(self) -> None:
        loop, rank = self._loop, len(self._block.arguments)
        low, high = loop.operands[rank - 1], loop.operands[2 * rank - 1]
        middle = self._middle(low, high)

        def body(*ivs: Any) -> None:
            self._values.update(zip(self._block.arguments, ivs, strict=True))
            self._emit(self._block)

        with_last(loop, (low, middle, index(self._lanes)), body)
        loop.operands[rank - 1] = middle

    def _run_for(self) -> None:
        low, high, step = self._loop.operands
        if constant_int(step) != 1:
            raise Refused
        middle = self._middle(low, high)

        def body(iv: Any) -> tuple[()]:
            self._values[self._iv] = iv
            self._emit(self._block)
            return ()

        for_loop((low, middle, index(self._lanes)), body)
        self._loop.operands[0] = middle

    # -- values ---------------------------------------------------------------------------
    def _type(self, scalar: Any) -> Any:
        return mlir.ir.VectorType.get([self._lanes], scalar)

    def _splat(self, scalar: Any, number: Any) -> Any:
        """A constant in every lane."""
        ir, type_ = mlir.ir, self._type(scalar)
        is_float = str(scalar).startswith("f")
        one = (ir.FloatAttr if is_float else ir.IntegerAttr).get(scalar, number)
        return mlir.arith.constant(type_, ir.DenseElementsAttr.get_splat(type_, one))

    def _number(self, value: Any) -> Any:
        return self._values.get(value, value)

    def _vector(self, value: Any) -> Any:
        """A value in every lane."""
        kind = self._kinds.of(value)
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

    def _as(self, carried: Any, value: Any) -> Any:
        """``value`` as ``carried`` is held: a vector or a number."""
        return self._vector(value) if self._kinds.of(carried) else self._number(value)

    def _all_as(self, carried: Any, values: Any) -> list[Any]:
        return [self._as(one, value) for one, value in zip(carried, values, strict=True)]

    def _hold(self, values: Any, made: Any) -> None:
        """``made`` are the new forms of ``values``."""
        for value, new in zip(values, made, strict=True):
            (self._vectors if self._kinds.of(value) else self._values)[value] = new

    # -- operations -----------------------------------------------------------------------
    def _emit(self, block: Any) -> None:
        for op in operations(block):
            with op.location:
                rule = self._RULES.get(op.name)
                if rule is not None:
                    rule(self, op)
                elif op.name not in TERMINATORS:
                    self._emit_simple(op)

    def _emit_load(self, op: Any) -> None:
        (result,) = op.results
        if not self._kinds.of(result):
            self._emit_simple(op)
            return
        where = [self._number(value) for value in op.operands]
        type_ = self._type(result.type)
        name, operands = "vector.load", where
        if self._mask is not None:
            name, operands = "vector.maskedload", [*where, self._mask, self._splat(result.type, 0)]
        self._vectors[result] = mlir.ir.Operation.create(name, [type_], operands).results[0]

    def _emit_store(self, op: Any) -> None:
        value, *where = op.operands
        vector, where = self._vector(value), [self._number(one) for one in where]
        if self._mask is None:
            mlir.ir.Operation.create("vector.store", operands=[vector, *where])
        else:
            mlir.ir.Operation.create("vector.maskedstore", operands=[*where, self._mask, vector])

    def _emit_simple(self, op: Any) -> None:
        (result,) = op.results
        if self._kinds.of(result) is not Kind.VARYING:
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
        version = self._kinds.version(op)
        assert version is not None
        symbol, count = version
        scalar = op.results[0].type
        piece = ir.VectorType.get([count], scalar)
        libm.declare(self._module, symbol, [piece] * len(operands), piece)
        callee = {"callee": ir.FlatSymbolRefAttr.get(symbol)}
        if count == self._lanes:
            return ir.Operation.create("func.call", [piece], operands, callee).results[0]
        result = self._splat(scalar, 0)
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

    # -- loops ----------------------------------------------------------------------------
    def _block_of(self, region: Any, kinds: list[Any]) -> Any:
        return mlir.ir.Block.create_at_start(region, kinds, [mlir.ir.Location.current] * len(kinds))

    def _emit_for(self, op: Any) -> None:
        body = op.regions[0].blocks[0]
        old_iv, *old = list(body.arguments)
        low, high, step, *initial = op.operands
        *_, last = operations(body)

        def inside(iv: Any, *carried: Any) -> list[Any]:
            self._values[old_iv] = iv
            self._hold(old, carried)
            self._emit(body)
            return self._all_as(old, last.operands)

        bounds = self._number(low), self._number(high), self._number(step)
        self._hold(op.results, for_loop(bounds, inside, self._all_as(old, initial)))

    def _emit_while(self, op: Any) -> None:
        """Carried along besides the loop's own: the lanes that are in it, and for each result that
        is read behind it what it was when a lane left."""
        ir, arith, outside = mlir.ir, mlir.arith, self._mask
        before, after = (region.blocks[0] for region in op.regions)
        *_, condition = operations(before)
        *_, last = operations(after)
        test, *forwarded = condition.operands
        early = bool(self._kinds.of(test))
        read = [n for n, one in enumerate(op.results) if early and any(True for _ in one.uses)]
        start = self._all_as(before.arguments, op.operands)
        extra = [self._here()] if early else []
        extra += [self._splat(op.results[n].type, 0) for n in read]
        more = [value.type for value in extra]
        own = [self._type(v.type) if self._kinds.of(v) else v.type for v in after.arguments]
        made = ir.Operation.create("scf.while", [*own, *more], [*start, *extra], regions=2)
        block, extra = self._enter(made.regions[0], before, [*[v.type for v in start], *more])
        with ir.InsertionPoint(block):
            self._mask = extra[0] if early else outside
            self._emit(before)
            goes_on = self._number(test)
            if early:
                here, *kept = extra
                kept = [arith.select(here, self._vector(forwarded[n]), old)
                        for n, old in zip(read, kept, strict=True)]  # fmt: skip
                here = arith.andi(here, self._vector(test))
                extra, goes_on = [here, *kept], self._any(here)
            values = self._all_as(after.arguments, forwarded)
            ir.Operation.create("scf.condition", operands=[goes_on, *values, *extra])
        block, extra = self._enter(made.regions[1], after, [*own, *more])
        with ir.InsertionPoint(block):
            self._mask = extra[0] if early else outside
            self._emit(after)
            values = self._all_as(before.arguments, last.operands)
            ir.Operation.create("scf.yield", operands=[*values, *extra])
        self._mask = outside
        results = list(made.results)
        if early:
            self._hold([op.results[n] for n in read], results[len(own) + 1 :])
        else:
            self._hold(op.results, results)

    def _enter(self, region: Any, old: Any, types: list[Any]) -> tuple[Any, list[Any]]:
        """The block in the place of ``old``, and its arguments that ``old`` does not have."""
        block = self._block_of(region, types)
        count = len(old.arguments)
        self._hold(old.arguments, list(block.arguments)[:count])
        return block, list(block.arguments)[count:]

    # -- masks ----------------------------------------------------------------------------
    def _here(self) -> Any:
        """The lanes that are here, as a vector."""
        bit = mlir.ir.IntegerType.get_signless(1)
        return self._splat(bit, 1) if self._mask is None else self._mask

    def _any(self, mask: Any) -> Any:
        """Whether there is a lane in it."""
        bit = mlir.ir.IntegerType.get_signless(1)
        kind = {"kind": mlir.ir.Attribute.parse("#vector.kind<or>")}
        return mlir.ir.Operation.create("vector.reduction", [bit], [mask], kind).results[0]

    # -- branches -------------------------------------------------------------------------
    def _emit_if(self, op: Any) -> None:
        condition = op.operands[0]
        if not self._kinds.of(condition):
            self._branch(op, self._number(condition))
            return
        arith, test = mlir.arith, self._vector(condition)
        masks = [arith.andi(self._here(), test)]
        if op.regions[1].blocks:
            bit = mlir.ir.IntegerType.get_signless(1)
            masks.append(arith.andi(self._here(), arith.xori(test, self._splat(bit, 1))))
        arms = [region.blocks[0] for region in op.regions if region.blocks]
        values = [self._arm(op, arm, mask) for arm, mask in zip(arms, masks, strict=True)]
        for number, result in enumerate(op.results):
            given = [found[number] for arm, found in zip(arms, values, strict=True)
                     if not is_poison(operations(arm)[-1].operands[number])]  # fmt: skip
            if len(given) == 2 and self._kinds.of(result):
                given = [arith.select(test, *given)]
            self._hold([result], given[:1] or [values[0][number]])

    def _arm(self, op: Any, arm: Any, mask: Any) -> list[Any]:
        """What an arm yields, which is computed where ``mask`` says; anything in other lanes."""
        ir, types = mlir.ir, self._result_types(op)
        if not needs_a_lane(arm, self._kinds):
            return self._yields(op, arm, mask)
        made = ir.Operation.create("scf.if", types, [self._any(mask)], regions=2)
        with ir.InsertionPoint(self._block_of(made.regions[0], [])):
            ir.Operation.create("scf.yield", operands=self._yields(op, arm, mask))
        with ir.InsertionPoint(self._block_of(made.regions[1], [])):
            anything = [ir.Operation.create("ub.poison", [kind]).results[0] for kind in types]
            ir.Operation.create("scf.yield", operands=anything)
        return list(made.results)

    def _branch(self, op: Any, condition: Any) -> None:
        """All lanes take the same way."""
        ir = mlir.ir
        made = ir.Operation.create("scf.if", self._result_types(op), [condition], regions=2)
        for new, old in zip(made.regions, op.regions, strict=True):
            if old.blocks:
                with ir.InsertionPoint(self._block_of(new, [])):
                    values = self._yields(op, old.blocks[0], self._mask)
                    ir.Operation.create("scf.yield", operands=values)
        self._hold(op.results, made.results)

    def _result_types(self, op: Any) -> list[Any]:
        return [self._type(r.type) if self._kinds.of(r) else r.type for r in op.results]

    def _yields(self, op: Any, arm: Any, mask: Any) -> list[Any]:
        outside, self._mask = self._mask, mask
        self._emit(arm)
        self._mask = outside
        *_, last = operations(arm)
        return self._all_as(op.results, last.operands)

    _RULES: ClassVar[dict[str, Callable[[_Spread, Any], None]]] = {
        "scf.for": _emit_for,
        "scf.while": _emit_while,
        "scf.if": _emit_if,
        "memref.load": _emit_load,
        "memref.store": _emit_store,
    }
