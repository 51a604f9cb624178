"""Running a kernel over all of its iteration space: boxes, threads, reductions.

The function ``body`` of a kernel runs one box of the iteration space.  Here are the functions
around it, in LLVM IR:

* ``worker`` runs boxes ``first <= k < first + count``, as Numba's threading layer calls it;
* ``driver`` is what Numba's code calls: it cuts the space into boxes, gives them to the
  threads and combines what they reduced.

Into how many boxes the space is cut depends on the number of threads, and for a loop with
reductions on its sizes alone, so that the result is the same for any number of threads.
Partial results are combined as a tree, neighbours first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir as llvm
from numba.core import cgutils

from numba_mlir.roundtrip import threads
from numba_mlir.roundtrip.threads import BASE, BYTES, WORD, WORKER_TYPE, ceildiv

STATUS = llvm.IntType(32)
#: of all boxes, the first that failed: a lock, its number, status, description
ERROR = llvm.LiteralStructType([WORD, WORD, STATUS, BYTES])
#: most boxes of a loop with reductions, whose partial results are on the stack
MOST_PARTIALS = 256
#: estimated nanoseconds of work below which starting threads does not pay
BREAK_EVEN = 20_000
#: estimated nanoseconds of work in one box of a reduction
_REDUCTION_GRAIN = 20_000


@dataclass(frozen=True)
class Plan:
    """What the driver has to know about a kernel.

    ``captured`` are the types of its arguments, ``partials`` those of its reductions;
    ``cost`` is an estimate of nanoseconds for one iteration, 0 where it cannot be told.
    Where the kernel ``fails`` its first result is a status, as the only one of the driver, and
    both have a last argument for the description of an exception.
    """

    name: str
    captured: tuple[llvm.Type, ...]
    rank: int
    partials: tuple[llvm.Type, ...]
    cost: float
    fails: bool

    @property
    def driver_type(self) -> llvm.FunctionType:
        """captured values, (lower, upper) of each index, a pointer to each reduction's value."""
        pointers = [kind.as_pointer() for kind in self.partials]
        excinfo = [BYTES.as_pointer()] if self.fails else []
        return llvm.FunctionType(
            STATUS if self.fails else llvm.VoidType(),
            [*self.captured, *[WORD] * (2 * self.rank), *pointers, *excinfo],
        )

    @property
    def body_type(self) -> llvm.FunctionType:
        results = [*([STATUS] if self.fails else []), *self.partials]
        result: llvm.Type = llvm.VoidType()
        if results:
            result = results[0] if len(results) == 1 else llvm.LiteralStructType(results)
        excinfo = [BYTES.as_pointer()] if self.fails else []
        return llvm.FunctionType(result, [*self.captured, *[WORD] * (2 * self.rank), *excinfo])

    @property
    def closure_type(self) -> llvm.Type:
        """captured values; (lower, length, boxes) of each index; partial results; the error."""
        arrays = [llvm.ArrayType(kind, MOST_PARTIALS).as_pointer() for kind in self.partials]
        error = [ERROR.as_pointer()] if self.fails else []
        return llvm.LiteralStructType([*self.captured, *[WORD] * (3 * self.rank), *arrays, *error])


def emit(plan: Plan, module: llvm.Module) -> None:
    """Add the worker and the driver of ``plan`` to ``module``, where its body is declared.

    They call the functions of :mod:`.threads`.
    """
    body = llvm.Function(module, plan.body_type, f"{plan.name}.body")
    worker = _Worker(plan, module, body).emit()
    combiners = [
        llvm.Function(module, llvm.FunctionType(kind, [kind, kind]), f"{plan.name}.combine{i}")
        for i, kind in enumerate(plan.partials)
    ]
    _Driver(plan, module, worker, combiners).emit()


def _field(builder: llvm.IRBuilder, closure: llvm.Value, number: int) -> llvm.Value:
    return builder.gep(closure, [llvm.IntType(32)(0), llvm.IntType(32)(number)], inbounds=True)


def _min(builder: llvm.IRBuilder, a: llvm.Value, b: llvm.Value) -> llvm.Value:
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


