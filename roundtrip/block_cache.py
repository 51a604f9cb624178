"""Large blocks of memory that arrays gave back, kept for the next arrays.

The first write to a fresh page is a page fault, in which the kernel clears the page: for one
operation on large arrays that is half the time, even with pages of 2 MiB.  So the memory of
large arrays goes through a small allocator, an *external allocator* in the terms of Numba's
run-time (NRT), which owns and counts references to these arrays as to any other:

* a block is aligned to 2 MiB, with advice to use pages of that size before it is touched;
* arrays begin at different places in their pages.  A load waits for an earlier store whose address
  has the same last 12 bits, so of two arrays that begin at the same place some loops are slower;
* a block that NRT frees is kept for arrays of about its size, up to a limit for the process
  (:func:`numba_mlir.config.memory_kept`); the ones kept longest make room;
* a block that later ones were preferred to has its pages given to the kernel (``MADV_FREE``): it
  takes them when memory is short, and leaves them where they are otherwise.  Not at once: without
  large pages, 16 MiB cost 0.4 ms for the advice and 1.5 ms when they are written again.

Its functions are LLVM IR, compiled once for a process: NRT calls them from threads that need
not hold the GIL.  One lock guards the table of blocks; who does not get it at once goes on
without the cache, so that no thread waits, and a child of ``fork`` cannot hang.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as binding
from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from numba_mlir import config

#: Linux's advice; other systems have neither these numbers nor transparent large pages
AVAILABLE = sys.platform == "linux"
#: ``MemInfo *(bytes, alignment)``: an array's memory, from here on from `LEAST` bytes
NEW_ARRAY = "numba_mlir_new_array"
#: bytes from which it is worth a system call; NumPy's allocator begins with advice there as well
LEAST = 4 << 20
_LARGE_PAGE = 2 << 20
_HUGEPAGE, _FREE = 14, 8
_SLOTS = 16
#: in front of what NRT gets: the bytes of the block, and where its memory begins.  With NRT's own
#: header of 48 bytes data begins at a multiple of 64
_HEADER = 16
#: how far into its page each block begins behind the one before
_STEP, _PAGE = 1088, 4096

_WORD, _INT, _BIT = ir.IntType(64), ir.IntType(32), ir.IntType(1)
_BYTES = ir.IntType(8).as_pointer()
_NULL = _BYTES(None)
#: a block, its bytes (0: the slot is empty), when it was given back, and whether the kernel may
#: take its pages
_SLOT = ir.LiteralStructType([_BYTES, _WORD, _WORD, _WORD])
#: blocks given back since a kept one was, from which it is idle
_IDLE = 8


def load() -> None:
    """Make the allocator known to LLVM, in every process before code that calls it runs."""
    engine = _engine()
    binding.add_symbol(NEW_ARRAY, engine.get_function_address(NEW_ARRAY))


def kept() -> int:
    """Bytes of the blocks that are kept."""
    return ctypes.CFUNCTYPE(ctypes.c_int64)(_engine().get_function_address("kept"))()


def release() -> None:
    """Give back all blocks that are kept."""
    ctypes.CFUNCTYPE(None)(_engine().get_function_address("release"))()


@functools.cache
def _engine() -> Any:
    """The compiled functions; arrays may be freed at any time, so they are never unloaded."""
    rtsys.initialize(cpu_target.target_context)  # makes NRT's functions known to LLVM
    text = str(_Allocator(config.memory_kept()).module)
    module = binding.parse_assembly(cgutils.normalize_ir_text(text))
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(opt=2)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
    return engine


class _Allocator:
    """The module with `NEW_ARRAY`, ``kept`` and ``release``."""

    def __init__(self, limit: int) -> None:
        self.module = ir.Module("numba_mlir.block_cache")
        self._limit = _WORD(limit)
        self._slots = self._variable("slots", ir.ArrayType(_SLOT, _SLOTS))
        self._lock, self._held, self._clock, self._place = (
            self._variable(name, _WORD) for name in ("lock", "held", "clock", "place")
        )
        self._libc_free = self._external("free", ir.VoidType(), _BYTES)
        self._madvise = self._external("madvise", _INT, _BYTES, _WORD, _INT)
        self._take, self._advise = self._make_take(), self._make_advise()
        self._give = self._make_give()
        self._make_new_array(self._make_malloc(), self._make_realloc(), self._make_free())
        self._make_kept()
        self._make_release()

    def _variable(self, name: str, kind: ir.Type) -> ir.GlobalVariable:
        made = ir.GlobalVariable(self.module, kind, name)
        made.linkage, made.initializer = "internal", kind(None)
        return made

    def _external(self, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
        return ir.Function(self.module, ir.FunctionType(result, arguments), name)

    def _function(
        self, name: str, result: ir.Type, *arguments: ir.Type
    ) -> tuple[ir.IRBuilder, tuple[ir.Argument, ...]]:
        made = self._external(name, result, *arguments)
        return ir.IRBuilder(made.append_basic_block()), made.args

    def _field(self, builder: ir.IRBuilder, slot: ir.Value, number: int) -> ir.Value:
        return builder.gep(slot, [_INT(0), _INT(number)], inbounds=True)

    @contextlib.contextmanager
    def _each_slot(self, builder: ir.IRBuilder) -> Iterator[tuple[ir.Value, ir.Value]]:
        """A loop over the slots: the slot and its bytes."""
        with cgutils.for_range(builder, _WORD(_SLOTS)) as loop:
            slot = builder.gep(self._slots, [_WORD(0), loop.index], inbounds=True)
            yield slot, builder.load(self._field(builder, slot, 1))

    def _unless_locked(self, builder: ir.IRBuilder, otherwise: ir.Value | None = None) -> None:
        """Take the lock; return ``otherwise`` where another thread has it."""
        taken = builder.atomic_rmw("xchg", self._lock, _WORD(1), "acquire")
        with builder.if_then(builder.icmp_unsigned("!=", taken, _WORD(0)), likely=False):
            builder.ret_void() if otherwise is None else builder.ret(otherwise)

    def _unlock(self, builder: ir.IRBuilder) -> None:
        builder.store_atomic(_WORD(0), self._lock, "release", 8)

    def _empty(self, builder: ir.IRBuilder, slot: ir.Value) -> ir.Value:
        """Take the block out of a slot."""
        place = self._field(builder, slot, 1)
        builder.store(builder.sub(builder.load(self._held), builder.load(place)), self._held)
        builder.store(_WORD(0), place)
        return builder.load(self._field(builder, slot, 0))

    def _memory(self, builder: ir.IRBuilder, block: ir.Value) -> ir.Value:
        """The cell that says where a block's memory begins."""
        return builder.gep(builder.bitcast(block, _BYTES.as_pointer()), [_INT(1)])

    def _free(self, builder: ir.IRBuilder, block: ir.Value) -> None:
        builder.call(self._libc_free, [builder.load(self._memory(builder, block))])

    def _pick(
        self, builder: ir.IRBuilder, chosen: ir.Value, least: ir.Value, key: ir.Value,
        slot: ir.Value, fits: ir.Value,
    ) -> None:  # fmt: skip
        """Remember the slot that fits and has the smallest key."""
        smaller = builder.icmp_unsigned("<", key, builder.load(least))
        with builder.if_then(builder.and_(fits, smaller)):
            builder.store(key, least)
            builder.store(slot, chosen)

    def _chosen(self, builder: ir.IRBuilder) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Cells for `_pick`, and the slot that means none."""
        none = _SLOT.as_pointer()(None)
        return (
            cgutils.alloca_once_value(builder, none),
            cgutils.alloca_once_value(builder, _WORD(-1)),
            none,
        )

    def _make_take(self) -> ir.Function:
        """``block(size)``: the smallest that is kept, with at most a quarter more; or null."""
        builder, (size,) = self._function("take", _BYTES, _WORD)
        chosen, least, none = self._chosen(builder)
        most = builder.add(size, builder.lshr(size, _WORD(2)))
        self._unless_locked(builder, _NULL)
        with self._each_slot(builder) as (slot, held):
            enough = builder.icmp_unsigned(">=", held, size)
            fits = builder.and_(enough, builder.icmp_unsigned("<=", held, most))
            self._pick(builder, chosen, least, held, slot, fits)
        found = builder.load(chosen)
        result = cgutils.alloca_once_value(builder, _NULL)
        with builder.if_then(builder.icmp_unsigned("!=", found, none)):
            builder.store(self._empty(builder, found), result)
        self._unlock(builder)
        builder.ret(builder.load(result))
        return builder.function

    def _make_advise(self) -> ir.Function:
        """``advise()``, under the lock: the kernel may take pages of the longest idle block."""
        builder, _ = self._function("advise", ir.VoidType())
        oldest, age, none = self._chosen(builder)
        now = builder.load(self._clock)
        with self._each_slot(builder) as (slot, held):
            since, advised = (builder.load(self._field(builder, slot, n)) for n in (2, 3))
            idle = builder.icmp_unsigned(">=", builder.sub(now, since), _WORD(_IDLE))
            kept = builder.icmp_unsigned("!=", held, _WORD(0))
            fresh = builder.icmp_unsigned("==", advised, _WORD(0))
            fits = builder.and_(builder.and_(kept, fresh), idle)
            self._pick(builder, oldest, age, since, slot, fits)
        slot = builder.load(oldest)
        with builder.if_then(builder.icmp_unsigned("!=", slot, none), likely=False):
            block, size = (builder.load(self._field(builder, slot, n)) for n in (0, 1))
            # Whole large pages, and not the one with the header.
            inside = builder.sub(size, _WORD(_LARGE_PAGE))
            whole = builder.and_(inside, _WORD(-_LARGE_PAGE))
            memory = builder.load(self._memory(builder, block))
            rest = builder.gep(memory, [_WORD(_LARGE_PAGE)])
            builder.call(self._madvise, [rest, whole, _INT(_FREE)])
            builder.store(_WORD(1), self._field(builder, slot, 3))
        builder.ret_void()
        return builder.function

    def _make_give(self) -> ir.Function:
        """``bool(block, size)``: keep a block; false where the caller has to free it."""
        builder, (block, size) = self._function("give", _BIT, _BYTES, _WORD)
        oldest, age, none = self._chosen(builder)
        empty = cgutils.alloca_once_value(builder, none)
        with builder.if_then(builder.icmp_unsigned(">", size, self._limit)):
            builder.ret(_BIT(0))
        again = builder.append_basic_block("again")
        builder.branch(again)
        builder.position_at_end(again)
        builder.store(none, empty)
        builder.store(none, oldest)
        builder.store(_WORD(-1), age)
        self._unless_locked(builder, _BIT(0))
        with self._each_slot(builder) as (slot, held):
            used = builder.icmp_unsigned("!=", held, _WORD(0))
            since = builder.load(self._field(builder, slot, 2))
            self._pick(builder, oldest, age, since, slot, used)
            with builder.if_then(builder.not_(used)):
                builder.store(slot, empty)
        free_slot, total = builder.load(empty), builder.add(builder.load(self._held), size)
        has_slot = builder.icmp_unsigned("!=", free_slot, none)
        has_room = builder.icmp_unsigned("<=", total, self._limit)
        with builder.if_then(builder.and_(has_slot, has_room)):
            now = builder.add(builder.load(self._clock), _WORD(1))
            for number, value in enumerate((block, size, now, _WORD(0))):
                builder.store(value, self._field(builder, free_slot, number))
            builder.store(now, self._clock)
            builder.store(total, self._held)
            builder.call(self._advise, [])
            self._unlock(builder)
            builder.ret(_BIT(1))
        victim = self._empty(builder, builder.load(oldest))
        self._unlock(builder)
        self._free(builder, victim)
        builder.branch(again)
        return builder.function

    def _make_malloc(self) -> ir.Function:
        """NRT's ``malloc(size, opaque)``."""
        fresh = self._make_fresh()
        builder, (asked, _) = self._function("allocate", _BYTES, _WORD, _BYTES)
        size = builder.add(asked, _WORD(_HEADER))
        cell = cgutils.alloca_once_value(builder, builder.call(self._take, [size]))
        missing = builder.icmp_unsigned("==", builder.load(cell), _NULL)
        with builder.if_then(missing, likely=False):
            made = builder.call(fresh, [size])
            with builder.if_then(builder.icmp_unsigned("==", made, _NULL), likely=False):
                builder.ret(_NULL)
            builder.store(made, cell)
        builder.ret(builder.gep(builder.load(cell), [_WORD(_HEADER)]))
        return builder.function

    def _make_fresh(self) -> ir.Function:
        """``block(size)``: of the system's memory; or null."""
        builder, (size,) = self._function("fresh", _BYTES, _WORD)
        cell = cgutils.alloca_once(builder, _BYTES)
        kind = [_BYTES.as_pointer(), _WORD, _WORD]
        allocate = self._external("posix_memalign", _INT, *kind)
        whole = builder.add(size, _WORD(_PAGE))
        error = builder.call(allocate, [cell, _WORD(_LARGE_PAGE), whole])
        with builder.if_then(builder.icmp_unsigned("!=", error, _INT(0)), likely=False):
            builder.ret(_NULL)
        memory = builder.load(cell)
        builder.call(self._madvise, [memory, whole, _INT(_HUGEPAGE)])
        turn = builder.atomic_rmw("add", self._place, _WORD(_STEP), "monotonic")
        block = builder.gep(memory, [builder.and_(turn, _WORD(_PAGE - 1))])
        builder.store(size, builder.bitcast(block, _WORD.as_pointer()))
        builder.store(memory, self._memory(builder, block))
        builder.ret(block)
        return builder.function

    def _make_free(self) -> ir.Function:
        """NRT's ``free(pointer, opaque)``."""
        builder, (pointer, _) = self._function("give_back", ir.VoidType(), _BYTES, _BYTES)
        block = builder.gep(pointer, [_WORD(-_HEADER)])
        size = builder.load(builder.bitcast(block, _WORD.as_pointer()))
        given = builder.call(self._give, [block, size])
        with builder.if_then(builder.not_(given)):
            self._free(builder, block)
        builder.ret_void()
        return builder.function

    def _make_realloc(self) -> ir.Function:
        """NRT's ``realloc(pointer, size, opaque)``: arrays are never resized."""
        builder, _ = self._function("reallocate", _BYTES, _BYTES, _WORD, _BYTES)
        builder.ret(_NULL)
        return builder.function

    def _make_new_array(self, *functions: ir.Function) -> None:
        kind = ir.LiteralStructType([*[f.type for f in functions], _BYTES])
        allocator = self._variable("allocator", kind)
        allocator.initializer = ir.Constant(kind, [*functions, _NULL])
        builder, (size, alignment) = self._function(NEW_ARRAY, _BYTES, _WORD, _INT)
        with builder.if_then(builder.icmp_unsigned("<", size, _WORD(LEAST))):
            small = self._external("NRT_MemInfo_alloc_aligned", _BYTES, _WORD, _INT)
            builder.ret(builder.call(small, [size, alignment]))
        # `NRT_api_functions` of numba/core/runtime/nrt_external.h
        external = ir.FunctionType(_BYTES, [_WORD, allocator.type]).as_pointer()
        table = ir.LiteralStructType([_BYTES, external])
        api = builder.call(self._external("NRT_get_api", table.as_pointer()), [])
        allocate_external = builder.load(self._field(builder, api, 1))
        builder.ret(builder.call(allocate_external, [size, allocator]))

    def _make_kept(self) -> None:
        builder, _ = self._function("kept", _WORD)
        builder.ret(builder.load(self._held))

    def _make_release(self) -> None:
        """Take out and free each block, as long as no other thread is at it."""
        builder, _ = self._function("release", ir.VoidType())
        with cgutils.for_range(builder, _WORD(_SLOTS)) as loop:
            slot = builder.gep(self._slots, [_WORD(0), loop.index], inbounds=True)
            self._unless_locked(builder)
            memory = cgutils.alloca_once(builder, _BYTES)
            builder.store(_NULL, memory)
            held = builder.load(self._field(builder, slot, 1))
            with builder.if_then(builder.icmp_unsigned("!=", held, _WORD(0))):
                block = self._empty(builder, slot)
                builder.store(builder.load(self._memory(builder, block)), memory)
            self._unlock(builder)
            builder.call(self._libc_free, [builder.load(memory)])
        builder.ret_void()
