"""SYCL devices through dpctl: arrays of dpnp, of ``dpnp.tensor`` and of ``dpctl.tensor``.

Kernels run in the order of the array's queue.  dpctl's queues are out of order, and the
array libraries keep the events of what is in flight in a `SequentialOrderManager`: a
kernel waits for those, and has ended when `launch` returns.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from numba_mlir.errors import DeviceError
from numba_mlir.gpu import codegen
from numba_mlir.gpu.backend import Facts, Properties
from numba_mlir.gpu.kernel import Kernel
from numba_mlir.gpu.places import DeviceArray, Place, element_type
from numba_mlir.gpu.runtime import PLACE, PLACES

# The packages' own stubs depend on how they are installed, or not.
dpctl: Any = importlib.import_module("dpctl")
_memory: Any = importlib.import_module("dpctl.memory")
_program_module: Any = importlib.import_module("dpctl.program")
SequentialOrderManager: Any = importlib.import_module("dpctl.utils").SequentialOrderManager

#: dpctl's codes of argument kinds, by the kinds of `Kernel.kinds`
_CODES = {"i8": 0, "i16": 2, "i32": 4, "i64": 6, "f32": 8, "f64": 9, "ptr": 10}


def make() -> SyclBackend:
    return SyclBackend()


class SyclBackend:
    """See `numba_mlir.gpu.backend.Backend`."""

    name = "sycl"

    # -- arrays ----------------------------------------------------------------------
    def type_of(self, array: Any) -> DeviceArray | None:
        raw = _raw(array)
        place = _place(_library(array), raw.sycl_device)
        flags = raw.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return _type(raw.dtype, raw.ndim, layout, not flags.writable, place)

    def from_host(self, array: Any) -> Any:
        tensor = importlib.import_module(_TENSOR)
        return tensor.asarray(array, copy=True, order=_order(array))

    def to_host(self, array: Any) -> Any:
        raw = _raw(array)
        return _tensor(raw).asnumpy(raw)

    def facts(self, array: Any) -> Facts:
        raw = _raw(array)
        size = raw.itemsize
        return (raw._pointer, *raw.shape, *[stride * size for stride in raw.strides])

    def empty(self, like: Any, shape: Sequence[int], dtype: Any) -> Any:
        raw = _raw(like)
        made = _tensor(raw).empty(
            tuple(shape), dtype=dtype, usm_type=raw.usm_type, sycl_queue=raw.sycl_queue
        )
        return _wrapped(made, like)

    def order(self, array: Any) -> Any:
        return _raw(array).sycl_queue

    def view(
        self, owner: Any, address: int, shape: Sequence[int], strides: Sequence[int], dtype: Any
    ) -> Any:
        raw = _raw(owner)
        offset = address - raw.usm_data._pointer
        if offset % dtype.itemsize:
            raise DeviceError("a view that does not begin at an element of its dtype")
        made = _tensor(raw).usm_ndarray(
            tuple(shape),
            dtype=dtype,
            buffer=raw.usm_data,
            strides=tuple(stride // dtype.itemsize for stride in strides),
            offset=offset // dtype.itemsize,
        )
        return _wrapped(made, owner)

    def copy(self, array: Any, order: str) -> Any:
        raw = _raw(array)
        return _wrapped(_tensor(raw).copy(raw, order=order), array)

    def namespace(self, array: Any) -> Any:
        return importlib.import_module("dpnp") if _is_dpnp(array) else _tensor(_raw(array))

    def inside(self, array: Any) -> AbstractContextManager[Any]:
        return nullcontext()

    def filled(self, like: Any, value: Any, dtype: Any) -> Any:
        raw = _raw(like)
        made = _tensor(raw).full(
            raw.shape, value, dtype=dtype, usm_type=raw.usm_type, sycl_queue=raw.sycl_queue
        )
        return _wrapped(made, like)

    def converted(self, array: Any, dtype: Any) -> Any:
        raw = _raw(array)
        return _wrapped(_tensor(raw).astype(raw, dtype, casting="unsafe"), array)

    # -- memory ----------------------------------------------------------------------
    def read(self, owner: Any, address: int, size: int) -> bytes:
        self.synchronize(owner)
        target = bytearray(size)
        self._memcpy(owner, ctypes.addressof(ctypes.c_char.from_buffer(target)), address, size)
        return bytes(target)

    def landing(self, owner: Any) -> int:
        queue = _raw(owner).sycl_queue
        known: dict[Any, Any] = _THREAD.__dict__
        found = known.get(queue.sycl_context)
        if found is None:
            made = _memory.MemoryUSMHost(PLACES * PLACE, queue=queue)
            # kernels have ended when `launch` returns: results are there at once
            ctypes.c_int32.from_address(made._pointer).value = 1
            found = known[queue.sycl_context] = (made._pointer, made)
        return found[0]

    def write(self, owner: Any, address: int, data: bytes) -> None:
        self.synchronize(owner)
        source = ctypes.create_string_buffer(data, len(data))
        self._memcpy(owner, address, ctypes.addressof(source), len(data))

    def _memcpy(self, owner: Any, target: int, source: int, size: int) -> None:
        queue = _raw(owner).sycl_queue
        library = _library_c()
        event = library.DPCTLQueue_Memcpy(queue.addressof_ref(), target, source, size)
        _finish(event, "a copy", queue)

    def synchronize(self, owner: Any) -> None:
        SequentialOrderManager[_raw(owner).sycl_queue].wait()

    # -- kernels ---------------------------------------------------------------------
    def compile(self, llvm_ir: str, place: Place) -> bytes:
        return codegen.spirv(llvm_ir)

    def binary(self, kernel: Kernel) -> None:
        return None

    def launch(
        self, kernel: Kernel, owner: Any, arguments: int, grid: Sequence[int], block: Sequence[int]
    ) -> None:
        queue = _raw(owner).sycl_queue
        reference, codes = _loaded(kernel, queue)
        SequentialOrderManager[queue].wait()
        event = _library_c().DPCTLQueue_SubmitNDRange(
            reference.addressof_ref(),
            queue.addressof_ref(),
            arguments,
            codes,
            len(codes),
            _Range(grid[2], grid[1] * block[1], grid[0] * block[0]),  # SYCL's last one is x
            _Range(1, block[1], block[0]),
            3,
            None,
            0,
        )
        _finish(event, f"kernel {kernel.name}{kernel.where}", queue)

    def properties(self, place: Place) -> Properties:
        device = _device(place.device)
        return Properties(
            name=device.name,
            fp64=device.has_aspect_fp64,
            landing=device.has_aspect_usm_host_allocations,
            atomic64=device.has_aspect_atomic64,
            max_block=device.max_work_group_size,
            local_memory=device.local_mem_size,
            compute_units=device.max_compute_units,
        )


#: context -> where results of this thread's kernels arrive
_THREAD = threading.local()
#: where ``usm_ndarray`` is: dpctl 0.22 has given it to dpnp
_TENSOR = "dpctl.tensor" if hasattr(dpctl, "tensor") else "dpnp.tensor"


def _order(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


# -- array libraries -------------------------------------------------------------------
def _library(array: Any) -> str:
    """The library of an array, as its module is called."""
    if _is_dpnp(array):
        return "dpnp"
    return ".".join(type(_raw(array)).__module__.split(".")[:2])


def _is_dpnp(array: Any) -> bool:
    return type(array).__module__.startswith("dpnp.dpnp_array")


def _raw(array: Any) -> Any:
    """The ``usm_ndarray`` of an array, which objects of other libraries share memory with."""
    if _is_dpnp(array):
        return array.get_array()
    if type(array).__name__ == "usm_ndarray":
        return array
    tensor = importlib.import_module(_TENSOR)
    if hasattr(type(array), "__dlpack__"):
        return tensor.from_dlpack(array)
    return tensor.asarray(array, copy=False)


def _wrapped(raw: Any, like: Any) -> Any:
    """A ``usm_ndarray`` as an array of the same library as ``like``."""
    return type(like)._create_from_usm_ndarray(raw) if _is_dpnp(like) else raw


def _tensor(raw: Any) -> Any:
    """The module with the functions for arrays of this class."""
    return importlib.import_module(".".join(type(raw).__module__.split(".")[:2]))


@functools.cache
def _type(dtype: Any, ndim: int, layout: str, readonly: bool, place: Place) -> DeviceArray:
    return DeviceArray(element_type(dtype), ndim, layout, place, readonly)


@functools.cache
def _place(library: str, device: Any) -> Place:
    return Place("sycl", device.filter_string, library)


@functools.cache
def _device(name: str) -> Any:
    return dpctl.SyclDevice(name)


# -- dpctl's C interface -----------------------------------------------------------------
_Range = ctypes.c_size_t * 3


@functools.cache
def _library_c() -> Any:
    """dpctl's C library, for what its Python interface does not take: raw arguments."""
    library = ctypes.CDLL(str(Path(dpctl.__file__).parent / "libDPCTLSyclInterface.so"))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    submit = library.DPCTLQueue_SubmitNDRange
    submit.restype = pointer
    submit.argtypes = [pointer, pointer, pointer, pointer, size, pointer, pointer, size, pointer,
                       size]  # fmt: skip
    library.DPCTLQueue_Memcpy.restype = pointer
    library.DPCTLQueue_Memcpy.argtypes = [pointer, pointer, pointer, size]
    for name in ("DPCTLEvent_WaitAndThrow", "DPCTLEvent_Delete"):
        getattr(library, name).argtypes = [pointer]
        getattr(library, name).restype = None
    return library


