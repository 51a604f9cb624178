"""``njit`` and ``jit``: everything that Numba's take, calls both ways, pickling."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from typing import Any

import numba
import numpy as np
import pytest
from numba import cloudpickle, float64, int64
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.core.errors import TypingError
from numba.extending import is_jitted, typeof_impl

import numba_mlir
from numba_mlir import errors, jit, njit
from numba_mlir.roundtrip.dispatcher import CheckedDispatcher, MLIRDispatcher

ONES = np.ones(4)


def twice(x):
    return x * 2


def chain(a, b):
    c = a + b
    return c * c


def ran(dispatcher: Any) -> list[list[str]]:
    """The passes that ran, for each compiled signature."""
    return [m["mlir"].passes if "mlir" in m else [] for m in dispatcher.get_metadata().values()]


def test_the_issues_first_example() -> None:
    @njit(parallel=True, mlir_fusion=True)
    def f(a, b):
        c = a + b
        d = np.sqrt(np.abs(c)) * 2
        return d.sum(), (d - a).max()

    rng = np.random.default_rng(0)
    a, b = rng.random(1000), rng.random(1000)
    d = np.sqrt(np.abs(a + b)) * 2
    np.testing.assert_allclose(f(a, b), (d.sum(), (d - a).max()))
    assert ran(f) == [["fusion"]]


def test_without_flags_the_whole_pipeline_runs() -> None:
    f = njit(parallel=True)(chain)
    np.testing.assert_array_equal(f(ONES, ONES), 4 * ONES)
    assert ran(f) == [["broadcast", "fusion", "tiling", "codegen"]]


def test_all_passes_off_is_numbas_own_pipeline() -> None:
    off = dict.fromkeys(("mlir_broadcast", "mlir_fusion", "mlir_tiling", "mlir_codegen"), False)
    f = njit(parallel=True, **off)(chain)
    np.testing.assert_array_equal(f(ONES, ONES), 4 * ONES)
    assert ran(f) == [[]]


@pytest.mark.parametrize(
    "decorate", [jit, njit, jit(), njit(), njit(nogil=True, mlir_strict=False)]
)
def test_with_and_without_parentheses(decorate: Any) -> None:
    f = decorate(twice)
    assert isinstance(f, MLIRDispatcher)
    assert is_jitted(f)
    assert (f(21), f.py_func, f.__name__) == (42, twice, "twice")
    assert f.nopython_signatures


def test_decorating_a_compiled_function_is_refused_as_by_numba() -> None:
    with pytest.raises(TypeError, match="already jitted"):
        njit(njit(twice))
    with pytest.raises(TypeError, match="not a function"):
        njit(3)


@pytest.mark.parametrize("form", ["text", "type", "list"])
def test_signatures_compile_at_once_and_only_they(form: str) -> None:
    signature: Any = {
        "text": "float64(float64)",
        "type": float64(float64),
        "list": ["float64(float64)", "int64(int64)"],
    }[form]
    f = njit(signature)(twice)
    assert f.signatures == ([(float64,), (int64,)] if form == "list" else [(float64,)])
    assert f(1.5) == 3.0
    with pytest.raises(TypeError, match="No matching definition"):
        f("text")


def test_parallel_signature_runs_the_passes() -> None:
    f = njit("float64[::1](float64[::1], float64[::1])", parallel=True)(chain)
    assert ran(f) == [["broadcast", "fusion", "tiling", "codegen"]]
    np.testing.assert_array_equal(f(ONES, ONES), 4 * ONES)


def test_the_parallel_dict_holds_for_every_signature_and_stays_as_it_is() -> None:
    options = {"fusion": False, "numpy": False}
    f = njit(parallel=options, mlir_identity=True)(chain)
    for array in (ONES, ONES.astype(np.float32)):
        np.testing.assert_array_equal(f(array, array), 4 * array)
    assert options == {"fusion": False, "numpy": False}
    assert len(f.signatures) == 2
    for signature in f.signatures:
        assert "scf.parallel" not in f.inspect_mlir(signature), "numpy=False: no Parfor"


def test_locals_boundscheck_and_error_model_reach_numba() -> None:
    single = njit(locals={"y": numba.float32})(lambda x: _through(x))
    assert single.locals == {"y": numba.float32}

    @njit(boundscheck=True)
    def at(a, i):
        return a[i]

    with pytest.raises(IndexError):
        at(ONES, 100)

    @njit(error_model="numpy")
    def divide(a, b):
        return a / b

    assert divide(1.0, 0.0) == np.inf


def _through(x):
    y = x
    return y


def test_recursion() -> None:
    @njit("int64(int64)")
    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    assert factorial(10) == 3628800

    @njit
    def fibonacci(n):
        if n < 2:
            return n
        return fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(10) == 55


def test_calls_between_ours_and_numbas_in_both_directions() -> None:
    ours = njit(parallel=True)(chain)

    @numba.njit
    def stock(a):
        return ours(a, a).sum()

    @njit(mlir_fusion=True)
    def outer(a):
        return stock(a) + ours(a, a)[0]

    assert outer(ONES) == 20.0
    assert ran(ours) == [["broadcast", "fusion", "tiling", "codegen"]]


@pytest.mark.parametrize("decorator", [njit, numba.njit])
def test_inline_always(decorator: Any) -> None:
    inner = njit(inline="always")(twice)

    @decorator(parallel=True)
    def outer(a):
        return inner(a) + 1

    np.testing.assert_array_equal(outer(ONES), 3 * ONES)


def test_first_class_functions() -> None:
    functions = (njit("float64(float64)")(twice), njit("float64(float64)")(_through))

    @njit
    def total(fs, x):
        s = 0.0
        for f in fs:
            s += f(x)
        return s

    assert total(functions, 2.0) == 6.0

    @numba.njit
    def apply(f, x):
        return f(x)

    assert apply(njit(twice), 4) == 8


def test_defaults_keywords_star_arguments_and_methods() -> None:
    @njit
    def f(a, b=10, *rest):
        return a + b + len(rest)

    assert (f(1), f(1, 2), f(1, 2, 3), f(a=1, b=5)) == (11, 3, 4, 6)

    class Holder:
        method = njit(lambda self, x: x + 1)

    assert isinstance(Holder().method.__func__, MLIRDispatcher)


def test_typing_errors_are_numbas() -> None:
    with pytest.raises(numba.TypingError, match="undefined_name"):
        njit(lambda: undefined_name)()  # noqa: F821


def test_prange() -> None:
    assert numba_mlir.prange is numba.prange

    @njit(parallel=True)
    def total(a):
        s = 0.0
        for i in numba_mlir.prange(a.size):
            s += a[i]
        return s

    assert total(np.arange(10.0)) == 45.0


def test_objmode_blocks_and_object_mode() -> None:
    @njit
    def f(x):
        with numba.objmode(y="int64"):
            y = int(str(x) + "0")
        return y

    assert f(4) == 40
    assert jit(forceobj=True, looplift=False)(lambda x: str(x))(3) == "3"


def test_strict_raises_at_the_users_line() -> None:
    @njit(parallel=True, mlir_fusion=True, mlir_strict=True)
    def f(n):
        yield n

    with pytest.raises(errors.UnsupportedConstruct, match="generator"):
        f(3)


def test_disable_jit() -> None:
    code = "from numba_mlir import njit; print(type(njit(lambda: 0)).__name__)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"NUMBA_DISABLE_JIT": "1", "PATH": ""},
    )
    assert run.stdout.strip() == "function"


class Marked(CompilerBase):
    """A user's compiler class."""

    def define_pipelines(self) -> list[PassManager]:
        self.state.metadata["marked"] = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


