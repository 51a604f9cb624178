"""float64 arithmetic of kernels in float32, for devices without float64 or where it is slow.

Arrays stay what they are: their elements are rounded when they are loaded, and are made wide
again when they are stored.  A device without float64 cannot even load one, so there its bits
are converted as integers (`numba_mlir.passes.gpu_bits`).
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes import gpu_bits
from numba_mlir.passes.gpu_loops import Refused
from numba_mlir.passes.gpu_reduce import WORKGROUP
from numba_mlir.passes.values import nested, operations, owner

#: operations that only change the width of a number, which has one width then
_WIDTH = frozenset({"arith.extf", "arith.truncf"})


def truncate(kernels: Any, name: str, native: bool) -> None:
    """Rewrite the functions of a ``gpu.module`` whose names begin with ``name``, in place.

    ``native``: the device can convert float64.  Raises Refused for what has no form.
    """
    found = [
        op
        for op in operations(kernels.regions[0].blocks[0])
        if "sym_name" in op.attributes and op.attributes["sym_name"].value.startswith(name)
    ]
    for op in found:
        if op.name == "memref.global":
            type_ = mlir.ir.TypeAttr(op.attributes["type"]).value
            op.attributes["type"] = mlir.ir.TypeAttr.get(_narrow_memref(type_))
    for op in found:
        if op.name == "gpu.func":
            _Function(op, native).run()


def narrow(type_: Any) -> Any:
    """float32 for float64, complex64 for complex128, any other type as it is."""
    ir = mlir.ir
    if str(type_) == "f64":
        return ir.F32Type.get()
    if str(type_) == "complex<f64>":
        return ir.ComplexType.get(ir.F32Type.get())
    return type_


def narrowed(value: Any) -> Any:
    """A number in the type that `narrow` gives, rounded at the insertion point."""
    kind = narrow(value.type)
    if kind == value.type:
        return value
    if str(value.type) == "f64":
        return mlir.arith.truncf(kind, value)
    parts = (mlir.complex.re(value), mlir.complex.im(value))
    return mlir.complex.create_(kind, *map(narrowed, parts))


def widened(value: Any, kind: Any) -> Any:
    """The reverse of `narrowed`, to the type ``kind``."""
    if value.type == kind:
        return value
    if str(kind) == "f64":
        return mlir.arith.extf(kind, value)
    parts = (mlir.complex.re(value), mlir.complex.im(value))
    return mlir.complex.create_(kind, *[widened(p, mlir.ir.F64Type.get()) for p in parts])


def _narrow_memref(type_: Any, element: Any = None) -> Any:
    kind = element or narrow(type_.element_type)
    return mlir.ir.MemRefType.get(list(type_.shape), kind, type_.layout, type_.memory_space)


def _is_wide(type_: Any) -> bool:
    return narrow(type_) != type_


def pass_bits(launch: Any) -> None:
    """Arrays of float64 among the operands of a ``gpu.launch_func`` as arrays of their bits,
    as kernels have them that are truncated without conversions of the device."""
    for value in launch.operands:
        if isinstance(value.type, mlir.ir.MemRefType) and str(value.type.element_type) == "f64":
            value.set_type(_bits_of(value.type))  # a cast made for this launch


def _bits_of(type_: Any) -> Any:
    return _narrow_memref(type_, mlir.ir.IntegerType.get_signless(64))


class _Function:
    def __init__(self, function: Any, native: bool) -> None:
        self._function = function
        self._native = native

    def run(self) -> None:
        found = list(nested(self._function))
        for op in found:
            self._check(op)
        if not self._native:
            self._retype_arguments()
        rest = [op for op in found if not self._is_load(op)]
        for op in found:
            if self._is_load(op):
                self._load(op)
        for op in rest:
            self._retype(op)
        for op in rest:
            if op.name in ("memref.store", "memref.atomic_rmw"):
                self._store(op)
            elif op.name in _WIDTH and op.operands[0].type == op.results[0].type:
                op.results[0].replace_all_uses_with(op.operands[0])
                op.erase()

    def _check(self, op: Any) -> None:
        kinds = [str(v.type) for v in (*op.operands, *op.results)]
        if op.name.endswith(".bitcast") and "f64" in kinds:
            raise Refused("the bits of a float64 are used, and its arithmetic is in float32")
        if op.name == "memref.atomic_rmw" and "f64" in kinds and not self._native:
            raise Refused("elements of a float64 array are added to, which the device cannot")
        arrays = [v.type for v in op.operands if isinstance(v.type, mlir.ir.MemRefType)]
        if not self._native and any(str(a.element_type) == "complex<f64>" for a in arrays):
            raise Refused("an array of complex128 on a device without float64")

    # -- types -----------------------------------------------------------------------
    def _retype_arguments(self) -> None:
        """Arrays of float64 are arrays of their bits."""
        ir = mlir.ir
        block = self._function.regions[0].blocks[0]
        for argument in block.arguments:
            type_ = argument.type
            if isinstance(type_, ir.MemRefType) and str(type_.element_type) == "f64":
                argument.set_type(_bits_of(type_))
        kind = ir.FunctionType.get([argument.type for argument in block.arguments], [])
        self._function.attributes["function_type"] = ir.TypeAttr.get(kind)

    def _retype(self, op: Any) -> None:
        """Numbers get their narrow type; what an operation does stays the same."""
        if op.name == "memref.get_global":
            op.results[0].set_type(_narrow_memref(op.results[0].type))
        elif op.name not in ("vector.load", "memref.atomic_rmw"):
            for value in op.results:
                value.set_type(narrow(value.type))
        for region in op.regions:
            for block in region.blocks:
                for argument in block.arguments:
                    argument.set_type(narrow(argument.type))
        if op.name == "arith.constant" and str(op.results[0].type) == "f32":
            number = mlir.ir.FloatAttr(op.attributes["value"])
            if str(number.type) == "f64":
                op.attributes["value"] = mlir.ir.FloatAttr.get(narrow(number.type), number.value)
        elif op.name == "complex.constant":
            parts = [mlir.ir.FloatAttr(part) for part in op.attributes["value"]]
            op.attributes["value"] = mlir.ir.ArrayAttr.get(
                [mlir.ir.FloatAttr.get(narrow(part.type), part.value) for part in parts]
            )

    # -- memory ----------------------------------------------------------------------
    def _is_load(self, op: Any) -> bool:
        """Whether an operation gives a wide number from the memory of the device."""
        if op.name not in ("memref.load", "vector.extract") or not _is_wide(op.results[0].type):
            return False
        if op.name == "vector.extract":
            source = owner(op.operands[0])
            return source is not None and source.name == "vector.load"
        return not _is_workgroup(op.operands[0].type)

    def _load(self, op: Any) -> None:
        result = op.results[0]
        with mlir.ir.InsertionPoint(op), op.location:
            made = op.clone().results[0]
            if self._native:
                value = narrowed(made)
            else:
                self._load_bits(op)
                made.set_type(mlir.ir.IntegerType.get_signless(64))
                value = gpu_bits.narrowed(made)
        result.replace_all_uses_with(value)
        op.erase()

    def _load_bits(self, op: Any) -> None:
        """Vectors of float64 are vectors of their bits."""
        if op.name == "vector.extract":
            vector = op.operands[0]
            bits = mlir.ir.IntegerType.get_signless(64)
            vector.set_type(mlir.ir.VectorType.get(list(vector.type.shape), bits))

    def _store(self, op: Any) -> None:
        value, array = op.operands[0], op.operands[1]
        kind = array.type.element_type
        if value.type == kind:
            return
        with mlir.ir.InsertionPoint(op), op.location:
            if self._native:
                op.operands[0] = widened(value, kind)
            else:
                op.operands[0] = gpu_bits.widened(value)


def _is_workgroup(type_: Any) -> bool:
    space = type_.memory_space
    return space is not None and mlir.ir.IntegerAttr(space).value == WORKGROUP
