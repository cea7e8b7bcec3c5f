"""Writes ``OUT/status.json``, which tells other processes about a running sweep.

The rows say which cells are done. This file says what the rows cannot: whether a sweep is at work, how fast,
on which machines, and how long each kind of work takes, from which ``--dry-run`` estimates.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from sweeps.errors import StoreError
from sweeps.planning.plan import Plan
from sweeps.processes import this_process
from sweeps.running.phase import Phase
from sweeps.storage.base import Storage
from sweeps.store.status_file import STATUS_FILE, VERSION, kind_name, read_status

BEAT_SECONDS = 10.0
RATE_SECONDS = 600.0  # the rate is measured over this time


class Heartbeat:
    """Writes ``status.json`` while its context lasts, and at its end how the sweep ended.

    Args:
        out: the results.
        plan: the plan that is run.
        others: number of finished and of failed cells that are stored but not part of the plan.
        command: the command that goes on with the sweep.
    """

    def __init__(self, out: Storage, plan: Plan, others: tuple[int, int], command: str) -> None:
        self.out, self.plan, self.others, self.command = out, plan, others, command
        self.phases: list[Phase] = []
        self.earlier = read_status(out) or {}
        self.hosts: dict[str, dict[str, Any]] = self.earlier.get("hosts", {})
        self._recent: deque[tuple[float, int]] = deque()  # time and number of cells that were over
        self._started = self._beaten = time.monotonic()
        self._fixed = {
            "version": VERSION,
            "command": command,
            "started_at": _now(),
            "beat_seconds": BEAT_SECONDS,
            **this_process(),
        }

    def __enter__(self) -> Heartbeat:
        self.beat()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is None:
            self.beat("finished")
        elif isinstance(problem, KeyboardInterrupt):
            self.beat("stopped")
        else:
            self.beat("failed", " ".join(str(problem).split()) or type(problem).__name__)

    def heard_from(self, report: Mapping[str, Any]) -> None:
        """Note the machine that sent a report, and the peak memory of its worker."""
        if host := report.get("hostname"):
            known = self.hosts.setdefault(host, {})
            known["seen_at"] = _now()
            known["peak_bytes"] = max(known.get("peak_bytes") or 0, report.get("peak_bytes") or 0)

    def beat_if_due(self) -> None:
        """Write if a beat is due; call this often."""
        if time.monotonic() - self._beaten >= BEAT_SECONDS:
            self.beat()

    def beat(self, state: str = "running", reason: str | None = None) -> None:
        """Write the file now."""
        self._beaten = time.monotonic()
        # storage that refuses this file also refuses the next row, which stops the sweep with the reason
        with suppress(OSError, StoreError):
            self.out.write(STATUS_FILE, json.dumps(self.content(state, reason), indent=1).encode())

    def content(self, state: str, reason: str | None = None) -> dict[str, Any]:
        """Return the content of the file, JSON-ready."""
        cells = next((phase for phase in self.phases if phase.title == "cells"), None)
        if cells is not None:
            self._recent.append((self._beaten, cells.done + cells.failed))
            while self._beaten - self._recent[0][0] > RATE_SECONDS:
                self._recent.popleft()
        return self._fixed | {
            "state": state,
            "reason": reason,
            "updated_at": _now(),
            "ran_seconds": round(self.earlier.get("ran_seconds", 0.0) + self._beaten - self._started, 3),
            "planned": self.plan.planned,
            "others": {"ok": self.others[0], "failed": self.others[1]},
            "stages": [
                {
                    "title": phase.title,
                    "total": phase.total,
                    "done": phase.done,
                    "running": phase.running if state == "running" else 0,
                    "failed": phase.failed,
                    "left": phase.left,
                    "seconds_to_go": phase.seconds_to_go(),
                }
                for phase in self.phases
            ],
            "cells_an_hour": self._rate(),
            "hosts": self.hosts,
            "timings": self._timings(),
        }

    def _rate(self) -> float | None:
        if len(self._recent) < 2:
            return None
        (then, before), (now, after) = self._recent[0], self._recent[-1]
        return round(3600 * (after - before) / (now - then), 2) if now > then and after > before else None

    def _timings(self) -> dict[str, dict[str, list[float]]]:
        """Return measured units and their seconds by phase and kind, including earlier runs."""
        found: dict[str, dict[str, list[float]]] = {
            title: {kind: list(both) for kind, both in kinds.items()}
            for title, kinds in self.earlier.get("timings", {}).items()
        }
        for phase in self.phases:
            kinds = found.setdefault(phase.title, {})
            for kind, (units, seconds) in phase.timings().items():
                before = kinds.get(kind_name(kind), [0.0, 0.0])
                kinds[kind_name(kind)] = [round(before[0] + units, 6), round(before[1] + seconds, 3)]
        return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
