"""Results on disk: what is published when, stored once, replaced, removed."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from lstmptq.measures.metrics import Scores, prediction_columns
from lstmptq.results import SCHEMA_VERSION, TABLES, FinishedCell
from sweeps.storage.directory import Directory
from sweeps.store import writer as stores
from sweeps.store.index import read_index
from sweeps.store.writer import ResultStore, open_store
from tests.sweeps.fake_study import GRID
from tests.sweeps.store.stored import (
    CELLS,
    failed,
    fill,
    finished,
    rows,
    write_without_sync,
)


def test_a_cell_is_on_disk_at_once_and_shows_when_it_is_published(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:2])
    assert len(rows(tmp_path)) == 0
    assert read_index(tmp_path).keys() == {cell.cell_id for cell in CELLS[:2]}  # also in another process
    store.publish()
    assert set(rows(tmp_path)["cell_id"]) == {cell.cell_id for cell in CELLS[:2]}
    assert len(rows(tmp_path, "tensors")) == 4
    assert sorted(rows(tmp_path, "predictions")["cell_id"]) == sorted(cell.cell_id for cell in CELLS[:2])
    assert store.finished() == {cell.cell_id for cell in CELLS[:2]}


def test_the_files_have_exactly_the_schema_and_zstd(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:1])
    store.publish()
    for table, schema in TABLES.items():
        for path in (tmp_path / table).glob("*.parquet"):
            found = pq.read_schema(path)
            assert found.equals(schema)
            assert found.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
            assert found.field("cell_id").metadata == schema.field("cell_id").metadata
        path = tmp_path / table / "segment-00001.parquet"
        assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def test_predictions_are_optional(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, "", predictions=False) as store:
        fill(store, CELLS[:2])
    assert len(rows(tmp_path)) == 2
    assert len(rows(tmp_path, "predictions")) == 0
    with open_store(tmp_path, GRID, "") as store:
        fill(store, CELLS[2:3])
    assert rows(tmp_path, "predictions")["cell_id"].to_list() == [CELLS[2].cell_id]


@pytest.mark.slow
def test_predictions_of_a_large_sweep_stay_below_100_mb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment of 64 cells x 7,600 documents; margins that spread over three orders, as of real models."""
    monkeypatch.setattr(stores, "PUBLISH_SECONDS", 1000.0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 7600)
    with open_store(tmp_path, GRID, "") as store:
        for number in range(64):
            other = rng.dirichlet(np.ones(4) * 0.05, 7600)  # the true class wins nine times in ten
            log_posterior = np.log(0.9 * (labels[:, None] == np.arange(4)) + 0.1 * other + 1e-9)
            log_posterior *= rng.gamma(2.0, 2.0, (7600, 1))
            row = {"cell_id": f"{number:064d}", "status": "ok", "model": "generative"}
            scores = Scores(log_posterior, labels)
            store.extend([FinishedCell(row, [], {"cell_id": row["cell_id"], **prediction_columns(scores)})])
    (segment,) = [path for path in (tmp_path / "predictions").iterdir() if path.stat().st_size > 10_000]
    assert 5000 / 64 * segment.stat().st_size < 100e6
    found = rows(tmp_path, "predictions")
    assert found["margin"].list.len().unique().to_list() == [7600]
    assert found.height == 64


def test_a_full_segment_is_published_and_the_next_one_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "SEGMENT_CELLS", 3)
    fill(ResultStore(tmp_path), CELLS[:7])
    sizes = [len(pl.read_parquet(path)) for path in sorted((tmp_path / "cells").iterdir())]
    assert sizes == [0, 3, 3]
    assert len(rows(tmp_path, "tensors")) == 12


