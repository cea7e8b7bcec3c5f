"""The state of one phase of a sweep: counts of its units, and the time that they take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.planning.plan import format_duration


def _zeros() -> dict[Hashable, float]:
    return defaultdict(float)


@dataclass(slots=True)
class Phase:
    """The state of one phase: training, or cells.

    Work comes in units (models or cells) of several kinds. The time to go is the number of units left of each
    kind times the mean time of a unit of that kind, divided by the number of workers.
    """

    title: str
    work: Mapping[Any, float]  # units to do in this run, by kind
    workers: int
    total: int  # units of the whole phase, including those done before
    done: int = 0
    failed: int = 0
    running: int = 0  # number of trials at work
    started: float = field(default_factory=lambda: time.monotonic())
    _finished: dict[Hashable, float] = field(default_factory=_zeros)  # units, with fractions, by kind
    _measured: dict[Hashable, float] = field(default_factory=_zeros)  # units whose time is known
    _seconds: dict[Hashable, float] = field(default_factory=_zeros)  # their time

    @property
    def left(self) -> int:
        """Number of units neither done nor failed, including those at work."""
        return self.total - self.done - self.failed

    @property
    def completed(self) -> float:
        """Number of units done or failed, plus the finished fractions of those at work."""
        before = self.total - sum(self.work.values())
        return min(float(self.total), before + sum(self._finished.values()))

    def advance(self, kind: Hashable, units: float, seconds: float | None = None) -> None:
        """Count work as finished.

        Args:
            kind: the kind of work.
            units: the amount, for instance 0.1 for one epoch of ten.
            seconds: the time that a worker took; None if the work was given up.
        """
        self._finished[kind] += units
        if seconds is not None:
            self._measured[kind] += units
            self._seconds[kind] += seconds

    def timings(self) -> dict[Hashable, tuple[float, float]]:
        """Return measured units and the sum of their seconds, by kind."""
        return {kind: (units, self._seconds[kind]) for kind, units in self._measured.items() if units > 0}

    def seconds_to_go(self) -> float | None:
        """Estimate the time that is left; None before anything was measured."""
        rates = {kind: self._seconds[kind] / units for kind, units in self._measured.items() if units > 0}
        if not rates:
            return None
        mean = sum(rates.values()) / len(rates)
        left = {kind: max(0.0, units - self._finished[kind]) for kind, units in self.work.items()}
        return sum(units * rates.get(kind, mean) for kind, units in left.items()) / self.workers

    def counts(self) -> str:
        """Format the counts as ``3 done, 2 running, 0 failed, 7 left``; running units count as left."""
        return f"{self.done} done, {self.running} running, {self.failed} failed, {self.left} left"

    def utilization(self) -> str | None:
        """Say how much of their time the workers were at work; None before anything was measured."""
        elapsed, busy = time.monotonic() - self.started, sum(self._seconds.values())
        if not busy or not elapsed:
            return None
        share = 100 * busy / (elapsed * self.workers)
        workers = f"{self.workers} worker{'s' * (self.workers != 1)}"
        return f"{format_duration(elapsed)} on {workers}, {share:.0f} % of their time at work"

    def times(self) -> tuple[str, str]:
        """Format elapsed time and time to go; the latter is ``unknown`` before anything was measured."""
        to_go = self.seconds_to_go()
        return format_duration(
            time.monotonic() - self.started
        ), "unknown" if to_go is None else format_duration(to_go)
