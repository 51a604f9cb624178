"""Large fresh arrays are written past the caches.

A store to a line that is not in a cache reads that line first, so a loop that fills an array
moves twice its size.  Stores that go past the caches (non-temporal ones) do not read, but they
take whole, aligned lines.  So the innermost loop is cut into blocks: the values of a block go
into a buffer in L1, and from there in vectors to memory.

    for i:  out[i] = f(i)     becomes     for blocks:  for i in block:  buffer[i - first] = f(i)
                                                       copy the buffer to out[first:last]

With r arrays read and w written, memory moves r + 2 w arrays before and r + w after: the model
says 4/3 for ``a + b`` and 2 for a fill.  It holds where the array does not stay in the caches
anyway, so the size is tested at run time, with the loop as it was for smaller ones.  A later
loop then reads from memory what it might have found in the last cache, which costs less
(docs/codegen.md has the measurements).

Only arrays that share no memory with others and are written once in the function: nobody sees
that values arrive late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import libm
from numba_mlir.passes.building import address_of, clone, either, for_loop, index, on_stack
from numba_mlir.passes.values import constant_int, defined_inside, nested, operations, owner

#: ``(destination, source, bytes)``: copies with non-temporal stores; and what makes them visible
COPY, FENCE = "numba_mlir.stream", "numba_mlir.stream_end"
_LINE = 64
#: bytes of a block of the array with the longest elements
_BLOCK = 4096
#: arrays that one loop writes at a time: their buffers share L1
_MOST = 4
_BYTES = {"f32": 4, "i32": 4, "f64": 8, "i64": 8}
_HARMLESS = ("arith.", "math.", "complex.", "index.")
_ALLOWED = frozenset(
    {"memref.load", "memref.store", "memref.dim", "scf.if", "scf.yield", "numba.wrap_index",
     "numba.undef"}
)  # fmt: skip


def write_around_caches(function: Any, least: int) -> None:
    """Rewrite innermost loops of ``function`` that write arrays of ``least`` bytes or more.

    Its loops are ``scf.for``; arrays that are alone are its arguments with ``llvm.noalias``.
    """
    done = False
    for loop in [op for op in nested(function) if op.name == "scf.for"]:
        stores = _streams(loop, function)
        if stores:
            with loop.location, mlir.ir.InsertionPoint(loop):
                _rewrite(loop, stores, least, function)
            done = True
    if done:
        pointer, word = mlir.ir.Type.parse("!llvm.ptr"), mlir.ir.IntegerType.get_signless(64)
        libm.declare(function.parent, COPY, [pointer, pointer, word])
        libm.declare(function.parent, FENCE, [])
        (last,) = [op for op in nested(function) if op.name == "func.return"]
        with last.location, mlir.ir.InsertionPoint(last):
            _call(FENCE, [])


def _streams(loop: Any, function: Any) -> list[Any]:
    """The stores of a loop that can go past the caches."""
    if len(loop.results) or constant_int(loop.operands[2]) != 1:
        return []
    inside = list(nested(loop))
    if not all(op.name in _ALLOWED or op.name.startswith(_HARMLESS) for op in inside):
        return []
    block = loop.regions[0].blocks[0]
    found = [op for op in operations(block) if _is_stream(op, block.arguments[0], loop, function)]
    return found[:_MOST]


def _is_stream(op: Any, iv: Any, loop: Any, function: Any) -> bool:
    if op.name != "memref.store":
        return False
    _, memref, *subscripts = op.operands
    kind = mlir.ir.MemRefType(memref.type)
    if not subscripts or str(kind.element_type) not in _BYTES or "strided" in str(kind):
        return False
    if subscripts[-1] != iv or any(defined_inside(value, loop) for value in subscripts[:-1]):
        return False
    users = [use.owner.operation for use in memref.uses]
    others = [user for user in users if user != op and user.name != "memref.dim"]
    return not others and not defined_inside(memref, loop) and is_alone(memref, function)


def is_alone(memref: Any, function: Any) -> bool:
    """Whether ``memref`` is all that the function has of an argument with ``llvm.noalias``."""
    op = owner(memref)
    if op is None or op.name != "builtin.unrealized_conversion_cast":
        return False
    op = owner(op.operands[0])
    while op is not None and op.name == "llvm.insertvalue":
        whole, part = op.operands
        if str(part.type) == "!llvm.ptr":
            return _has_noalias(part, function)
        op = owner(whole)
    return False


def _has_noalias(pointer: Any, function: Any) -> bool:
    arguments = list(function.regions[0].blocks[0].arguments)
    if pointer not in arguments or "arg_attrs" not in function.attributes:
        return False
    attributes = mlir.ir.ArrayAttr(function.attributes["arg_attrs"])[arguments.index(pointer)]
    return "llvm.noalias" in mlir.ir.DictAttr(attributes)


def _rewrite(loop: Any, stores: Sequence[Any], least: int, function: Any) -> None:
    """The loop in blocks where its arrays are large, else as it was."""
    arith = mlir.arith
    sizes = [_total_bytes(store.operands[1]) for store in stores]
    total = sizes[0]
    for size in sizes[1:]:
        total = arith.addi(total, size)
    large = arith.cmpi(arith.CmpIPredicate.sge, total, index(least))
    either(large, lambda: _blocks(loop, stores, function), loop.clone)
    loop.erase()


def _blocks(loop: Any, stores: Sequence[Any], function: Any) -> None:
    arith = mlir.arith
    low, high, _ = loop.operands
    count = _BLOCK // max(_item(store) for store in stores)
    buffers = [on_stack(count, store.operands[0].type, function) for store in stores]
    # blocks begin where lines of the first array begin
    address = _address(stores[0], low)
    odd = arith.divui(arith.andi(address, index(_LINE - 1)), index(_item(stores[0])))

    def each_block(place: Any) -> tuple[()]:
        first = arith.maxsi(place, low)
        last = arith.minsi(arith.addi(place, index(count)), high)
        for_loop((first, last, index(1)), lambda iv: _body(loop, stores, buffers, first, iv))
        length = arith.subi(last, first)
        for store, buffer in zip(stores, buffers, strict=True):
            size = arith.muli(length, index(_item(store)))
            source = _pointer(address_of(buffer))
            _call(COPY, [_pointer(_address(store, first)), source, _word(size)])
        return ()

    for_loop((arith.subi(low, odd), high, index(count)), each_block)


def _body(loop: Any, stores: Sequence[Any], buffers: list[Any], first: Any, iv: Any) -> tuple[()]:
    block = loop.regions[0].blocks[0]
    values = {block.arguments[0]: iv}
    place = mlir.arith.subi(iv, first)
    for op in operations(block)[:-1]:
        if op in stores:
            value = op.operands[0]
            operands = [values.get(value, value), buffers[list(stores).index(op)], place]
            mlir.ir.Operation.create("memref.store", operands=operands)
        else:
            made = clone(op, values)
            values.update(zip(op.results, made.results, strict=True))
    return ()


def _item(store: Any) -> int:
    return _BYTES[str(store.operands[0].type)]


def _size(memref: Any, axis: int) -> Any:
    ir = mlir.ir
    return ir.Operation.create("memref.dim", [ir.IndexType.get()], [memref, index(axis)]).results[0]


def _total_bytes(memref: Any) -> Any:
    kind = mlir.ir.MemRefType(memref.type)
    total = index(_BYTES[str(kind.element_type)])
    for axis in range(kind.rank):
        total = mlir.arith.muli(total, _size(memref, axis))
    return total


def _address(store: Any, last: Any) -> Any:
    """Of the element that ``store`` writes where the loop's index is ``last``."""
    arith = mlir.arith
    _, memref, *subscripts = store.operands
    offset = None
    for axis, place in enumerate([*subscripts[:-1], last]):
        offset = place if offset is None else arith.addi(
            arith.muli(offset, _size(memref, axis)), place)  # fmt: skip
    return arith.addi(address_of(memref), arith.muli(offset, index(_item(store))))


def _word(value: Any) -> Any:
    return mlir.arith.index_cast(mlir.ir.IntegerType.get_signless(64), value)


def _pointer(address: Any) -> Any:
    kind = mlir.ir.Type.parse("!llvm.ptr")
    return mlir.ir.Operation.create("llvm.inttoptr", [kind], [_word(address)]).results[0]


def _call(symbol: str, operands: list[Any]) -> None:
    callee = {"callee": mlir.ir.FlatSymbolRefAttr.get(symbol)}
    mlir.ir.Operation.create("func.call", operands=operands, attributes=callee)
