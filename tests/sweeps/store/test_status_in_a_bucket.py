"""``--status`` of a sweep whose results are in an object store."""

from __future__ import annotations

import pytest

from lstmptq.results import FinishedCell
from sweeps.full_grid import main
from sweeps.planning.plan import make_plan
from sweeps.running.heartbeat import Heartbeat
from sweeps.storage.opening import open_storage
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import GRID, FakeStudy, identity_columns, ok_row, tensor_rows

CELLS = list(GRID.cells())
OUT = "s3://results/a/sweep"


@pytest.mark.usefixtures("server")
def test_status_and_logs_are_read_from_a_bucket(capsys: pytest.CaptureFixture[str]) -> None:
    bad = CELLS[3].cell_id
    with open_store(OUT, GRID, "the command") as store:
        for cell in CELLS[:3]:
            store.extend([FinishedCell(ok_row(cell) | {"host": "node1"}, tensor_rows(cell))])
        store.extend(
            [
                FinishedCell(
                    identity_columns(CELLS[3]) | {"status": "failed", "error": "boo"},
                    [],
                    log="Traceback\nboo\n",
                )
            ]
        )
        with Heartbeat(open_storage(OUT), make_plan(FakeStudy(), set(), {}), (0, 0), "the command"):
            assert main(["--status", OUT]) == 0
            running = capsys.readouterr().out
    assert main(["--status", OUT]) == 0
    ended = capsys.readouterr().out
    assert "running: process " in running
    assert "28: 3 done, 0 running, 1 failed, 24 left" in running
    assert "28: 3 done, 1 failed, 24 left" in ended
    assert "node1: 3 cells" in ended
    assert f"  1 x boo (e.g. cell {bad[:12]}, log {OUT}/logs/{bad}.txt)" in ended
    assert "to go on: the command" in ended
    assert open_storage(OUT).read(f"logs/{bad}.txt") == b"Traceback\nboo\n"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("place", ["s3://results/other", "s3://nothing/there"])
def test_a_place_without_results_is_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--status", place]) == 2
    assert capsys.readouterr().err.startswith(f"error: {place} holds no sweep.json")
