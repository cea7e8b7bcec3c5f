"""Results on disk: what readers may see, what a crash leaves, what is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from lstmptq.cells import Cell, Grid
from lstmptq.measures.metrics import Scores, prediction_columns
from lstmptq.results import SCHEMA_VERSION, TABLES
from lstmptq.text.sources import Source
from sweeps.errors import StoreError
from sweeps.storage.directory import Directory
from sweeps.store import writer as stores
from sweeps.store.index import mean_seconds, read_index
from sweeps.store.writer import Entry, ResultStore, open_store
from tests.sweeps.fake_study import GRID, identity_columns, ok_row, prediction_row, tensor_rows
from tests.sweeps.reader import read_over_and_over

CELLS = list(GRID.cells())


def failed(cell: Cell, reason: str = "boo") -> dict[str, Any]:
    return identity_columns(cell) | {"status": "failed", "error": reason}


def fill(store: ResultStore, cells: list[Cell]) -> None:
    for cell in cells:
        store.append(ok_row(cell), tensor_rows(cell), prediction_row(cell))


def entry(cell: Cell) -> Entry:
    return Entry(ok_row(cell), tensor_rows(cell), prediction_row(cell))


def write_without_sync(storage: Directory, name: str, content: bytes) -> None:
    """As Directory.write, without waiting for the disk."""
    path = storage.directory / name
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def rows(out: Path, table: str = "cells") -> pl.DataFrame:
    return pl.scan_parquet(out / table / "*.parquet").collect()


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


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
            store.append(row, [], {"cell_id": row["cell_id"], **prediction_columns(scores)})
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
    store.extend([entry(cell) for cell in [*CELLS[:20], CELLS[0]]])
    assert [name for name in written if name.startswith("open/cells")] == [
        "open/cells/segment-00001-001.parquet", "open/cells/segment-00001-002.parquet",
    ]  # fmt: skip
    store.extend(entry(cell) for cell in CELLS[10:21])
    store.publish()
    assert sorted(rows(tmp_path)["cell_id"]) == sorted(cell.cell_id for cell in CELLS[:21])
    assert len(rows(tmp_path, "tensors")) == 42


class Cut(BaseException):
    """The process dies here."""


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
        again.extend(map(entry, CELLS[:9]))
        again.publish()
        check_readers(out)
        assert set(rows(out)["cell_id"]) == {cell.cell_id for cell in CELLS[:9]}
        assert not [name for name in files(out) if name.startswith("open")]
        if ended:
            break
    assert point > 30  # writes and removals: as many crashes


def check_readers(out: Path) -> None:
    """What anyone sees who scans the published tables now."""
    found = rows(out)["cell_id"]
    assert found.is_unique().all()
    for table, share in (("tensors", 2), ("predictions", 1)):
        owners = rows(out, table).group_by("cell_id").len()
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


def test_what_an_older_version_left_open_is_published(tmp_path: Path) -> None:
    """Its open part was one file a table, with the name that it would be published under."""
    fill(ResultStore(tmp_path), CELLS[:2])
    for path in (tmp_path / "open").rglob("segment-00001-001.parquet"):
        path.rename(path.with_name("segment-00001.parquet"))
    assert ResultStore(tmp_path).finished() == {cell.cell_id for cell in CELLS[:2]}
    check_readers(tmp_path)
    assert len(rows(tmp_path)) == 2


def test_a_finished_cell_is_stored_once_and_a_failed_one_is_replaced(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.append(failed(CELLS[0]), [])
    fill(store, CELLS[1:2])
    store.publish()
    assert store.failed() == {CELLS[0].cell_id: "boo"}
    fill(store, CELLS[:2])
    store.append(failed(CELLS[1]), [])
    store.publish()
    assert sorted(rows(tmp_path)["cell_id"]) == sorted(cell.cell_id for cell in CELLS[:2])
    assert set(rows(tmp_path)["status"]) == {"ok"}
    assert len(rows(tmp_path, "tensors")) == 4


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


def test_mean_seconds_are_of_finished_cells_by_kind(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:4])
    store.append(failed(CELLS[4]), [])
    assert mean_seconds(Directory(tmp_path)) == {
        ("discriminative", False): 3.0,
        ("discriminative", True): 3.0,
    }


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    ResultStore(tmp_path)
    bad = tmp_path / "cells" / "segment-00004.parquet"
    bad.write_bytes(b"PAR1 half")
    with pytest.raises(StoreError) as problem:
        ResultStore(tmp_path)
    assert str(problem.value).startswith(f"{bad} cannot be read as Parquet (")
    assert str(problem.value).endswith("move it away, and the same command computes its cells again")


def test_a_segment_that_was_copied_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:1])
    store.publish()
    folder = tmp_path / "cells"
    (folder / "segment-00007.parquet").write_bytes((folder / "segment-00001.parquet").read_bytes())
    with pytest.raises(StoreError) as problem:
        ResultStore(tmp_path)
    assert str(problem.value) == (
        f"cell {CELLS[0].cell_id[:12]} is both in segment-00001.parquet and segment-00007.parquet "
        f"of {folder}: remove the file that was copied there"
    )


def open_and_close(out: Path, grid: Grid = GRID) -> dict[str, Any]:
    with open_store(out, grid, "python sweeps/full_grid.py"):
        pass
    record: dict[str, Any] = json.loads((out / "sweep.json").read_bytes())
    return record


def refusal(out: Path, grid: Grid = GRID) -> str:
    with pytest.raises(StoreError) as problem, open_store(out, grid, ""):
        pass
    return str(problem.value).replace(str(out), "OUT")


def test_sweep_json_tells_grid_environment_and_command(tmp_path: Path) -> None:
    record = open_and_close(tmp_path / "new" / "results")
    assert record["schema_version"] == SCHEMA_VERSION
    assert record["cells"] == len(CELLS)
    assert record["command"] == "python sweeps/full_grid.py"
    assert record["grid"]["axes"]["bits"] == [None, 8, 4, 3]
    assert record["grid"]["axes"]["datasets"] == [{"name": "bbc_news", "digest": ""}]
    assert record["grid"]["axes"]["noise"][1] == {"kind": "typo", "level": 0.1}
    assert record["grid"]["settings"]["shift_documents"] == 256
    assert {"python", "torch", "ray"} <= record["versions"].keys()
    assert {"git_sha", "started_at", "earlier"} <= record.keys()


def test_the_same_grid_leaves_sweep_json_and_a_grown_one_keeps_the_earlier(tmp_path: Path) -> None:
    first = open_and_close(tmp_path)
    assert open_and_close(tmp_path) == first
    grown = open_and_close(tmp_path, dataclasses.replace(GRID, seeds=(0, 1)))
    assert grown["cells"] == 2 * len(CELLS)
    assert [earlier["cells"] for earlier in grown["earlier"]] == [len(CELLS)]
    assert open_and_close(tmp_path)["cells"] == len(CELLS)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    open_and_close(tmp_path)
    assert refusal(tmp_path, dataclasses.replace(GRID, limit=100, pooling="last")) == (
        'OUT holds the results of another sweep: limit is null there and 100 here; pooling is "mean" there '
        'and "last" here: choose another --out, or ask for the same'
    )
    assert refusal(tmp_path, dataclasses.replace(GRID, datasets=(Source("mine", "0123456789abcdef"),))) == (
        "OUT holds the results of another sweep: dataset is bbc_news there and mine (0123456789abcdef) here: "
        "choose another --out, or ask for the same"
    )


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    record = open_and_close(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(record | {"schema_version": 0}))
    assert refusal(tmp_path) == (
        f"OUT holds results of schema version 0, this program writes version {SCHEMA_VERSION}: "
        "choose another --out"
    )


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "cells").mkdir(parents=True)
    assert refusal(out) == (
        "OUT has a directory cells but no sweep.json, so it is not known which sweep made it: "
        "put its sweep.json back, or choose another --out"
    )
    assert files(out) == set()
    (out / "sweep.json").write_text("[]")
    assert refusal(out).startswith("OUT/sweep.json is not the record of a sweep (TypeError: ")
    a_file = tmp_path / "file"
    a_file.touch()
    assert refusal(a_file) == "OUT is a file, not a directory of results: choose another --out"


def test_two_drivers_do_not_write_to_one_directory(tmp_path: Path) -> None:
    with open_store(tmp_path, GRID, ""):
        assert refusal(tmp_path) == (
            "OUT is being written by another sweep: wait until it has ended, or choose another --out"
        )
    open_and_close(tmp_path)


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission to write there"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
    ],
)
def test_a_disk_that_takes_nothing_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    expected = (
        f"cannot write results to OUT: {reason}. What is written stays: put that right, "
        "and the same command goes on where it stopped"
    )
    with open_store(tmp_path, GRID, "") as store:
        fill(store, CELLS[:1])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(StoreError) as problem:
                fill(store, CELLS[1:2])
        assert str(problem.value).replace(str(tmp_path), "OUT") == expected
    assert not [name for name in files(tmp_path) if name.endswith(".partial")]
    assert ResultStore(tmp_path).finished() == {CELLS[0].cell_id}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        assert refusal(tmp_path / "new") == expected


def test_other_errors_of_the_disk_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "broken")

    store = ResultStore(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="broken"):
        fill(store, CELLS[:1])
