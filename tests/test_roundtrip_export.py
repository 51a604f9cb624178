"""What the export puts back: names, statement objects, labels, types and signatures."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numba import njit as numba_njit
from numba import prange, types
from numba.core import ir, ir_utils, postproc
from typed_ir import expressions, parfors, round_tripped, statements, typed

from numba_mlir import errors, njit
from numba_mlir.roundtrip import backward
from numba_mlir.roundtrip.exporter import export_function
from numba_mlir.roundtrip.importer import import_function

X = np.arange(1.0, 5.0)


@numba_njit
def callee(value):
    return value + 1


def everything(x, n):
    """One statement of each kind that has rules of its own."""
    numbers = [n, 2]
    name = "n" + str(n)
    total = 0.0
    out = np.empty((x.size, 2))
    for i in prange(x.size):
        k = 0
        while k < n:
            if x[k] > 3.0:
                break
            k += 1
        for j in range(2):
            out[i, j] = x[i - 1] * k if j else 1.5
        total += x[i]
    y = x[::-1] + total
    for i in range(n):
        numbers.append(callee(i))
    print(name, numbers)
    if total > 1e9:
        raise ValueError("too much")
    return y, (out, total), len(numbers)


@pytest.fixture(scope="module")
def exported() -> Any:
    """The state after a round trip of `everything`, with its statements before it."""
    state = typed(everything, X, 3)
    before = list(statements(state.func_ir.blocks))
    entry = min(state.func_ir.blocks)
    export_function(import_function(state), state)
    return state, before, entry


def targets(blocks: Any) -> Counter[str]:
    return Counter(s.target.name for s in statements(blocks) if isinstance(s, ir.Assign))


def body(state: Any) -> list[Any]:
    return list(statements(state.func_ir.blocks))


# -- completeness ----------------------------------------------------------------
def test_every_variable_has_a_type(exported: Any) -> None:
    state, _, _ = exported
    for stmt in body(state):
        for var in stmt.list_vars():
            assert var.name in state.typemap, stmt


def test_every_call_has_a_signature(exported: Any) -> None:
    state, _, _ = exported
    for stmt in body(state):
        if isinstance(stmt, ir.SetItem):
            assert state.calltypes[stmt] is not None
        value = stmt.value if isinstance(stmt, ir.Assign) else None
        if isinstance(value, ir.Expr) and value.op in (
            "call", "binop", "inplace_binop", "unary", "getitem", "static_getitem",
        ):  # fmt: skip
            assert value in state.calltypes, stmt


def test_types_of_calls_and_targets_agree(exported: Any) -> None:
    state, _, _ = exported
    for stmt in body(state):
        value = stmt.value if isinstance(stmt, ir.Assign) else None
        if isinstance(value, ir.Expr) and value.op in ("call", "binop", "inplace_binop"):
            result = state.calltypes[value].return_type
            wanted = types.unliteral(state.typemap[stmt.target.name])
            assert types.unliteral(result) == wanted, stmt


def test_numbas_own_helpers_take_the_result(exported: Any) -> None:
    state, _, _ = exported
    func_ir = state.func_ir.copy()
    ir_utils.raise_on_unsupported_feature(func_ir, state.typemap)
    for name in targets(func_ir.blocks):
        if not name.startswith("$"):
            assert name in func_ir._definitions or name in _in_parfors(state), name
    postproc.PostProcessor(func_ir).run()
    assert set(ir_utils.compute_cfg_from_blocks(func_ir.blocks).nodes()) == set(func_ir.blocks)
    assert ir_utils._the_max_label.next() > max(func_ir.blocks)


def _in_parfors(state: Any) -> set[str]:
    """Variables that Parfors assign; Numba's table of definitions leaves them out."""
    found: set[str] = set()
    for parfor in parfors(state.func_ir.blocks):
        found |= set(targets(parfor.loop_body))
        found |= {s.target.name for s in parfor.init_block.body if isinstance(s, ir.Assign)}
    return found


def test_labels_of_loop_bodies_are_as_numba_wants_them(exported: Any) -> None:
    state, _, _ = exported
    for parfor in parfors(state.func_ir.blocks):
        labels = sorted(parfor.loop_body)
        assert labels[0] > 0
        last = parfor.loop_body[labels[-1]].body
        assert not last or not isinstance(last[-1], ir.Terminator)
        for label in labels[:-1]:
            assert isinstance(parfor.loop_body[label].body[-1], ir.Terminator)


