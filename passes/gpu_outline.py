"""Parallel loops become GPU kernels: ``scf.parallel`` → ``gpu.launch_func``.

Runs on functions whose arrays all live on one device.  What the host still does with the
elements of an array becomes explicit: allocation on the device, and copies of single
elements.  A loop that cannot be a kernel stays, with a remark; the caller decides whether
that is an error.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, ClassVar

from numba_mlir import mlir
from numba_mlir.passes import building, gpu_registers, gpu_rows
from numba_mlir.passes.base import MLIRPass, PassResult, Remark
from numba_mlir.passes.gpu_body import erase_unused
from numba_mlir.passes.gpu_checks import hoist_checks
from numba_mlir.passes.gpu_kernel import (
    Launch,
    Target,
    bodies,
    captured,
    elementwise,
    kept_rows,
    rows,
)
from numba_mlir.passes.gpu_loops import Refused, extent, product, segments
from numba_mlir.passes.gpu_reduce import BLOCK
from numba_mlir.passes.gpu_stages import Words, both_stages, first_stage, second_stage
from numba_mlir.passes.gpu_truncate import narrow, pass_bits, truncate, widened
from numba_mlir.passes.values import is_memref, is_ref, nested, operations

#: symbol of the ``gpu.module`` with the kernels of a function
KERNELS = "gpu_kernels"
_MAX_X, _MAX_Y = 2**31 - 1, 65535
#: threads of a block along x where there are several indices
_WIDTH = 128


@dataclasses.dataclass(frozen=True)
class GpuOutline(MLIRPass):
    """Outline every outermost ``scf.parallel`` of the function into ``@gpu_kernels``.

    ``reductions_only``: leave the others, and the host's accesses, to a later run.
    ``reduction_blocks``: how many blocks of threads a reduction is cut into at most; the
    result of a floating-point sum depends on it, and on nothing else.
    ``subgroup``: how many threads of the device can read each other's registers; 0: none.
    ``landing``: kernels can store their results where the host reads them without a copy.
    ``last_block``: reductions are one kernel, of which the last block combines the others';
    it needs ``landing``.
    ``block``: how many threads a block has at most on the device.
    ``truncate``: float64 arithmetic in float32; ``fp64``: the device can convert float64.
    """

    name: ClassVar[str] = "gpu-outline"
    reductions_only: bool = False
    reduction_blocks: int = 2048
    subgroup: int = 0
    landing: bool = False
    last_block: bool = False
    block: int = gpu_registers.WIDE
    truncate: bool = False
    fp64: bool = True

    def run(self, module: Any) -> PassResult:
        with module.context:
            return _Outliner(self, module).run()


class _Outliner:
    def __init__(self, options: GpuOutline, module: Any) -> None:
        self._pass = options
        self._module = module
        self._function = next(
            op.operation for op in module.body.operations if op.operation.name == "func.func"
        )
        name = mlir.ir.StringAttr(self._function.attributes["sym_name"]).value
        self._stem = re.sub(r"\W", "_", name, flags=re.ASCII)
        self._kernels: Any = None
        self._count = 0
        self._remarks: list[Remark] = []

    def run(self) -> PassResult:
        loops = [op for op in nested(self._function) if op.name == "scf.parallel"]
        only = self._pass.reductions_only
        for loop in loops:
            wanted = not only or len(loop.results) or gpu_rows.applies(loop)
            if wanted and not _inside_another(loop, self._function):
                self._outline(loop)
        changed = bool(self._count)
        if not only:
            changed |= self._make_explicit()
        if self._count:
            self._module.operation.attributes["gpu.container_module"] = mlir.ir.UnitAttr.get()
        return PassResult(changed, tuple(self._remarks))

    # -- loops -------------------------------------------------------------------------
    def _outline(self, loop: Any) -> None:
        location = loop.location
        hoist_checks(loop)
        erase_unused(loop)
        marker = _Marker(loop)
        try:
            with mlir.ir.InsertionPoint(loop), location:
                what = self._replaced(loop)
        except Refused as reason:
            marker.rewind()
            self._erase_kernel(f"{self._stem}_{self._count}")
            self._remarks.append(self._pass.remark("missed", f"not offloaded: {reason}", location))
            return
        self._remarks.append(self._pass.remark("applied", what, location))

    def _replaced(self, loop: Any) -> str:
        lower, upper, _, initial = segments(loop)
        geometry = _Geometry.of(lower, upper, 1 if initial else bodies(loop))
        name = f"{self._stem}_{self._count}"
        results: list[Any] = []
        over = f"over {_indices(len(lower))}"
        if not initial and gpu_rows.applies(loop):
            self._rows(loop, name, geometry)
            what = f"offloaded: kernel {name} {over}, a block for long rows"
        elif not initial:
            self._launch(elementwise(loop, self._target(), name), geometry)
            what = f"offloaded: kernel {name} {over}"
        else:
            results = self._reduce(loop, name, geometry.capped(self._pass.reduction_blocks))
            stages = "" if self._pass.last_block else " and a second stage"
            what = f"offloaded: kernel {name}{stages}, a reduction {over}"
        if self._pass.truncate:
            self._truncate(name)
            what += ", float64 as float32"
        for old, new in zip(list(loop.results), results, strict=True):
            old.replace_all_uses_with(new)
        self._count += 1
        loop.erase()
        return what

    def _truncate(self, name: str) -> None:
        """Kernels whose names begin so compute in float32."""
        truncate(self._target().module, name, native=self._pass.fp64)
        if self._pass.fp64:
            return
        for op in nested(self._function):
            if op.name == "gpu.launch_func" and f"::@{name}" in str(op.attributes["kernel"]):
                pass_bits(op)

    def _rows(self, loop: Any, name: str, geometry: _Geometry) -> None:
        """Kernels for long rows, a block for each, and for short ones, a thread for each."""
        arith, at_least = mlir.arith, mlir.arith.CmpIPredicate.sge
        target = self._target()
        lower, upper, _, _ = segments(loop)
        sizes = [extent(low, high) for low, high in zip(lower, upper, strict=True)]
        one, length = building.index(1), gpu_rows.length(loop)
        count = product(sizes)
        blocks = _blocks(count, one, _MAX_X)
        many = rows(loop, target, name)
        is_long = arith.cmpi(at_least, length, building.index(gpu_rows.LONG))
        choices = [(is_long, many, _Geometry(blocks, one, building.index(BLOCK), one))]
        each = gpu_registers.elements(loop)
        if each and self._pass.block >= gpu_registers.WIDE:
            kept = kept_rows(loop, target, f"{name}_kept")
            needed = arith.ceildivui(length, building.index(each))
            width = _power_of_two(needed, gpu_registers.WIDE)
            width = arith.maxui(width, building.index(gpu_registers.NARROW))
            fits = arith.cmpi(at_least, length, building.index(gpu_registers.shortest(each)))
            most = building.index(each * gpu_registers.WIDE)
            fits = arith.andi(fits, arith.cmpi(at_least, most, length))
            fits = arith.andi(fits, arith.cmpi(at_least, building.index(_MAX_X), count))
            choices.insert(0, (fits, kept, _Geometry(blocks, one, width, one)))
        self._choose(choices, (elementwise(loop, target, f"{name}_short"), geometry))

    def _choose(self, choices: list[Any], last: tuple[Launch, _Geometry]) -> None:
        """Launch the first of ``choices`` whose condition holds, or ``last``."""
        ir = mlir.ir
        if not choices:
            self._launch(*last)
            return
        condition, launch, geometry = choices[0]
        branch = ir.Operation.create("scf.if", operands=[condition], regions=2)
        with ir.InsertionPoint(branch.regions[0].blocks.append()):
            self._launch(launch, geometry)
            ir.Operation.create("scf.yield")
        with ir.InsertionPoint(branch.regions[1].blocks.append()):
            self._choose(choices[1:], last)
            ir.Operation.create("scf.yield")

    def _reduce(self, loop: Any, name: str, geometry: _Geometry) -> list[Any]:
        """Launches, and what takes the place of the loop's results."""
        target, like = self._target(), self._some_array(loop)
        initial = segments(loop)[3]
        for value in initial:
            if is_ref(value):
                raise Refused("a reduction of something that is not a number")
        kinds = [self._stored(value.type) for value in initial]
        blocks = mlir.arith.muli(geometry.columns, geometry.rows)
        partials = [scratch(like, blocks, kind, n) for n, kind in enumerate(kinds)]
        landing = self._pass.landing
        flag = _landing(partials[0]) if landing else None
        places = [_place(flag, n, kind) for n, kind in enumerate(kinds, 1)] if landing else partials
        if self._pass.last_block:
            words = Words(_counter(partials[0]), flag)
            launch = both_stages(loop, target, name, partials, places, words)
            self._launch(launch, geometry)
        else:
            self._launch(first_stage(loop, target, name, partials), geometry)
            second = second_stage(loop, target, f"{name}_second", partials, blocks, places)
            one = building.index(1)
            self._launch(second, _Geometry(one, one, building.index(BLOCK), one))
        pairs = zip(places, kinds, strict=True)
        zero = building.index(0)
        loaded = [
            _arrived(flag, place, kind) if landing else device_load(place, [zero], kind)
            for place, kind in pairs
        ]
        return [widened(one, value.type) for one, value in zip(loaded, initial, strict=True)]

    def _stored(self, kind: Any) -> Any:
        """The type that partial results of type ``kind`` have in memory."""
        return narrow(kind) if self._pass.truncate else kind

    def _launch(self, launch: Launch, geometry: _Geometry) -> None:
        one = building.index(1)
        mlir.gpu.LaunchFuncOp(
            [KERNELS, launch.name],
            (geometry.columns, geometry.rows, geometry.layers or one),
            (geometry.width, geometry.height, one),
            list(launch.operands),
        )

    def _erase_kernel(self, name: str) -> None:
        """What a refused loop left: its kernels and their buffers."""
        if self._kernels is None:
            return
        for op in operations(self._kernels.regions[0].blocks[0]):
            if "sym_name" in op.attributes and op.attributes["sym_name"].value.startswith(name):
                op.erase()

    def _target(self) -> Target:
        """Where kernels are made; the module is created when it is asked for first."""
        if self._kernels is None:
            ir = mlir.ir
            with ir.InsertionPoint(self._module.body), ir.Location.unknown():
                attributes = {"sym_name": ir.StringAttr.get(KERNELS)}
                made = ir.Operation.create("gpu.module", attributes=attributes, regions=1)
            made.regions[0].blocks.append()
            self._kernels = made
        return Target(self._kernels, self._pass.subgroup, self._pass.truncate)

    def _some_array(self, loop: Any) -> Any:
        """An array on the device that new ones go beside."""
        arrays = [v for v in captured(loop) if is_memref(v)] if loop is not None else []
        arrays += [v for v in self._function.regions[0].blocks[0].arguments if is_memref(v)]
        if not arrays:
            raise Refused("no array says where results go")
        return arrays[0]

    # -- the rest of the function --------------------------------------------------------
    def _make_explicit(self) -> bool:
        """Allocations and element accesses of the host, on the device."""
        rules = {"memref.alloc": self._alloc, "memref.load": _load, "memref.store": _store}
        found = [op for op in self._host_operations() if op.name in rules]
        for op in found:
            try:
                with mlir.ir.InsertionPoint(op), op.location:
                    rules[op.name](op)
            except Refused as reason:
                self._remarks.append(self._pass.remark("missed", str(reason), op.location))
                continue
            if op.name != "memref.alloc":
                what = "one element is copied between the host and the device"
                self._remarks.append(self._pass.remark("analysis", what, op.location))
            op.erase()
        return bool(found)

    def _host_operations(self) -> list[Any]:
        """All operations but those in loops that stayed."""
        return [op for op in nested(self._function) if not _inside_another(op, self._function)]

    def _alloc(self, op: Any) -> None:
        type_ = op.results[0].type
        dynamic = iter(op.operands)
        sizes = [
            next(dynamic)
            if type_.is_dynamic_dim(axis)
            else building.index(type_.get_dim_size(axis))
            for axis in range(type_.rank)
        ]
        made = device_alloc(self._some_array(None), sizes, type_.element_type, type_)
        if "numba.type" in op.attributes:
            made.owner.attributes["numba.type"] = op.attributes["numba.type"]
        op.results[0].replace_all_uses_with(made)


