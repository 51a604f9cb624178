"""Without the packages of a back end: everything else works, and the error says what to do."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import numba_mlir
from numba_mlir.gpu.opencl import VARIABLE, find_driver


@pytest.mark.parametrize(
    ("interface", "package", "extra"),
    [
        ("__sycl_usm_array_interface__", "dpctl", "sycl"),
        ("__cuda_array_interface__", "cuda.core", "cuda"),
    ],
)
def test_an_array_whose_back_end_is_not_installed(interface: str, package: str, extra: str) -> None:
    source = f"""
        import sys
        sys.modules[{package!r}] = None    # as if it were not installed
        import numpy as np, numba_mlir

        @numba_mlir.njit(parallel=True)
        def function(a):
            return (a + 1).sum()

        class Array:
            {interface} = {{}}

        assert function(np.ones(3)) == 6.0
        try:
            function(Array())
        except ImportError as exc:
            assert "pip install 'numba-mlir-roundtrip[{extra}]'" in str(exc), exc
            print("refused")
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout == "refused\n", result.stderr


def test_arrays_of_the_host_are_not_copied_silently() -> None:
    inner = numba_mlir.njit(mlir_gpu="cuda")(lambda a: a + 1)
    with pytest.raises(ValueError, match="copied only in calls from Python"):
        inner.compile("(float64[:],)")
    with pytest.raises(ValueError, match="mlir_check"):
        numba_mlir.njit(mlir_gpu="cuda", mlir_check=True)(lambda a: a + 1)


def test_importing_the_package_imports_no_driver() -> None:
    code = "import sys, numba_mlir; print([m for m in sys.modules if m.split('.')[0] in names])"
    names = "names = {'dpctl', 'dpnp', 'cuda', 'cupy', 'torch'};"
    result = subprocess.run(
        [sys.executable, "-P", "-c", names + code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_importing_the_package_looks_for_the_opencl_driver(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libintelocl.so").touch()
    code = f"""
        import os, sys
        os.environ.pop({VARIABLE!r}, None)
        sys.prefix = {str(tmp_path)!r}
        import numba_mlir
        print(os.environ[{VARIABLE!r}], "numba" in sys.modules)
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"{tmp_path}/lib/libintelocl.so False\n"


def test_the_opencl_driver_of_an_environment_is_found(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    assert find_driver(str(tmp_path), environment) is None
    (tmp_path / "lib").mkdir()
    driver = tmp_path / "lib" / "libintelocl.so"
    driver.touch()
    assert find_driver(str(tmp_path), environment) == str(driver)
    assert environment == {VARIABLE: str(driver)}
    assert find_driver(str(tmp_path), {VARIABLE: "mine"}) is None