def test_a_segment_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    store = ResultStore(tmp_path)
    fill(store, CELLS[:1])
    now[0] += 4.9
    store.publish_if_due()
    assert len(rows(tmp_path)) == 0
    now[0] += 0.2
    store.publish_if_due()
    assert len(rows(tmp_path)) == 1
    now[0] += 1000.0  # in a long run it waits longer, 5 % of the time
    fill(store, CELLS[1:2])
    now[0] += 50.0
    store.publish_if_due()
    assert len(rows(tmp_path)) == 1
    now[0] += 3.0
    store.publish_if_due()
    assert len(rows(tmp_path)) == 2
    store = ResultStore(tmp_path, ran_before=1000.0)  # of several runs, too
    fill(store, CELLS[2:3])
    now[0] += 50.0
    store.publish_if_due()
    assert len(rows(tmp_path)) == 2
    now[0] += 3.0
    store.publish_if_due()
    assert len(rows(tmp_path)) == 3


@pytest.mark.slow
def test_segments_grow_with_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the number of files grows with the logarithm of the cells; memory bounds a segment."""
    monkeypatch.setattr(stores, "CHUNK_CELLS", 4)
    monkeypatch.setattr(stores, "SEGMENT_CELLS", 4)
    monkeypatch.setattr(stores, "LARGEST_SEGMENT", 40)
    monkeypatch.setattr(stores, "PUBLISH_SHARE", 0.25)
    monkeypatch.setattr(stores, "PUBLISH_SECONDS", 1e9)
    monkeypatch.setattr(Directory, "write", write_without_sync)
    store = ResultStore(tmp_path)
    most = 0
    for number in range(300):
        fill(store, [dataclasses.replace(CELLS[0], limit=number + 1)])
        most = max(most, len(list((tmp_path / "open" / "cells").iterdir())))
    store.publish()
    sizes = [len(pl.read_parquet(path)) for path in sorted((tmp_path / "cells").iterdir())]
    assert sizes == [0, 4, 4, 4, 4, 4, 5, 7, 8, 10, 13, 16, 20, 25, 31, 39, 40, 40, 26]
    assert most == 10  # waiting chunks: the largest segment's
    assert all(len(rows(tmp_path, table)) == share * 300 for table, share in (("cells", 1), ("tensors", 2)))


def test_cells_that_come_together_are_stored_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = Directory.write

    def count(storage: Directory, name: str, content: bytes) -> None:
        written.append(name)
        real(storage, name, content)

    store = ResultStore(tmp_path)
    monkeypatch.setattr(Directory, "write", count)
    monkeypatch.setattr(stores, "CHUNK_CELLS", 16)
    store.extend([finished(cell) for cell in [*CELLS[:20], CELLS[0]]])
    assert [name for name in written if name.startswith("open/cells")] == [
        "open/cells/segment-00001-001.parquet", "open/cells/segment-00001-002.parquet",
    ]  # fmt: skip
    store.extend(finished(cell) for cell in CELLS[10:21])
    store.publish()
    assert sorted(rows(tmp_path)["cell_id"]) == sorted(cell.cell_id for cell in CELLS[:21])
    assert len(rows(tmp_path, "tensors")) == 42


def test_a_finished_cell_is_stored_once_and_a_failed_one_is_replaced(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.extend([FinishedCell(failed(CELLS[0]), [])])
    fill(store, CELLS[1:2])
    store.publish()
    assert store.failed() == {CELLS[0].cell_id: "boo"}
    fill(store, CELLS[:2])
    store.extend([FinishedCell(failed(CELLS[1]), [])])
    store.publish()
    assert sorted(rows(tmp_path)["cell_id"]) == sorted(cell.cell_id for cell in CELLS[:2])
    assert set(rows(tmp_path)["status"]) == {"ok"}
    assert len(rows(tmp_path, "tensors")) == 4


def test_discarded_cells_leave_with_their_tensors(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:3])
    store.publish()
    fill(store, CELLS[3:5])
    store.discard([CELLS[0].cell_id, CELLS[4].cell_id, "unknown"])
    expected = {cell.cell_id for cell in CELLS[1:4]}
    for table in TABLES:
        assert set(rows(tmp_path, table)["cell_id"]) == expected
    assert ResultStore(tmp_path).finished() == store.finished() == expected
