"""Arrays of libraries that have no functions on them: numba-cuda's, cuda-core's, and objects
that have DLPack or ``__cuda_array_interface__`` only."""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from device_arrays import ARRAYS_ONLY, Library, OnlyDLPack, requested
from numba import prange
from numba.core.errors import TypingError

import numba_mlir
from numba_mlir.errors import DeviceError, MixedDevicesError, UnsupportedConstruct


@pytest.fixture(scope="module", params=ARRAYS_ONLY)
def lib(request: pytest.FixtureRequest) -> Library:
    return requested(request)


@functools.cache
def _compiled(function: Any) -> Any:
    return numba_mlir.njit(parallel=True)(function)


def _check(lib: Library, function: Any, *args: Any, rtol: float = 1e-6) -> Any:
    """The compiled function on the device against NumPy: results and changed arguments."""
    expected_args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    given = [lib.to_device(a) for a in args]
    expected, result = function(*expected_args), _compiled(function)(*given)
    for one, other in ((result, expected), *zip(given, expected_args, strict=True)):
        _same(lib.to_host(one), other, rtol)
    return result


def _same(result: Any, expected: Any, rtol: float) -> None:
    if isinstance(expected, tuple):
        for one, other in zip(result, expected, strict=True):
            _same(one, other, rtol)
    elif expected is not None:
        assert np.shape(result) == np.shape(expected)
        np.testing.assert_allclose(result, expected, rtol=rtol)


def foo(a: Any, b: Any) -> Any:
    return np.sum(a + b)


def bar(a: Any, b: Any) -> Any:
    c = 0.0
    for i in prange(a.shape[0]):
        c += a[i] + b[i]
    return c


@pytest.mark.parametrize("function", [foo, bar])
@pytest.mark.parametrize("size", [0, 1, 257, 100_001])
def test_a_sum_over_two_arrays(lib: Library, function: Any, size: int) -> None:
    rng = np.random.default_rng(size)
    assert type(_check(lib, function, rng.random(size), rng.random(size))) is float


def chain(a: Any, b: Any) -> Any:
    return np.where(a > b, a * b - 1, b / 2) + a


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(0,), (1000,), (7, 1), (5, 0, 3), (6, 5, 4)])
def test_arithmetic(lib: Library, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 9, shape).astype(dtype)

    _check(lib, lambda a, b: (a * b + a, a == b), values, values[::-1].copy(), rtol=1e-5)
    if values.dtype.kind == "f":
        _check(lib, chain, values, values[::-1].copy())


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1).reshape(-1, 1))
    return e / np.sum(e, axis=1).reshape(-1, 1)


def test_rows_and_axes(lib: Library) -> None:
    values = np.random.default_rng(4).random((5, 1000))
    _check(lib, softmax, values)
    _check(lib, lambda u: (u.sum(axis=0), u.max(axis=1), u.std()), values)


def test_layouts(lib: Library) -> None:
    values = np.random.default_rng(4).random((12, 20))
    for array in (values, np.asfortranarray(values), values[::2, 1::3].copy()):
        _check(lib, lambda a: (a * 2 + 1, a.T - 1, a[1:, ::2] * 3), array)


def shifted(a: Any) -> None:
    a[1:] = a[:-1] + a[1:]


def copies(a: Any) -> Any:
    return (
        a.copy(), a.astype(np.float32), a.flatten(), np.ones_like(a), np.zeros_like(a),
        np.full_like(a, 3), np.zeros(a.shape), np.copy(a),
    )  # fmt: skip


def test_copies_are_made_by_kernels(lib: Library) -> None:
    rng = np.random.default_rng(0)
    for shape in ((10,), (3, 0), (4, 5), (2, 3, 4)):
        _check(lib, copies, rng.random(shape))
    _check(lib, shifted, rng.random(5000))
    _check(lib, shifted, rng.random((300, 3)))


def elements(a: Any) -> Any:
    a[0] = a[-1] + 1
    return a[0] * 2


def test_elements_one_by_one(lib: Library) -> None:
    _check(lib, elements, np.arange(5.0))
    _check(lib, elements, np.arange(5, dtype=np.int16))


#: class of results, by the class of arguments
_RESULTS = {"DeviceNDArray": "DeviceNDArray", "StridedMemoryView": "StridedMemoryView"}


def test_which_arrays_results_are(lib: Library) -> None:
    array = lib.asarray(np.arange(12.0).reshape(3, 4))
    same, view, turned, new = _compiled(lambda a: (a, a[1:], a.T, a + 1))(array)
    assert same is array
    on_its_own = "usm_ndarray" if lib.backend == "sycl" else "StridedMemoryView"
    expected = _RESULTS.get(type(array).__name__, on_its_own)
    assert {type(one).__name__ for one in (view, turned, new)} == {expected}
    assert all(hasattr(one, "__dlpack__") for one in (view, new)) or lib.name == "numba.cuda"
    _compiled(_set_all)(view)
    expected_host = np.arange(12.0).reshape(3, 4)
    expected_host[1:] = 7
    np.testing.assert_array_equal(lib.asnumpy(array), expected_host, "views share memory")
    np.testing.assert_array_equal(lib.asnumpy(turned), expected_host.T)
    np.testing.assert_array_equal(lib.asnumpy(new), np.arange(12.0).reshape(3, 4) + 1)
    again = _compiled(foo)(new, new)
    assert math.isclose(again, 2 * (66 + 12))