def _inside_another(op: Any, function: Any) -> bool:
    """Whether an operation stands inside an ``scf.parallel``."""
    parent = op.parent
    while parent is not None and parent != function:
        if parent.operation.name == "scf.parallel":
            return True
        parent = parent.operation.parent
    return False


def _indices(rank: int) -> str:
    return "1 index" if rank == 1 else f"{rank} indices"


class _Marker:
    """What was created in front of a loop since the marker was made can be erased."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._before = len(self._in_front())

    def _in_front(self) -> list[Any]:
        block = operations(self._loop.block)
        return block[: next(i for i, op in enumerate(block) if op == self._loop)]

    def rewind(self) -> None:
        for op in reversed(self._in_front()[self._before :]):
            op.erase()


# -- operations of the numba dialect -------------------------------------------------------
def device_alloc(like: Any, sizes: list[Any], element: Any, type_: Any = None) -> Any:
    """``numba.device_alloc``: an uninitialised array on the device of ``like``."""
    ir = mlir.ir
    dynamic = ir.ShapedType.get_dynamic_size()
    kind = type_ or ir.MemRefType.get([dynamic] * len(sizes), element)
    return ir.Operation.create("numba.device_alloc", [kind], [like, *sizes]).results[0]


def scratch(like: Any, size: Any, element: Any, number: int) -> Any:
    """As `device_alloc`, for an array that is used until its elements have been read and not
    again: array ``number`` of those that are used at the same time."""
    made = device_alloc(like, [size], element)
    word = mlir.ir.IntegerType.get_signless(64)
    made.owner.attributes["numba.scratch"] = mlir.ir.IntegerAttr.get(word, number)
    return made


def _counter(array: Any) -> Any:
    """``numba.device_counter``: a number behind the elements of a `scratch` array, which is 0
    when it is made and has to be so again afterwards."""
    kind = mlir.ir.MemRefType.get([1], mlir.ir.IntegerType.get_signless(32))
    return mlir.ir.Operation.create("numba.device_counter", [kind], [array]).results[0]


def _landing(array: Any) -> Any:
    """``numba.device_landing``: a number in the memory of the host that kernels store to.  It is
    0, and becomes another one when the places behind it have what the host waits for."""
    kind = mlir.ir.MemRefType.get([1], mlir.ir.IntegerType.get_signless(32))
    return mlir.ir.Operation.create("numba.device_landing", [kind], [array]).results[0]


def _place(flag: Any, number: int, element: Any) -> Any:
    """``numba.device_place``: place ``number`` (1, 2, ...) for one element behind a landing."""
    kind = mlir.ir.MemRefType.get([1], element)
    word = mlir.ir.IntegerType.get_signless(64)
    attributes = {"number": mlir.ir.IntegerAttr.get(word, number)}
    return mlir.ir.Operation.create("numba.device_place", [kind], [flag], attributes).results[0]


def _arrived(flag: Any, place: Any, type_: Any) -> Any:
    """``numba.device_arrived``: the element at a place, when ``flag`` says that it is there."""
    return mlir.ir.Operation.create("numba.device_arrived", [type_], [flag, place]).results[0]


def device_load(array: Any, indices: list[Any], type_: Any) -> Any:
    """``numba.device_load``: one element, copied to the host."""
    return mlir.ir.Operation.create("numba.device_load", [type_], [array, *indices]).results[0]


def _load(op: Any) -> None:
    array, *indices = list(op.operands)
    op.results[0].replace_all_uses_with(device_load(array, indices, op.results[0].type))


def _store(op: Any) -> None:
    value, array, *indices = list(op.operands)
    mlir.ir.Operation.create("numba.device_store", [], [value, array, *indices])


# -- the launch geometry -------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Geometry:
    """Blocks along x, y and z, and threads of a block along x and y, as values of the host.

    ``layers`` (None: one) continue the blocks along y, of which devices allow few.
    """

    columns: Any
    rows: Any
    width: Any
    height: Any
    layers: Any = None

    @classmethod
    def of(cls, lower: list[Any], upper: list[Any], bodies: int = 1) -> _Geometry:
        """One thread for each index, or for ``bodies`` of them along the first axis."""
        sizes = [extent(low, high) for low, high in zip(lower, upper, strict=True)]
        if len(sizes) == 1:
            width, height = building.index(BLOCK), building.index(1)
            covered = building.index(BLOCK * bodies)
            return cls(_blocks(sizes[0], covered, _MAX_X), height, width, height)
        # Several rows a block: neighbouring rows of a stencil are in its cache.
        width = _power_of_two(sizes[-1], _WIDTH)
        height = mlir.arith.divui(building.index(BLOCK), width)
        columns = _blocks(sizes[-1], width, _MAX_X)
        covered = mlir.arith.muli(height, building.index(bodies))
        needed = _blocks(product(sizes[:-1]), covered, _MAX_X)
        rows = mlir.arith.minui(needed, building.index(_MAX_Y))
        return cls(columns, rows, width, height, mlir.arith.ceildivui(needed, rows))

    def capped(self, blocks: int) -> _Geometry:
        """Not more than ``blocks`` blocks, in one layer."""
        arith = mlir.arith
        columns = arith.minui(self.columns, building.index(blocks))
        most = arith.divui(building.index(blocks), columns)
        rows = arith.minui(self.rows, most)
        return dataclasses.replace(self, columns=columns, rows=rows, layers=None)


def _blocks(size: Any, threads: Any, most: int) -> Any:
    """How many blocks of ``threads`` cover ``size``: at least 1, at most ``most``."""
    arith = mlir.arith
    needed = arith.ceildivui(size, threads)
    return arith.minui(arith.maxui(needed, building.index(1)), building.index(most))


def _power_of_two(size: Any, most: int) -> Any:
    """The smallest power of two that is not below ``size``, at most ``most``."""
    arith = mlir.arith
    found: Any = building.index(most)
    power = most // 2
    while power:
        here = building.index(power)
        fits = arith.cmpi(arith.CmpIPredicate.ule, size, here)
        found = arith.select(fits, here, found)
        power //= 2
    return found
