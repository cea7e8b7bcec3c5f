"""Artifacts in a directory, which a local sweep can go on with, and in a bucket that refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmptq.artifacts import Artifacts, artifact_name, pack
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


def test_a_local_sweep_goes_on_with_what_a_cluster_built(tmp_path: Path) -> None:
    ArtifactStorage(tmp_path / "artifacts").write(NAME, archive(tmp_path / "made"))
    found = Artifacts(tmp_path / "artifacts").get_or_build("things", KEY, lambda _: pytest.fail("built anew"))
    assert (found / "value").read_text() == "42"


def test_artifacts_that_were_removed_are_others(tmp_path: Path) -> None:
    """So that nodes do not take their copies of them for those that are built later."""
    before = ArtifactStorage(tmp_path / "artifacts").identity()
    (tmp_path / "artifacts" / "id").unlink()
    assert ArtifactStorage(tmp_path / "artifacts").identity() != before


def test_a_bucket_that_refuses_is_explained(server: Server, tmp_path: Path) -> None:
    server.refused = -1
    with pytest.raises(StoreError, match=f"^cannot write results to {BUCKET}: access is denied"):
        ArtifactStorage(BUCKET).write(NAME, archive(tmp_path / "made"))
    assert not ArtifactStorage(BUCKET).has("things", KEY)
