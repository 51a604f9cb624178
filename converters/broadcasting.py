"""NumPy's rule for shapes at run time, and arrays that may overlap an assignment's target.

``numba.broadcast`` computes the common shape of its operands' shapes and raises NumPy's
ValueError where there is none; ``numba.broadcast_into`` checks that shapes fit into the
last one, which is that of an array to be written.  Both have the sizes of all operands,
one after the other, and these attributes:

``ranks``  how many of the sizes belong to each operand (0 for a number)
``order``  in what order NumPy would combine the operands: k stands for operand k, -k for
           the common shape of the k shapes before it; it decides what the message says
``kind``   (``broadcast_into``) "output" of a ufunc, or "input" of an assignment

``numba.unaliased(source, target)`` is the source where the two have no byte in common,
else a copy of it, made now.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, types
from numba.core import ir as nir
from numba.core.extending import intrinsic
from numba.core.imputils import impl_ret_new_ref
from numba.core.typing import signature
from numba.np.arrayobj import _empty_nd_impl, load_item, make_array, store_item

from numba_mlir import mlir
from numba_mlir.converters import build, overlap
from numba_mlir.converters.frame import TYPE
from numba_mlir.errors import BroadcastError

BROADCAST = "numba.broadcast"
BROADCAST_INTO = "numba.broadcast_into"
UNALIASED = "numba.unaliased"


@dataclass(frozen=True)
class Rule:
    """One check of shapes.  ``kind`` is "operands", "output" or "input" (see the module)."""

    kind: str
    ranks: tuple[int, ...]
    order: tuple[int, ...]
    filename: str = ""
    line: int = 0

    @property
    def rank(self) -> int:
        """The number of common sizes that the check computes."""
        return max(self.ranks, default=0) if self.kind == "operands" else 0

    @classmethod
    def of(cls, op: Any, filename: str, line: int) -> Rule:
        """The rule that an operation of the ``numba`` dialect states."""
        kind = "operands" if op.name == BROADCAST else op.attributes["kind"].value
        ranks, order = (tuple(op.attributes[name]) for name in ("ranks", "order"))
        return cls(kind, ranks, order, filename, line)


# ---- forward ----------------------------------------------------------------------


def emit(rule: Rule, sizes: Sequence[Any]) -> list[Any]:
    """The operation for ``rule``; ``sizes`` are index values.  Returns the common sizes."""
    ir = mlir.ir
    attributes = {
        "ranks": ir.DenseI64ArrayAttr.get(list(rule.ranks)),
        "order": ir.DenseI64ArrayAttr.get(list(rule.order)),
    }
    if rule.kind == "operands":
        results = [build.index_type()] * rule.rank
        return list(build.op(BROADCAST, sizes, results, attributes).results)
    attributes["kind"] = ir.StringAttr.get(rule.kind)
    build.op(BROADCAST_INTO, sizes, (), attributes)
    return []


def unaliased(source: Any, target: Any, type_attribute: Any) -> Any:
    """``numba.unaliased``: an array like ``source`` that the target does not overlap.

    ``type_attribute`` names the source's Numba type.
    """
    return build.value(UNALIASED, (source, target), source.type, {TYPE: type_attribute})


# ---- backward ---------------------------------------------------------------------


@functools.cache
def check_function(rule: Rule) -> Any:
    """An intrinsic of one tuple of sizes that checks ``rule``.

    Its result is a tuple of the common sizes (intp), None where ``rule`` has none.
    Raises ValueError with NumPy's message.
    """

    def definition(typingctx: Any, sizes: Any) -> Any:
        result = types.UniTuple(types.intp, rule.rank) if rule.rank else types.none
        return signature(result, sizes), functools.partial(_check, rule)

    definition.__name__ = definition.__qualname__ = f"mlir_broadcast_{rule.kind}"
    made = intrinsic(definition)
    _RULES[made] = rule
    return made


#: intrinsic -> what it checks
_RULES: dict[Any, Rule] = {}


def rule_of(function: Any) -> Rule | None:
    """The rule that an intrinsic of `check_function` checks; None for anything else."""
    return _RULES.get(function)


def _check(rule: Rule, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    (tuple_type,) = sig.args
    values = cgutils.unpack_tuple(builder, args[0], len(tuple_type))
    sizes = [
        context.cast(builder, value, ty, types.intp)
        for value, ty in zip(values, tuple_type, strict=True)
    ]
    shapes, start = [], 0
    for rank in rule.ranks:
        shapes.append(sizes[start : start + rank])
        start += rank
    if rule.kind == "operands":
        common, good = _common_shape(builder, shapes)
    else:
        common, good = [], _fits(builder, shapes[:-1], shapes[-1], rule.kind == "input")
    with builder.if_then(builder.not_(good), likely=False):
        context.call_conv.return_dynamic_user_exc(
            builder,
            BroadcastError,
            (rule.kind, rule.order, rule.ranks, *sizes),
            (None, None, None, *[types.intp] * len(sizes)),
            loc=nir.Loc(rule.filename, rule.line),
            func_name=context.fndesc.qualname if context.fndesc is not None else None,
        )
    if not common:
        return context.get_dummy_value()
    return context.make_tuple(builder, sig.return_type, common)


_TRUE = llvm.Constant(llvm.IntType(1), 1)


def _common_shape(builder: Any, shapes: list[list[Any]]) -> tuple[list[Any], Any]:
    """Sizes of the common shape, and whether there is one."""
    rank = max(map(len, shapes))
    common: list[Any] = [None] * rank
    good: Any = _TRUE
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            before = common[axis]
            if before is None:
                common[axis] = size
                continue
            stretches = builder.icmp_signed("==", before, before.type(1))
            fits = builder.or_(
                builder.icmp_signed("==", size, size.type(1)),
                builder.icmp_signed("==", size, before),
            )
            good = builder.and_(good, builder.or_(stretches, fits))
            common[axis] = builder.select(stretches, size, before)
    return common, good


def _fits(builder: Any, shapes: list[list[Any]], target: list[Any], drops_ones: bool) -> Any:
    """Whether all ``shapes`` can be stretched to ``target``.

    ``drops_ones`` allows dimensions of size 1 in front that the target does not have.
    """
    good: Any = _TRUE
    for shape in shapes:
        if len(shape) > len(target) and not drops_ones:
            return llvm.Constant(llvm.IntType(1), 0)
        # aligned at the last dimension; nothing but 1 fits where the target has none
        for size, wanted in zip_longest(reversed(shape), reversed(target)):
            if size is not None:
                fits = builder.icmp_signed("==", size, size.type(1))
                if wanted is not None:
                    fits = builder.or_(fits, builder.icmp_signed("==", size, wanted))
                good = builder.and_(good, fits)
    return good


@intrinsic
def unaliased_source(typingctx: Any, source: Any, target: Any) -> Any:
    """What ``numba.unaliased`` stands for."""
    if not isinstance(source, types.Array) or not isinstance(target, types.Array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        disjoint = overlap.test(context, builder, sig.args, args)
        with builder.if_else(disjoint, likely=True) as (then, otherwise):
            with then:
                context.nrt.incref(builder, source, args[0])
                itself = builder.block
            with otherwise:
                copied = _copy(context, builder, source, args[0])
                copy = builder.block
        result = builder.phi(args[0].type)
        result.add_incoming(args[0], itself)
        result.add_incoming(copied, copy)
        return impl_ret_new_ref(context, builder, sig.return_type, result)

    return signature(source, source, target), codegen


def _copy(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    """A new array with the elements of ``value``, contiguous, of the same Numba type."""
    array = make_array(array_type)(context, builder, value)
    sizes = cgutils.unpack_tuple(builder, array.shape, array_type.ndim)
    strides = cgutils.unpack_tuple(builder, array.strides, array_type.ndim)
    layout = "F" if array_type.layout == "F" else "C"
    new_type = array_type.copy(layout=layout, readonly=False)
    new = _empty_nd_impl(context, builder, new_type, sizes)
    intp = context.get_value_type(types.intp)
    with cgutils.loop_nest(builder, sizes, intp) as indices:
        source = cgutils.get_item_pointer2(
            context, builder, array.data, sizes, strides, array_type.layout, indices
        )
        target = cgutils.get_item_pointer2(
            context, builder, new.data, sizes, strides, layout, indices
        )
        item = load_item(context, builder, array_type, source)
        store_item(context, builder, new_type, item, target)
    return new._getvalue()
