"""Memory of large arrays: kept for the next ones, within limits, by NRT's rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.runtime import _nrt_python as _nrt
from numba.core.runtime import rtsys
from typed_ir import typed

from numba_mlir import config, njit
from numba_mlir.errors import InvalidFlagError
from numba_mlir.roundtrip import block_cache
from numba_mlir.roundtrip.fresh_memory import FreshMemory

pytestmark = pytest.mark.skipif(not block_cache.AVAILABLE, reason="Linux's advice on memory")

MIB = 1 << 20
#: elements of float64 whose array is just large enough
LARGE = block_cache.LEAST // 8


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    block_cache.release()
    yield
    block_cache.release()


@njit(parallel=True)
def add(a, b):
    return a + b


@njit
def sequential(n):
    out = np.empty(n)
    out[:] = 1
    return out


@njit
def zeros(n, m):
    return np.zeros((n, m), np.int32)


@njit
def zeros_like(a):
    return np.zeros_like(a)


@njit
def empty_like(a):
    return np.empty_like(a)


@njit
def copies(a):
    b = a.copy()
    a[0, 0] = 7
    return b


@njit
def copies_of_two(a, b):
    one = a
    copy = one.copy
    one = b
    return copy(), one.copy()


def address(array: Any) -> int:
    return int(array.ctypes.data)


def mappings(where: int, size: int = 1) -> list[dict[str, str]]:
    """What the kernel says of the memory from an address on."""
    found: list[dict[str, str]] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(match[1], 16) < where + size and where < int(match[2], 16)
            if inside:
                found.append({})
        elif inside:
            name, _, value = line.partition(":")
            found[-1][name] = value
    return found


def test_freed_memory_is_the_next_array() -> None:
    a = np.random.rand(LARGE)
    first = add(a, a)
    where, expected = address(first), first.copy()
    second = add(a, a)
    assert address(second) != where  # somebody still sees the first
    del first
    assert block_cache.kept() >= block_cache.LEAST
    third = add(a, a)
    assert address(third) == where
    assert block_cache.kept() == 0
    np.testing.assert_array_equal(third, expected)
    np.testing.assert_array_equal(second, expected)


def test_a_view_holds_the_memory() -> None:
    a = np.random.rand(LARGE)
    view = add(a, a)[10:20]
    expected = view.copy()
    assert block_cache.kept() == 0
    for _ in range(3):
        add(a, -a)
    np.testing.assert_array_equal(view, expected)


def test_small_arrays_are_numbas() -> None:
    a = np.random.rand(LARGE - 1)
    add(a, a)
    assert block_cache.kept() == 0
    assert sequential(0).shape == (0,)


def test_data_are_aligned_for_vectors() -> None:
    assert address(sequential(LARGE)) % 64 == 0


def test_arrays_begin_at_different_places_in_their_pages() -> None:
    held = [sequential(LARGE) for _ in range(4)]
    assert len({address(array) % 4096 for array in held}) == 4


def test_large_pages_are_asked_for() -> None:
    (found,) = mappings(address(sequential(LARGE)))
    assert "hg" in found["VmFlags"].split()


def test_idle_memory_is_the_kernels_to_take() -> None:
    def held() -> int:
        """Bytes of the block's mappings that the kernel has to keep."""
        kept = (int(one["Rss"].split()[0]) - int(one["LazyFree"].split()[0])
                for one in mappings(where, 4 * block_cache.LEAST))  # fmt: skip
        return sum(kept) << 10

    where = address(sequential(4 * LARGE))
    before = held()
    assert before >= 4 * block_cache.LEAST
    for _ in range(10):  # of another size, so the first block stays idle
        sequential(LARGE)
    assert before - held() > 2 * block_cache.LEAST
    again = sequential(4 * LARGE)
    assert address(again) == where
    np.testing.assert_array_equal(again, np.ones(4 * LARGE))
    assert held() >= 4 * block_cache.LEAST


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.int8, np.bool_])
def test_zeros_are_zeros_in_used_memory(dtype: Any) -> None:
    like = np.ones(16 * MIB // np.dtype(dtype).itemsize, dtype)
    used = empty_like(like)
    used[:] = 1
    where = address(used)
    del used
    made = zeros_like(like)
    assert address(made) == where
    assert made.dtype == dtype
    assert not made.any()


def test_layouts_and_shapes() -> None:
    like = np.asfortranarray(np.ones((1000, 1500)))
    assert empty_like(like).flags.f_contiguous
    assert empty_like(like).shape == like.shape
    made = zeros(2000, 1000)
    assert made.shape == (2000, 1000)
    assert made.flags.c_contiguous
    assert not made.any()


@pytest.mark.parametrize("order", ["C", "F"])
def test_copies(order: Any) -> None:
    a = np.random.rand(2000, 1001).astype(np.float32, order=order)
    before = a.copy()
    made = copies(a)
    where = address(made)
    np.testing.assert_array_equal(made, before)
    assert a[0, 0] == 7 != made[0, 0]
    assert made.flags.c_contiguous  # as NumPy's
    del made
    if order == "C":
        assert address(copies(a)) == where


def test_copies_of_what_is_not_contiguous_or_large() -> None:
    a = np.arange(20.0)
    for number in (0, 1, 20):
        np.testing.assert_array_equal(empty_like(a[:number]).shape, (number,))
    wide = np.random.rand(1000, 2000)[:, ::2]
    expected = wide.copy()
    np.testing.assert_array_equal(copies(wide)[1:], expected[1:])
    one, two = copies_of_two(a, a + 1)
    np.testing.assert_array_equal(one, a)
    np.testing.assert_array_equal(two, a + 1)


def test_errors_are_numbas() -> None:
    with pytest.raises(ValueError, match="negative dimensions"):
        sequential(-1)
    with pytest.raises(MemoryError):
        sequential(1 << 50)
    with pytest.raises(ValueError, match="too big"):
        zeros(1 << 62, 8)


def test_blocks_of_another_size_are_left_alone() -> None:
    sequential(4 * LARGE)
    kept = block_cache.kept()
    small = sequential(LARGE)
    assert block_cache.kept() == kept  # the large block would be mostly unused
    del small
    assert block_cache.kept() > kept


def test_references_are_counted_as_numbas() -> None:
    sequential(10)
    _nrt.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    kept = [sequential(LARGE) for _ in range(3)]
    del kept
    after = rtsys.get_allocation_stats()
    _nrt.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free == 3
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free == 3


def test_threads_do_not_share_blocks() -> None:
    """Each thread fills an array with its own number, and finds it there afterwards."""

    @njit(nogil=True)
    def filled(n, value):
        out = np.empty(n)
        out[:] = value
        return out

    filled(10, 0.0)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(30):
            one, two = filled(LARGE, number), filled(LARGE, -number)
            if not ((one == number).all() and (two == -number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_temporaries_use_the_memory_of_dead_ones() -> None:
    """Eleven arrays one after the other, of which at most three live at a time."""

    @njit
    def steps(n):
        a = np.zeros(n)
        for _ in range(10):
            b = np.empty(n)
            for i in range(n):
                b[i] = a[i] + 1
            a = b
        return a

    assert (steps(LARGE) == 10).all()
    assert block_cache.kept() < 4 * block_cache.LEAST


def run(code: str, **variables: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True, env={**os.environ, **variables},
    )  # fmt: skip
    return done.stdout


SIZES = """
    import numpy as np
    from numba_mlir import njit
    from numba_mlir.roundtrip import block_cache

    @njit
    def make(n):
        return np.empty(n << 20, np.int8)

    made = [make(8), make(16), make(32)]
    del made[:]  # the last one first
    print(block_cache.kept() >> 20)
"""


@pytest.mark.parametrize(("limit", "expected"), [("0", 0), ("20", 8), ("100", 56)])
def test_the_limit_is_kept_to(limit: str, expected: int) -> None:
    assert int(run(SIZES, NUMBA_MLIR_MEMORY_KEPT=limit)) == expected


def test_the_limit_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config.MEMORY_KEPT, "much")
    with pytest.raises(InvalidFlagError, match="MEMORY_KEPT"):
        config.memory_kept()
    monkeypatch.delenv(config.MEMORY_KEPT)
    assert 0 < config.memory_kept() <= 1 << 30


PEAK = """
    import re, numba, numba_mlir, numpy as np

    def peak():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10

    @{module}.njit
    def chain(a):
        return np.cumsum(a + 1) + np.cumsum(a - 1)

    chain(np.ones(10))
    a = np.ones(4 << 20)
    before = peak()
    for _ in range(5):
        chain(a)
    print(peak() - before)
"""


def test_the_peak_of_memory_is_numbas_and_what_is_kept() -> None:
    numbas = int(run(PEAK.format(module="numba")))
    # MiB: three arrays at a time, less what was free in what the process had before
    assert numbas >= 3 * 32 - 4
    for limit in (0, 32):
        ours = int(run(PEAK.format(module="numba_mlir"), NUMBA_MLIR_MEMORY_KEPT=str(limit)))
        assert ours <= 1.05 * numbas + limit


def test_a_forked_child_goes_on() -> None:
    del_me = sequential(LARGE)
    del del_me
    child = os.fork()
    if child == 0:
        fine = bool((sequential(LARGE) == 1).all())
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0


CACHED = """
    import sys
    import numpy as np
    import numba
    sys.path.insert(0, {folder!r})
    import cached_one
    out = cached_one.outer(1 << 20)
    del out
    print(sum(cached_one.outer.stats.cache_hits.values()),
          any(name.endswith("_mlir_libs") for name in sys.modules))
"""


def test_code_from_the_cache_has_the_allocator(tmp_path: Any) -> None:
    """A plain Numba function with ours inside, in a process that compiles nothing."""
    (tmp_path / "cached_one.py").write_text(
        "import numba, numba_mlir, numpy as np\n"
        "@numba_mlir.njit(cache=True)\n"
        "def inner(n):\n    return np.zeros(n)\n"
        "@numba.njit(cache=True)\n"
        "def outer(n):\n    return inner(n)\n"
    )
    code = CACHED.format(folder=str(tmp_path))
    folder = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run(code, **folder).split()[0] == "0"
    assert run(code, **folder).split() == ["1", "False"]


@pytest.mark.parametrize("parallel", [False, True])
def test_arrays_like_numbers_have_no_dimensions(parallel: bool) -> None:
    @njit(parallel=parallel)
    def f(x: Any) -> Any:
        y = np.empty_like(x)
        y[()] = 1
        return y, np.zeros_like(x), np.ones_like(x), np.full_like(x, 3)

    for value in (2.5, 3, True, 1j):
        arrays = f(value)
        expected = (np.ones_like(value), np.zeros_like(value), np.ones_like(value))
        for array, other in zip(arrays, (*expected, np.full_like(value, 3)), strict=True):
            assert array.shape == () and array.dtype == other.dtype
            assert array == other


@pytest.mark.parametrize("parallel", [False, True])
def test_an_empty_shape_behind_arrays_without_dimensions(parallel: bool) -> None:
    @njit(parallel=parallel)
    def f(x: Any) -> Any:
        y = np.empty_like(x)
        y[()] = x
        z = np.empty(())
        z[()] = 2 * x
        return y, z, np.empty(()).shape, np.full_like(x, 3), np.zeros(()).shape

    for value in (2.5, 3):
        assert f(value) == (value, 2 * value, (), 3, ())


def test_passes_behind_it_find_the_definition_of_each_call() -> None:
    def f(n: Any) -> Any:
        return np.zeros(n) + np.empty((n, 2)).shape[1]

    state = typed(f, 3)
    assert FreshMemory().run_pass(state)
    allocators = {
        state.func_ir.get_definition(call.func).name
        for block in state.func_ir.blocks.values()
        for call in block.find_exprs(op="call")
        if "new_array" in call.func.name
    }
    assert allocators == {"new_array"}