def _finish(event: int | None, what: str, queue: Any) -> None:
    """Wait for an event and give it back.  Raises DeviceError when there is none."""
    if not event:
        raise DeviceError(f"{what} could not be started on {queue.sycl_device.name}")
    library = _library_c()
    try:
        library.DPCTLEvent_WaitAndThrow(event)
    finally:
        library.DPCTLEvent_Delete(event)


def _loaded(kernel: Kernel, queue: Any) -> tuple[Any, Any]:
    """dpctl's kernel for the queue's context, and the codes of its arguments."""
    context = queue.sycl_context
    found = kernel.loaded.get(context)
    if found is None:
        program = _program(kernel, queue)
        codes = (ctypes.c_int * len(kernel.kinds))(*[_CODES[kind] for kind in kernel.kinds])
        found = kernel.loaded[context] = (program.get_sycl_kernel(kernel.name), codes)
    return found


#: (digest of the code, context) -> program
_PROGRAMS: dict[tuple[str, Any], Any] = {}


def _program(kernel: Kernel, queue: Any) -> Any:
    key = (kernel.digest, queue.sycl_context)
    if key not in _PROGRAMS:
        try:
            _PROGRAMS[key] = _create_program(queue, kernel.code)
        except Exception as exc:
            what = f"kernel {kernel.name}{kernel.where}"
            raise DeviceError(f"{queue.sycl_device.name} refused {what}: {exc}") from exc
    return _PROGRAMS[key]


def _create_program(queue: Any, code: bytes) -> Any:
    """dpctl's program of SPIR-V; newer releases have it in ``dpctl.compiler``."""
    if hasattr(_program_module, "create_program_from_spirv"):
        return _program_module.create_program_from_spirv(queue, code)
    compiler = importlib.import_module("dpctl.compiler")
    return compiler.create_kernel_bundle_from_spirv(queue, code)
