"""Which values differ between the iterations of a loop, and whether it may run in lanes.

A value is *uniform* (the same in all lanes), *linear* (the index plus something uniform) or
*varying*.  Lanes that take part in a step are a *mask* once a condition varies:

* an ``scf.if`` whose condition varies computes both arms, each under its mask, and selects;
  what must not be done for nothing (`needs_a_lane`) is passed over where no lane is;
* an ``scf.while`` whose condition varies goes on as long as one lane does;
* under a mask memory is read and written by masked operations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.effects import DIVISIONS
from numba_mlir.passes.values import constant_int, operations, owner

_SCALARS = frozenset({"f32", "f64", "i1", "i8", "i16", "i32", "i64", "index"})
TERMINATORS = frozenset({"scf.yield", "scf.reduce", "scf.condition"})


class Kind(IntEnum):
    UNIFORM = 0
    LINEAR = 1
    VARYING = 2


class Refused(Exception):
    """The loop has no vector form."""


class Kinds:
    """The kinds of all values in ``block``, the body of a loop over ``iv``.

    ``function`` gives for a scalar function's symbol the vector version's, and its lanes.
    Raises Refused where an operation has no form in lanes.
    """

    def __init__(
        self, block: Any, iv: Any, function: Callable[[str], tuple[str, int] | None]
    ) -> None:
        self._function = function
        self._kinds: dict[Any, Kind] = {iv: Kind.LINEAR}
        #: whether some lanes may not be here
        self._masked = False
        #: whether a loop goes on in some lanes only
        self.leaves_early = False
        self._block(block)

    def of(self, value: Any) -> Kind:
        return self._kinds.get(value, Kind.UNIFORM)

    def version(self, op: Any) -> tuple[str, int] | None:
        """The vector version of a function of the C library."""
        kind = str(op.results[0].type)
        if any(str(value.type) != kind for value in op.operands) or kind not in ("f32", "f64"):
            return None
        return self._function(libm.FUNCTIONS[op.name] + ("f" if kind == "f32" else ""))

    def _mark(self, value: Any, kind: Kind) -> bool:
        """Whether this is news."""
        if kind is Kind.UNIFORM or self.of(value) >= kind:
            return False
        if str(value.type) not in _SCALARS:
            raise Refused
        self._kinds[value] = kind
        return True

    def _mark_all(self, values: Any, sources: Any) -> bool:
        """Mark ``values`` that take over what ``sources`` are."""
        changed = False
        for value, source in zip(values, sources, strict=True):
            changed |= self._mark(value, Kind.VARYING if self.of(source) else Kind.UNIFORM)
        return changed

    @contextlib.contextmanager
    def _under(self, mask: bool) -> Iterator[None]:
        before = self._masked
        self._masked = before or mask
        yield
        self._masked = before

    # -- operations --------------------------------------------------------------------
    def _block(self, block: Any) -> None:
        for op in operations(block):
            rule = self._RULES.get(op.name)
            if rule is not None:
                rule(self, op)
            elif op.name in libm.FUNCTIONS:
                self._call(op)
            elif is_elementwise(op):
                self._elementwise(op)
            elif op.name not in TERMINATORS or len(op.regions):
                raise Refused

    def _call(self, op: Any) -> None:
        varies = any(map(self.of, op.operands))
        if varies and self.version(op) is None:
            raise Refused
        self._mark(op.results[0], Kind.VARYING if varies else Kind.UNIFORM)

    def _elementwise(self, op: Any) -> None:
        kinds = [self.of(value) for value in op.operands]
        if self._masked and any(kinds) and divides(op):
            raise Refused  # by what is in lanes that are not here
        self._mark(op.results[0], self._result_kind(op, kinds))

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

    # -- memory ------------------------------------------------------------------------
    def _load(self, op: Any) -> None:
        memref, *subscripts = op.operands
        self._mark(op.results[0], self._access(memref, subscripts))

    def _store(self, op: Any) -> None:
        _, memref, *subscripts = op.operands
        if self._access(memref, subscripts) is Kind.UNIFORM:
            raise Refused

    def _dim(self, op: Any) -> None:
        if any(map(self.of, op.operands)):
            raise Refused

    def _access(self, memref: Any, subscripts: list[Any]) -> Kind:
        """UNIFORM, or VARYING for neighbours in memory."""
        kinds = [self.of(value) for value in subscripts]
        if not any(kinds):
            return Kind.UNIFORM
        type_ = mlir.ir.MemRefType(memref.type)
        *outer, last = kinds
        if any(outer) or last is not Kind.LINEAR or "strided" in str(type_):
            raise Refused
        if str(type_.element_type) not in _SCALARS - {"i1", "index"}:
            raise Refused
        return Kind.VARYING

    # -- loops and branches ---------------------------------------------------------------
    def _for(self, op: Any) -> None:
        low, high, step, *initial = op.operands
        if any(map(self.of, (low, high, step))):
            raise Refused
        body = op.regions[0].blocks[0]
        carried = list(body.arguments)[1:]
        *_, last = operations(body)
        changed = True
        while changed:
            changed = self._mark_all(carried, initial)
            self._block(body)
            changed |= self._mark_all(carried, last.operands)
        self._mark_all(op.results, carried)

    def _while(self, op: Any) -> None:
        before, after = (region.blocks[0] for region in op.regions)
        condition, last = operations(before)[-1], operations(after)[-1]
        test, *forwarded = condition.operands
        changed = True
        while changed:
            changed = self._mark_all(before.arguments, op.operands)
            with self._under(bool(self.of(test))):
                self._block(before)
                changed |= self._mark_all(after.arguments, forwarded)
                self._block(after)
            changed |= self._mark_all(before.arguments, last.operands)
        if self.of(test):
            self.leaves_early = True
            forwarded = [test] * len(forwarded)
        self._mark_all(op.results, forwarded)

    def _if(self, op: Any) -> None:
        varies = bool(self.of(op.operands[0]))
        arms = [region.blocks[0] for region in op.regions if len(region.blocks)]
        with self._under(varies):
            for arm in arms:
                self._block(arm)
        for number, result in enumerate(op.results):
            yields = [operations(arm)[-1].operands[number] for arm in arms]
            given = [value for value in yields if not is_poison(value)]
            varies_here = any(map(self.of, given)) or (varies and len(given) > 1)
            self._mark(result, Kind.VARYING if varies_here else Kind.UNIFORM)

    _RULES: ClassVar[dict[str, Callable[[Kinds, Any], None]]] = {
        "scf.for": _for,
        "scf.while": _while,
        "scf.if": _if,
        "memref.load": _load,
        "memref.store": _store,
        "memref.dim": _dim,
    }


def divides(op: Any) -> bool:
    """Whether an operation is a division of integers that may fail; by powers of 2 none does."""
    if op.name not in DIVISIONS:
        return False
    divisor = constant_int(op.operands[1])
    return divisor is None or divisor <= 0 or divisor & (divisor - 1) != 0


def is_elementwise(op: Any) -> bool:
    if op.name in libm.FUNCTIONS or len(op.regions) or len(op.results) != 1:
        return False
    return op.name.startswith(("arith.", "math.")) or op.name in ("ub.poison", "numba.undef")


def is_poison(value: Any) -> bool:
    """Whether any value will do."""
    op = owner(value)
    return op is not None and op.name == "ub.poison"


def needs_a_lane(block: Any, kinds: Kinds) -> bool:
    """Whether an arm must not, or should not, be computed where it is no lane's."""
    for op in operations(block):
        if op.name in ("scf.for", "scf.while", *libm.FUNCTIONS) or divides(op):
            return True
        if op.name == "memref.load" and not kinds.of(op.results[0]):
            return True
        if any(needs_a_lane(region.blocks[0], kinds) for region in op.regions if region.blocks):
            return True
    return False
