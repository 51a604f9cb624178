"""What compiled host code does on a device: launch, allocate, read, write, copy."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.core.typing import signature
from numba.np import numpy_support
from numba.np.arrayobj import load_item, make_array, populate_array

from numba_mlir.errors import UnsupportedConstruct
from numba_mlir.gpu.kernel import Kernel
from numba_mlir.gpu.native import Python, dtype_code
from numba_mlir.gpu.runtime import PLACE, PLACES, TAIL

_I64 = llvm.IntType(64)
_SLOT = cgutils.voidptr_t
#: sizes and distances of kernels whose indices have 32 bits are below this: the threads of a
#: grid can be more than the indices of a loop
_SHORT = 2**30
#: how often a result of the device is looked for before the driver is asked to wait
_LOOKS = 2**20


#: all intrinsics of this module that exist: they are safe on arrays of a device
MADE: weakref.WeakSet[Any] = weakref.WeakSet()


def _made_here(made: Any) -> Any:
    MADE.add(made)
    return made


@contextlib.contextmanager
def _with_python(context: Any, builder: Any) -> Iterator[Python]:
    """Code that holds the GIL."""
    api = context.get_python_api(builder)
    state = api.gil_ensure()
    yield Python(context, builder, api, context.get_env_manager(builder))
    api.gil_release(state)


def _raise_if(context: Any, builder: Any, failed: Any) -> None:
    """Leave the function with the exception that Python has set."""
    with builder.if_then(failed, likely=False):
        context.call_conv.return_exc(builder)


# -- kernels ---------------------------------------------------------------------------
def launcher(kernel: Kernel) -> Any:
    """An intrinsic ``launch((columns, rows, layers, width, height), (argument, ...))``.

    An array is passed as MLIR passes a memref: its pointer twice, an offset of zero, sizes,
    and strides in elements.  Numbers must have the kernel's types.
    """

    def launch(typingctx: Any, geometry: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            _launch(kernel, context, builder, sig, args)
            return context.get_dummy_value()

        return signature(types.none, geometry, arguments), codegen

    launch.__name__ = launch.__qualname__ = f"gpu_launch_{kernel.name}"
    return _made_here(intrinsic(launch))


def _launch(kernel: Kernel, context: Any, builder: Any, sig: Any, args: Any) -> None:
    values: list[Any] = []
    first: Any = None
    members = cgutils.unpack_tuple(builder, args[1], len(sig.args[1]))
    for kind, member in zip(sig.args[1], members, strict=True):
        if isinstance(kind, types.Array):
            array = make_array(kind)(context, builder, member)
            first = first or array
            values += _descriptor(builder, kind, array)
            if kernel.index_bits != 64:
                _short(context, builder, _span(builder, kind, array))
        else:
            values.append(member)
    if kernel.index_bits != 64:
        values = [
            _short(context, builder, value) if wanted == "i32" and value.type == _I64 else value
            for wanted, value in zip(kernel.kinds, values, strict=True)
        ]
    assert len(values) == len(kernel.kinds) and first is not None, kernel
    arguments = _packed(builder, values, by_value=kernel.place.backend == "sycl")
    geometry = cgutils.unpack_tuple(builder, args[0], 5)
    with _with_python(context, builder) as python:
        function = python.object(kernel)
        operands = [
            python.owner(first),
            python.address(arguments),
            *[python.number(number) for number in geometry],
        ]
        result = python.api.call_function_objargs(function, operands)
        for one in operands:
            python.api.decref(one)
        failed = cgutils.is_null(builder, result)
        with builder.if_then(builder.not_(failed)):
            python.api.decref(result)
    _raise_if(context, builder, failed)


def _descriptor(builder: Any, kind: Any, array: Any) -> list[Any]:
    rank = kind.ndim
    sizes = cgutils.unpack_tuple(builder, array.shape, rank) if rank else []
    strides = cgutils.unpack_tuple(builder, array.strides, rank) if rank else []
    elements = [builder.sdiv(stride, array.itemsize) for stride in strides]
    pointer = builder.bitcast(array.data, _SLOT)
    return [pointer, pointer, _I64(0), *sizes, *elements]


def _span(builder: Any, kind: Any, array: Any) -> Any:
    """Elements between an array's first and last one in memory."""
    total = _I64(0)
    _, _, _, *numbers = _descriptor(builder, kind, array)
    for size, stride in zip(numbers[: kind.ndim], numbers[kind.ndim :], strict=True):
        step = builder.select(
            builder.icmp_signed("<", stride, _I64(0)), builder.neg(stride), stride
        )
        total = builder.add(total, builder.mul(size, step))
    return total


