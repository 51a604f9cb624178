"""Calls of pieces that MLIR has compiled, in Numba's IR of the function that they were.

The call is a plain ``ir.Expr.call`` of a function type of ours, so that all of Numba's
analyses know what it reads.  Its signature holds the code.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, ir, types
from numba.core.datamodel import models, register_default
from numba.core.ir_utils import mk_unique_var, next_label
from numba.core.typing import Signature
from numba.extending import lower_builtin

from numba_mlir.converters import bare
from numba_mlir.roundtrip.code import Code, add, defines, raise_error
from numba_mlir.roundtrip.outline import WAY, Function, Region, is_argument
from numba_mlir.roundtrip.region_import import FIRST_LEAVE, number_types

_BYTES, _STATUS, _WORD = llvm.IntType(8).as_pointer(), llvm.IntType(32), llvm.IntType(64)


@dataclass(frozen=True)
class CompiledPiece:
    """Code of a piece, and its arguments and results as Numba has them."""

    code: Code
    captured: tuple[Any, ...]
    numbers: tuple[Any, ...]
    inline: bool

    @property
    def result(self) -> Any:
        """The Numba type of a call: the way out, and the numbers."""
        return types.Tuple((types.int64, *self.numbers))

    def emit(self, context: Any, builder: llvm.IRBuilder, args: Any) -> llvm.Value:
        """Emit the call into one of Numba's functions, and the code into its library."""
        self._link(context)
        arguments = []
        for kind, value in zip(self.captured, args, strict=True):
            arguments += bare.send(context, builder, kind, value)
        fails = self.code.ways.fails
        excinfo = [cgutils.alloca_once(builder, _BYTES)] if fails else []
        arguments += excinfo
        kinds = [context.get_value_type(kind) for kind in self.numbers]
        returned = [*([_STATUS] if fails else []), *kinds]
        function = cgutils.get_or_insert_function(
            builder.module, llvm.FunctionType(_result(returned), [a.type for a in arguments]),
            f"{self.code.name}.body",
        )  # fmt: skip
        value = builder.call(function, arguments)
        parts = [value] if len(returned) == 1 else [
            builder.extract_value(value, number) for number in range(len(returned))
        ]  # fmt: skip
        way: llvm.Value = _WORD(0)
        if fails:
            way = self._way(context, builder, parts.pop(0), excinfo[0])
        return context.make_tuple(builder, self.result, [way, *parts[: len(kinds)]])

    def _way(self, context: Any, builder: llvm.IRBuilder, status: Any, excinfo: Any) -> Any:
        """0, or one more than the number of the way out; an error is raised."""
        ok = builder.or_(builder.icmp_signed("==", status, _STATUS(0)),
                         builder.icmp_signed("==", status, _STATUS(-2)))  # fmt: skip
        left = builder.icmp_signed("<=", status, _STATUS(FIRST_LEAVE))
        with cgutils.if_unlikely(builder, builder.not_(builder.or_(ok, left))):
            raise_error(context, builder, status, excinfo)
        number = builder.sext(builder.sub(_STATUS(FIRST_LEAVE + 1), status), _WORD)
        return builder.select(left, number, _WORD(0))

    def _link(self, context: Any) -> None:
        library = context.active_code_library
        if defines(library, f"{self.code.name}.body"):
            return
        module = self.code.link(library, context, ("body",))
        # else a function of its own in profiles, whose arguments keep what is known about them
        attribute = "alwaysinline" if self.inline else "noinline"
        module.get_function(f"{self.code.name}.body").add_function_attribute(attribute)
        add(module, library)


def _result(parts: list[llvm.Type]) -> llvm.Type:
    if not parts:
        return llvm.VoidType()
    return parts[0] if len(parts) == 1 else llvm.LiteralStructType(parts)


class _Call(Signature):
    """The signature of one call, with the code that is called."""

    __slots__ = ("piece",)

    def __init__(self, piece: CompiledPiece) -> None:
        super().__init__(piece.result, piece.captured, None)
        self.piece = piece


def mlir_code() -> None:
    """What stands for the function in Numba's IR."""


class _Function(types.Callable, types.Opaque):
    """The type of `mlir_code`."""

    def __init__(self) -> None:
        super().__init__("mlir_code")

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        raise NotImplementedError("calls of compiled pieces are made with their signature")

    def get_call_signatures(self) -> Any:
        return (), False

    def get_impl_key(self, sig: Any) -> Any:
        return mlir_code


register_default(_Function)(models.OpaqueModel)


