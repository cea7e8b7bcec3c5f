"""Measure two implementations in turn, so that other load on the machine slows both alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of several runs of our implementation and of a baseline.

    Attributes:
        name: the name of the case.
        unit: the unit of both sides; less is better.
        runs: one pair (ours, baseline) per run.
    """

    name: str
    unit: str
    runs: list[tuple[float, float]]

    @property
    def ours(self) -> float:
        """The median of our side."""
        return median(ours for ours, _ in self.runs)

    @property
    def baseline(self) -> float:
        """The median of the baseline."""
        return median(baseline for _, baseline in self.runs)

    @property
    def ratio(self) -> float:
        """The median of the baseline over the median of ours: how many times less ours needs."""
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
    """Time one call of `work`, in seconds."""
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
    """Run both sides once to warm up, then measure them in turn.

    Args:
        name: the name of the case.
        ours: runs our implementation once.
        baseline: runs the baseline once.
        runs: the number of measured runs of each side.
        scale: the factor from seconds per run to `unit`.
        unit: the unit of the result.
    """
    ours()
    baseline()
    return Comparison(name, unit, [(scale * seconds(ours), scale * seconds(baseline)) for _ in range(runs)])
