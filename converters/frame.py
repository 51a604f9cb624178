"""The state of one import that every forward rule shares: types, constants, locations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numba.core import ir as nir
from numba.core import types

from numba_mlir import dialect, mlir
from numba_mlir.converters import build, casts, scalars
from numba_mlir.converters.operands import names_read
from numba_mlir.converters.sidetable import SideTable
from numba_mlir.converters.slots import MISSING, Env, Slot
from numba_mlir.errors import UnsupportedConstruct

#: attribute that names the Numba type of a result
TYPE = "numba.type"


class Frame:
    """One function on its way into MLIR.

    ``error_model`` is "python" outside Parfor bodies unless the user chose otherwise, and
    "numpy" inside, as Numba compiles them.
    """

    def __init__(
        self,
        typemap: Any,
        calltypes: Any,
        error_model: str,
        import_parfor: Callable[..., None],
        accesses: Any,
    ) -> None:
        self.typemap = typemap
        self.calltypes = calltypes
        self.error_model = error_model
        self.import_parfor = import_parfor
        self.accesses = accesses
        self.table = SideTable()
        #: Numba's typing context, where types of new expressions are asked for
        self.typingctx: Any = None
        #: converts a statement before the common rules do: (frame, env, stmt) -> whether it did
        self.stage: Callable[[Frame, Env, Any], bool] | None = None
        self.entry: Any = None
        #: variables that are read behind the statement being imported
        self.live_after: frozenset[str] = frozenset()
        #: a division of integers by zero in a loop of the user's leaves the function
        self.checks_divisions = False
        #: the user's line while importing a loop that Numba inlined from its own source
        self.user_line: Any = None
        #: reductions that stay statements: variable -> the step (a KeptStep)
        self.kept_steps: dict[str, Any] = {}
        #: ids of statements that an ``scf.reduce`` stands for
        self.taken_out: set[int] = set()
        #: what Numba itself cannot compile or computes wrongly and the import has put right:
        #: (Numba location, what), a reason to export even when no pass changed anything
        self.repairs: list[tuple[Any, str]] = []
        self._types: dict[Any, Any] = {}
        self._constants: dict[tuple[str, str], Any] = {}
        self._remade: dict[int, Any] = {}
        self._locations: dict[tuple[str, int, str | None], Any] = {}

    # -- types ---------------------------------------------------------------
    def type_of(self, name: str) -> Any:
        try:
            return self.typemap[name]
        except KeyError:
            raise UnsupportedConstruct(f"variable {name!r} has no type") from None

    def mlir_type(self, numba_type: Any) -> Any:
        """The MLIR type of a Numba type; ``!numba.ref`` where MLIR has none."""
        found = self._types.get(numba_type)
        if found is None:
            found = array_type(numba_type) or scalars.to_mlir(numba_type)
            if found is None or isinstance(numba_type, types.Literal):
                found = dialect.ref(self.table.type_key(numba_type))
            self._types[numba_type] = found
        return found

    # -- values --------------------------------------------------------------
    def scalar(self, slot: Slot | None) -> tuple[Any, Any] | None:
        """(MLIR value, Numba type) of a number; None for everything else."""
        if slot is None:
            return None
        numba_type = types.unliteral(slot.type)
        native = scalars.to_mlir(numba_type)
        if native is None:
            return None
        if slot.type is not numba_type and isinstance(slot.type, types.Literal):
            return self.constant(slot.type.literal_value, native), numba_type
        if slot.value is None and slot.deferred is not None:
            slot = self._made(slot)
        return slot.value, numba_type

    def constant(self, number: Any, mlir_type: Any) -> Any:
        """A constant at the start of the function, made once."""
        key = (repr(number), str(mlir_type))
        found = self._constants.get(key)
        if found is None:
            with mlir.ir.InsertionPoint.at_block_terminator(self.entry), mlir.ir.Location.unknown():
                found = self._constants[key] = build.constant(number, mlir_type)
        return found

    def index_constant(self, number: int) -> Any:
        return self.constant(number, build.index_type())

    def coerce(self, slot: Slot, to: Any) -> Slot | None:
        """The slot as a variable of type ``to`` would hold it; None where MLIR can't convert."""
        if slot.type == to:
            return slot
        number = self.scalar(slot)
        if number is None or isinstance(to, types.Literal) or scalars.to_mlir(to) is None:
            return None
        converted = casts.cast(number[0], number[1], to)
        if converted is None:
            return None
        index = slot.index if isinstance(to, types.Integer) and to.bitwidth == 64 else None
        return Slot(to, converted, slot.python, index=index)

    def size(self, slot: Slot | None) -> Any:
        """A number as an MLIR ``index``; None when it is not an integer."""
        if slot is None:
            return None
        if slot.index is not None:
            return slot.index
        number = self.scalar(slot)
        if number is None or not isinstance(number[1], types.Integer):
            return None
        if isinstance(slot.type, types.IntegerLiteral):
            return self.index_constant(slot.type.literal_value)
        wide = casts.cast(number[0], number[1], types.int64)
        return build.index_cast(wide, build.index_type())

    def undefined(self, numba_type: Any) -> Slot:
        attributes = {TYPE: self.type_attribute(numba_type)}
        return Slot(
            numba_type, build.value("numba.undef", (), self.mlir_type(numba_type), attributes)
        )

    def use(self, env: Env, name: str) -> Slot:
        """The slot of a variable; ``numba.undef`` where no path assigned it."""
        slot = env.get(name)
        if slot is None:
            return self.undefined(self.type_of(name))
        if slot.value is None and slot.deferred is not None:
            return self._made(slot)
        return slot

    def deferred(self, env: Env, stmt: Any, uses: tuple[str, ...], python: Any) -> Slot:
        """A constant-like assignment that becomes an operation only when it is used."""
        return Slot(self.type_of(stmt.target.name), None, python, deferred=(stmt, env))

    def _made(self, slot: Slot) -> Slot:
        """The slot with its value, made once at the end of the function's first block."""
        assert slot.deferred is not None
        stmt, env = slot.deferred
        made = self._remade.get(id(stmt))
        if made is None:
            name = stmt.target.name
            anchor = mlir.ir.InsertionPoint.at_block_terminator(self.entry)
            with anchor, self.location(stmt.loc, name):
                local = Env(env)
                self.opaque(local, stmt, names_read(stmt), (name,), pure=True, remat=True)
            made = local.names[name].value
            self._remade[id(stmt)] = made
        return replace(slot, value=made)

    # -- attributes ----------------------------------------------------------
    def type_attribute(self, numba_type: Any) -> Any:
        return mlir.ir.StringAttr.get(self.table.type_key(numba_type))

    def location(self, loc: Any, name: str | None = None) -> Any:
        """The user's line, with the name of the variable that is assigned there."""
        loc = self.user_line or loc
        line = loc.line or 0
        key = (loc.filename, line, name)
        found = self._locations.get(key)
        if found is None:
            found = mlir.ir.Location.file(loc.filename, line, loc.col or 0)
            if name is not None:
                found = mlir.ir.Location.name(name, found)
            self._locations[key] = found
        return found

    def check(self, env: Env, stmt: Any, names: tuple[str, ...]) -> None:
        """Keep a call (of a function and a number) that touches no array and may raise."""
        handle = self.table.add_statement(stmt, names, ())
        attributes = {
            "stmt": _attribute(handle),
            "text": mlir.ir.StringAttr.get(statement_text(stmt)),
        }
        build.op("numba.check", [self.use(env, n).value for n in names], (), attributes)

    def opaque(
        self,
        env: Env,
        stmt: Any,
        uses: tuple[str, ...],
        defs: tuple[str, ...],
        *,
        pure: bool = False,
        python: Any = MISSING,
        **flags: Any,
    ) -> None:
        """Keep a statement as it is: a ``numba.exprN`` when ``pure``, else a ``pyir.stmt``."""
        ir = mlir.ir
        operands = [self.use(env, name).value for name in uses]
        results = [self.mlir_type(self.type_of(name)) for name in defs]
        pure = pure and len(results) == 1 and len(operands) <= dialect.MAX_EXPR_OPERANDS
        handle = self.table.add_statement(stmt, uses, defs)
        attributes = {
            "stmt": _attribute(handle),
            "text": ir.StringAttr.get(statement_text(stmt)),
        }
        if pure:
            attributes[TYPE] = self.type_attribute(self.type_of(defs[0]))
        elif defs:
            attributes["numba.types"] = ir.ArrayAttr.get(
                [self.type_attribute(self.type_of(name)) for name in defs]
            )
        for key, flag in flags.items():
            if flag is not None and flag is not False:
                attributes[key] = _attribute(flag)
        name = f"numba.expr{len(operands)}" if pure else dialect.STMT
        made = build.op(name, operands, results, attributes)
        for target, result in zip(defs, made.results, strict=True):
            env[target] = Slot(self.type_of(target), result, python)


