"""How far a sweep has come: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sweeps.heartbeat import Heartbeat
from sweeps.plan import clock

LINE_SECONDS = 10.0  # between two lines where the output is no terminal
REFRESH_SECONDS = 0.5  # between two updates of the bars


def _zeros() -> dict[Hashable, float]:
    return defaultdict(float)


@dataclass(slots=True)
class Stage:
    """The state of one stage: training, or cells.

    Work comes in units (a model, a cell) of several kinds; the time to go is the work left of each kind by
    the mean time that a unit of this kind took, shared among the workers.
    """

    title: str
    work: Mapping[Any, float]  # units to do in this run, by kind
    workers: int
    total: int  # units of the whole stage, those done before included
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
        return f"{clock(elapsed)} on {workers}, {share:.0f} % of their time at work"

    def times(self) -> tuple[str, str]:
        """Elapsed time and time to go; the latter is ``unknown`` before anything was measured."""
        to_go = self.seconds_to_go()
        return clock(time.monotonic() - self.started), "unknown" if to_go is None else clock(to_go)


class SweepProgress:
    """Shows the stages of a sweep, one after the other.

    Args:
        console: where to; bars if it is a terminal, else plain lines.
        heartbeat: tells others, too.
    """

    def __init__(self, console: Console, heartbeat: Heartbeat | None = None) -> None:
        self.console, self.heartbeat = console, heartbeat
        self._stage: Stage | None = None
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False)

    def heard_from(self, report: Mapping[str, Any]) -> None:
        """Note which machine a report of Tune's came from."""
        if self.heartbeat is not None:
            self.heartbeat.heard_from(report)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[Stage]:
        """Show `stage` while the context lasts."""
        self._stage = stage
        if self.heartbeat is not None:
            self.heartbeat.stages.append(stage)
        try:
            if self.console.is_terminal:
                columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
                with Progress(*columns, console=self.console, refresh_per_second=4) as self._bars:
                    self._task = self._bars.add_task(stage.title, total=stage.total, state="")
                    self._show()
                    yield stage
                    self._show()
            else:
                self._show()
                yield stage
                self._show()
            if (at_work := stage.at_work()) is not None:
                self.say(f"{stage.title}: {at_work}")
        finally:
            self._stage = self._bars = self._task = None

    def tick(self) -> None:
        """Show the state if it is time to; call this often."""
        if self.heartbeat is not None:
            self.heartbeat.beat_if_due()
        pause = REFRESH_SECONDS if self._bars is not None else LINE_SECONDS
        if self._stage is not None and time.monotonic() - self._shown >= pause:
            self._show()

    def _show(self) -> None:
        stage = self._stage
        if stage is None:
            return
        self._shown = time.monotonic()
        elapsed, to_go = stage.times()
        if self._bars is not None and self._task is not None:
            state = (
                f"{stage.counts()}, {elapsed}, to go {to_go}"  # short: the bar has what is left of the line
            )
            self._bars.update(self._task, completed=stage.completed, total=stage.total, state=state)
        else:
            share = 100 * stage.completed / stage.total if stage.total else 100.0
            state = f"{stage.counts()}, elapsed {elapsed}, to go {to_go}"
            self.say(f"{stage.title}: {share:.0f} % of {stage.total}: {state}")
