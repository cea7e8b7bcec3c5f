"""Logs of failed cells: kept beside the rows, bounded, named by nothing but cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmptq.results import FinishedCell
from sweeps.storage.directory import Directory
from sweeps.store import logs as module
from sweeps.store.logs import LOG_BYTES, Logs, log_name, paths_of_logs, shorten
from sweeps.store.writer import ResultStore
from tests.sweeps.fake_study import GRID, identity_columns, ok_row

CELLS = list(GRID.cells())


def names(out: Path) -> set[str]:
    return {path.stem for path in (out / "logs").glob("*")}


def test_a_failed_cell_leaves_its_log_and_a_retry_takes_it_away(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    ids = [cell.cell_id for cell in CELLS[:3]]
    for cell in CELLS[:2]:
        store.extend(
            [
                FinishedCell(
                    identity_columns(cell) | {"status": "failed", "error": "boo"}, [], log="Traceback\nboo é"
                )
            ]
        )
    store.extend(
        [FinishedCell(identity_columns(CELLS[2]) | {"status": "failed", "error": "boo"}, [])]
    )  # nothing to read
    assert (tmp_path / "logs" / f"{ids[0]}.txt").read_text() == "Traceback\nboo é"
    assert paths_of_logs(Directory(tmp_path)) == {i: f"{tmp_path}/logs/{i}.txt" for i in ids[:2]}
    store.extend([FinishedCell(ok_row(CELLS[0]), [])])
    assert names(tmp_path) == {ids[1]}
    ResultStore(tmp_path).discard(ids)  # in another run
    assert names(tmp_path) == set()


def test_a_sweep_without_failures_has_no_folder_of_logs(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.extend([FinishedCell(ok_row(CELLS[0]), [])])
    assert not (tmp_path / "logs").exists()
    assert paths_of_logs(Directory(tmp_path)) == {}


def test_logs_are_bounded_in_size_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "first line\n" + "é" * 100_000 + "\nlast line"
    cut = shorten(text)
    assert len(cut.encode()) <= LOG_BYTES
    assert cut.startswith("first line\n")
    assert cut.endswith("\nlast line")
    assert " bytes left out]" in cut
    assert shorten("short") == "short"
    assert shorten("lone \ud800") == "lone ?"
    monkeypatch.setattr(module, "MOST_LOGS", 2)
    logs = Logs(Directory(tmp_path))
    for cell in CELLS[:4]:
        logs.keep(cell.cell_id, "boo")
    Logs(Directory(tmp_path)).keep(CELLS[5].cell_id, "boo")
    assert names(tmp_path) == {cell.cell_id for cell in CELLS[:2]}


@pytest.mark.parametrize("name", ["", "../" + "a" * 61, "a" * 63, "A" * 64, "a" * 64 + "\n", "/etc/passwd"])
def test_what_is_no_cell_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    assert log_name(name) is None
    Logs(Directory(tmp_path / "out")).keep(name, "boo")
    assert not (tmp_path / "out").exists()