# -- what is kept as it was ------------------------------------------------------
def test_the_very_statements_are_put_back(exported: Any) -> None:
    state, before, _ = exported
    kept = {id(stmt) for stmt in body(state)}
    back = [s for s in before if id(s) in kept]
    assert any(isinstance(s, ir.Print) for s in back)
    assert any(isinstance(s, ir.StaticRaise) for s in back)
    values = [s.value for s in back if isinstance(s, ir.Assign) and isinstance(s.value, ir.Expr)]
    assert {"build_list", "call", "getattr"} <= {value.op for value in values}


def test_entry_label_and_arguments_are_kept(exported: Any) -> None:
    state, _, entry = exported
    assert min(state.func_ir.blocks) == entry
    first = [s for s in state.func_ir.blocks[entry].body if isinstance(s, ir.Assign)]
    assert [(s.target.name, s.value.index) for s in first[:2]] == [("x", 0), ("n", 1)]
    assert [s.value.name for s in first[:2]] == ["x", "n"]


def test_user_names_with_one_definition_are_kept(exported: Any) -> None:
    state, before, _ = exported
    once = {"numbers", "name", "out", "y"}
    originally = Counter(s.target.name for s in before if isinstance(s, ir.Assign))
    assert all(originally[name] == 1 for name in once)
    assert {name: targets(state.func_ir.blocks)[name] for name in once} == dict.fromkeys(once, 1)


def test_statements_know_the_users_lines(exported: Any) -> None:
    state, before, _ = exported
    lines = {s.loc.line for s in before}
    assert {s.loc.line for s in body(state)} <= lines | {state.func_ir.loc.line}
    (print_,) = (s for s in body(state) if isinstance(s, ir.Print))
    assert print_.loc.line == everything.__code__.co_firstlineno + 18


# -- subscripts and constants ----------------------------------------------------
def subscript_types(state: Any) -> list[str]:
    """Types of the indices of element accesses inside Parfors, in order."""
    found: list[str] = []
    for parfor in parfors(state.func_ir.blocks):
        for stmt in statements(parfor.loop_body):
            access = stmt.value if isinstance(stmt, ir.Assign) else stmt
            if isinstance(access, ir.SetItem) or getattr(access, "op", None) == "getitem":
                found.append(str(state.typemap[access.index.name]))
    return found


def test_indices_that_cannot_be_negative_are_unsigned() -> None:
    def f(x, m):
        for i in prange(x.size):
            for j in range(m.shape[1]):
                x[i] += m[i, j]

    assert subscript_types(round_tripped(f, X, np.ones((4, 2)))) == [
        "uint64", "UniTuple(uint64 x 2)", "uint64",
    ]  # fmt: skip


def test_other_indices_keep_numbas_wrap_around() -> None:
    def f(x, k):
        for i in prange(x.size):
            x[i] = x[i - 1] + x[k]

    state = round_tripped(f, X, -1)
    assert subscript_types(state) == ["int64", "int64", "uint64"]


def test_accesses_to_the_own_element_use_the_loops_index_variable() -> None:
    def f(x, m):
        for i in prange(x.size):
            x[i] = 1.0
        return m + m

    state = round_tripped(f, X, np.ones((2, 3)))
    one, two = parfors(state.func_ir.blocks)
    for parfor in (one, two):
        (stored,) = (s for s in statements(parfor.loop_body) if isinstance(s, ir.SetItem))
        assert stored.index.name == parfor.index_var.name
    assert one.index_var.name == one.loop_nests[0].index_variable.name


def test_constants_are_made_again_in_loop_bodies() -> None:
    def f(x):
        factor = 2.5
        for i in prange(x.size):
            x[i] = x[i] * factor

    state = round_tripped(f, X)
    (parfor,) = parfors(state.func_ir.blocks)
    inside = list(statements(parfor.loop_body))
    assert [s.value.value for s in inside if isinstance(getattr(s, "value", 0), ir.Const)] == [2.5]
    assigned = {s.target.name for s in inside if isinstance(s, ir.Assign)}
    read = {v.name for s in inside for v in s.list_vars()} - assigned
    assert read == {"x", parfor.index_var.name}


def test_globals_are_made_again_in_loop_bodies() -> None:
    def f(x):
        for i in prange(x.size):
            x[i] = callee(x[i])

    state = round_tripped(f, X)
    (parfor,) = parfors(state.func_ir.blocks)
    (call,) = expressions(parfor.loop_body, "call")
    assert call.func.name in targets(parfor.loop_body)


