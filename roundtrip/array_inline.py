"""Short compiled functions of arrays become part of the functions that call them.

``relu(a @ w + b)`` with ``def relu(x): return np.maximum(x, 0)`` goes through an array twice,
in two functions, of which neither can fuse the loops of the other.  So a call is inlined where
a statement beside it may be fused with those of the callee: one that makes an array which the
callee is given, or reads the array that it returns.
"""

from __future__ import annotations

import types as python_types
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from numba.core import ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler_machinery import FunctionPass, register_pass

from numba_mlir.converters.operands import names_read
from numba_mlir.roundtrip.call_inline import Inliner, is_number, passed
from numba_mlir.roundtrip.reduction_passes import TakeReductions, TypeReductions, prange_blocks

#: operations of a callee, and of all that becomes part of one function, at most.  They are
#: compiled once more for each call: ten take 0.1 to 0.2 s
SHORT, ALL = 12, 40
_OPERATIONS = frozenset({"binop", "inplace_binop", "unary", "call"})


@register_pass(mutates_CFG=True, analysis_only=False)
class InlineArrayCalls(FunctionPass):
    """Inlines calls of short functions of arrays, compiled with the options of the caller.

    Left are functions with loops, ``raise``, or more than one ``return``, those that were compiled
    for given signatures or with types of local variables, and in parallel functions calls in
    ``prange`` loops, and in others where only the caller is parallel: each would start threads.
    """

    _name = "mlir_inline_array_calls"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        inlined = _ArrayInliner(state).run()
        if inlined:
            TypeReductions().run_pass(state)
        return inlined


class _ArrayInliner(Inliner):
    #: `is_like_caller` looks at the caller's and the callee's itself
    harmless = Inliner.harmless | {"parallel"}

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self._operations = 0
        self._made: defaultdict[str, list[Any]] = defaultdict(list)
        """variable -> values that it is given"""
        self._read: defaultdict[str, list[Any]] = defaultdict(list)
        """variable -> assignments that read it"""
        self._threads: set[int] = set()
        """ids of the statements in ``prange`` loops of a parallel function"""
        self._repeated: set[int] = set()
        """those in any of its loops"""

    def run(self) -> bool:
        # most functions have no call to look at
        kinds = self.state.typemap.values()
        if not any(isinstance(kind, types.Dispatcher) for kind in kinds):
            return False
        blocks = self.state.func_ir.blocks
        self._learn(blocks.values())
        if self._is_parallel():
            loops = compute_cfg_from_blocks(blocks).loops().values()
            self._repeated = _ids(blocks[label] for loop in loops for label in loop.body)
            self._threads = _ids(prange_blocks(self.state.func_ir))
        return super().run()

    def _is_parallel(self) -> bool:
        return self.state.flags.auto_parallel.enabled

    def _learn(self, blocks: Iterable[Any]) -> None:
        for block in blocks:
            for stmt in block.find_insts(ir.Assign):
                self._made[stmt.target.name].append(stmt.value)
                for name in names_read(stmt):
                    self._read[name].append(stmt)

    def is_wanted(self, stmt: Any, sig: Any) -> bool:
        returned, typemap = sig.return_type, self.state.typemap
        arrays = [name for name in names_read(stmt) if isinstance(typemap[name], types.Array)]
        return (
            id(stmt) not in self._threads
            and (
                id(stmt) not in self._repeated
                or _has_threads(typemap[stmt.value.func.name].dispatcher)
            )
            and all(_is_data(passed(one)) for one in sig.args)
            and (_is_data(returned) or isinstance(returned, types.NoneType))
            and (
                any(map(self._is_made, arrays))
                or (isinstance(returned, types.Array) and self._is_read(stmt.target.name))
            )
        )

    def _is_made(self, name: str) -> bool:
        """Whether a statement of the caller computes an array."""
        values = [one for same in _closure(name, self._sources) for one in self._made[same]]
        return any(map(_is_operation, values))

    def _is_read(self, name: str) -> bool:
        """Whether a statement of the caller computes something of an array."""
        readers = [one for same in _closure(name, self._copies) for one in self._read[same]]
        return any(_is_operation(stmt.value) for stmt in readers)

    def _sources(self, name: str) -> list[str]:
        return [one.name for one in self._made[name] if isinstance(one, ir.Var)]

    def _copies(self, name: str) -> list[str]:
        return [stmt.target.name for stmt in self._read[name] if isinstance(stmt.value, ir.Var)]

    def fits(self, body: Any, model: str) -> bool:
        returns = [s for block in body.blocks.values() for s in block.find_insts(ir.Return)]
        # an array of another layout than the result would have to be cast to it
        if len(returns) != 1 or model != self.state.flags.error_model:
            return False
        if _operations(body) > SHORT or compute_cfg_from_blocks(body.blocks).loops():
            return False
        TakeReductions().run_pass(python_types.SimpleNamespace(func_ir=body, metadata={}))
        return True

    def is_like_caller(self, callee: Any) -> bool:
        # one without threads may get some: it has no loops, so nothing in it says prange
        threads = self._is_parallel() or not _has_threads(callee)
        passes = getattr(callee._compiler.pipeline_class, "selection", None)
        fits = passes is None or passes == getattr(self.state.pipeline, "selection", None)
        return threads and fits and super().is_like_caller(callee)

    def inlined(self, block: Any, position: int, callee: Any, body: Any) -> list[Any]:
        number = _operations(body)
        if self._operations + number > ALL:
            return []
        self._operations += number
        made = super().inlined(block, position, callee, body)
        self._learn(one for _, one in made[1:])
        return made


def _closure(name: str, step: Callable[[str], Iterable[str]]) -> Iterable[str]:
    """A name, and all that ``step`` leads to from it."""
    found, todo = {name}, [name]
    while todo:
        more = set(step(todo.pop())) - found
        found |= more
        todo += more
    return found


def _ids(blocks: Iterable[Any]) -> set[int]:
    return {id(stmt) for block in blocks for stmt in block.body}


def _has_threads(callee: Any) -> bool:
    return bool(callee.targetoptions.get("parallel"))


def _is_operation(value: Any) -> bool:
    return isinstance(value, ir.Expr) and value.op in _OPERATIONS


def _operations(body: Any) -> int:
    return sum(
        _is_operation(stmt.value)
        for block in body.blocks.values()
        for stmt in block.find_insts(ir.Assign)
    )


def _is_data(kind: Any) -> bool:
    """Numbers, arrays of numbers, and tuples of them."""
    if isinstance(kind, types.BaseTuple):
        return all(map(_is_data, kind.types))
    return is_number(kind.dtype if isinstance(kind, types.Array) else kind)