def _short(context: Any, builder: Any, value: Any) -> Any:
    """A number that a kernel takes with 32 bits; one that does not fit is a ValueError."""
    size = builder.select(builder.icmp_signed("<", value, _I64(0)), builder.neg(value), value)
    with builder.if_then(builder.icmp_signed(">=", size, _I64(_SHORT)), likely=False):
        message = "more than 2**30 elements need gpu_use_64bit_index=True"
        context.call_conv.return_user_exc(builder, ValueError, (message,))
    return builder.trunc(value, llvm.IntType(32))


def _packed(builder: Any, values: Sequence[Any], by_value: bool) -> Any:
    """The address of an array of ``void *``, one for each argument: to its value, or, of a
    pointer where ``by_value``, the pointer itself."""
    count = max(len(values), 1)
    slots = cgutils.alloca_once(builder, llvm.ArrayType(_I64, count))
    pointers = cgutils.alloca_once(builder, llvm.ArrayType(_SLOT, count))
    for number, value in enumerate(values):
        slot = cgutils.gep_inbounds(builder, slots, 0, number)
        if by_value and isinstance(value.type, llvm.PointerType):
            what = value
        else:
            builder.store(value, builder.bitcast(slot, value.type.as_pointer()))
            what = builder.bitcast(slot, _SLOT)
        builder.store(what, cgutils.gep_inbounds(builder, pointers, 0, number))
    return pointers


