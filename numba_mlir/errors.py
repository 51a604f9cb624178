"""The exceptions of this project; they derive from Numba's, so that code that
catches Numba's compilation errors catches these too."""

from __future__ import annotations

from typing import Any

from numba.core.errors import NumbaError, UnsupportedError

#: NumPy's message of the IndexError for ``a[m]`` with a mask of another size, without the numbers
MASK_DOES_NOT_FIT = "boolean index did not match indexed array along axis 0"


class MLIRRoundtripError(NumbaError):
    """Something went wrong in a round trip; carries the user's source line."""

    def __init__(self, msg: str, loc: Any = None) -> None:
        super().__init__(msg, loc=loc)


class MissingMLIRError(MLIRRoundtripError, ImportError):
    """MLIR's Python bindings are not installed."""


class UnsupportedConstruct(MLIRRoundtripError, UnsupportedError):  # type: ignore[misc]
    """A construct has no MLIR form.

    Internally it makes the importer leave the construct as Numba had it, with its
    message as the recorded reason; with ``mlir_strict=True`` it reaches the user.
    """


class UnknownFlagError(MLIRRoundtripError, KeyError):
    """A flag that starts with ``mlir_`` and is not one; Numba raises KeyError, too."""

    #: KeyError would show the message's repr
    __str__ = Exception.__str__


class InvalidFlagError(MLIRRoundtripError, ValueError):
    """A flag or an environment variable has a value that its reader does not understand,
    or names a pass that this version does not have."""


class VerificationError(MLIRRoundtripError):
    """MLIR refused a module or failed in a pass; its diagnostics are in the message."""


class PassError(MLIRRoundtripError):
    """A bug of this project: a pass, the import or the export raised something unexpected.

    The message names the step and the function, ``__cause__`` is what was raised.
    Numba's state is as it was before the step.
    """


class CheckError(MLIRRoundtripError, AssertionError):
    """``mlir_check=True``: results differ from plain Numba's."""


class BroadcastError(ValueError):
    """What compiled code raises where shapes cannot be broadcast.

    Calling it gives a plain ValueError with NumPy's message: compiled code can only name
    a class and hand over numbers.  ``kind``, ``order`` and ``ranks`` are those of
    ``numba.broadcast`` (see `numba_mlir.dialect`), ``sizes`` the sizes of all shapes.
    """

    def __new__(  # type: ignore[misc]
        cls, kind: str, order: tuple[int, ...], ranks: tuple[int, ...], *sizes: int
    ) -> ValueError:
        rest = list(sizes)
        shapes: list[tuple[int, ...]] = []
        for rank in ranks:
            shapes.append(tuple(rest[:rank]))
            del rest[:rank]
        return ValueError(_shape_message(kind, order, shapes))


def _shape_message(kind: str, order: tuple[int, ...], shapes: list[tuple[int, ...]]) -> str:
    if kind == "input":
        source, target = shapes
        while len(source) > len(target) and source[0] == 1:
            source = source[1:]
        source, target = map(_shape_text, (source, target))
        return f"could not broadcast input array from shape {source} into shape {target}"
    stack: list[tuple[int, ...]] = []
    for step in order:
        if step >= 0:
            stack.append(shapes[step])
            continue
        operands = stack[step:]
        common = _common_shape(operands)
        if common is None:
            texts = " ".join(map(_shape_text, operands))
            return f"operands could not be broadcast together with shapes {texts} "
        stack[step:] = [common]
    output, common = map(_shape_text, (shapes[-1], stack[-1]))
    return (
        f"non-broadcastable output operand with shape {output} "
        f"doesn't match the broadcast shape {common}"
    )


def _common_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    common = [1] * max(map(len, shapes))
    for shape in shapes:
        for axis, size in enumerate(shape, len(common) - len(shape)):
            if common[axis] == 1:
                common[axis] = size
            elif size not in (1, common[axis]):
                return None
    return tuple(common)


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({','.join(map(str, shape))})"


class DeviceError(MLIRRoundtripError, RuntimeError):
    """A device or its driver refused something; names the device and the user's line."""

    __str__ = Exception.__str__


class MissingBackendError(MLIRRoundtripError, ImportError):
    """A back end for GPUs needs packages that are not installed."""


class MixedDevicesError(MLIRRoundtripError, ValueError):
    """Arrays of several devices, or of a device and the host, in one function."""
