"""Calls of ``numba.stencil`` functions as loops, so that they fuse with what is around them.

A new result is one loop over all its elements: inside the margin each is ``cval``, elsewhere
the kernel's value.  With ``out`` only the elements that the kernel computes are written, and
all are set to ``cval`` before where that option was given.

What the kernel does must have an MLIR form altogether; else the call stays as it is.
"""

from __future__ import annotations

import contextlib
import functools
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import ir, types
from numba.core.extending import intrinsic
from numba.core.typing import signature
from numba.core.typing.typeof import typeof

from numba_mlir import mlir
from numba_mlir.converters import arrays, build, casts, elementwise, kept, scalars
from numba_mlir.converters.arrayexprs import Refused
from numba_mlir.converters.elementwise import Operand
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.slots import Env, Slot
from numba_mlir.converters.stencil_kernels import Kernel, Offset, read, relative_arguments
from numba_mlir.errors import UnsupportedConstruct

#: imports blocks with one end into the current MLIR block: (frame, env, blocks, variables
#: that are read behind them)
BodyImporter = Callable[[Frame, Env, Any, frozenset[str]], None]

_OPTIONS = frozenset({"cval", "neighborhood", "standard_indexing"})


class Stencils:
    """Converts calls of stencil functions; keeps their kernels alive, which are known by id."""

    def __init__(self, import_body: BodyImporter, parallel: bool) -> None:
        self._import_body, self._parallel = import_body, parallel
        self._kernels: list[Kernel] = []

    def call(self, function: Any, frame: Frame, env: Env, stmt: Any, wanted: Any) -> Slot:
        """The result of ``x = stencil_function(a, ...)``; raises `Refused`."""
        expr = stmt.value
        keywords = dict(expr.kws)
        if expr.vararg is not None or not keywords.keys() <= {"out"}:
            raise Refused("a stencil called with other keywords than out")
        if not function.options.keys() <= _OPTIONS:
            raise Refused("a stencil with index_offsets")
        kinds = [frame.type_of(arg.name) for arg in expr.args]
        slots = [frame.use(env, arg.name) for arg in expr.args]
        _check_arguments(frame, slots)
        kernel = read(frame.typingctx, function, expr.args, kinds)
        self._kernels.append(kernel)
        arrays_ = [slots[number] for number in relative_arguments(function, kinds)]
        _check_sizes(frame, arrays_, stmt.loc, self._parallel)
        one = _Call(frame, env, stmt.loc, kernel, arrays_[0], self._import_body, self._parallel)
        if "out" in keywords:
            output = frame.use(env, keywords["out"].name)
            return one.into(output, wanted, function.options.get("cval"))
        return one.new(wanted, function.options.get("cval", 0))


