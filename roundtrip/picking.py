"""A pass near the end: ``a[m]`` with a mask of one dimension, eight elements of the mask at once.

Numba's own loop asks for each element whether it is picked, which the processor cannot guess
where picked and other elements alternate.  Here eight truth values are read as one number:
none picked is skipped, all picked are copied together, and otherwise each element is stored at
the next place, which moves on only where it is picked.  What comes out is the same array;
sizes that do not fit are NumPy's IndexError, where Numba reads behind the array's end.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

from llvmlite import ir as llvm
from numba.core import cgutils, ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.extending import intrinsic
from numba.core.ir_utils import build_definitions
from numba.core.typing import signature
from numba.np import arrayobj

from numba_mlir.errors import MASK_DOES_NOT_FIT
from numba_mlir.roundtrip import block_cache
from numba_mlir.roundtrip.fresh_memory import allocate, calling_blocks
from numba_mlir.roundtrip.typed_calls import typed_call

_WORD = llvm.IntType(64)
#: eight truth values, all true
_ALL = 0x0101010101010101


@register_pass(mutates_CFG=False, analysis_only=False)
class PickByWords(FunctionPass):
    """Goes behind ParforPass, which looks for ``x[m] = y[m]``."""

    _name: ClassVar[str] = "mlir_pick_by_words"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        found = [
            (block, stmt)
            for block in calling_blocks(state.func_ir)
            for stmt in block.body
            if _is_pick(state.typemap, stmt)
        ]
        for block, stmt in found:
            _replace(state, block, stmt)
        if found:
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return bool(found)


def _is_pick(typemap: Any, stmt: Any) -> bool:
    if not isinstance(stmt, ir.Assign) or not isinstance(stmt.value, ir.Expr):
        return False
    if stmt.value.op != "getitem" or sys.byteorder != "little":
        return False
    kinds = [typemap[stmt.target.name], typemap[stmt.value.value.name]]
    mask = typemap[stmt.value.index.name]
    return (
        all(type(kind) is types.Array and kind.ndim == 1 for kind in (*kinds, mask))
        and mask.dtype == types.boolean
        and mask.layout == "C"
        and kinds[1].aligned
        and kinds[0].layout == "C"
        and kinds[0].dtype == kinds[1].dtype
        and isinstance(kinds[0].dtype, (types.Number, types.Boolean))
    )


def _replace(state: Any, block: Any, stmt: Any) -> None:
    function = picker(stmt.loc.filename, stmt.loc.line)
    args = (stmt.value.value, stmt.value.index)
    _, made = typed_call(state, block.scope, stmt.loc, function, args)
    stmt.value = made.pop().value
    place = block.body.index(stmt)
    block.body[place:place] = made


@functools.cache
def picker(filename: str, line: int) -> Any:
    """An intrinsic of an array and a mask; IndexError, at the user's line, for other sizes."""

    def definition(typingctx: Any, array: Any, mask: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pick = _Pick(context, builder, sig, args)
            with builder.if_then(pick.does_not_fit(), likely=False):
                where = context.fndesc.qualname if context.fndesc is not None else None
                place, text = ir.Loc(filename, line), (MASK_DOES_NOT_FIT,)
                context.call_conv.return_user_exc(
                    builder, IndexError, text, loc=place, func_name=where
                )
            return pick.run()

        result = array.copy(ndim=1, layout="C", readonly=False)
        return signature(result, array, mask), codegen

    definition.__name__ = definition.__qualname__ = "mlir_pick"
    return intrinsic(definition)


class _Pick:
    """Emits the code of one pick."""

    def __init__(self, context: Any, builder: Any, sig: Any, args: Any) -> None:
        self._context, self._builder, self._result = context, builder, sig.return_type
        self._array, self._mask = (
            context.make_array(kind)(context, builder, arg)
            for kind, arg in zip(sig.args, args, strict=True)
        )
        strides = self._array.strides
        self._stride = (
            self._array.itemsize if sig.args[0].is_contig else builder.extract_value(strides, 0)
        )
        self._size = builder.extract_value(self._mask.shape, 0)
        self._words = builder.lshr(self._size, _word(3))
        self._bytes = builder.bitcast(self._mask.data, cgutils.voidptr_t)

    def does_not_fit(self) -> Any:
        """Whether there are other numbers of elements; NumPy lets an empty mask pass."""
        builder = self._builder
        size = builder.extract_value(self._array.shape, 0)
        differ = builder.icmp_unsigned("!=", size, self._size)
        return builder.and_(differ, builder.icmp_unsigned("!=", self._size, _word(0)))

    def run(self) -> Any:
        """The new array."""
        builder = self._builder
        count = self._count()
        made = self._new(count)
        place = cgutils.alloca_once_value(builder, _word(0))
        with cgutils.for_range(builder, self._words) as loop:
            word = self._word(loop.index)
            with builder.if_then(builder.icmp_unsigned("!=", word, _word(0))):
                self._pick_of(word, loop.index, made, place, count)
        with self._tail() as (index, bit), builder.if_then(bit):
            self._store(made, builder.load(place), index)
            self._add(place, _word(1))
        return made._getvalue()

    def _pick_of(self, word: Any, number: Any, made: Any, place: Any, count: Any) -> None:
        """Copy what a word with some truth picks."""
        builder = self._builder
        bits = builder.lshr(self._truth(word), _word(7))
        first = builder.shl(number, _word(3))
        with builder.if_else(builder.icmp_unsigned("==", bits, _word(_ALL))) as (whole, part):
            with whole:
                self._copy(made, place, first)
            with part:
                end = builder.add(builder.load(place), _word(8))
                fits = builder.icmp_unsigned("<=", end, count)
                with builder.if_else(fits) as (quick, careful):
                    with quick:
                        self._move_on(made, place, first, bits)
                    with careful:
                        self._one_by_one(made, place, first, bits)

    def _new(self, count: Any) -> Any:
        wanted = self._context, self._builder, self._result, [count]
        return allocate(*wanted)[0] if block_cache.AVAILABLE else arrayobj._empty_nd_impl(*wanted)

    def _count(self) -> Any:
        """How many elements are picked."""
        builder = self._builder
        count = cgutils.alloca_once_value(builder, _word(0))
        with cgutils.for_range(builder, self._words) as loop:
            self._add(count, builder.ctpop(self._truth(self._word(loop.index))))
        with self._tail() as (_, bit):
            self._add(count, builder.zext(bit, _WORD))
        return builder.load(count)

    def _word(self, number: Any) -> Any:
        """Eight truth values, each a byte that may be any but 0 where it is true."""
        builder = self._builder
        words = builder.bitcast(self._bytes, _WORD.as_pointer())
        return builder.load(builder.gep(words, [number]), align=1)

    def _truth(self, word: Any) -> Any:
        """The highest bit of each byte says whether it is not 0; the others are 0."""
        builder, low = self._builder, _word(_ALL * 0x7F)
        some = builder.or_(builder.add(builder.and_(word, low), low), word)
        return builder.and_(some, _word(_ALL << 7))

    @contextlib.contextmanager
    def _tail(self) -> Iterator[tuple[Any, Any]]:
        """The elements behind the last word: their number, and whether they are picked."""
        builder = self._builder
        start = builder.shl(self._words, _word(3))
        with cgutils.for_range_slice(builder, start, self._size, _word(1)) as (index, _):
            byte = builder.load(builder.gep(self._bytes, [index]))
            yield index, cgutils.is_not_null(builder, byte)

    def _copy(self, made: Any, place: Any, first: Any) -> None:
        start = self._builder.load(place)
        for number in map(_word, range(8)):
            self._store(made, *(self._builder.add(one, number) for one in (start, first)))
        self._add(place, _word(8))

    def _move_on(self, made: Any, place: Any, first: Any, bits: Any) -> None:
        """Every element is stored; the next one takes its place unless it is picked."""
        for number in range(8):
            self._store(made, self._builder.load(place), self._builder.add(first, _word(number)))
            self._add(place, self._bit(bits, number))

    def _one_by_one(self, made: Any, place: Any, first: Any, bits: Any) -> None:
        builder = self._builder
        for number in range(8):
            with builder.if_then(builder.trunc(self._bit(bits, number), cgutils.bool_t)):
                self._store(made, builder.load(place), builder.add(first, _word(number)))
                self._add(place, _word(1))

    def _bit(self, bits: Any, number: int) -> Any:
        shifted = self._builder.lshr(bits, _word(8 * number))
        return self._builder.and_(shifted, _word(1))

    def _store(self, made: Any, place: Any, index: Any) -> None:
        """The element of the array at ``index``, as it is in memory."""
        builder, data = self._builder, self._array.data
        start = builder.bitcast(data, cgutils.voidptr_t)
        source = builder.gep(start, [builder.mul(index, self._stride)])
        value = builder.load(builder.bitcast(source, data.type))
        builder.store(value, builder.gep(made.data, [place]))

    def _add(self, place: Any, number: Any) -> None:
        self._builder.store(self._builder.add(self._builder.load(place), number), place)


def _word(number: int) -> Any:
    return _WORD(number)
