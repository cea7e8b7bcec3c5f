"""What a crash leaves, and what readers see meanwhile."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sweeps.errors import StoreError
from sweeps.storage.directory import Directory
from sweeps.store import writer as stores
from sweeps.store.index import read_index
from sweeps.store.writer import ResultStore
from tests.sweeps.reader import read_over_and_over
from tests.sweeps.store.stored import (
    CELLS,
    Cut,
    files,
    fill,
    finished,
    rows,
    write_without_sync,
)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_point_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The process dies before or after each write and each removal; what readers see is right at any time."""
    monkeypatch.setattr(stores, "CHUNK_CELLS", 2)
    monkeypatch.setattr(stores, "SEGMENT_CELLS", 3)
    monkeypatch.setattr(stores, "PUBLISH_SECONDS", 1e9)
    left = -1  # operations until the process dies

    def operation(real: Any) -> Any:
        def run(storage: Directory, name: str, *content: bytes) -> None:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Cut
            real(storage, name, *content)
            if left == 0:
                raise Cut

        return run

    monkeypatch.setattr(Directory, "delete", operation(Directory.delete))
    monkeypatch.setattr(Directory, "write", operation(write_without_sync))
    for point in range(1, 1000):
        out = tmp_path / str(point)
        store = ResultStore(out)
        stored, ended = 0, False
        left = point
        try:
            for cell in CELLS[:6]:
                fill(store, [cell])
                stored += 1
            store.publish()
            ended = True
        except Cut:
            left = -1
        check_readers(out)
        index = read_index(out)
        # the cell at work is there or not, all others are
        assert (
            {cell.cell_id for cell in CELLS[:stored]}
            <= index.keys()
            <= {c.cell_id for c in CELLS[: stored + 1]}
        )
        left = 1 + point % 5  # it is started again, and dies once more while it puts things in order
        try:
            ResultStore(out)
        except Cut:
            check_readers(out)
        left = -1
        again = ResultStore(out)
        assert again.finished() == index.keys()
        check_readers(out)
        again.extend(map(finished, CELLS[:9]))
        again.publish()
        check_readers(out)
        assert set(rows(out)["cell_id"]) == {cell.cell_id for cell in CELLS[:9]}
        assert not [name for name in files(out) if name.startswith("open")]
        if ended:
            break
    assert point > 30  # writes and removals: as many crashes


def check_readers(out: Path) -> None:
    """What anyone sees who scans the published tables now."""

    def read_owners(table: str) -> pl.Series:
        return pl.scan_parquet(out / table / "*.parquet").select("cell_id").collect()["cell_id"]

    found = read_owners("cells")
    assert found.is_unique().all()
    for table, share in (("tensors", 2), ("predictions", 1)):
        owners = read_owners(table).to_frame().group_by("cell_id").len()
        assert (owners["len"] == share).all()
        assert set(found) <= set(owners["cell_id"])


def test_a_publication_that_the_disk_refused_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:2])
    real = Directory.write

    def refuse(storage: Directory, name: str, content: bytes) -> None:
        if name.startswith("cells/"):
            raise OSError(errno.ENOSPC, "full")
        real(storage, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "write", refuse)
        with pytest.raises(StoreError, match="the disk is full"):
            store.publish()
        with pytest.raises(StoreError, match="the disk is full"):
            fill(store, CELLS[2:3])  # not into a segment of which other tables are out already
    fill(store, CELLS[2:4])
    store.publish()
    check_readers(tmp_path)
    assert set(rows(tmp_path)["cell_id"]) == {cell.cell_id for cell in CELLS[:4]}


@pytest.mark.parametrize("operations", [1, 2, 3])
def test_a_crash_while_cells_are_discarded_leaves_no_row_without_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operations: int
) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:3])
    store.publish()
    write, left = Directory.write, operations

    def dying(storage: Directory, name: str, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Cut
        write(storage, name, content)

    with monkeypatch.context() as patch, suppress(Cut):
        patch.setattr(Directory, "write", dying)
        store.discard([CELLS[0].cell_id])
    kept = ResultStore(tmp_path).finished()
    assert kept == {cell.cell_id for cell in CELLS[1:3]}
    assert set(rows(tmp_path, "tensors")["cell_id"]) == set(rows(tmp_path, "predictions")["cell_id"]) == kept


def test_what_a_killed_run_left_is_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(ResultStore(tmp_path), CELLS[:2])  # never published
    real = Directory.write

    def dies_before_the_row(storage: Directory, name: str, content: bytes) -> None:
        if name.startswith("open/cells"):
            raise KeyboardInterrupt
        real(storage, name, content)

    store = ResultStore(tmp_path)
    fill(store, CELLS[2:3])
    monkeypatch.setattr(Directory, "write", dies_before_the_row)
    with pytest.raises(KeyboardInterrupt):
        fill(store, CELLS[3:4])
    monkeypatch.setattr(Directory, "write", real)
    (tmp_path / "cells" / ".segment-00009.parquet.partial").write_bytes(b"PAR1 half")

    again = ResultStore(tmp_path)
    expected = {cell.cell_id for cell in CELLS[:3]}
    assert again.finished() == set(rows(tmp_path)["cell_id"]) == expected
    for table in ("tensors", "predictions"):
        assert set(rows(tmp_path, table)["cell_id"]) == expected
    assert not [name for name in files(tmp_path) if name.endswith(".partial") or name.startswith("open")]
    fill(again, CELLS)
    again.publish()
    assert rows(tmp_path)["cell_id"].is_unique().all()
    assert len(rows(tmp_path, "tensors")) == 2 * len(rows(tmp_path)) == 2 * len(CELLS)


@pytest.mark.slow
def test_a_reader_never_sees_a_row_twice_nor_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PUBLISH_SECONDS", 0.03)
    store = ResultStore(tmp_path)
    context = multiprocessing.get_context("spawn")
    stop, count, problems = context.Event(), context.Value("i", 0), context.Queue()
    reader = context.Process(target=read_over_and_over, args=(tmp_path, stop, count, problems))
    reader.start()
    deadline = time.monotonic() + 60
    while count.value == 0 and reader.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)  # it reads the empty tables before the first cell is written
    before, number = count.value, 0
    # as many reads and writes side by side, however busy the machine is
    while min(count.value - before, number) < 60 and reader.is_alive() and time.monotonic() < deadline:
        fill(store, [dataclasses.replace(CELLS[0], limit=number + 1)])
        time.sleep(0.005)
        number += 1
    stop.set()
    problem = problems.get(timeout=30)
    reader.join()
    assert problem is None
    assert count.value >= before + 60
    assert number >= 60


def test_what_an_older_version_left_open_is_published(tmp_path: Path) -> None:
    """Its open part was one file a table, with the name that it would be published under."""
    fill(ResultStore(tmp_path), CELLS[:2])
    for path in (tmp_path / "open").rglob("segment-00001-001.parquet"):
        path.rename(path.with_name("segment-00001.parquet"))
    assert ResultStore(tmp_path).finished() == {cell.cell_id for cell in CELLS[:2]}
    check_readers(tmp_path)
    assert len(rows(tmp_path)) == 2
