"""Elements that several threads may change: ``histogram[index[i]] += 1``.

Iterations of a parallel loop that load an element, compute, and store it at the same place
are one after the other on the host's threads only by luck; on a device they run at the same
time.  Where the place is not the iteration's own, the three become one atomic operation.  In
which order the iterations come is not fixed: a sum of floating-point numbers can differ in
its last bits from call to call.
"""

from __future__ import annotations

from typing import Any

from numba_mlir import mlir
from numba_mlir.passes.gpu_loops import Refused, copied
from numba_mlir.passes.values import constant_int, defined_inside, nested, owner, strip_casts

#: operation -> number of MLIR's kind of atomic operation
_KINDS = {"arith.addf": 0, "arith.addi": 1, "arith.andi": 2, "arith.ori": 14, "arith.xori": 15}
#: operations on an index that keep different ones apart, where the others are the same
_SHIFTS = frozenset({"arith.addi", "arith.subi", "arith.index_cast", "arith.index_castui"})
_SCALES = frozenset({"arith.muli", "arith.shli"})
#: sizes in bits of what devices change atomically
_ATOMIC = frozenset({"i32", "i64", "f32", "f64"})


def make_atomic(loop: Any) -> None:
    """Rewrite the updates of an ``scf.parallel``, in place.

    Raises Refused for elements that devices cannot change in one step, and where iterations
    may read what others change in any other way.
    """
    ivs = list(loop.regions[0].blocks[0].arguments)
    stores = [op for op in nested(loop) if op.name == "memref.store"]
    shared = [
        store
        for store in stores
        if not defined_inside(store.operands[1], loop)
        and not is_own(list(store.operands)[2:], ivs, loop)
    ]
    changed = [store.operands[1] for store in shared]
    for store in shared:
        load = _updated(store, changed)
        if load is not None:
            _replace(load, store)
    loads = [op for op in nested(loop) if op.name == "memref.load"]
    if any(load.operands[0] == array for load in loads for array in changed):
        raise Refused("iterations may read elements that others change")


def _updated(store: Any, changed: list[Any]) -> Any:
    """The load of the element that ``store`` changes, of whose value it stores a function;
    None for others.  ``changed`` are the arrays that are not the same all the time."""
    array, *indices = list(store.operands)[1:]
    for load in _loads_behind(store.operands[0], store.block):
        pairs = zip(list(load.operands)[1:], indices, strict=True)
        if load.operands[0] == array and all(_is_same(*pair, changed) for pair in pairs):
            return load
    return None


def _loads_behind(value: Any, block: Any) -> list[Any]:
    """The loads of ``block`` that a value is computed from, by operations of that block."""
    found: list[Any] = []
    open_ = [owner(value)]
    seen: list[Any] = []
    while open_:
        op = open_.pop()
        if op is None or op.block != block or any(op == one for one in seen):
            continue
        seen.append(op)
        if op.name == "memref.load":
            found.append(op)
        else:
            open_ += [owner(operand) for operand in op.operands]
    return found


def is_own(indices: list[Any], ivs: list[Any], loop: Any) -> bool:
    """Whether no two iterations have the same ``indices``: each of the loop's own ones is
    among them, moved by what is the same in all iterations."""
    bases = [_base(index, loop) for index in indices]
    return all(any(base == iv for base in bases) for iv in ivs)


def _base(index: Any, loop: Any) -> Any:
    """An index without what is added to it and is the same in all iterations, and without
    factors that are known not to be 0."""
    while (op := owner(index)) is not None and op.name in _SHIFTS | _SCALES:
        inside = [v for v in op.operands if _varies(v, loop)]
        fixed = [v for v in op.operands if not _varies(v, loop)]
        if len(inside) != 1 or (op.name == "arith.shli" and inside[0] != op.operands[0]):
            return index
        if op.name == "arith.muli" and not constant_int(strip_casts(fixed[0])):
            return index
        index = inside[0]
    return index


def _varies(value: Any, loop: Any) -> bool:
    """Whether a value can differ between iterations."""
    op = owner(value)
    if not defined_inside(value, loop):
        return False
    if op is None or op.name.split(".")[0] != "arith":
        return True
    return any(_varies(operand, loop) for operand in op.operands)


