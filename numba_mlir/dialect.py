"""The ``numba`` dialect: what MLIR's own dialects cannot say about a Numba function.

========================  ==========================================================
``!numba.ref<"T">``       a value of Numba type T that has no MLIR type
``numba.expr0`` … ``12``  one assignment without side effects, kept as it is
                          (the number is its operand count: IRDL's variadic operands
                          must all have one type)
``numba.assert_equal``    sizes that must be equal at run time, else ``message``
``numba.check``           another check that may raise and touches no array
``numba.wrap_index``      Python's index rule: ``i + n if i < 0 else i``
``numba.hypot``           the length of (x, y), as C's ``hypot``
``numba.disjoint``        True when two arrays have no byte in common
``numba.column_major``  True when an array's elements lie closer together along its first
                        axis than along its last, as in Fortran order
``numba.unaliased``       an array's elements, apart from those of a second array: the
                          array itself, or a copy where the two overlap
``numba.broadcast``       the common shape of several shapes, else NumPy's ValueError
``numba.broadcast_into``  shapes that must be broadcast to the last one, else ValueError
``numba.undef``           a variable that is not assigned on this path
``numba.device_alloc``    an uninitialised array on the device of another one
``numba.device_counter``  a number behind the elements of a scratch array on a device
``numba.device_landing``  a number in the host's memory that kernels store to: 0, and not 0
                          when the places behind it have what the host waits for
``numba.device_place``    a place for one element behind a landing
``numba.device_arrived``  the element at a place, when the landing says that it is there
``numba.device_load``     one element of an array on a device, copied to the host
``numba.device_store``    one element of an array on a device, copied from the host
========================  ==========================================================

Statements that may have effects are ``pyir.stmt`` operations of a dialect that is
deliberately not registered: MLIR assumes nothing about them.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

from numba_mlir import mlir

NAME = "numba"
STMT = "pyir.stmt"
MAX_EXPR_OPERANDS = 12
#: unit attribute of an ``scf.for``: a user's ``prange`` whose iterations depend on each other
ORDERED = "numba.ordered"
#: unit attribute of a ``pyir.stmt`` of an array and a mask: it makes the array of the elements
#: that the mask picks, and has no other effect
PICKED = "picked"
#: LLVM's operation for the same number, of which its optimisers do not know which it is
HIDDEN = "llvm.intr.arithmetic.fence"
#: of a view (``view_of``) that Numba's own analysis of aliases does not know
UNKNOWN_VIEW = "unknown_view"


@functools.cache
def _dialect() -> Any:
    from collections.abc import Sequence
    from typing import Any as AnyType

    ext, ir = mlir.ext, mlir.ir

    class NumbaDialect(ext.Dialect, name=NAME):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
        pass

    fields = {"__annotations__": {"key": ir.StringAttr}, "__module__": __name__}
    type(NumbaDialect.Type)("Ref", (NumbaDialect.Type,), fields, name="ref")

    def operation(name: str, operands: int, results: int, pure: bool) -> None:
        fields: dict[str, Any] = {f"out{i}": ext.Result[AnyType] for i in range(results)}
        fields |= {f"in{i}": ext.Operand[AnyType] for i in range(operands)}
        _declare(NumbaDialect, name, fields, pure)

    for arity in range(MAX_EXPR_OPERANDS + 1):
        operation(f"expr{arity}", arity, 1, pure=True)
    operation("undef", 0, 1, pure=True)
    operation("wrap_index", 2, 1, pure=True)
    operation("hypot", 2, 1, pure=True)
    operation("disjoint", 2, 1, pure=True)
    operation("column_major", 1, 1, pure=True)
    operation("check", 2, 0, pure=False)
    operation("unaliased", 2, 1, pure=False)
    variadic = Sequence[ext.Operand[AnyType]]
    window = {"out0": ext.Result[AnyType], "in0": ext.Operand[AnyType], "starts": variadic}
    _declare(NumbaDialect, "window", window, pure=True)
    shapes = {"common": Sequence[ext.Result[AnyType]], "sizes": variadic}
    _declare(NumbaDialect, "broadcast", shapes, pure=False)
    _declare(NumbaDialect, "broadcast_into", {"sizes": variadic}, pure=False)
    _declare(NumbaDialect, "assert_equal", {"sizes": variadic}, pure=False)
    one = ext.Operand[AnyType]
    places = {"array": one, "indices": variadic}
    alloc = {"made": ext.Result[AnyType], "like": one, "sizes": variadic}
    _declare(NumbaDialect, "device_alloc", alloc, pure=False)
    landing = {"made": ext.Result[AnyType], "array": one}
    _declare(NumbaDialect, "device_landing", landing, pure=False)
    _declare(NumbaDialect, "device_counter", landing, pure=False)
    _declare(NumbaDialect, "device_place", landing, pure=True)
    operation("device_arrived", 2, 1, pure=False)
    _declare(NumbaDialect, "device_load", {"value": ext.Result[AnyType], **places}, pure=False)
    _declare(NumbaDialect, "device_store", {"value": one, **places}, pure=False)
    return NumbaDialect


def _declare(dialect: Any, name: str, fields: dict[str, Any], pure: bool) -> None:
    ext = mlir.ext
    namespace = {"__annotations__": fields, "__module__": __name__}
    class_name = "".join(part.title() for part in name.split("_")) + "Op"
    kwds = {"name": name, "traits": [ext.Pure] if pure else []}
    type(dialect.Operation)(class_name, (dialect.Operation,), namespace, **kwds)


def load() -> None:
    """Load the dialect into the current context."""
    _dialect().load()
    # The bindings look for a module of an operation's dialect each time they meet one.
    for dialect in (NAME, STMT.split(".")[0]):
        name = f"{mlir.package()}.dialects.{dialect}"
        sys.modules.setdefault(name, types.ModuleType(name, "a dialect without classes"))


def ref(key: str) -> Any:
    """The type ``!numba.ref<"key">`` in the current context."""
    ir = mlir.ir
    return ir.Type.parse(f"!numba.ref<{ir.StringAttr.get(key)}>")


def is_ref(type_: Any) -> bool:
    return str(type_).startswith("!numba.ref<")