def _attribute(flag: Any) -> Any:
    ir = mlir.ir
    if flag is True:
        return ir.UnitAttr.get()
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), flag)


def statement_text(stmt: Any) -> str:
    """A short, readable form of a Numba statement."""
    if not isinstance(stmt, nir.Assign):
        return str(stmt)[:120].split("\n")[0]
    value, target = stmt.value, stmt.target.name
    if isinstance(value, (nir.Global, nir.FreeVar)):
        return f"{target} = global {value.name}"
    if isinstance(value, nir.Const):
        return f"{target} = const {value.value!r}"[:120]
    if isinstance(value, nir.Expr):
        operands = ", ".join(names_read(stmt))
        if value.op == "getattr":
            return f"{target} = {value.value.name}.{value.attr}"
        return f"{target} = {value.op}({operands})"[:120]
    return str(stmt)[:120]


def array_type(numba_type: Any) -> Any:
    """The memref type of a Numba array of numbers; None for everything else.

    ``C`` layout has MLIR's identity layout; ``F`` and ``A`` have run-time strides.
    """
    if type(numba_type) is not types.Array:
        return None
    element = scalars.to_mlir(numba_type.dtype)
    if element is None:
        return None
    ir = mlir.ir
    dynamic = [ir.ShapedType.get_dynamic_size()] * numba_type.ndim
    if numba_type.layout == "C":
        return ir.MemRefType.get(dynamic, element)
    stride = ir.ShapedType.get_dynamic_stride_or_offset()
    layout = ir.StridedLayoutAttr.get(stride, [stride] * numba_type.ndim)
    return ir.MemRefType.get(dynamic, element, layout)
