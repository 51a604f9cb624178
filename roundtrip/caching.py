"""The on-disk cache: Numba's, with everything in its key that decides about the code.

Numba's key has the signature, the CPU and the function's bytecode and closure.  Ours
adds all target options, the types of ``locals``, the pipeline class, and the versions
of Numba, this package and MLIR.  Each file ends with a digest of its content, and each
data file knows its key: a damaged or foreign file means compile again, with a warning.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import pickle
import types as python_types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.errors import NumbaWarning

from numba_mlir import config, mlir
from numba_mlir.roundtrip import vectormath

DISTRIBUTION = "numba-mlir-roundtrip"
#: the packages whose sources decide about the code that is made
ROOMS = (
    "numba_mlir",
    "numba_mlir.roundtrip",
    "numba_mlir.converters",
    "numba_mlir.passes",
    "numba_mlir.gpu",
    "numba_mlir.gpu.backends",
)
_DIGEST_SIZE = 32


class DamagedCacheError(Exception):
    """A cache file does not end with the digest of its content, or has another key."""


class _Files(IndexDataCacheFile):
    """Index and data files with a digest at the end (``pickle.loads`` ignores it)."""

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        found = super().load(key)
        if found is None:
            return None
        # Two processes may give one file name to two keys at the same time.
        stored_key, data = found
        return data if stored_key == key else None

    def _dump(self, obj: Any) -> bytes:
        data = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_index(self) -> Any:
        path = Path(self._index_path)
        try:
            stream = io.BytesIO(path.read_bytes())
        except FileNotFoundError:
            return {}
        # the index is Numba's version, pickled on its own, and then the checked part
        if pickle.load(stream) == self._version:
            _verify(stream.read(), path)
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        path = Path(self._data_path(name))
        _verify(path.read_bytes(), path)
        return super()._load_data(name)


def _verify(content: bytes, path: Path) -> None:
    data, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if hashlib.sha256(data).digest() != digest:
        raise DamagedCacheError(f"{path} is damaged")


class _Impl(CompileResultCacheImpl):
    """Its files stand beside those of stock Numba for the same function."""

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        return "mlir-" + super().get_filename_base(fullname, abiflags)


class MLIRFunctionCache(FunctionCache):
    """The cache of one dispatcher; ``identity`` comes from `identity_of`."""

    _impl_class = _Impl

    def __init__(self, py_func: Any, identity: tuple[str, ...]) -> None:
        super().__init__(py_func)
        self._identity = identity
        files = self._cache_file
        self._cache_file = _Files(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=files._source_stamp,
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compile result, or None: not there, or damaged, which is a warning."""
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            raise
        except Exception as exc:
            # whatever unpickling of a wrong file, or linking of its code, can raise
            message = f"the cache of {self._name} cannot be read ({exc}): compiling again"
            warnings.warn(NumbaWarning(message), stacklevel=2)
            self.flush()
            return None

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), self._identity)


def identity_of(
    options: Mapping[str, Any], local_types: Mapping[str, Any], pipeline_class: type
) -> tuple[str, ...]:
    """What decides about a function's code apart from its source, as text."""
    return (
        canonical(options),
        canonical(local_types),
        canonical(pipeline_class),
        f"round trip after each pass: {config.roundtrip_each()}",
        f"numba {numba.__version__}",
        package_version(),
        mlir.version(),
        vectormath.identity(),
    )


def canonical(value: Any) -> str:
    """Text that is equal for equal option values, in every process.

    Functions are told apart by name and bytecode, classes by name and methods.
    """
    match value:
        case Mapping():
            items = sorted((canonical(k), canonical(v)) for k, v in value.items())
            return "{" + ", ".join(f"{k}: {v}" for k, v in items) + "}"
        case set() | frozenset():
            return "{" + ", ".join(sorted(map(canonical, value))) + "}"
        case list() | tuple():
            return "(" + ", ".join(map(canonical, value)) + ")"
        case python_types.FunctionType():
            return f"{value.__module__}.{value.__qualname__} {_code_digest(value.__code__)}"
        case type():
            methods = [v for v in vars(value).values() if isinstance(v, python_types.FunctionType)]
            return f"{value.__module__}.{value.__qualname__} {canonical(methods)}"
        case _:
            return repr(value)


def _code_digest(code: python_types.CodeType) -> str:
    nested = [_code_digest(c) for c in code.co_consts if isinstance(c, python_types.CodeType)]
    plain = [repr(c) for c in code.co_consts if not isinstance(c, python_types.CodeType)]
    text = repr((code.co_code, code.co_names, plain, nested))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def package_version() -> str:
    """Version of this package and a digest of its sources.

    The digest makes a changed checkout another version; 1-2 ms, once a process.
    """
    digest = hashlib.sha256()
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        assert spec is not None
        for folder in spec.submodule_search_locations or ():
            for path in sorted(Path(folder).glob("*.py")):
                digest.update(f"{room}/{path.name}\0".encode() + path.read_bytes())
    try:
        version = importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed)"
    return f"{DISTRIBUTION} {version} {digest.hexdigest()[:16]}"