@dataclass(frozen=True)
class _Call:
    """One call: where it stands, its kernel and the array that gives the shape."""

    frame: Frame
    env: Env
    loc: Any
    kernel: Kernel
    array: Slot
    import_body: BodyImporter
    parallel: bool

    def new(self, wanted: Any, cval: Any) -> Slot:
        """A new array."""
        frame, dtype = self.frame, self.kernel.types[self.kernel.result]
        if type(wanted) is not types.Array or wanted.dtype != dtype:
            raise Refused(f"a stencil with a result of type {wanted}")
        border = _border(frame, cval, dtype)
        sizes = elementwise.sizes(frame, self.array)
        target, slot = elementwise.fresh(frame, wanted, sizes, self.loc)
        limits = self._limits(sizes)

        def element(ivs: Sequence[Any]) -> Any:
            condition = self._inside_margins(ivs, limits)
            if condition is None:
                return self._element(ivs, dtype)
            return self._chosen(condition, lambda: self._element(ivs, dtype), border)

        elementwise.fill(frame, target, element, backwards=target.slot.type.layout == "F")
        return slot

    def into(self, output: Slot, wanted: Any, cval: Any) -> Slot:
        """The array ``output``, of which only what the kernel computes is written.

        All elements are set to ``cval`` before, unless it is None.
        """
        frame = self.frame
        if not elementwise.has_elements(output) or not output.type.mutable:
            raise Refused(f"an output of type {output.type}")
        if output.type != wanted:
            raise Refused("the result has another type than the output")
        target, dtype = Operand.of(frame, output), output.type.dtype
        if cval is not None:
            border = _border(frame, cval, dtype)
            elementwise.fill(frame, target, lambda ivs: border)

        def body(ivs: Sequence[Any]) -> bool:
            build.op("memref.store", (self._element(ivs, dtype), output.value, *ivs))
            return True

        lower = [frame.index_constant(below) for below in self.kernel.below]
        elementwise.loop(frame, self._limits(elementwise.sizes(frame, self.array)), body, lower)
        return output

    def _limits(self, sizes: Sequence[Any]) -> list[Any]:
        """For each axis the first index behind those that the kernel computes."""
        limits: list[Any] = []
        for size, above in zip(sizes, self.kernel.above, strict=True):
            if above:
                rest = mlir.arith.subi(size, self.frame.index_constant(above))
                size = mlir.arith.maxsi(rest, self.frame.index_constant(0))
            limits.append(size)
        return limits

    def _inside_margins(self, ivs: Sequence[Any], limits: Sequence[Any]) -> Any | None:
        """An i1: the kernel computes the element at ``ivs``.  None where it computes all."""
        predicates, kernel = mlir.arith.CmpIPredicate, self.kernel
        tests: list[Any] = []
        for iv, below, above, limit in zip(ivs, kernel.below, kernel.above, limits, strict=True):
            if below:
                least = self.frame.index_constant(below)
                tests.append(mlir.arith.cmpi(predicates.sge, iv, least))
            if above:
                tests.append(mlir.arith.cmpi(predicates.slt, iv, limit))
        return functools.reduce(mlir.arith.andi, tests) if tests else None

    def _chosen(self, condition: Any, inside: Callable[[], Any], border: Any) -> Any:
        """``scf.if condition {inside} else {border}``"""
        ir_ = mlir.ir
        dtype = self.kernel.types[self.kernel.result]
        attributes = {
            "numba.names": ir_.ArrayAttr.get([ir_.StringAttr.get("$stencil")]),
            "numba.types": ir_.ArrayAttr.get([self.frame.type_attribute(dtype)]),
        }
        made = build.op("scf.if", [condition], [border.type], attributes, regions=2)
        for region, value in zip(made.regions, (inside, lambda: border), strict=True):
            with ir_.InsertionPoint(region.blocks.append()):
                build.op("scf.yield", [value()])
        return made.results[0]

    def _element(self, ivs: Sequence[Any], dtype: Any) -> Any:
        """The kernel's value for the element at ``ivs``, as a number of type ``dtype``."""
        frame, kernel = self.frame, self.kernel
        inner, mark = Env(self.env), build.Mark()
        with _inside(frame, kernel, _Loads(kernel, ivs), self.parallel, self.loc):
            try:
                self.import_body(frame, inner, kernel.blocks, frozenset({kernel.result}))
            except UnsupportedConstruct as reason:
                raise Refused(f"the stencil's kernel has {reason.msg}") from reason
            number = frame.scalar(frame.use(inner, kernel.result))
        text = _kept_statement(mark.behind(), None if number is None else number[0])
        if text is not None:
            raise Refused(f"the stencil's kernel has a statement without an MLIR form: {text}")
        value = casts.cast(*number, dtype) if number is not None else None
        if value is None:
            raise Refused(f"the stencil's kernel has a result of another type than {dtype}")
        return value


def _check_sizes(frame: Frame, slots: Sequence[Slot], loc: Any, parallel: bool) -> None:
    """The check that Numba makes of arrays that are indexed relatively.

    In parallel functions they must have one shape, elsewhere none may be smaller than the first.
    """
    if any(slot.type.ndim != slots[0].type.ndim for slot in slots):
        raise Refused("a stencil of arrays of different numbers of dimensions")
    text = mlir.ir.StringAttr.get(f"Sizes of a stencil's arrays do not match on {loc}")
    wide = scalars.to_mlir(types.intp)
    for first, *others in zip(*(elementwise.sizes(frame, slot) for slot in slots), strict=True):
        if others and parallel:
            build.op("numba.assert_equal", (first, *others), (), {"message": text})
            continue
        for size in others:
            rest = build.index_cast(mlir.arith.subi(size, first), wide)
            kept.check(frame, loc, check_large_enough, (rest, types.intp))


def _check_arguments(frame: Frame, slots: Sequence[Slot]) -> None:
    for slot in slots:
        is_array = isinstance(slot.type, types.Array)
        if not (elementwise.has_elements(slot) if is_array else frame.scalar(slot)):
            raise Refused(f"a stencil with an argument of type {slot.type}")
    if not isinstance(slots[0].type, types.Array) or slots[0].type.ndim == 0:
        raise Refused("a stencil without an array")


def _border(frame: Frame, cval: Any, dtype: Any) -> Any:
    """The constant of the elements that the kernel does not compute."""
    if not isinstance(cval, (bool, int, float, complex)):
        raise Refused("a cval that is not known at compile time")
    if frame.typingctx.can_convert(typeof(cval), dtype) is None:
        raise Refused("a cval of another type than the result")
    return scalars.constant(dtype, dtype(cval))


