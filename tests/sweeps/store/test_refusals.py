"""A disk that refuses, and a directory that another sweep writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import StoreError
from sweeps.store.writer import ResultStore, open_store
from tests.sweeps.fake_study import GRID
from tests.sweeps.store.stored import (
    CELLS,
    files,
    fill,
    open_and_close,
    refusal,
)


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
