"""A seeded random sample of a grid. A larger sample contains every smaller one."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from lstmptq.spec.requirements import require_at_least
from sweeps.planning.study import PlannedCell, PlannedGrid


@dataclass(frozen=True, slots=True)
class Sample:
    """A number of cells to draw from a grid, whatever their values on its axes.

    The cells are ordered by a hash of `seed` and their cell_id, and the first `count` are taken. FP32 cells
    are drawn like all others. The row of a quantized cell has the accuracy of its FP32 model whether or not
    the FP32 cell was drawn.

    Raises:
        ValueError: if `count` is below 1 or `seed` below 0.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least("samples", self.count, 1)
        require_at_least("sample-seed", self.seed, 0)

    def rank(self, cell_id: str) -> bytes:
        """Return the key that orders the cells."""
        return hashlib.sha256(f"{self.seed}:{cell_id}".encode()).digest()


def wanted_cells(grid: PlannedGrid, sample: Sample | None) -> Iterator[PlannedCell]:
    """Yield the cells of `grid`, or those that `sample` draws from it, in the order of the grid."""
    if sample is None:
        yield from grid.cells()
        return
    ranks = ((sample.rank(cell.cell_id), number) for number, cell in enumerate(grid.cells()))
    drawn = {number for _, number in heapq.nsmallest(sample.count, ranks)}
    for number, cell in enumerate(grid.cells()):
        if number in drawn:
            yield cell


def count_cells(grid: PlannedGrid, sample: Sample | None) -> int:
    """Count the cells that :func:`wanted_cells` yields."""
    whole = sum(1 for _ in grid.cells())
    return whole if sample is None else min(sample.count, whole)