def test_a_users_pipeline_class_gets_our_passes_in_addition() -> None:
    f = njit(parallel=True, pipeline_class=Marked)(chain)
    np.testing.assert_array_equal(f(ONES, ONES), 4 * ONES)
    assert ran(f) == [["broadcast", "fusion", "tiling", "codegen"]]
    assert all(m["marked"] for m in f.get_metadata().values())


# -- pickling --------------------------------------------------------------------------

PICKLED = """
    import sys, numpy as np
    from numba import cloudpickle, njit as stock
    from numba.core.compiler import CompilerBase, DefaultPassBuilder
    from numba_mlir import njit, pipeline

    class Marked(CompilerBase):
        def define_pipelines(self):
            self.state.metadata["marked"] = True
            return [DefaultPassBuilder.define_nopython_pipeline(self.state)]

    def chain(a):
        c = a + 1
        return c * c

    f = njit(parallel=True, mlir_identity=True, pipeline_class=Marked)(chain)
    g = njit("float64[::1](float64[::1])", parallel={"fusion": False}, mlir_fusion=True,
             mlir_check=True)(chain)
    f(np.ones(2))
    sys.stdout.buffer.write(cloudpickle.dumps((f, g, pipeline(fusion=True))))
"""


def test_a_dispatcher_pickled_in_another_process_keeps_flags_and_pipeline() -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PICKLED)], capture_output=True, check=True
    )
    f, g, compiler = pickle.loads(run.stdout)
    assert f(ONES).tolist() == [4.0] * 4
    assert ran(f) == [["identity"]]
    assert all(m["marked"] for m in f.get_metadata().values())
    assert g.signatures, "declared signatures are compiled again"
    assert ran(g) == [["fusion"]]
    assert isinstance(g, CheckedDispatcher)
    assert g.targetoptions["parallel"] == {"fusion": False}
    assert compiler is numba_mlir.pipeline(fusion=True)


def test_pickling_in_one_process_gives_the_same_dispatcher() -> None:
    f = njit(mlir_identity=True)(twice)
    assert pickle.loads(pickle.dumps(f)) is f
    assert pickle.loads(cloudpickle.dumps(f)) is f


def test_typing_errors_of_arguments_that_refuse_the_buffer_protocol() -> None:
    """Arrays of JAX on a device do when Numba looks for arguments without a type."""

    class Refusing: ...

    refused: list[Any] = []

    @typeof_impl.register(Refusing)
    def _(value: Any, context: Any) -> Any:
        if isinstance(sys.exception(), TypingError):
            refused.append(value)
            raise BufferError("memory of a device")
        return numba.types.none

    with pytest.raises(TypingError, match="none"):
        njit(lambda x: x + 1)(Refusing())
    assert refused
