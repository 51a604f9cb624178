"""How large the register tile of a contraction is, and the blocks around it.

The register tile holds ``rows`` x ``vectors`` vectors of sums.  One term takes ``rows`` numbers
of one operand and ``vectors`` vectors of the other from L1, so of the tiles that fit in the
registers the one with the most sums for each of them is taken.  The blocks are those of
K. Goto and R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM TOMS 34,
2008): the rows of a register tile fit L1, a block of rows fits L2, a block of columns the part
of L3 that one core has; each takes half.
"""

from __future__ import annotations

import dataclasses

from numba_mlir.passes.machine import Machine

#: bytes of a block of columns at most: more brings nothing, and each thread has its own
_PANEL = 4 << 20
#: enough terms to pay for reading and writing the elements of a tile, and no more than that
_LEAST_TERMS, _MOST_TERMS = 64, 384


@dataclasses.dataclass(frozen=True)
class Tile:
    """A register tile of ``rows`` x ``vectors`` vectors of ``lanes`` numbers of ``item`` bytes,
    and the numbers of rows, columns and terms in a block."""

    item: int
    rows: int
    vectors: int
    lanes: int
    block_rows: int
    block_columns: int
    block_terms: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def few_rows(self) -> int:
        """So many rows have register tiles of their own, where no more are left."""
        return max(self.rows // 4, 1)

    @property
    def few_panels(self) -> int:
        """Columns are packed where they are used for more panels of rows than this.

        Measured: even from 16 to 40 panels on (Zen 4, 1000 to 2048 columns and terms).
        """
        return 16


def tile(machine: Machine, bits: int, item: int, left: int = 1, right: int = 1) -> Tile:
    """For vectors of ``bits`` and numbers of ``item`` bytes; ``left`` operands for each row,
    ``right`` ones for each column."""
    lanes = max(bits // (8 * item), 1)
    rows, vectors = _registers(machine.registers, left, right)
    columns = vectors * lanes
    terms = machine.l1 // 2 // (item * rows * left)
    terms = min(max(terms // 32 * 32, _LEAST_TERMS), _MOST_TERMS)
    block_rows = max(machine.l2 // 2 // (terms * item * left) // rows, 1) * rows
    panel = min(machine.l3 // 2 // machine.cores, _PANEL)
    block_columns = max(panel // (terms * item * right) // columns, 1) * columns
    return Tile(item, rows, vectors, lanes, block_rows, block_columns, terms)


def _registers(count: int, left: int, right: int) -> tuple[int, int]:
    """Rows and vectors: sums, the vectors of one term, and the row at hand fit ``count``."""
    choices = [
        (rows, vectors)
        for vectors in range(2, 5)
        for rows in range(2, 15)
        if rows * vectors + vectors * right + left <= count
    ]
    return max(choices, key=lambda c: (c[0] * c[1] / (c[0] * left + c[1] * right), c[0]))
