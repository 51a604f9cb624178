"""A compiled kernel as compiled host code holds it: pickled with it, loaded when it runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from numba_mlir.gpu.backend import backend
from numba_mlir.gpu.places import Place


@dataclass
class Kernel:
    """Code for a device, and which kernel in it.

    ``kinds`` are the kinds of the arguments in order: "ptr", or a number's MLIR type.
    ``where`` is the user's line, for errors; indices have ``index_bits``.  ``loaded`` is the
    back end's to keep what it made of the code, by context.  ``binary`` is what
    `Backend.binary` made of the code, for the on-disk cache: an unpickled kernel has it.
    """

    place: Place
    name: str
    code: bytes
    kinds: tuple[str, ...]
    where: str = ""
    index_bits: int = 64
    binary: Any = field(default=None, repr=False, compare=False)
    loaded: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    _launch: Any = field(default=None, repr=False, compare=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.code).hexdigest()

    def __call__(self, owner: Any, arguments: int, *geometry: int) -> None:
        """Called by compiled code: blocks along x, y and z, and threads along x and y."""
        columns, rows, layers, width, height = geometry
        if self._launch is None:
            self._launch = backend(self.place.backend).launch
        self._launch(self, owner, arguments, (columns, rows, layers), (width, height))

    def __getstate__(self) -> dict[str, Any]:
        binary = self.binary or backend(self.place.backend).binary(self)
        return {**self.__dict__, "binary": binary, "loaded": {}, "_launch": None}
