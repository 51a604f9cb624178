"""Intel's OpenCL driver for CPUs (``pip install intel-opencl-rt``) inside an environment."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "OCL_ICD_FILENAMES"


def find_driver(
    prefix: str | None = None, environ: MutableMapping[str, str] | None = None
) -> str | None:
    """Set ``OCL_ICD_FILENAMES`` to the driver in ``prefix`` (this environment's folder).

    The loader of OpenCL drivers looks into ``/etc/OpenCL/vendors`` only, and the wheel
    cannot write there.  A value that the user has set stays.  Returns the driver's file
    when the variable was set here.
    """
    environ = os.environ if environ is None else environ
    if VARIABLE in environ:
        return None
    driver = Path(prefix or sys.prefix) / "lib" / "libintelocl.so"
    if not driver.is_file():
        return None
    environ[VARIABLE] = str(driver)
    return str(driver)
