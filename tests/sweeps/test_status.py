"""``--status``: what is told of a sweep that runs, ended, was killed, or never was."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lstmptq.results import FinishedCell
from sweeps.errors import StoreError
from sweeps.full_grid import main
from sweeps.planning.plan import make_plan
from sweeps.processes import process_started
from sweeps.running import heartbeat as heartbeats
from sweeps.running.heartbeat import Heartbeat
from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress
from sweeps.status import print_status
from sweeps.storage.directory import Directory
from sweeps.store.status_file import read_status
from sweeps.store.writer import ResultStore, open_store
from tests.sweeps.fake_study import GRID, NOT_ENOUGH, FakeStudy, identity_columns, ok_row, tensor_rows

CELLS = list(GRID.cells())  # 28
COMMAND = "python sweeps/full_grid.py --seeds 0"


def fill(store: ResultStore, done: int = 20, failed: int = 2) -> None:
    for number, cell in enumerate(CELLS[:done]):
        store.extend(
            [FinishedCell(ok_row(cell) | {"host": "node1" if number % 4 else "node2"}, tensor_rows(cell))]
        )
    for cell in CELLS[done : done + failed]:
        row = identity_columns(cell) | {"status": "failed", "error": NOT_ENOUGH}
        store.extend([FinishedCell(row, [], log=f"Traceback of {cell.cell_id}\n")])


def begin(out: Path, store: ResultStore) -> Heartbeat:
    """A sweep that has come as far as `fill` leaves it, and the cells of another one."""
    plan = make_plan(FakeStudy(), {cell.cell_id for cell in CELLS[:4]}, {})
    heartbeat = Heartbeat(Directory(out), plan, (0, 0), COMMAND)
    phase = Phase("cells", plan.kinds, 2, plan.planned, done=20, failed=2, running=2)
    phase.advance(("generative", True), 4, 60.0)
    heartbeat.phases += [Phase("FP32 models", {}, 2, 2, done=2), phase]
    heartbeat.heard_from({"hostname": "node1", "peak_bytes": 2**30})
    del store
    return heartbeat


def shown(place: str | Path, now: datetime | None = None) -> list[str]:
    screen = io.StringIO()
    print_status(str(place), Console(file=screen, width=500), now)
    return [line.rstrip().replace(str(place), "OUT") for line in screen.getvalue().splitlines()]


def row(lines: list[str], heading: str) -> str:
    return next(line.removeprefix(heading).strip() for line in lines if line.startswith(heading))


def test_a_running_sweep_is_told_also_before_its_cells_are_published(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, COMMAND) as store:
        fill(store)
        with begin(tmp_path, store) as heartbeat:
            heartbeat.beat()
            lines = shown(tmp_path)
    me = heartbeats.this_process()
    assert row(lines, "state") == f"running: process {me['process']} on {me['host']}, heard from 0 s ago"
    assert row(lines, "FP32 models") == "2: 2 done, 0 running, 0 failed, 0 left"
    assert row(lines, "cells") == "28: 20 done, 2 running, 2 failed, 6 left"
    assert row(lines, "to go") == "2:30"  # 20 cells of the plan at 15 s on 2 workers
    assert row(lines, "hosts") == "node1: 15 cells, heard from 0 s ago"
    assert "node2: 5 cells" in [line.strip() for line in lines]
    log = next(cell.cell_id for cell in CELLS[20:22] if f"OUT/logs/{cell.cell_id}.txt" in lines[-1])
    assert lines[-2:] == [
        "2 cells failed:",
        f"  2 x {NOT_ENOUGH} (e.g. cell {log[:12]}, log OUT/logs/{log}.txt)",
    ]
    assert (tmp_path / "logs" / f"{log}.txt").read_text() == f"Traceback of {log}\n"


def test_a_sweep_that_ended_says_how_and_how_to_go_on(tmp_path: Path) -> None:
    for how, state in ((KeyboardInterrupt, "stopped by Ctrl-C"), (StoreError, "stopped by an error")):
        with open_store(tmp_path, GRID, COMMAND) as store:
            fill(store)
            with pytest.raises(how), begin(tmp_path, store):
                raise how("the disk is full")
        lines = shown(tmp_path)
        assert row(lines, "state").startswith(state)
        assert row(lines, "cells") == "28: 20 done, 2 failed, 6 left"
        assert lines[-1] == f"to go on: {COMMAND}"
    assert row(lines, "state").endswith("s ago: the disk is full")
    with open_store(tmp_path, GRID, COMMAND) as store:
        store.extend([])
        fill(store, 28, 0)
        with begin(tmp_path, store):
            pass
    lines = shown(tmp_path)
    assert row(lines, "state").startswith("ended")
    assert row(lines, "cells") == "28: 28 done, 0 failed, 0 left"
    assert not [line for line in lines if line.startswith("to go")]


def test_a_killed_sweep_is_told_from_a_living_one(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, COMMAND) as store:
        fill(store)
        begin(tmp_path, store).beat()
    status = json.loads((tmp_path / "status.json").read_bytes())

    def state(later: float = 0.0, **changed: Any) -> str:
        (tmp_path / "status.json").write_text(json.dumps(status | changed))
        lines = shown(tmp_path, datetime.now(UTC) + timedelta(seconds=later))
        assert (COMMAND in lines[-1]) == (not row(lines, "state").startswith("running"))
        return row(lines, "state").split(",")[0].split(":")[0]

    assert state() == "running"
    assert state(later=3600) == "running"  # its process is here to be seen
    assert state(process_started=1) == "killed"  # another process has its number
    assert state(process=2**22 + 1) == "killed"
    assert state(host="elsewhere", boot="") == "running"
    assert state(later=-3600, host="elsewhere") == "running"  # the clocks differ
    assert state(later=600, host="elsewhere") == "silent"


def test_cells_of_other_grids_are_not_counted(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, COMMAND) as store:
        fill(store, 20, 2)
        plan = make_plan(FakeStudy(), {cell.cell_id for cell in CELLS[:15]}, {})
        with Heartbeat(Directory(tmp_path), plan, (5, 1), COMMAND):
            assert row(shown(tmp_path), "cells").startswith("28: 15 done, 0 running, 1 failed, 12 left")


def test_results_of_before_status_files_are_told_as_far_as_they_go(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, COMMAND) as store:
        fill(store, 3, 0)
    lines = shown(tmp_path)
    assert row(lines, "state") == "unknown: these results have no status.json"
    assert row(lines, "cells") == "28: 3 done, 0 failed, 25 left"
    assert lines[-1] == f"if it does not run any more, to go on: {COMMAND}"
    (tmp_path / "status.json").write_text('{"version"')
    assert row(shown(tmp_path), "state").startswith("unknown")


def test_what_holds_no_results_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(path: Path) -> str:
        assert main(["--status", str(path)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err.replace(str(path), "IT")

    nothing = (
        "error: IT holds no sweep.json, so no sweep has written there: give the directory or URI that was "
        "its --out\n"
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cells.txt").touch()
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "none") == refusal(tmp_path / "empty") == refusal(tmp_path / "other") == nothing
    assert (
        refusal(tmp_path / "file")
        == "error: IT is a file, not a directory of results: choose another --out\n"
    )
    assert not (tmp_path / "none").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_status_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, COMMAND) as store:
        fill(store, 3, 0)
    code = (
        "import sys; from sweeps.full_grid import main; main(['--status', sys.argv[1]]); "
        "assert not {'torch', 'ray'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "28: 3 done, 0 failed, 25 left" in done.stdout


def test_the_heart_beats_now_and_then_and_adds_up_earlier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    plan = make_plan(FakeStudy(), set(), {})
    out = Directory(tmp_path)
    for _ in range(2):
        with Heartbeat(out, plan, (0, 0), "") as heartbeat:
            progress = SweepProgress(Console(file=io.StringIO()), heartbeat)
            with progress.phase(Phase("cells", plan.kinds, 1, plan.planned)) as phase:
                progress.tick()
                for _ in range(12):  # a cell in 5 s
                    now[0] += 5.0
                    phase.done += 1
                    phase.advance(("generative", False), 1, 5.0)
                    progress.tick()
                before = (tmp_path / "status.json").read_bytes()
                now[0] += 9.0
                progress.tick()
                assert (tmp_path / "status.json").read_bytes() == before
    found = read_status(out)
    assert found is not None
    assert found["ran_seconds"] == 2 * 69.0
    assert found["timings"] == {"cells": {"generative fp32": [24.0, 120.0]}}
    assert 500 < found["cells_an_hour"] < 900
    assert found["state"] == "finished"


def test_a_place_that_takes_no_status_does_not_stop_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(Directory, "write", refuse)
    with Heartbeat(Directory(tmp_path), make_plan(FakeStudy(), set(), {}), (0, 0), ""):
        pass
    assert read_status(Directory(tmp_path)) is None


def test_a_process_is_known_by_its_start() -> None:
    assert process_started(2**22 + 1) is None
    me = heartbeats.this_process()
    assert me["process_started"] == process_started(me["process"])