@lower_builtin(mlir_code, types.VarArg(types.Any))
def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return sig.piece.emit(context, builder, args)


# -- Numba IR ------------------------------------------------------------------------------
class Replacement:
    """Puts the call of a compiled piece where its blocks were."""

    def __init__(self, state: Any, function: Function, region: Region) -> None:
        self._state, self._function, self._region = state, function, region
        self._blocks = function.func_ir.blocks
        self._scope = self._blocks[region.header].scope
        self._block = self._new_block()

    def run(self, piece: CompiledPiece, captured: tuple[str, ...], outs: Any) -> None:
        region, blocks = self._region, self._blocks
        first = blocks[region.header]
        if region.whole:
            self._block.body = [stmt for stmt in first.body if is_argument(stmt)]
        head = self._block
        values = self._call(piece, captured)
        way = next(values)
        named = {name: self._value(kind, values) for name, kind in outs}
        for name, value in named.items():
            if name != WAY and not region.whole:
                self._store(self._var(name), value)
        for number, target in enumerate(region.leaves):
            self._go_if(way, number + 1, target)
        self._end(named)
        for label in region.labels:
            del blocks[label]
        blocks[region.header] = head
        dropped = {id(stmt) for stmt in region.chain}
        for block in blocks.values():
            block.body = [stmt for stmt in block.body if id(stmt) not in dropped]

    def _end(self, named: dict[str, Any]) -> None:
        region = self._region
        if region.whole:
            self._return(list(named.values()))
            return
        *others, last = region.targets
        for number, target in enumerate(others):
            self._go_if(named[WAY], number, target)
        self._block.append(ir.Jump(last, region.loc))

    def _return(self, members: list[Any]) -> None:
        loc, kind = self._region.loc, self._state.return_type
        result = members[0] if members else None
        if isinstance(kind, types.BaseTuple):
            result = self._new(ir.Expr.build_tuple(members, loc), kind)
        self._block.append(ir.Return(result, loc))

    # -- statements --------------------------------------------------------------------------
    def _new_block(self) -> Any:
        return ir.Block(self._scope, self._region.loc)

    def _var(self, name: str) -> Any:
        return ir.Var(self._scope, name, self._region.loc)

    def _new(self, value: Any, numba_type: Any) -> Any:
        name = mk_unique_var("$mlir")
        self._state.typemap[name] = numba_type
        var = self._scope.redefine(name, self._region.loc)
        self._store(var, value)
        return var

    def _store(self, var: Any, value: Any) -> None:
        self._block.append(ir.Assign(value, var, self._region.loc))

    def _call(self, piece: CompiledPiece, captured: tuple[str, ...]) -> Any:
        """The results of the call, one variable after the other."""
        loc = self._region.loc
        function = self._new(ir.Global("mlir_code", mlir_code, loc), _Function())
        expr = ir.Expr.call(function, [self._var(name) for name in captured], (), loc)
        self._state.calltypes[expr] = _Call(piece)
        whole = self._new(expr, piece.result)
        for number, kind in enumerate(piece.result):
            part = ir.Expr.static_getitem(whole, number, None, loc)
            self._state.calltypes[part] = None
            yield self._new(part, kind)

    def _value(self, kind: Any, numbers: Any) -> Any:
        """A variable of ``kind``, from the numbers that it was returned as."""
        loc = self._region.loc
        if isinstance(kind, types.BaseTuple):
            members = [self._value(member, numbers) for member in kind]
            return self._new(ir.Expr.build_tuple(members, loc), kind)
        if isinstance(kind, types.NoneType):
            return self._new(ir.Const(None, loc), kind)
        if isinstance(kind, types.Literal):
            return self._new(ir.Const(kind.literal_value, loc), kind)
        return next(numbers)

    def _go_if(self, value: Any, number: int, target: int) -> None:
        """To ``target`` where ``value`` is ``number``, else to a new block that comes next."""
        loc = self._region.loc
        wanted = self._new(ir.Const(number, loc), types.int64)
        expr = ir.Expr.binop(operator.eq, value, wanted, loc)
        pair = (types.int64, types.int64)
        sig = self._state.typingctx.resolve_function_type(operator.eq, pair, {})
        self._state.calltypes[expr] = sig
        condition = self._new(expr, types.boolean)
        label = next_label()
        self._block.append(ir.Branch(condition, target, label, loc))
        self._block = self._blocks[label] = self._new_block()


def numbers_of(outs: Any) -> tuple[Any, ...]:
    """The types of the numbers behind the outs of a piece."""
    return tuple(number for _, kind in outs for number in number_types(kind) or ())
