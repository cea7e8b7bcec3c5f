"""Where artifacts are kept: a directory that a local sweep can go on with, or an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmptq.artifacts import Artifacts, artifact_name, pack
from lstmptq.text.sources import Source
from sweeps.errors import StoreError
from sweeps.storage.artifacts import ArtifactStorage
from tests.sweeps.s3 import Server

KEY = {"a": 1}
NAME = artifact_name("things", KEY)
BUCKET = "s3://results/artifacts"


def archive(folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / "value").write_text("42")
    return pack(folder)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_what_is_kept_is_there_whole(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "shelf" if kind == "directory" else BUCKET
    shelf = ArtifactStorage(place)
    assert not shelf.has("things", KEY)
    assert shelf.read(NAME) is None
    shelf.write(NAME, archive(tmp_path / "made"))
    shelf.write(NAME, b"never looked at: it is there")
    assert shelf.has("things", KEY)
    assert ArtifactStorage(place).read(NAME) == archive(tmp_path / "made")
    assert shelf.identity() == ArtifactStorage(place).identity()
    file = tmp_path / "my corpus.csv"
    file.write_text("text,label\n")
    source = Source.from_file("mine", file)
    shelf.write_source(source)
    shelf.write_source(source)
    assert shelf.has("sources", source.identity() | {"file": "my corpus.csv"})


def test_a_local_sweep_goes_on_with_what_a_cluster_built(tmp_path: Path) -> None:
    ArtifactStorage(tmp_path / "shelf").write(NAME, archive(tmp_path / "made"))
    found = Artifacts(tmp_path / "shelf").get_or_build("things", KEY, lambda _: pytest.fail("built anew"))
    assert (found / "value").read_text() == "42"


def test_artifacts_that_were_removed_are_others(tmp_path: Path) -> None:
    """So that nodes do not take their copies of them for those that are built later."""
    before = ArtifactStorage(tmp_path / "shelf").identity()
    (tmp_path / "shelf" / "id").unlink()
    assert ArtifactStorage(tmp_path / "shelf").identity() != before


def test_a_bucket_that_refuses_is_explained(server: Server, tmp_path: Path) -> None:
    server.refused = -1
    with pytest.raises(StoreError, match=f"^cannot write results to {BUCKET}: access is denied"):
        ArtifactStorage(BUCKET).write(NAME, archive(tmp_path / "made"))
    assert not ArtifactStorage(BUCKET).has("things", KEY)