def _kept_statement(operations: Sequence[Any], result: Any | None) -> str | None:
    """A statement that was kept among some operations and inside them; None without one.

    Kept expressions that nobody uses, such as the tuples of subscripts, are erased, other than
    that of the ``result``.
    """
    for op in reversed(operations):
        blocks = [block for region in op.regions for block in region.blocks]
        for block in reversed(blocks):
            found = _kept_statement([child.operation for child in block.operations], result)
            if found is not None:
                return found
        if op.name.startswith("numba.expr") and not _is_used(op.results[0], result):
            op.erase()
        elif op.name == "pyir.stmt" or op.name.startswith(("numba.expr", "numba.check")):
            return str(op.attributes["text"].value)
    return None


def _is_used(value: Any, result: Any | None) -> bool:
    return value == result or any(True for _ in value.uses)


@contextlib.contextmanager
def _inside(
    frame: Frame, kernel: Kernel, loads: _Loads, parallel: bool, loc: Any
) -> Iterator[None]:
    """The frame as it has to be while a kernel is imported.

    Numba compiles stencils with Python's error model, unless they become a Parfor.
    """
    names = ("typemap", "calltypes", "stage", "error_model", "user_line", "live_after")
    outer = {name: getattr(frame, name) for name in names}
    frame.typemap = ChainMap(dict(kernel.types), outer["typemap"])
    frame.calltypes = kernel.calltypes
    frame.stage = loads
    frame.error_model = "numpy" if parallel else "python"
    frame.user_line = outer["user_line"] or loc
    try:
        yield
    finally:
        for name, value in outer.items():
            setattr(frame, name, value)


class _Loads:
    """Converts the relative subscripts of a kernel; everything else by the common rules."""

    def __init__(self, kernel: Kernel, ivs: Sequence[Any]) -> None:
        self._kernel, self._ivs = kernel, list(ivs)

    def __call__(self, frame: Frame, env: Env, stmt: Any) -> bool:
        if not isinstance(stmt, ir.Assign):
            return False
        offsets = self._kernel.offsets.get(id(stmt.value))
        if offsets is None:
            return False
        array = frame.use(env, stmt.value.value.name)
        where = [
            self._position(frame, env, array, axis, offset) for axis, offset in enumerate(offsets)
        ]
        element = array.type.dtype
        loaded = build.value("memref.load", (array.value, *where), scalars.to_mlir(element))
        slot = frame.coerce(Slot(element, loaded), frame.type_of(stmt.target.name))
        if slot is None:
            raise Refused("a relative subscript that is not a number")
        env[stmt.target.name] = slot
        return True

    def _position(self, frame: Frame, env: Env, array: Slot, axis: int, offset: Offset) -> Any:
        iv = self._ivs[axis]
        if isinstance(offset, int):
            inside = -self._kernel.below[axis] <= offset <= self._kernel.above[axis]
            if inside:
                return _moved(frame, iv, offset)
            number = frame.constant(offset, scalars.to_mlir(types.int64))
        else:
            number = self._number(frame, env, offset)
        wide = scalars.to_mlir(types.int64)
        total = build.value("arith.addi", (build.index_cast(iv, wide), number), wide)
        size = arrays.dim(frame, array, axis)
        return build.value("numba.wrap_index", (total, size), build.index_type())

    def _number(self, frame: Frame, env: Env, variable: Any) -> Any:
        number = frame.scalar(frame.use(env, variable.name))
        if number is None or not isinstance(number[1], types.Integer):
            raise Refused("a relative subscript that is not a number")
        return casts.cast(*number, types.int64)


def _moved(frame: Frame, iv: Any, offset: int) -> Any:
    if offset < 0:
        return mlir.arith.subi(iv, frame.index_constant(-offset))
    return mlir.arith.addi(iv, frame.index_constant(offset)) if offset else iv


_SMALLER = (
    "Secondary stencil array has some dimension smaller the same dimension in the first "
    "stencil input."
)


@intrinsic
def check_large_enough(typingctx: Any, rest: Any) -> Any:
    """Raise Numba's ValueError where an array lacks elements (``rest`` is negative)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        negative = builder.icmp_signed("<", args[0], llvm.Constant(args[0].type, 0))
        with builder.if_then(negative, likely=False):
            context.call_conv.return_user_exc(builder, ValueError, (_SMALLER,))
        return context.get_dummy_value()

    return signature(types.none, rest), codegen
