"""The workloads, one module each."""

from __future__ import annotations

from harness import Workload
from workloads.blur import BLUR
from workloads.bodies import BODIES
from workloads.broadcasts import BROADCASTS
from workloads.chain import CHAIN
from workloads.elementwise import ELEMENTWISE
from workloads.jacobi import JACOBI
from workloads.mandelbrot import MANDELBROT
from workloads.masked_sum import MASKED_SUM
from workloads.nests import NESTS
from workloads.options import OPTIONS
from workloads.pairwise import PAIRWISE
from workloads.parts import PARTS
from workloads.products import PRODUCTS
from workloads.reductions import REDUCTIONS
from workloads.rows import ROWS
from workloads.softmax import SOFTMAX
from workloads.statistics import MEAN_VAR
from workloads.vectors import VECTORS
from workloads.where_clip import WHERE_CLIP

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        CHAIN,
        REDUCTIONS,
        WHERE_CLIP,
        MASKED_SUM,
        SOFTMAX,
        JACOBI,
        BLUR,
        *BROADCASTS,
        *ROWS,
        MEAN_VAR,
        *PRODUCTS,
        PAIRWISE,
        *NESTS,
        *PARTS,
    )
}

#: with those that only the table of other compilers has
ALL = WORKLOADS | {
    workload.name: workload for workload in (*ELEMENTWISE, *OPTIONS, *VECTORS, BODIES, MANDELBROT)
}