def _set_all(a: Any) -> None:
    a[:] = 7


def test_what_needs_a_library_is_an_error(lib: Library) -> None:
    if lib.backend != "cuda":
        pytest.skip("dpnp.tensor has functions")
    array = lib.asarray(np.ones((3, 3)))
    for function in (lambda a: a @ a, lambda a: np.argmax(a)):
        with pytest.raises(DeviceError, match=r"has no functions on arrays.*cupy"):
            _compiled(function)(array)


def test_an_object_that_is_not_on_a_device() -> None:
    with pytest.raises(TypingError):
        _compiled(foo)(OnlyDLPack(np.ones(3)), OnlyDLPack(np.ones(3)))


# -- CUDA ----------------------------------------------------------------------------------
class _Foreign:
    """An array of an unknown library."""

    def __init__(self, array: Any, readonly: bool = False) -> None:
        interface = array.__cuda_array_interface__
        self.kept, self.__cuda_array_interface__ = array, interface
        interface["data"] = (interface["data"][0], readonly)

    __cuda_array_interface__: Any = None


def _cupy() -> Any:
    cupy = pytest.importorskip("cupy")
    pytest.importorskip("cuda.core")
    return cupy


def test_an_array_of_an_unknown_library() -> None:
    cupy = _cupy()
    array = _Foreign(cupy.arange(10.0))
    assert _compiled(foo)(array, array) == 90.0
    result = _compiled(lambda a: a * 2)(array)
    cupy.testing.assert_array_equal(cupy.from_dlpack(result), cupy.arange(10.0) * 2)
    _compiled(_set_all)(array)
    assert float(array.kept.sum()) == 70.0
    empty = _Foreign(cupy.empty((0, 3)))
    assert _compiled(foo)(empty, empty) == 0.0
    assert _compiled(lambda a: a * 2)(empty).shape == (0, 3)


def test_a_thread_that_has_not_seen_the_device(lib: Library) -> None:
    array = lib.asarray(np.arange(10.0))
    compiled = numba_mlir.njit(parallel=True)(lambda a: (a * 2, a.copy(), a.sum()))
    with ThreadPoolExecutor(1) as pool:
        double, same, total = pool.submit(compiled, array).result()
    assert total == 45.0
    np.testing.assert_array_equal(lib.asnumpy(double), np.arange(10.0) * 2)
    np.testing.assert_array_equal(lib.asnumpy(same), np.arange(10.0))


def test_a_read_only_array() -> None:
    cupy = _cupy()
    array = _Foreign(cupy.arange(10.0), readonly=True)
    assert _compiled(foo)(array, array) == 90.0
    with pytest.raises((TypingError, UnsupportedConstruct)):
        numba_mlir.njit(_set_all)(array)
    assert float(array.kept.sum()) == 45.0


def test_a_buffer_of_cuda_core_is_an_array_of_bytes() -> None:
    cupy = _cupy()
    core: Any = pytest.importorskip("cuda.core")
    view_class: Any = pytest.importorskip("cuda.core.utils").StridedMemoryView
    device = core.Device(0)
    device.set_current()
    buffer = device.allocate(40, stream=device.default_stream)
    _compiled(_set_all)(buffer)
    total, double = _compiled(lambda a: (a.sum(), a * 2))(buffer)
    assert total == 280
    assert cupy.from_dlpack(double).tolist() == [14] * 40
    numbers = view_class.from_buffer(buffer, shape=(10,), dtype=np.dtype(np.float32))
    _compiled(_set_all)(numbers)
    assert _compiled(foo)(numbers, numbers) == 140.0


def test_arrays_of_two_libraries() -> None:
    cupy = _cupy()
    array = cupy.arange(3.0)
    with pytest.raises(MixedDevicesError, match=r"cupy on cuda:0.*cuda.core on cuda:0"):
        _compiled(foo)(array, OnlyDLPack(array))


def test_numba_cuda_arrays_on_a_stream() -> None:
    pytest.importorskip("numba_cuda")
    cuda: Any = pytest.importorskip("numba.cuda")
    if not cuda.is_available():
        pytest.skip("no device of CUDA")
    stream = cuda.stream()
    array = cuda.to_device(np.arange(1000.0), stream=stream)
    result = _compiled(lambda a: a * 2)(array)
    assert type(result) is type(array) and int(result.stream) == int(stream)
    assert _compiled(foo)(result, result) == 4 * 999 * 500
    host = np.arange(5.0)
    assert numba_mlir.njit(lambda a: a.sum())(host) == 10.0, "types of NumPy arrays stay theirs"
    assert numba_mlir.njit(lambda a: a.sum())(cuda.to_device(host)) == 10.0
