"""Arrays on GPUs: which there are, how compiled code gets and makes them, and back ends.

Nothing here imports a driver or an array library before an array of one is seen.
"""

from __future__ import annotations

from numba_mlir.gpu.opencl import find_driver

# Intel's OpenCL driver for CPUs, where it is installed in this environment: SYCL's run-time
# asks for it only once, which may be before a back end of ours is imported.
find_driver()