def test_reductions_have_the_form_that_numba_looks_for() -> None:
    def f(x, s):
        m = 0.0
        for i in prange(x.size):
            s += x[i]
            m = max(m, x[i])
        return s, m

    state = round_tripped(f, X, 1.0)
    (parfor,) = parfors(state.func_ir.blocks)
    (added,) = expressions(parfor.loop_body, "inplace_binop")
    assert (added.fn, added.immutable_fn) == (operator.iadd, operator.add)
    last = parfor.loop_body[max(parfor.loop_body)].body
    stored = [s for s in last if isinstance(s, ir.Assign) and s.target.name in parfor.races]
    assert len(parfor.races) == len(stored) == 2
    assert added.lhs.name in parfor.races


# -- passing values ----------------------------------------------------------------
def run(blocks: Any, variables: dict[str, Any]) -> Any:
    """Interpret blocks of assignments of variables, constants and sums; the value returned."""
    label = min(blocks)
    for _ in range(1000):
        for stmt in blocks[label].body:
            if isinstance(stmt, ir.Assign):
                variables[stmt.target.name] = _value(stmt.value, variables)
            elif isinstance(stmt, ir.Jump):
                label = stmt.target
            elif isinstance(stmt, ir.Branch):
                label = stmt.truebr if variables[stmt.cond.name] else stmt.falsebr
            else:
                return variables[stmt.value.name]
    raise AssertionError("no end")


def _value(value: Any, variables: dict[str, Any]) -> Any:
    if isinstance(value, ir.Arg):
        return variables[value.name]
    if isinstance(value, ir.Var):
        return variables[value.name]
    if isinstance(value, (ir.Const, ir.Global)):
        return value.value
    if value.op in ("binop", "inplace_binop"):
        return value.fn(variables[value.lhs.name], variables[value.rhs.name])
    if value.op == "cast":
        return variables[value.value.name]
    raise AssertionError(value)


@pytest.mark.parametrize("n", range(5))
def test_values_are_swapped_at_once(n: int) -> None:
    def f(n, p, q, r):
        while n > 0:
            p, q, r = r, p, q
            n -= 1
        return p + q * 10 + r * 100

    state = round_tripped(f, 1, 2, 3, 4)
    arguments = {"n": n, "p": 2, "q": 3, "r": 4}
    assert run(state.func_ir.blocks, dict(arguments)) == f(**arguments)


def test_swap_of_values_in_a_structured_loop() -> None:
    def f(x, n):
        for i in prange(x.size):
            a, b = 1.0, 2.0
            for _ in range(n):
                a, b = b, a
            while a < 100.0:
                a, b = b, a + b
            x[i] = a - b
        return x

    found, expected = njit(parallel=True, mlir_identity="exact")(f)(X.copy(), 3), f(X.copy(), 3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("condition", [True, False])
def test_choice_between_values_that_are_no_numbers(condition: bool) -> None:
    """MLIR's canonical form of ``a if c else b`` is a select, of arrays and tuples too."""

    def f(a, b, c):
        chosen = a if c else b
        pair = (a, 1) if c else (b, 2)
        return chosen + 1, pair[0] * 2, pair[1]

    a, b = np.arange(3.0), np.arange(4.0)
    for flags in ({}, {"mlir_identity": True}):
        found = njit(parallel=True, **flags)(f)(a, b, condition)
        for got, want in zip(found, f(a, b, condition), strict=True):
            np.testing.assert_array_equal(got, want)


# -- all or nothing ------------------------------------------------------------------
def snapshot(state: Any) -> tuple[Any, ...]:
    blocks = state.func_ir.blocks
    return (
        blocks,
        [(label, block, list(block.body)) for label, block in blocks.items()],
        dict(state.typemap),
        dict(state.calltypes),
        {name: list(found) for name, found in state.func_ir._definitions.items()},
    )


def test_failed_export_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    state = typed(everything, X, 3)
    imported = import_function(state)
    before = snapshot(state)

    def fails(ex: Any, op: Any) -> None:
        raise RuntimeError("at the very end")

    monkeypatch.setitem(backward.RULES, "func.return", fails)
    with pytest.raises(RuntimeError, match="at the very end"):
        export_function(imported, state)
    after = snapshot(state)
    assert after[0] is before[0]
    assert after[1:] == before[1:]


def test_failed_export_is_an_error_that_names_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(ex: Any, op: Any) -> None:
        raise RuntimeError("no rule")

    def f(x):
        return x + 1

    monkeypatch.setitem(backward.RULES, "func.return", fails)
    with pytest.raises(errors.PassError, match=r"internal error in the export.*'.*f'.*no rule"):
        njit(parallel=True, mlir_identity=True)(f)(X)
