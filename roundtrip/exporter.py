"""MLIR → typed Numba IR, for whole functions.

The module must be in the interchange form (docs/architecture.md).  New blocks, types and
signatures are complete before the compilation sees any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numba.core import ir, ir_utils, types
from numba.core.ir_utils import build_definitions

from numba_mlir import dialect, mlir
from numba_mlir.converters import intrinsics
from numba_mlir.converters.operands import names_read
from numba_mlir.errors import MLIRRoundtripError
from numba_mlir.roundtrip import graph, values
from numba_mlir.roundtrip.accesses import block_graph
from numba_mlir.roundtrip.emitter import Emitter
from numba_mlir.roundtrip.importer import Imported
from numba_mlir.roundtrip.values import defining, name_hint


def export_function(
    imported: Imported, state: Any, rules: Mapping[str, Callable[..., None]] | None = None
) -> None:
    """Replace the blocks of ``state.func_ir`` by what ``imported.module`` says.

    ``rules`` for operations come in front of the common ones.
    """
    with mlir.context():
        exporter = Exporter(imported, state, rules or {})
        blocks = exporter.run()
    ir_utils._the_max_label.update(max(blocks))
    exporter.emit.commit()
    state.func_ir.blocks = blocks
    state.func_ir._definitions = build_definitions(blocks)


class Exporter:
    """Holds the variable of every MLIR value; rules of operations live in the tables below."""

    def __init__(
        self, imported: Imported, state: Any, rules: Mapping[str, Callable[..., None]]
    ) -> None:
        self._own_rules = rules
        self.kernels = imported.kernels
        self.function = imported.function.operation
        self.table = imported.table
        self.state = state
        self.types = values.Types(self.table)
        self.owned, reserved = values.bound_names(self.function.regions[0], self.table)
        self._owner = {value: name for name, value in self.owned.items()}
        single = {n for n, count in self.table.definitions.items() if count == 1}
        self.emit = Emitter(state, single, reserved)
        self._vars: dict[Any, Any] = {}
        #: variables of more than one value
        self._shared: set[str] = set()
        #: variables made again for one block: (id of block, value or purpose) -> variable
        self._local: dict[tuple[int, Any], Any] = {}
        self._mlir_labels: dict[Any, int] = {}
        self._leave: Callable[[Any], None] | None = None
        #: numbers of original Parfors that new ones have taken over
        self.parfor_ids: set[int] = set()
        #: names of a loop's indices -> the variable that holds them as a tuple
        self.index_tuples: dict[tuple[str, ...], Any] = {}

    def run(self) -> dict[int, Any]:
        from numba_mlir.roundtrip import backward

        self.rules = {**backward.RULES, **self._own_rules}
        emit = self.emit
        region = self.function.regions[0]
        blocks: dict[int, Any] = {}
        with emit.body(blocks):
            emit.start(emit.new_label())
            self._arguments(region.blocks[0])
            self.region_blocks(region)
        return renumbered(blocks, entry_label=min(self.state.func_ir.blocks))

    def _arguments(self, block: Any) -> None:
        if not len(block.arguments):
            return
        attributes = self.function.attributes["arg_attrs"]
        for value, attribute in zip(block.arguments, attributes, strict=True):
            index, name = attribute["numba.arg"].value, attribute["numba.name"].value
            original = self.state.func_ir.arg_names[index]
            self.emit.at(value.location)
            self.define(value, ir.Arg(original, index, self.emit.loc), name)

    # -- regions ---------------------------------------------------------------
    def region_blocks(self, region: Any, leave: Any = None) -> None:
        """Emit a region of ``cf`` blocks; its first block continues the current one.

        ``leave(op)`` is called for an ``scf.yield``.
        """
        blocks = list(region.blocks)
        for block in blocks[1:]:
            self._mlir_labels[block] = self.emit.new_label()
            self._declare(block.arguments)
        self._leave, outer = leave, self._leave
        self.operations(blocks[0])
        for block in blocks[1:]:
            self.emit.start(self._mlir_labels[block])
            self.operations(block)
        self._leave = outer

    def _declare(self, arguments: Any) -> None:
        for value in arguments:
            self._vars[value] = self.new_variable(value, name_hint(value.location))

    def operations(self, block: Any) -> None:
        for op in block.operations:
            self.operation(op.operation)

    def operation(self, op: Any) -> None:
        if op.attributes and "remat" in op.attributes:
            return
        self.emit.at(op.location)
        rule = self.rules.get(op.name)
        if rule is not None:
            rule(self, op)
        elif op.name.startswith("numba.expr") or op.name in (dialect.STMT, "numba.check"):
            self.rules["opaque"](self, op)
        elif intrinsics.constant(op) is None:
            self.scalar(op)

    def leave(self, op: Any) -> None:
        if self._leave is None:
            raise MLIRRoundtripError(f"{op.name} outside a region of blocks")
        self._leave(op)

    def label_of(self, block: Any) -> int:
        return self._mlir_labels[block]

    # -- values ------------------------------------------------------------------
    def new_variable(self, value: Any, hint: str | None, numba_type: Any = None) -> Any:
        numba_type = numba_type or self.types.of(value)
        owned = self._owner.get(value)
        if owned is not None and self.state.typemap.get(owned) == numba_type:
            return self.emit.named(owned, numba_type)
        return self.emit.variable(hint, numba_type)

    def define(self, value: Any, expr: Any, hint: str | None = None, numba_type: Any = None) -> Any:
        """Assign ``expr`` to the variable of an MLIR value."""
        var = self._vars.get(value)
        if var is None:
            var = self._vars[value] = self.new_variable(value, hint, numba_type)
        self.emit.store(var, expr)
        return var

    def alias(self, value: Any, var: Any) -> None:
        """The MLIR value lives in a variable that exists already."""
        owned = self._owner.get(value)
        if owned is not None and owned != var.name:
            self.define(value, var, owned)
        else:
            self._vars[value] = var
            self._shared.add(var.name)

    def alias_all(self, value: Any, other: Any) -> None:
        """Two MLIR values share one variable (a loop's argument and its result)."""
        self._vars[value] = self._vars[other]
        self._shared.add(self._vars[other].name)

    def var(self, value: Any) -> Any:
        """The variable of a value; constants are made again in each block that uses them."""
        found = self._vars.get(value)
        if found is not None:
            return found
        op = defining(value)
        if op is None:
            raise MLIRRoundtripError(f"no variable for {value}")
        return self._again(value, op)

    def _again(self, value: Any, op: Any) -> Any:
        key = (id(self.emit.block), value)
        found = self._local.get(key)
        if found is not None:
            return found
        constant = intrinsics.constant(op)
        if constant is not None:
            number, numba_type = constant
            if numba_type == types.uint64:
                # a loop body is typed again: a literal of 2**63 or more would be unsigned
                number, numba_type = (number ^ 2**63) - 2**63, types.int64
            found = self.constant(number, numba_type)
        elif op.name == "numba.undef":
            found = self._undefined(self.types.of(value))
        elif "remat" in op.attributes:
            found = self.rules["remat"](self, op)
        else:
            raise MLIRRoundtripError(f"{op.name} is used before it was emitted")
        self._local[key] = found
        return found

    def constant(self, number: Any, numba_type: Any) -> Any:
        """A literal; a type that Python's numbers don't have by themselves is cast to."""
        plain = {bool: types.boolean, int: types.int64, float: types.float64,
                 complex: types.complex128}[type(number)]  # fmt: skip
        var = self.emit.constant(number, plain, "$const")
        return self.emit.cast(var, numba_type)

    def _undefined(self, numba_type: Any) -> Any:
        if isinstance(numba_type, types.NoneType):
            return self.emit.assign(ir.Const(None, self.emit.loc), numba_type)
        if isinstance(numba_type, (types.Number, types.Boolean)):
            zero = False if isinstance(numba_type, types.Boolean) else 0
            return self.constant(zero, numba_type)
        return self.emit.assign(ir.Expr.undef(self.emit.loc), numba_type)

    def number(self, value: Any, numba_type: Any = None) -> Any:
        """A variable that holds a number in exactly this (else its canonical) type."""
        wanted = numba_type or self.types.of(value)
        var = self.var(value)
        if self.emit.type_of(var) == wanted:
            return var
        key = (id(self.emit.block), (var.name, wanted))
        found = self._local.get(key)
        if found is None:
            found = self._local[key] = self.emit.cast(var, wanted)
        return found

    def local(self, purpose: Any, make: Any) -> Any:
        """A helper variable that is made once a block."""
        key = (id(self.emit.block), purpose)
        found = self._local.get(key)
        if found is None:
            found = self._local[key] = make()
        return found

    # -- numbers -----------------------------------------------------------------
    def scalar(self, op: Any) -> None:
        """Any operation on numbers: a plain operator where exact, else an intrinsic."""
        hint = name_hint(op.location)
        fn = intrinsics.as_expr(op)
        if fn is not None:
            operands = [self.number(v) for v in op.operands]
            sig = self.emit.resolve(fn, tuple(self.emit.type_of(v) for v in operands))
            expr = self.emit.typed(ir.Expr.binop(fn, *operands, self.emit.loc), sig)
            self.define(op.results[0], expr, hint, sig.return_type)
            return
        found = intrinsics.for_op(op)
        if found is None:
            raise MLIRRoundtripError(f"{op.name} has no Numba form")
        function, kind = self.emit.function(found.function, found.name)
        sig = self.emit.signature(found.function, kind, found.signature.args)
        args = tuple(self.var(v) for v in op.operands)
        call = self.emit.typed(ir.Expr.call(function, args, (), self.emit.loc), sig)
        self.define(op.results[0], call, hint, sig.return_type)

    # -- passing values --------------------------------------------------------
    def pass_values(self, targets: Sequence[Any], sources: Sequence[Any]) -> None:
        """Assign all ``sources`` to the variables of ``targets`` as if at once."""
        pairs = []
        for target, source in zip(targets, sources, strict=True):
            op = defining(source)
            if op is not None and op.name == "numba.undef":
                continue
            pairs.append((self._vars[target], self.var(source), source))
        names = [source.name for _, source, _ in pairs]
        pairs = [
            (target, source)
            for target, source, value in pairs
            if target.name in names or not self._made_there(target, source, value)
        ]
        written = {target.name for target, _ in pairs}
        held = {}
        for target, source in pairs:
            if source.name in written and source.name != target.name and source.name not in held:
                held[source.name] = self.emit.assign(source, self.emit.type_of(source))
        for target, source in pairs:
            source = held.get(source.name, source)
            if source.name != target.name:
                self.emit.store(target, self.emit.cast(source, self.emit.type_of(target)))

    def _made_there(self, target: Any, source: Any, value: Any) -> bool:
        """Let the statement of this block that makes ``source`` assign to ``target`` itself.

        Numba takes what stands between ``init_prange`` and ``prange`` as a whole, and nothing
        behind: a copy at the end of the block would come too early.  Its search for reductions
        wants the copy: it does not see through ``x = f(x)`` in loops inside.
        """
        if source.name in self._shared or value in self._owner or len(list(value.uses)) != 1:
            return False
        if self.emit.type_of(source) != self.emit.type_of(target):
            return False
        for stmt in reversed(self.emit.block.body):
            if not isinstance(stmt, ir.Assign) or stmt.target.name == target.name:
                return False
            if target.name in names_read(stmt):
                return False
            if stmt.target.name == source.name:
                stmt.target = target
                return True
        return False

    def declare(self, result_values: Any, hints: Sequence[str | None]) -> None:
        """Make variables for values that are assigned on several paths."""
        for value, hint in zip(result_values, hints, strict=True):
            if value not in self._vars:
                self._vars[value] = self.new_variable(value, hint)

    def hints(self, op: Any) -> list[str | None]:
        """Names for the results of a structured operation."""
        count = len(op.results)
        if "numba.names" in op.attributes and len(op.attributes["numba.names"]) == count:
            return [name.value for name in op.attributes["numba.names"]]
        return [None] * count


def renumbered(
    blocks: dict[int, Any], last: Any = None, entry_label: int | None = None
) -> dict[int, Any]:
    """Blocks in execution order with fresh labels; ``last`` (a block) gets the largest one.

    ``entry_label`` is kept for the first block, which some of Numba's users look up.
    Blocks that control never reaches are dropped.
    """
    entry = min(blocks)
    order = graph.reverse_postorder(block_graph(blocks), entry)
    if last is not None:
        tail = next(label for label in order if blocks[label] is last)
        order.remove(tail)
        order.append(tail)
    labels = {label: ir_utils.next_label() for label in order}
    if entry_label is not None:
        labels[entry] = entry_label
    for label in order:
        body = blocks[label].body
        if body and isinstance(body[-1], ir.Jump):
            body[-1].target = labels[body[-1].target]
        elif body and isinstance(body[-1], ir.Branch):
            body[-1].truebr = labels[body[-1].truebr]
            body[-1].falsebr = labels[body[-1].falsebr]
    return {labels[label]: blocks[label] for label in order}