class _Worker:
    def __init__(self, plan: Plan, module: llvm.Module, body: llvm.Function) -> None:
        self._plan, self._body = plan, body
        self._function = llvm.Function(module, WORKER_TYPE, f"{plan.name}.worker")
        self._builder = llvm.IRBuilder(self._function.append_basic_block())

    def emit(self) -> llvm.Function:
        builder, plan = self._builder, self._plan
        args, dims, _, data = self._function.args
        base = builder.ptrtoint(builder.load(args), WORD)
        first, count = builder.sub(base, WORD(BASE)), builder.load(dims)
        closure = builder.bitcast(data, plan.closure_type.as_pointer())
        fields = [builder.load(_field(builder, closure, i))
                  for i in range(len(plan.closure_type.elements))]  # fmt: skip
        captured = fields[: len(plan.captured)]
        space = fields[len(captured) : len(captured) + 3 * plan.rank]
        partials = fields[len(captured) + 3 * plan.rank :][: len(plan.partials)]
        excinfo = [cgutils.alloca_once(builder, BYTES)] if plan.fails else []
        with cgutils.for_range(builder, count) as loop:
            box = builder.add(first, loop.index)
            result = builder.call(self._body, [*captured, *self._bounds(box, space), *excinfo])
            results = self._results(result)
            if plan.fails:
                self._record(fields[-1], box, results.pop(0), builder.load(excinfo[0]))
            for value, partial in zip(results, partials, strict=True):
                builder.store(value, builder.gep(partial, [WORD(0), box], inbounds=True))
        builder.ret_void()
        return self._function

    def _results(self, result: llvm.Value) -> list[llvm.Value]:
        """The status, where there is one, and the partial results."""
        count = len(self._plan.partials) + self._plan.fails
        if count < 2:
            return [result] * count
        return [self._builder.extract_value(result, number) for number in range(count)]

    def _record(
        self, error: llvm.Value, box: llvm.Value, status: llvm.Value, excinfo: llvm.Value
    ) -> None:
        """Keep the error of the first box that has one; errors are rare, so a lock will do."""
        builder = self._builder
        with builder.if_then(builder.icmp_signed("!=", status, STATUS(0)), likely=False):
            lock, number, code, text = (_field(builder, error, i) for i in range(4))
            spin, locked = builder.append_basic_block("spin"), builder.append_basic_block("locked")
            builder.branch(spin)
            builder.position_at_end(spin)
            taken = builder.atomic_rmw("xchg", lock, WORD(1), "acquire")
            builder.cbranch(builder.icmp_unsigned("==", taken, WORD(0)), locked, spin)
            builder.position_at_end(locked)
            with builder.if_then(builder.icmp_unsigned("<", box, builder.load(number))):
                builder.store(box, number)
                builder.store(status, code)
                builder.store(excinfo, text)
            builder.store_atomic(WORD(0), lock, "release", 8)

    def _bounds(self, box: llvm.Value, space: Sequence[llvm.Value]) -> list[llvm.Value]:
        """Lower and upper bounds of a box; the last index counts fastest."""
        builder, bounds, rest = self._builder, [], box
        for axis in reversed(range(self._plan.rank)):
            lower, length, boxes = space[3 * axis : 3 * axis + 3]
            place = rest
            if axis:
                place, rest = builder.urem(rest, boxes), builder.udiv(rest, boxes)
            size, longer = builder.udiv(length, boxes), builder.urem(length, boxes)
            start = builder.add(builder.mul(place, size), _min(builder, place, longer))
            more = builder.zext(builder.icmp_unsigned("<", place, longer), WORD)
            low = builder.add(lower, start)
            bounds = [low, builder.add(low, builder.add(size, more)), *bounds]
        return bounds


