"""Calls of Numba's own code out of a kernel: what has no MLIR operation and is about numbers.

A statement that was kept (a call of another compiled function, a function of ``math`` without
an MLIR form, an operator that may raise) and whose operands and result are numbers becomes a
call of a function ``(excinfo, numbers...) -> (status, number)``.  That function is emitted by
Numba when the kernel is linked into Numba's library, and LLVM inlines it where it is short.

`Raiser` is the same for an exception alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import ir, types

from numba_mlir import mlir
from numba_mlir.converters import build, scalars
from numba_mlir.converters.frame import Frame
from numba_mlir.converters.sidetable import Statement
from numba_mlir.passes.failures import LEAVE_WITH
from numba_mlir.passes.values import nested

STATUS = llvm.IntType(32)


@dataclass(frozen=True)
class Callback:
    """``function`` (of Numba's target context) on numbers; a literal argument is a value.

    ``result`` is None where the statement has no value.
    """

    symbol: str
    function: Any
    signature: Any
    arguments: tuple[tuple[Any, Any], ...]
    result: Any

    def emit(self, prefix: str, module: llvm.Module, context: Any) -> None:
        """Define the function in ``module``, under ``prefix`` and its symbol."""
        kinds = [
            context.get_value_type(kind) for kind, literal in self.arguments if literal is None
        ]
        result = context.get_value_type(self.result) if self.result is not None else None
        cell = result if result is not None else llvm.IntType(8)
        excinfo = context.call_conv.get_function_type(types.none, ()).args[1]
        name = f"{prefix}.{self.symbol}"
        inner = llvm.Function(
            module, llvm.FunctionType(STATUS, [cell.as_pointer(), excinfo, *kinds]), f"{name}.call"
        )
        inner.linkage = "internal"
        inner.attributes.add("alwaysinline")
        self._call(inner, context)
        _wrap(module, name, inner, result, kinds)

    def _call(self, inner: llvm.Function, context: Any) -> None:
        builder = llvm.IRBuilder(inner.append_basic_block())
        given = iter(inner.args[2:])
        values = []
        for (kind, literal), wanted in zip(self.arguments, self.signature.args, strict=True):
            value = next(given) if literal is None else context.get_constant(kind, literal)
            values.append(context.cast(builder, value, kind, wanted))
        implementation = context.get_function(self.function, self.signature)
        context.add_linking_libs(getattr(implementation, "libs", ()))
        value = implementation(builder, values)
        if self.result is not None:
            value = context.cast(builder, value, self.signature.return_type, self.result)
            builder.store(value, inner.args[0])
        builder.ret(STATUS(0))


@dataclass(frozen=True)
class Raiser:
    """A function ``(excinfo) -> status`` for an exception at a line of the user's."""

    symbol: str
    exception: type[Exception]
    message: str
    loc: Any
    function: str

    def emit(self, prefix: str, module: llvm.Module, context: Any) -> None:
        excinfo = context.call_conv.get_function_type(types.none, ()).args[1]
        name = f"{prefix}.{self.symbol}"
        kind = llvm.FunctionType(STATUS, [llvm.IntType(8).as_pointer(), excinfo])
        inner = llvm.Function(module, kind, f"{name}.call")
        inner.linkage = "internal"
        builder = llvm.IRBuilder(inner.append_basic_block())
        context.call_conv.return_user_exc(
            builder, self.exception, (self.message,), self.loc, self.function
        )
        _wrap(module, name, inner, None, ())


def _wrap(
    module: llvm.Module,
    name: str,
    inner: llvm.Function,
    result: llvm.Type | None,
    kinds: Sequence[llvm.Type],
) -> None:
    """The function that the kernel calls: results as a structure, or the status alone."""
    returned = STATUS if result is None else llvm.LiteralStructType([STATUS, result])
    pointer = llvm.IntType(8).as_pointer()
    outer = llvm.Function(module, llvm.FunctionType(returned, [pointer, *kinds]), name)
    builder = llvm.IRBuilder(outer.append_basic_block())
    cell_type, excinfo_type = (arg.type for arg in inner.args[:2])
    cell = builder.alloca(cell_type.pointee)
    if result is not None:
        builder.store(llvm.Constant(result, None), cell)
    excinfo = builder.bitcast(outer.args[0], excinfo_type)
    status = builder.call(inner, [cell, excinfo, *outer.args[1:]])
    if result is None:
        builder.ret(status)
        return
    pair = builder.insert_value(llvm.Constant(returned, llvm.Undefined), status, 0)
    builder.ret(builder.insert_value(pair, builder.load(cell), 1))


# -- from kept statements ----------------------------------------------------------------
class Callbacks:
    """Turns the kept statements of one kernel into calls; ``made`` are the functions."""

    def __init__(self, frame: Frame, targetctx: Any) -> None:
        self._frame, self._targetctx = frame, targetctx
        self.made: list[Callback] = []

    def replace(self, function: Any, excinfo: Any) -> None:
        """Every kept statement inside ``function`` that is about numbers."""
        for op in list(nested(function)):
            if op.name.startswith("numba.expr") or op.name == "pyir.stmt":
                self._replace(op, excinfo)
        for op in reversed(list(nested(function))):
            if "remat" in op.attributes and not any(list(r.uses) for r in op.results):
                op.erase()

    def _replace(self, op: Any, excinfo: Any) -> None:
        handle = mlir.ir.IntegerAttr(op.attributes["stmt"]).value
        kept = self._frame.table.statements[handle]
        found = self._callback(kept, op)
        if found is None:
            return
        callback, operands = found
        self.made.append(callback)
        ir_ = mlir.ir
        status = ir_.IntegerType.get_signless(32)
        results = [status] + ([op.results[0].type] if callback.result is not None else [])
        attributes = {"callee": ir_.FlatSymbolRefAttr.get(callback.symbol)}
        with op.location, ir_.InsertionPoint(op):
            call = build.op("func.call", [excinfo, *operands], results, attributes)
            build.op(LEAVE_WITH, [call.results[0]])
        if callback.result is not None:
            op.results[0].replace_all_uses_with(call.results[1])
        op.erase()
        _declare(_module_of(call), callback.symbol, _function_type(call))

    def _callback(self, kept: Statement, op: Any) -> tuple[Callback, list[Any]] | None:
        stmt = kept.stmt
        expr = stmt.value if isinstance(stmt, ir.Assign) else None
        called = self._function(kept, expr)
        if called is None:
            return None
        function, names = called
        sig = kept.signature or self._frame.calltypes.get(expr)
        if sig is None or len(sig.args) != len(names) or not self._is_defined(function, sig):
            return None
        arguments, operands = [], []
        for name in names:
            kind = self._type_of(kept, name)
            plain = types.unliteral(kind)
            if scalars.kind(plain) is None:
                return None
            if isinstance(kind, types.Literal):
                arguments.append((plain, kind.literal_value))
                continue
            arguments.append((kind, None))
            operands.append(op.operands[kept.uses.index(name)])
        wanted = self._type_of(kept, stmt.target.name)
        if scalars.kind(wanted) is None:
            if any(list(result.uses) for result in op.results) or wanted != types.none:
                return None
            wanted = None
        symbol = f"callback{len(self.made)}"
        return Callback(symbol, function, sig, tuple(arguments), wanted), operands

    def _function(self, kept: Statement, expr: Any) -> tuple[Any, list[str]] | None:
        """What is called, and the names of the arguments."""
        if not isinstance(expr, ir.Expr):
            return None
        if expr.op in ("binop", "inplace_binop"):
            return expr.fn, [expr.lhs.name, expr.rhs.name]
        if expr.op == "unary":
            return expr.fn, [expr.value.name]
        if expr.op != "call" or expr.kws or expr.vararg is not None:
            return None
        kind = self._type_of(kept, expr.func.name)
        if not isinstance(kind, (types.Dispatcher, types.Function)):
            return None
        return kind, [arg.name for arg in expr.args]

    def _is_defined(self, function: Any, sig: Any) -> bool:
        """Whether Numba has an implementation; what it calls in other ways has none."""
        try:
            self._targetctx.get_function(function, sig)
        except NotImplementedError:
            return False
        return True

    def _type_of(self, kept: Statement, name: str) -> Any:
        found = kept.types.get(name)
        return self._frame.type_of(name) if found is None else found


def declare_raisers(module: Any, raisers: Sequence[Raiser]) -> None:
    """Declare the functions of ``raisers`` in ``module``."""
    ir_ = mlir.ir
    status = ir_.IntegerType.get_signless(32)
    kind = ir_.FunctionType.get([ir_.Type.parse("!llvm.ptr")], [status])
    for raiser in raisers:
        _declare(module, raiser.symbol, kind)


def _module_of(op: Any) -> Any:
    op = op.operation
    while op.parent is not None:
        op = op.parent
    return op


def _function_type(call: Any) -> Any:
    return mlir.ir.FunctionType.get(
        [value.type for value in call.operands], [value.type for value in call.results]
    )


def _declare(module: Any, symbol: str, kind: Any) -> None:
    """``func.func private`` for a function that is defined elsewhere."""
    ir_ = mlir.ir
    attributes = {
        "sym_name": ir_.StringAttr.get(symbol),
        "function_type": ir_.TypeAttr.get(kind),
        "sym_visibility": ir_.StringAttr.get("private"),
    }
    with (
        ir_.InsertionPoint.at_block_begin(module.operation.regions[0].blocks[0]),
        ir_.Location.unknown(),
    ):
        build.op("func.func", (), (), attributes, regions=1)
