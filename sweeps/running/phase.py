"""The state of one phase of a sweep: what is done, at work and left, and how long that takes."""

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

    Work comes in units (a model, a cell) of several kinds; the time to go is the work left of each kind by
    the mean time that a unit of this kind took, shared among the workers.
    """

    title: str
    work: Mapping[Any, float]  # units to do in this run, by kind
    workers: int
    total: int  # units of the whole phase, those done before included
    done: int = 0
    failed: int = 0
    running: int = 0  # trials at work
    started: float = field(default_factory=lambda: time.monotonic())
    _finished: dict[Hashable, float] = field(default_factory=_zeros)  # fractions of units, by kind
    _measured: dict[Hashable, float] = field(default_factory=_zeros)  # units whose time is known
    _seconds: dict[Hashable, float] = field(default_factory=_zeros)  # that time

    @property
    def left(self) -> int:
        """Units neither done nor failed, those at work included."""
        return self.total - self.done - self.failed

    @property
    def completed(self) -> float:
        """Units done or failed, with the parts of those at work."""
        before = self.total - sum(self.work.values())
        return min(float(self.total), before + sum(self._finished.values()))

    def advance(self, kind: Hashable, units: float, seconds: float | None = None) -> None:
        """Count work as over.

        Args:
            kind: which kind of work.
            units: how much, for instance one epoch of ten as 0.1.
            seconds: how long it took a worker; None if it was given up.
        """
        self._finished[kind] += units
        if seconds is not None:
            self._measured[kind] += units
            self._seconds[kind] += seconds

    def timings(self) -> dict[Hashable, tuple[float, float]]:
        """Measured units and the seconds that they took together, by kind."""
        return {kind: (units, self._seconds[kind]) for kind, units in self._measured.items() if units > 0}

    def seconds_to_go(self) -> float | None:
        """Estimate of the time that is left; None before anything was measured."""
        rates = {kind: self._seconds[kind] / units for kind, units in self._measured.items() if units > 0}
        if not rates:
            return None
        mean = sum(rates.values()) / len(rates)
        left = {kind: max(0.0, units - self._finished[kind]) for kind, units in self.work.items()}
        return sum(units * rates.get(kind, mean) for kind, units in left.items()) / self.workers

    def counts(self) -> str:
        """The state in words, ``3 done, 2 running, 0 failed, 7 left``; running ones count as left."""
        return f"{self.done} done, {self.running} running, {self.failed} failed, {self.left} left"

    def at_work(self) -> str | None:
        """What the workers did with their time, in words; None before anything was measured."""
        elapsed, busy = time.monotonic() - self.started, sum(self._seconds.values())
        if not busy or not elapsed:
            return None
        share = 100 * busy / (elapsed * self.workers)
        workers = f"{self.workers} worker{'s' * (self.workers != 1)}"
        return f"{format_duration(elapsed)} on {workers}, {share:.0f} % of their time at work"

    def times(self) -> tuple[str, str]:
        """Elapsed time and time to go; the latter is ``unknown`` before anything was measured."""
        to_go = self.seconds_to_go()
        return format_duration(
            time.monotonic() - self.started
        ), "unknown" if to_go is None else format_duration(to_go)