# -- arrays ----------------------------------------------------------------------------
@functools.cache
def allocator(dtype: Any, where: str = "") -> Any:
    """An intrinsic ``allocate(like, sizes)``: a C ordered array on the device of ``like``.

    ``where`` is the user's line, for errors.
    """

    def allocate(typingctx: Any, like: Any, sizes: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            like_array = make_array(sig.args[0])(context, builder, args[0])
            numbers = cgutils.unpack_tuple(builder, args[1], len(sig.args[1]))
            with _with_python(context, builder) as python:
                operands = [python.owner(like_array), python.constant(dtype_code(dtype))]
                text = python.object(where)
                python.api.incref(text)
                operands += [text, *[python.number(number) for number in numbers]]
                value, failed = _made(python, "empty", operands, sig.return_type)
            _raise_if(context, builder, failed)
            return value

        made = types.Array(dtype, len(sizes), "C")
        return signature(made, like, sizes), codegen

    return _made_here(intrinsic(allocate))


@functools.cache
def scratch(dtype: Any, number: int) -> Any:
    """An intrinsic ``scratch(like, sizes)``: the array of this number that the thread keeps for
    such use, see `numba_mlir.gpu.runtime.scratch`."""

    def scratch(typingctx: Any, like: Any, sizes: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            native = make_array(sig.args[0])(context, builder, args[0])
            (size,) = cgutils.unpack_tuple(builder, args[1], 1)
            with _with_python(context, builder) as python:
                code, place = python.constant(dtype_code(dtype)), python.constant(number)
                operands = [python.owner(native), code, place, python.number(size)]
                value, failed = _kept(python, python.call("scratch", operands), made)
            _raise_if(context, builder, failed)
            return value

        made = types.Array(dtype, 1, "C")
        return signature(made, like, sizes), codegen

    return _made_here(intrinsic(scratch))


def _kept(python: Python, found: Any, kind: Any) -> tuple[Any, Any]:
    """The array of a tuple (array, address, size), and whether there is none."""
    builder, api, context = python.builder, python.api, python.context
    made = make_array(kind)(context, builder)
    failed = cgutils.is_null(builder, found)
    with builder.if_then(builder.not_(failed), likely=True):
        owner, *numbers = (api.tuple_getitem(found, i) for i in range(3))
        address, size = map(api.long_as_longlong, numbers)
        itemsize = _I64(numpy_support.as_dtype(kind.dtype).itemsize)
        data = builder.inttoptr(address, made.data.type)
        meminfo = api.nrt_meminfo_new_from_pyobject(builder.bitcast(data, _SLOT), owner)
        populate_array(
            made, data=data, shape=[size], strides=[itemsize], itemsize=itemsize, meminfo=meminfo
        )
        api.decref(found)
    return made._getvalue(), failed


@_made_here
@intrinsic
def counter(typingctx: Any, array: Any) -> Any:
    """The number behind the elements of an array of `numba_mlir.gpu.runtime.scratch`."""
    made = types.Array(types.int32, 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        native = make_array(sig.args[0])(context, builder, args[0])
        size = builder.mul(native.nitems, native.itemsize)
        end = builder.add(builder.ptrtoint(native.data, _I64), size)
        place = builder.sub(end, _I64(TAIL))
        result = make_array(made)(context, builder)
        populate_array(
            result,
            data=builder.inttoptr(place, result.data.type),
            shape=[_I64(1)],
            strides=[_I64(4)],
            itemsize=_I64(4),
            meminfo=native.meminfo,
        )
        return impl_ret_borrowed(context, builder, made, result._getvalue())

    return signature(made, array), codegen


@_made_here
@intrinsic
def landing(typingctx: Any, array: Any) -> Any:
    """This thread's memory of the host that kernels in the order of ``array`` store to: a
    number, 0 now, and behind it `place`."""
    made = types.Array(types.int32, 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        native = make_array(sig.args[0])(context, builder, args[0])
        with _with_python(context, builder) as python:
            obj = python.call("landing", [python.owner(native)])
            address, failed = _number(python, obj, types.uint64)
        _raise_if(context, builder, failed)
        return _one_element(context, builder, made, address, native.meminfo)

    return signature(made, array), codegen


@functools.cache
def place(number: int, dtype: Any) -> Any:
    """An intrinsic ``place(flag)``: place ``number`` (1, 2, ...) behind a `landing`."""
    if number >= PLACES:
        raise UnsupportedConstruct(f"a loop with more than {PLACES - 1} results")
    made = types.Array(dtype, 1, "C")

    def place(typingctx: Any, flag: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            native = make_array(sig.args[0])(context, builder, args[0])
            address = builder.ptrtoint(native.data, _I64)
            address = builder.add(address, _I64(number * PLACE))
            return _one_element(context, builder, made, address, native.meminfo)

        return signature(made, flag), codegen

    return _made_here(intrinsic(place))


def _one_element(context: Any, builder: Any, kind: Any, address: Any, meminfo: Any) -> Any:
    """A new reference to an array of one element in memory that ``meminfo`` outlives."""
    made = make_array(kind)(context, builder)
    size = _I64(numpy_support.as_dtype(kind.dtype).itemsize)
    data = builder.inttoptr(address, made.data.type)
    populate_array(made, data=data, shape=[_I64(1)], strides=[size], itemsize=size, meminfo=meminfo)
    return impl_ret_borrowed(context, builder, kind, made._getvalue())


@_made_here
@intrinsic
def arrived(typingctx: Any, flag: Any, place: Any) -> Any:
    """The element at a `place`, when the number at its `landing` is not 0.

    The processor looks for it a while, without the GIL, which is faster than the driver's
    ways to wait; then, and when the kernel failed, `numba_mlir.gpu.runtime.wait` does it.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, element = (
            make_array(kind)(context, builder, arg)
            for kind, arg in zip(sig.args, args, strict=True)
        )
        there = cgutils.alloca_once_value(builder, _is_set(builder, word.data))
        with builder.if_then(builder.not_(builder.load(there)), likely=False):
            with _with_python(context, builder) as python:
                state = python.api.save_thread()
                _look(builder, word.data, there)
                python.api.restore_thread(state)
                failed = cgutils.alloca_once_value(builder, cgutils.false_bit)
                with builder.if_then(builder.not_(builder.load(there)), likely=False):
                    obj = python.call("wait", [python.owner(word), python.address(word.data)])
                    with builder.if_else(cgutils.is_null(builder, obj)) as (wrong, right):
                        with wrong:
                            builder.store(cgutils.true_bit, failed)
                        with right:
                            python.api.decref(obj)
            _raise_if(context, builder, builder.load(failed))
        return load_item(context, builder, sig.args[1], element.data)

    return signature(place.dtype, flag, place), codegen


def _is_set(builder: Any, word: Any) -> Any:
    """Whether a number is not 0; what was written before it is there if so."""
    return cgutils.is_not_null(builder, builder.load_atomic(word, "acquire", 4))


def _look(builder: Any, word: Any, there: Any) -> None:
    """Store to ``there`` whether a number becomes other than 0 within some milliseconds."""
    with cgutils.for_range(builder, _I64(_LOOKS)) as loop:
        found = _is_set(builder, word)
        builder.store(found, there)
        with builder.if_then(found, likely=False):
            loop.do_break()


@_made_here
@intrinsic
def copy_unless(typingctx: Any, keep: Any, array: Any) -> Any:
    """``array`` where ``keep``, else a copy of it with the same layout (C for "A")."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.args[1]
        result = cgutils.alloca_once_value(builder, args[1])
        with builder.if_else(args[0]) as (then, otherwise):
            with then:
                context.nrt.incref(builder, kind, args[1])
            with otherwise:
                native = make_array(kind)(context, builder, args[1])
                with _with_python(context, builder) as python:
                    operands = python.describe(kind, native)
                    operands.insert(0, python.constant(ord("F" if kind.layout == "F" else "C")))
                    copy, failed = _made(python, "copy", operands, kind)
                _raise_if(context, builder, failed)
                builder.store(copy, result)
        return impl_ret_new_ref(context, builder, kind, builder.load(result))

    return signature(array, types.boolean, array), codegen


def _made(python: Python, name: str, operands: Sequence[Any], kind: Any) -> tuple[Any, Any]:
    """The array that a run-time function returns, and whether it failed."""
    builder = python.builder
    obj = python.call(name, operands)
    failed = cgutils.alloca_once_value(builder, cgutils.true_bit)
    value_type = python.context.get_value_type(kind)
    value = cgutils.alloca_once(builder, value_type, zfill=True)
    with builder.if_then(cgutils.is_not_null(builder, obj), likely=True):
        array, wrong = python.array(kind, obj)
        python.api.decref(obj)
        builder.store(array, value)
        builder.store(wrong, failed)
    return builder.load(value), builder.load(failed)


@functools.cache
def library(name: str, result: Any) -> Any:
    """An intrinsic ``f((argument, ...))``: function ``name`` of `numba_mlir.gpu.runtime` on
    arrays and numbers, as the arrays' own library computes it."""

    def call(typingctx: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kinds = list(sig.args[0])
            values = cgutils.unpack_tuple(builder, args[0], len(kinds))
            with _with_python(context, builder) as python:
                value, failed = _library(python, name, result, kinds, values)
            _raise_if(context, builder, failed)
            return value

        return signature(result, arguments), codegen

    call.__name__ = call.__qualname__ = f"gpu_{name}"
    return _made_here(intrinsic(call))


def _library(
    python: Python, name: str, result: Any, kinds: Sequence[Any], values: Sequence[Any]
) -> tuple[Any, Any]:
    api, context = python.api, python.context
    is_array = isinstance(result, types.Array)
    dtype = result.dtype if is_array else result
    operands = [python.constant(dtype_code(dtype))]
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(kind, types.Array):
            array = make_array(kind)(context, python.builder, value)
            operands.append(python.call("rebuild", python.describe(kind, array)))
        else:
            operands.append(api.from_native_value(kind, value))
    if is_array:
        return _made(python, name, operands, result)
    return _number(python, python.call(name, operands), result)


def _number(python: Python, obj: Any, kind: Any) -> tuple[Any, Any]:
    """A Python number as a value of Numba's, and whether that failed."""
    builder, context = python.builder, python.context
    value = cgutils.alloca_once(builder, context.get_value_type(kind), zfill=True)
    failed = cgutils.alloca_once_value(builder, cgutils.true_bit)
    with builder.if_then(cgutils.is_not_null(builder, obj), likely=True):
        found = python.api.to_native_value(kind, obj)
        python.api.decref(obj)
        builder.store(found.value, value)
        builder.store(found.is_error, failed)
    return builder.load(value), builder.load(failed)


# -- elements --------------------------------------------------------------------------
def _element(python: Python, array_type: Any, array: Any, index: Any) -> list[Any]:
    """Owner, address of the element, and dtype; negative indices count from the end."""
    builder, rank = python.builder, array_type.ndim
    indices = cgutils.unpack_tuple(builder, index, rank) if rank else []
    pointer = cgutils.get_item_pointer(
        python.context, builder, array_type, array, indices, wraparound=True
    )
    dtype = python.constant(dtype_code(array_type.dtype))
    return [python.owner(array), python.address(pointer), dtype]


@_made_here
@intrinsic
def read(typingctx: Any, array: Any, index: Any) -> Any:
    """One element, copied to the host; ``index`` is a tuple of int64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        native = make_array(sig.args[0])(context, builder, args[0])
        with _with_python(context, builder) as python:
            operands = _element(python, sig.args[0], native, args[1])
            value, failed = _number(python, python.call("read", operands), array.dtype)
        _raise_if(context, builder, failed)
        return value

    return signature(array.dtype, array, index), codegen


@_made_here
@intrinsic
def write(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Store one element from the host; ``value`` has the array's dtype."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        native = make_array(sig.args[0])(context, builder, args[0])
        with _with_python(context, builder) as python:
            operands = _element(python, sig.args[0], native, args[1])
            operands.append(python.api.from_native_value(array.dtype, args[2]))
            obj = python.call("write", operands)
            failed = cgutils.is_null(builder, obj)
            with builder.if_then(builder.not_(failed)):
                python.api.decref(obj)
        _raise_if(context, builder, failed)
        return context.get_dummy_value()

    return signature(types.none, array, index, array.dtype), codegen