def _is_same(one: Any, other: Any, changed: list[Any]) -> bool:
    """Whether two values of a body are equal, as far as their operations tell."""
    if one == other:
        return True
    left, right = owner(one), owner(other)
    if left is None or right is None or left.name != right.name or len(left.results) != 1:
        return False
    loads = left.name == "memref.load" and all(left.operands[0] != a for a in changed)
    if left.name.split(".")[0] != "arith" and left.name != "memref.dim" and not loads:
        return False
    names = [sorted(str(name) for name in op.attributes) for op in (left, right)]
    if names[0] != names[1] or any(left.attributes[n] != right.attributes[n] for n in names[0]):
        return False
    pairs = list(zip(left.operands, right.operands, strict=False))
    return len(left.operands) == len(right.operands) and all(
        _is_same(*pair, changed) for pair in pairs
    )


def _replace(load: Any, store: Any) -> None:
    array, *indices = list(store.operands)[1:]
    element = str(array.type.element_type)
    if element not in _ATOMIC:
        raise Refused(
            f"iterations may change the same element, and devices change one of type {element} "
            "not in one step: use 32 or 64 bits"
        )
    chain = _chain(load, store)
    ir = mlir.ir
    with ir.InsertionPoint(store), store.location:
        simple = _simple(load, chain)
        if simple is not None:
            kind, value = simple
            attributes = {"kind": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), kind)}
            ir.Operation.create(
                "memref.atomic_rmw",
                [array.type.element_type],
                [value, array, *indices],
                attributes,
            )
        else:
            _in_one_step(load, store, chain)
    store.erase()
    for op in reversed([load, *chain]):
        op.erase()


def _chain(load: Any, store: Any) -> list[Any]:
    """The operations between a load and a store that depend on the load, in their order.

    Raises Refused where one of their results is used by anything else.
    """
    chain: list[Any] = []
    values = [load.results[0]]
    for op in [op.operation for op in store.block.operations]:
        if op == store:
            break
        if any(operand == value for operand in op.operands for value in values):
            chain.append(op)
            values += list(op.results)
    for value in values:
        for use in value.uses:
            user = use.owner.operation
            if user != store and all(user != op for op in chain):
                raise Refused("iterations may change the same element, and its value is used")
    if any(len(op.regions) or op.name.startswith("memref.") for op in chain):
        raise Refused("iterations may change the same element by more than arithmetic")
    return chain


def _simple(load: Any, chain: list[Any]) -> tuple[int, Any] | None:
    """The kind and the operand of one atomic operation that does the same; None where there
    is none.  Whole numbers may be wider in between: what is cut off does not come back."""
    steps = [op for op in chain if op.name not in ("arith.extsi", "arith.extui", "arith.trunci")]
    if len(steps) != 1 or steps[0].name not in _KINDS:
        return None
    (step,) = steps
    inside = [op.results[0] for op in chain] + [load.results[0]]
    others = [v for v in step.operands if all(v != one for one in inside)]
    if len(others) != 1:
        return None
    kind = load.results[0].type
    value = others[0]
    if step.name == "arith.addf" and len(chain) > 1:
        return None  # its rounding in between
    if value.type != kind:
        value = mlir.arith.trunci(kind, value)
    return _KINDS[step.name], value


def _in_one_step(load: Any, store: Any, chain: list[Any]) -> None:
    """``memref.generic_atomic_rmw``: computed again until nobody has come between."""
    ir = mlir.ir
    array, *indices = list(store.operands)[1:]
    element = array.type.element_type
    made = ir.Operation.create("memref.generic_atomic_rmw", [element], [array, *indices], regions=1)
    block = ir.Block.create_at_start(made.regions[0], [element], [store.location])
    with ir.InsertionPoint(block):
        known = {load.results[0]: block.arguments[0]}
        for op in chain:
            copy = copied(op, known)
            known.update(zip(op.results, copy.results, strict=True))
        value = known.get(store.operands[0], store.operands[0])
        ir.Operation.create("memref.atomic_yield", operands=[value])


def expand_float_sums(kernels: Any) -> None:
    """Atomic additions of floating-point numbers in the form that every device has."""
    ir = mlir.ir
    for op in [op for op in nested(kernels) if op.name == "memref.atomic_rmw"]:
        value, array, *indices = list(op.operands)
        if ir.IntegerAttr(op.attributes["kind"]).value != _KINDS["arith.addf"]:
            continue
        with ir.InsertionPoint(op), op.location:
            made = ir.Operation.create(
                "memref.generic_atomic_rmw", [value.type], [array, *indices], regions=1
            )
            block = ir.Block.create_at_start(made.regions[0], [value.type], [op.location])
            with ir.InsertionPoint(block):
                total = mlir.arith.addf(block.arguments[0], value)
                ir.Operation.create("memref.atomic_yield", operands=[total])
        op.results[0].replace_all_uses_with(made.results[0])
        op.erase()
