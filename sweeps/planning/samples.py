"""A seeded random part of a grid, which grows without losing what it had."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lstmptq.spec.requirements import require_at_least
from sweeps.planning.study import PlannedGrid


@dataclass(frozen=True, slots=True)
class Sample:
    """So many cells of a grid, drawn without regard to what they are.

    Cells are ordered by a hash of `seed` and their cell_id, and the first `count` are taken: of one grid, a
    larger sample contains every smaller one of its seed. FP32 cells are drawn as any other; a quantized
    cell's row has the accuracy of its FP32 model whether or not that model's own row was drawn.

    Raises:
        ValueError: if `count` is below 1 or `seed` below 0.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least("samples", self.count, 1)
        require_at_least("sample-seed", self.seed, 0)

    def rank(self, cell_id: str) -> bytes:
        """What a cell is ordered by."""
        return hashlib.sha256(f"{self.seed}:{cell_id}".encode()).digest()


def wanted_cells(grid: PlannedGrid, sample: Sample | None) -> Iterator[Any]:
    """The cells of `grid`, or those that `sample` takes of it, in the order of the grid."""
    if sample is None:
        yield from grid.cells()
        return
    ranks = ((sample.rank(cell.cell_id), place) for place, cell in enumerate(grid.cells()))
    places = {place for _, place in heapq.nsmallest(sample.count, ranks)}
    for place, cell in enumerate(grid.cells()):
        if place in places:
            yield cell


def count_cells(grid: PlannedGrid, sample: Sample | None) -> int:
    """How many cells :func:`wanted_cells` gives."""
    whole = sum(1 for _ in grid.cells())
    return whole if sample is None else min(sample.count, whole)