class _Driver:
    def __init__(
        self,
        plan: Plan,
        module: llvm.Module,
        worker: llvm.Function,
        combiners: list[llvm.Function],
    ) -> None:
        self._plan, self._worker, self._combiners = plan, worker, combiners
        self._module = module
        self._function = llvm.Function(module, plan.driver_type, plan.name)
        self._function.attributes.add("noinline")
        self._builder = llvm.IRBuilder(self._function.append_basic_block())

    def emit(self) -> None:
        builder, plan = self._builder, self._plan
        arguments = list(self._function.args)
        captured = arguments[: len(plan.captured)]
        bounds = arguments[len(captured) : len(captured) + 2 * plan.rank]
        results = arguments[len(captured) + 2 * plan.rank :][: len(plan.partials)]
        error = [cgutils.alloca_once(builder, ERROR)] if plan.fails else []
        for cell in error:
            values = (WORD(0), WORD(-1), STATUS(0), BYTES(None))
            for number, value in enumerate(values):
                builder.store(value, _field(builder, cell, number))
        partials = [
            cgutils.alloca_once(builder, llvm.ArrayType(kind, MOST_PARTIALS))
            for kind in plan.partials
        ]
        lengths = [self._length(*bounds[2 * axis : 2 * axis + 2]) for axis in range(plan.rank)]
        total = lengths[0]
        for length in lengths[1:]:
            total = builder.mul(total, length)
        with builder.if_then(builder.icmp_unsigned("!=", total, WORD(0))):
            boxes = self._boxes(total, lengths)
            count = boxes[0]
            for number in boxes[1:]:
                count = builder.mul(count, number)
            lowers = bounds[::2]
            space = [v for triple in zip(lowers, lengths, boxes, strict=True) for v in triple]
            self._run(total, count, [*captured, *space, *partials, *error])
            self._combine(count, partials, results)
        if not error:
            builder.ret_void()
            return
        builder.store(builder.load(_field(builder, error[0], 3)), arguments[-1])
        builder.ret(builder.load(_field(builder, error[0], 2)))

    def _length(self, lower: llvm.Value, upper: llvm.Value) -> llvm.Value:
        builder = self._builder
        some = builder.icmp_signed("<", lower, upper)
        return builder.select(some, builder.sub(upper, lower), WORD(0))

    def _boxes(self, total: llvm.Value, lengths: list[llvm.Value]) -> list[llvm.Value]:
        """Into how many parts each index is cut."""
        builder = self._builder
        if self._plan.partials:
            wanted = self._by_sizes(total)
        else:
            wanted = builder.call(threads.declared(self._module, threads.BOXES), [total])
        boxes = []
        for length in lengths:
            boxes.append(_min(builder, length, wanted))
            wanted = ceildiv(builder, wanted, boxes[-1])
        return boxes

    def _by_sizes(self, total: llvm.Value) -> llvm.Value:
        """Boxes of about `_REDUCTION_GRAIN`; the product over the indices stays in bounds."""
        grain = max(1, int(_REDUCTION_GRAIN / self._plan.cost)) if self._plan.cost else 1
        wanted = ceildiv(self._builder, total, WORD(grain))
        most = MOST_PARTIALS >> (self._plan.rank - 1)
        return _min(self._builder, wanted, WORD(max(most, 1)))

    def _run(self, total: llvm.Value, count: llvm.Value, closure: Sequence[llvm.Value]) -> None:
        builder, plan = self._builder, self._plan
        data = cgutils.alloca_once(builder, plan.closure_type)
        for number, value in enumerate(closure):
            builder.store(value, _field(builder, data, number))
        least = max(int(BREAK_EVEN / plan.cost) if plan.cost else 0, 2)  # one is for this thread
        small = builder.icmp_unsigned("<", total, WORD(least))
        run = threads.declared(self._module, threads.RUN)
        builder.call(run, [self._worker, builder.bitcast(data, BYTES), count, small])

    def _combine(
        self, count: llvm.Value, partials: list[llvm.Value], results: list[llvm.Value]
    ) -> None:
        """Neighbours first, then neighbours of those; the value before the loop comes last."""
        builder = self._builder
        for combiner, partial, result in zip(self._combiners, partials, results, strict=True):
            step = cgutils.alloca_once_value(builder, WORD(1))
            self._tree(combiner, partial, count, step)
            first = builder.load(builder.gep(partial, [WORD(0), WORD(0)]))
            builder.store(builder.call(combiner, [builder.load(result), first]), result)

    def _tree(
        self, combiner: llvm.Function, partial: llvm.Value, count: llvm.Value, step: llvm.Value
    ) -> None:
        builder = self._builder
        head, body, behind = (builder.append_basic_block(n) for n in ("level", "pairs", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        width = builder.load(step)
        builder.cbranch(builder.icmp_unsigned("<", width, count), body, behind)
        builder.position_at_end(body)
        double = builder.shl(width, WORD(1))
        stop = builder.sub(count, width)
        with cgutils.for_range_slice(builder, WORD(0), stop, double) as (left, _):
            places = [builder.gep(partial, [WORD(0), p]) for p in (left, builder.add(left, width))]
            values = [builder.load(place) for place in places]
            builder.store(builder.call(combiner, values), places[0])
        builder.store(double, step)
        builder.branch(head)
        builder.position_at_end(behind)
