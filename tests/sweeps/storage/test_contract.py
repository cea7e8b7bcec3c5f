"""The contract of every storage: the same tests over a directory and a bucket."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from lstmptq.artifacts import artifact_name, pack
from lstmptq.results import FinishedCell
from lstmptq.runtime.locations import Location
from lstmptq.text.sources import Source
from sweeps.errors import StoreError
from sweeps.storage.artifacts import ArtifactStorage
from sweeps.storage.base import Storage
from sweeps.storage.opening import open_storage
from sweeps.store.index import read_index
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import GRID, ok_row, tensor_rows

CELLS = list(GRID.cells())[:12]


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A root that does not exist yet; a new kind of storage is one more parameter."""
    if request.param == "directory":
        return tmp_path / "a" / "sweep"
    request.getfixturevalue("server")
    return "s3://results/a/sweep"


@pytest.fixture
def storage(place: Location) -> Storage:
    found = open_storage(place)
    found.prepare(["", "folder"])
    return found


def test_a_place_that_does_not_exist_is_empty(place: Location) -> None:
    storage = open_storage(place)
    assert str(storage) == str(place)
    assert not storage.exists("file")
    assert not storage.exists("folder")
    assert not storage.is_file()
    assert storage.names("folder") == []
    assert not storage.has_artifact("things/1")
    for read in (storage.read, storage.open, storage.read_artifact):
        with pytest.raises(FileNotFoundError):
            read("file")
    storage.delete("file")


def test_a_file_is_replaced_read_and_deleted(storage: Storage) -> None:
    storage.write("folder/file", b"old")
    storage.write("folder/file", b"new content")
    assert storage.read("folder/file") == b"new content"
    with storage.open("folder/file") as file:
        file.seek(4)
        assert file.read(3) == b"con"
    assert storage.exists("folder/file")
    assert storage.exists("folder")
    storage.delete("folder/file")
    storage.delete("folder/file")
    assert not storage.exists("folder/file")


def test_names_are_sorted_filtered_and_not_recursive(storage: Storage) -> None:
    storage.prepare(["folder/below"])
    for name in ("b.json", "a.json", "c.txt", ".hidden.json", "below/d.json"):
        storage.write(f"folder/{name}", b"")
    assert storage.names("folder", ".json") == ["folder/a.json", "folder/b.json"]
    assert storage.names("folder") == ["folder/a.json", "folder/b.json", "folder/c.txt"]


def test_a_root_that_is_a_file_is_told_from_a_folder(storage: Storage) -> None:
    storage.write("folder/file", b"")
    assert not storage.is_file()
    assert open_storage(storage.path("folder/file")).is_file()
    message = rf"{storage.path('folder/file')} is a file, not a directory of results: choose another --out$"
    with pytest.raises(StoreError, match=message), open_store(storage.path("folder/file"), GRID, ""):
        pass


def test_a_reader_sees_the_old_content_or_the_new(storage: Storage) -> None:
    storage.write("folder/file", b"0" * 100_000)
    ended = threading.Event()
    seen: set[tuple[int, int]] = set()

    def read() -> None:
        while not ended.is_set():
            content = storage.read("folder/file")
            seen.add((len(content), len(set(content))))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10):
        storage.write("folder/file", str(number).encode() * 100_000)
    ended.set()
    reader.join()
    assert seen == {(100_000, 1)}


def test_only_one_writer_holds_the_lock(place: Location) -> None:
    with (
        open_storage(place).lock(),
        pytest.raises(StoreError, match=r"^.* is being written by another sweep: wait until it has ended"),
        open_storage(place).lock(),
    ):
        pass
    with open_storage(place).lock():
        pass
    assert open_storage(place).names("lock") == []


@pytest.mark.slow
def test_a_sweep_is_stored_goes_on_and_is_read_by_polars(place: Location) -> None:
    def rows(table: str) -> pl.DataFrame:
        return pl.scan_parquet(f"{place}/{table}/*.parquet").collect()

    with open_store(place, GRID, "") as store:
        for cell in CELLS[:3]:
            store.extend([FinishedCell(ok_row(cell), tensor_rows(cell))])
        assert read_index(place).keys() == {cell.cell_id for cell in CELLS[:3]}  # before it is published
    with open_store(place, GRID, "") as store:
        assert len(store.finished()) == 3
        for cell in CELLS:
            store.extend([FinishedCell(ok_row(cell), tensor_rows(cell))])
    assert sorted(rows("cells")["cell_id"]) == sorted(cell.cell_id for cell in CELLS)
    assert len(rows("tensors")) == 2 * len(CELLS)
    assert open_storage(place).names("lock") == []


def test_artifacts_are_stored_whole_and_only_once(place: Location, tmp_path: Path) -> None:
    key = {"a": 1}
    name = artifact_name("things", key)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "value").write_text("42")
    archive = pack(tmp_path / "made")
    artifacts = ArtifactStorage(place)
    assert not artifacts.has("things", key)
    assert artifacts.read(name) is None
    artifacts.write(name, archive)
    artifacts.write(name, b"ignored, because the artifact is stored already")
    assert artifacts.has("things", key)
    assert ArtifactStorage(place).read(name) == archive
    assert artifacts.identity() == ArtifactStorage(place).identity()


def test_files_of_the_user_are_stored_as_artifacts(place: Location, tmp_path: Path) -> None:
    artifacts = ArtifactStorage(place)
    file = tmp_path / "my corpus.csv"
    file.write_text("text,label\n")
    source = Source.from_file("mine", file)
    artifacts.write_source(source)
    artifacts.write_source(source)
    assert artifacts.has("sources", source.identity() | {"file": "my corpus.csv"})
