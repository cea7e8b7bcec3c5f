"""Progress: counts, the time to go, bars and lines."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def phase() -> Phase:
    return Phase("cells", {"slow": 4, "fast": 10}, workers=2, total=20, done=5, failed=1)


def test_the_time_to_go_takes_each_kind_at_its_own_pace() -> None:
    cells = phase()
    assert cells.seconds_to_go() is None
    cells.advance("slow", 1, 30.0)
    assert cells.seconds_to_go() == (3 * 30 + 10 * 30) / 2  # nothing known of the fast ones yet
    cells.advance("fast", 2, 4.0)
    assert cells.seconds_to_go() == (3 * 30 + 8 * 2) / 2
    cells.advance("slow", 3)  # given up
    assert cells.seconds_to_go() == 8 * 2 / 2


def test_parts_of_units_move_the_bar() -> None:
    training = Phase("FP32 models", {"generative": 2}, workers=2, total=3, done=1)
    training.advance("generative", 0.25, 5.0)
    assert training.completed == 1.25
    assert training.seconds_to_go() == 1.75 * 20 / 2


def test_without_a_terminal_a_line_comes_now_and_then(clock: list[float]) -> None:
    screen = io.StringIO()
    progress = SweepProgress(Console(file=screen, width=200))
    with progress.phase(phase()) as cells:
        cells.running = 2
        for _ in range(30):  # seconds
            clock[0] += 1.0
            progress.tick()
        cells.done, cells.running = 19, 0
        cells.advance("slow", 4, 50.0)
        cells.advance("fast", 10, 7.0)
    assert screen.getvalue().splitlines() == [
        "cells: 30 % of 20: 5 done, 0 running, 1 failed, 14 left, elapsed 0:00, to go unknown",
        "cells: 30 % of 20: 5 done, 2 running, 1 failed, 14 left, elapsed 0:10, to go unknown",
        "cells: 30 % of 20: 5 done, 2 running, 1 failed, 14 left, elapsed 0:20, to go unknown",
        "cells: 30 % of 20: 5 done, 2 running, 1 failed, 14 left, elapsed 0:30, to go unknown",
        "cells: 100 % of 20: 19 done, 0 running, 1 failed, 0 left, elapsed 0:30, to go 0:00",
        "cells: 0:30 on 2 workers, 95 % of their time at work",
    ]


def test_on_a_terminal_there_is_a_bar(clock: list[float]) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=120, force_terminal=True, legacy_windows=False)
    progress = SweepProgress(console)
    with progress.phase(phase()) as cells:
        clock[0] += 1.0
        cells.running = 1
        progress.tick()
        progress.say("a worker died")
    text = screen.getvalue()
    assert "━" in text
    assert "5 done, 1 running, 1 failed, 14 left" in text
    assert "a worker died" in text


def test_an_empty_phase_is_complete() -> None:
    screen = io.StringIO()
    with SweepProgress(Console(file=screen, width=200)).phase(Phase("cells", {}, 2, 0)):
        pass
    assert screen.getvalue().startswith("cells: 100 % of 0: 0 done")
