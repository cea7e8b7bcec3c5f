"""Shows how far a sweep has come: with bars on a terminal, with occasional lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sweeps.running.heartbeat import Heartbeat
from sweeps.running.phase import Phase

LINE_SECONDS = 10.0  # between two lines, where the output is not a terminal
REFRESH_SECONDS = 0.5  # between two updates of the bars


class SweepProgress:
    """Shows the phases of a sweep, one after the other.

    Args:
        console: where to print.
        heartbeat: tells other processes about the sweep as well.
    """

    def __init__(self, console: Console, heartbeat: Heartbeat | None = None) -> None:
        self.console, self.heartbeat = console, heartbeat
        self._phase: Phase | None = None
        self._bars: Progress | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.console.print(text, highlight=False)

    def heard_from(self, report: Mapping[str, Any]) -> None:
        """Note the machine that sent a report."""
        if self.heartbeat is not None:
            self.heartbeat.heard_from(report)

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[Phase]:
        """Show `phase` while the context lasts."""
        self._phase = phase
        if self.heartbeat is not None:
            self.heartbeat.phases.append(phase)
        try:
            if self.console.is_terminal:
                columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
                with Progress(*columns, console=self.console, refresh_per_second=4) as self._bars:
                    self._task = self._bars.add_task(phase.title, total=phase.total, state="")
                    self._show()
                    yield phase
                    self._show()
            else:
                self._show()
                yield phase
                self._show()
            if (utilization := phase.utilization()) is not None:
                self.say(f"{phase.title}: {utilization}")
        finally:
            self._phase = self._bars = self._task = None

    def tick(self) -> None:
        """Show the state if an update is due; call this often."""
        if self.heartbeat is not None:
            self.heartbeat.beat_if_due()
        pause = REFRESH_SECONDS if self._bars is not None else LINE_SECONDS
        if self._phase is not None and time.monotonic() - self._shown >= pause:
            self._show()

    def _show(self) -> None:
        phase = self._phase
        if phase is None:
            return
        self._shown = time.monotonic()
        elapsed, to_go = phase.times()
        if self._bars is not None and self._task is not None:
            state = f"{phase.counts()}, {elapsed}, to go {to_go}"  # short: the bar needs the rest of the line
            self._bars.update(self._task, completed=phase.completed, total=phase.total, state=state)
        else:
            share = 100 * phase.completed / phase.total if phase.total else 100.0
            state = f"{phase.counts()}, elapsed {elapsed}, to go {to_go}"
            self.say(f"{phase.title}: {share:.0f} % of {phase.total}: {state}")
