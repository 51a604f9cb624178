"""What a backward rule works with: one scalar MLIR operation, free of MLIR objects.

An emitter (an entry of :data:`.registry.EMITTERS`) takes an :class:`Emission` and
returns the LLVM value of the operation's only result.  It may not keep MLIR objects:
the intrinsic made from it outlives the MLIR module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir as llvm
from numba.core import cgutils, types

from numba_mlir.converters import scalars


def _enum_set(attr: Any) -> tuple[str, ...]:
    """``#arith.fastmath<nnan,contract>`` -> ``("nnan", "contract")``, none -> ``()``."""
    text = str(attr)
    names = text[text.index("<") + 1 : text.rindex(">")].split(",")
    return tuple(name.strip() for name in names if name.strip() != "none")


def _enum(attr: Any) -> str:
    text = str(attr)
    return text[text.index("<") + 1 : text.rindex(">")].split()[-1]


#: attributes that change the code of an operation; every other one is ignored
_READERS: dict[str, Callable[[Any], Any]] = {
    "fastmath": _enum_set,
    "overflowFlags": _enum_set,
    "predicate": lambda attr: attr.value,
    "pred": _enum,
    "isExact": lambda attr: True,
}


def _read(attributes: Any) -> tuple[tuple[str, Any], ...]:
    """The attributes that matter, in one order; the default values of flags are left out."""
    present = ((name, read(attributes[name])) for name, read in _READERS.items()
               if name in attributes)  # fmt: skip
    return tuple((name, value) for name, value in present if value != ())


@dataclass(frozen=True)
class OpSpec:
    """A scalar operation: name, attributes, Numba types of operands and of the result."""

    name: str
    operands: tuple[types.Type, ...]
    result: types.Type
    attributes: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, op: Any) -> OpSpec | None:
        """The description of MLIR operation ``op``; None unless it has scalar operands,
        one scalar result and no region."""
        op = op.operation
        if len(op.results) != 1 or len(op.regions):
            return None
        operands = tuple(scalars.canonical(value.type) for value in op.operands)
        result = scalars.canonical(op.results[0].type)
        if result is None or None in operands or types.float16 in (result, *operands):
            return None
        attributes = _read(op.attributes) if len(op.attributes) else ()
        return cls(op.name, operands, result, attributes)  # type: ignore[arg-type]

    def attribute(self, name: str, default: Any = None) -> Any:
        return dict(self.attributes).get(name, default)


@dataclass(frozen=True)
class Emission:
    """One use of an operation in code generation."""

    spec: OpSpec
    context: Any
    builder: llvm.IRBuilder
    args: Sequence[llvm.Value]

    @property
    def fastmath(self) -> tuple[str, ...]:
        return self.spec.attribute("fastmath", ())

    @property
    def result_type(self) -> llvm.Type:
        return self.context.get_value_type(self.spec.result)

    def intrinsic(self, name: str, *args: llvm.Value) -> llvm.Value:
        """Call ``llvm.<name>`` overloaded on the type of the first of ``args``."""
        type_ = args[0].type
        function = llvm.FunctionType(type_, [arg.type for arg in args])
        declared = self.builder.module.declare_intrinsic(f"llvm.{name}", [type_], function)
        return self.builder.call(declared, args, fastmath=self.fastmath)

    def libm(self, name: str, *args: llvm.Value) -> llvm.Value:
        """Call a function of the C library, without side effects, by its float64 name."""
        type_ = args[0].type
        symbol = name if isinstance(type_, llvm.DoubleType) else name + "f"
        function = llvm.FunctionType(type_, [arg.type for arg in args])
        declared = cgutils.insert_pure_function(self.builder.module, function, symbol)
        return self.builder.call(declared, args, fastmath=self.fastmath)
