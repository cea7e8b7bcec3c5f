"""Two things measured in turn, so that whatever else the machine does falls on both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several runs of two rivals gave.

    Attributes:
        name: what was measured.
        unit: of both sides; less is better.
        runs: (ours, baseline) of each run.
    """

    name: str
    unit: str
    runs: list[tuple[float, float]]

    @property
    def ours(self) -> float:
        """Median of our side."""
        return median(ours for ours, _ in self.runs)

    @property
    def baseline(self) -> float:
        """Median of the baseline."""
        return median(baseline for _, baseline in self.runs)

    @property
    def ratio(self) -> float:
        """How many times less ours takes: the medians' ratio."""
        return self.baseline / self.ours

    def row(self) -> dict[str, Any]:
        """The entry of ``bench.json``."""
        return {
            "name": self.name,
            "ours": self.ours,
            "baseline": self.baseline,
            "ratio": self.ratio,
            "unit": self.unit,
            "runs": self.runs,
        }


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes, once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(
    name: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    runs: int,
    scale: float = 1.0,
    unit: str = "s",
) -> Comparison:
    """Run both once to warm up, then in turn.

    Args:
        name: of the comparison.
        ours: our side.
        baseline: the other side.
        runs: measured runs of each.
        scale: factor from seconds a run to `unit`.
        unit: of the result.
    """
    ours()
    baseline()
    return Comparison(name, unit, [(scale * seconds(ours), scale * seconds(baseline)) for _ in range(runs)])
