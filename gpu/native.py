"""Compiled code around arrays on devices: in and out of functions, and what functions do.

An array on a device is Numba's array structure with a pointer of the device.  Its memory
belongs to an object of the array's library, which is the owner in Numba's ``MemInfo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.imputils import lower_cast
from numba.core.pythonapi import NativeValue, box, unbox
from numba.np import numpy_support
from numba.np.arrayobj import make_array, populate_array

from numba_mlir.gpu import runtime
from numba_mlir.gpu.places import DeviceArray

_I64 = llvm.IntType(64)


@register_default(DeviceArray)
class _Model(models.ArrayModel):
    """The structure of a plain array."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type.host)
        self._fe_type = fe_type


@lower_cast(DeviceArray, types.Array)
@lower_cast(types.Array, DeviceArray)
def _same(context: Any, builder: Any, from_type: Any, to_type: Any, value: Any) -> Any:
    return value


def dtype_code(dtype: Any) -> int:
    """The code point of NumPy's character for a Numba dtype, e.g. of "f" for float32."""
    return ord(numpy_support.as_dtype(dtype).char)


class Python:
    """Calls of this project's run-time functions from compiled code, the GIL being held."""

    def __init__(self, context: Any, builder: Any, api: Any, manager: Any = None) -> None:
        self.context, self.builder = context, builder
        self.api, self.manager = api, manager

    def object(self, what: Any) -> Any:
        """A borrowed reference to an object that compiled code keeps, and is pickled with."""
        return self.manager.read_const(self.manager.add_const(what))

    def call(self, name: str, args: Sequence[Any]) -> Any:
        """A new reference to the result, or NULL; steals ``args``."""
        if self.manager is not None:
            result = self.api.call_function_objargs(self.object(getattr(runtime, name)), args)
        else:  # arguments are taken before compiled code has its objects
            result = self.api.call_function_objargs(self._imported(name), args)
        for one in args:
            self.api.decref(one)
        return result

    def _imported(self, name: str) -> Any:
        """A borrowed reference to a run-time function, which is looked up once."""
        builder, api, module = self.builder, self.api, self.builder.module
        symbol = f".numba_mlir.gpu.{name}"
        place = module.globals.get(symbol)
        if place is None:
            place = cgutils.add_global_variable(module, api.pyobj, symbol)
            place.linkage, place.initializer = "internal", api.pyobj(None)
        with builder.if_then(cgutils.is_null(builder, builder.load(place)), likely=False):
            text = self.context.insert_const_string(module, runtime.__name__)
            source = api.import_module(text)
            builder.store(api.object_getattr_string(source, name), place)
            api.decref(source)
        return builder.load(place)

    def number(self, value: Any) -> Any:
        return self.api.long_from_longlong(value)

    def address(self, pointer: Any) -> Any:
        return self.number(self.builder.ptrtoint(pointer, _I64))

    def constant(self, number: int) -> Any:
        return self.number(_I64(number))

    def owner(self, array: Any) -> Any:
        """A new reference to the library's object behind an array."""
        fields = self.builder.bitcast(array.meminfo, cgutils.voidptr_t.as_pointer())
        # struct MemInfo { refct; dtor; dtor_info; ... }, and dtor_info is the owner
        place = self.builder.gep(fields, [cgutils.intp_t(2)])
        owner = self.builder.bitcast(self.builder.load(place), self.api.pyobj)
        self.api.incref(owner)
        return owner

    def describe(self, array_type: Any, array: Any) -> list[Any]:
        """Owner, address, dtype, sizes and strides, as the run-time functions take them."""
        rank = array_type.ndim
        sizes = cgutils.unpack_tuple(self.builder, array.shape, rank) if rank else []
        strides = cgutils.unpack_tuple(self.builder, array.strides, rank) if rank else []
        return [
            self.owner(array),
            self.address(array.data),
            self.constant(dtype_code(array_type.dtype)),
            *[self.number(n) for n in (*sizes, *strides)],
        ]

    def array(self, array_type: Any, obj: Any) -> tuple[Any, Any]:
        """(array value that owns a reference to ``obj``, whether that failed)."""
        builder, api, rank = self.builder, self.api, array_type.ndim
        api.incref(obj)
        facts = self.call("facts", [obj])
        failed = cgutils.alloca_once_value(builder, cgutils.true_bit)
        made = make_array(array_type)(self.context, builder)
        result = cgutils.alloca_once(builder, made._getvalue().type, zfill=True)
        with builder.if_then(cgutils.is_not_null(builder, facts), likely=True):
            numbers = [
                api.long_as_longlong(api.tuple_getitem(facts, i)) for i in range(1 + 2 * rank)
            ]
            data = builder.inttoptr(numbers[0], cgutils.voidptr_t)
            populate_array(
                made,
                data=builder.bitcast(data, made.data.type),
                shape=numbers[1 : 1 + rank],
                strides=numbers[1 + rank :],
                itemsize=_I64(numpy_support.as_dtype(array_type.dtype).itemsize),
                meminfo=api.nrt_meminfo_new_from_pyobject(data, obj),
            )
            api.decref(facts)
            builder.store(made._getvalue(), result)
            builder.store(cgutils.false_bit, failed)
        return builder.load(result), builder.load(failed)


@unbox(DeviceArray)
def _unbox(typ: Any, obj: Any, c: Any) -> NativeValue:
    value, failed = Python(c.context, c.builder, c.pyapi).array(typ.host, obj)
    return NativeValue(value, is_error=failed)


@box(DeviceArray)
def _box(typ: Any, value: Any, c: Any) -> Any:
    python = Python(c.context, c.builder, c.pyapi, c.env_manager)
    array = make_array(typ.host)(c.context, c.builder, value)
    result = python.call("rebuild", python.describe(typ.host, array))
    c.context.nrt.decref(c.builder, typ.host, value)
    return result
