import contextlib
import dataclasses
import errno
import io
import multiprocessing
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from lstmptq.artifacts import (
    Artifacts,
    RefusedError,
    artifact_name,
    copy_source,
    pack,
    source_artifact,
    unpack,
)
from lstmptq.model_assets import ModelAssets


def test_builds_once_and_finds_again(tmp_path):
    calls = []

    def build(path):
        calls.append(path)
        (path / "value").write_text("42")

    artifacts = Artifacts(tmp_path)
    assert not artifacts.has("things", {"a": 1})
    first = artifacts.get_or_build("things", {"a": 1, "b": None}, build)
    assert artifacts.get_or_build("things", {"b": None, "a": 1}, build) == first
    assert (first / "value").read_text() == "42"
    assert len(calls) == 1
    artifacts.get_or_build("things", {"a": 2, "b": None}, build)
    assert len(calls) == 2


def test_a_failed_build_leaves_nothing(tmp_path):
    def build(path):
        (path / "half").write_text("x")
        raise RuntimeError("no")

    artifacts = Artifacts(tmp_path)
    with pytest.raises(RuntimeError, match="no"):
        artifacts.get_or_build("things", {"a": 1}, build)
    assert not artifacts.has("things", {"a": 1})
    assert [path for path in (tmp_path / "things").iterdir() if path.is_dir()] == []


def _build_slowly(root: str) -> None:
    def build(_: Path) -> None:
        with (Path(root) / "built").open("a") as log:
            log.write("built\n")
        time.sleep(0.5)

    Artifacts(Path(root)).get_or_build("things", {"a": 1}, build)


@pytest.mark.slow
def test_two_processes_build_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_build_slowly, args=(str(tmp_path),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "built").read_text() == "built\n"


def test_what_a_killed_build_left_goes_with_the_next_build(tmp_path):
    artifacts = Artifacts(tmp_path)
    path = artifacts.path("things", {"a": 1})
    left = path.with_name(f".{path.name}-left")
    left.mkdir(parents=True)
    artifacts.get_or_build("things", {"a": 1}, Path.exists)
    assert not left.exists()


def test_a_full_disk_is_told_from_a_build_that_fails(tmp_path):
    def build(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path / "value"))

    with pytest.raises(RefusedError) as problem:
        Artifacts(tmp_path).get_or_build("things", {"a": 1}, build)
    assert str(problem.value) == (
        f"cannot keep artifacts in {tmp_path}: No space left on device. What is written stays: put that "
        "right, and the same command goes on where it stopped"
    )

    def forbidden(_):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/corpus.csv")

    with pytest.raises(PermissionError):
        Artifacts(tmp_path).get_or_build("things", {"a": 1}, forbidden)


class FakeClient:
    """A client of one process: what was published, and what went on."""

    def __init__(self):
        self.archives, self.calls = {}, []

    def fetch(self, name):
        self.calls.append("fetch")
        return self.archives.get(name)

    def publish(self, name, archive):
        self.calls.append("publish")
        self.archives[name] = archive

    def give_up(self, name):
        self.calls.append(f"give up {name.partition('/')[0]}")


def test_two_machines_build_once(tmp_path):
    client, calls = FakeClient(), []

    def build(path):
        calls.append(path)
        (path / "value").write_text("42")
        (path / "more").mkdir()
        (path / "more" / "value").write_bytes(bytes(range(256)))

    one, two = (Artifacts(tmp_path / name, client) for name in ("one", "two"))
    built = one.get_or_build("things", {"a": 1}, build)
    brought = two.get_or_build("things", {"a": 1}, build)
    assert built != brought
    assert len(calls) == 1
    for name in ("value", "more/value", "key.json"):
        assert (brought / name).read_bytes() == (built / name).read_bytes()
    assert pack(brought) == pack(built)
    two.get_or_build("things", {"a": 1}, build)  # it is there: nobody is asked
    assert client.calls == ["fetch", "publish", "fetch"]


def test_a_build_that_fails_gives_the_right_to_build_back(tmp_path):
    client = FakeClient()

    def build(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Artifacts(tmp_path, client).get_or_build("things", {"a": 1}, build)
    assert client.calls == ["fetch", "give up things"]


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside"])
def test_no_archive_writes_outside_of_its_directory(tmp_path, name):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    inside = tmp_path / "inside"
    inside.mkdir()
    with contextlib.suppress(ValueError):  # or the / is dropped
        unpack(buffer.getvalue(), inside)
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_holds_nothing_but_files(tmp_path, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("value")
        member.type, member.linkname = kind, "key.json"
        archive.addfile(member)
    with pytest.raises(ValueError, match="an artifact holds only files, got 'value': build it again"):
        unpack(buffer.getvalue(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_the_users_files_is_brought_them(tmp_path, tiny_spec):
    """Corpus and vectors are files of the driver's machine; the rest is built from copies."""
    spec, client, gone = tiny_spec("discriminative"), FakeClient(), {}
    for field in ("dataset", "embedding"):
        source, folder = getattr(spec, field), tmp_path / field
        folder.mkdir()
        copy_source(source, folder)
        client.archives[artifact_name(*source_artifact(source))] = pack(folder)
        name = Path(source.location).name
        gone[field] = dataclasses.replace(source, location=str(tmp_path / "driver" / name))
        shutil.rmtree(folder)
    there = ModelAssets(dataclasses.replace(spec, **gone), Artifacts(tmp_path / "node", client))
    here = ModelAssets(spec, Artifacts(tmp_path / "local"))
    assert there.dataset.texts("train") == here.dataset.texts("train")
    assert (there.vectors.matrix == here.vectors.matrix).all()
    assert there.vectors.source == here.vectors.source
    alone = ModelAssets(dataclasses.replace(spec, **gone), Artifacts(tmp_path / "alone", FakeClient()))
    with pytest.raises(FileNotFoundError, match="on this machine"):
        _ = alone.dataset
