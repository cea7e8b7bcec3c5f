import multiprocessing
import time
from pathlib import Path

import pytest

from lstmptq.artifacts import Artifacts


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


def test_two_processes_build_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_build_slowly, args=(str(tmp_path),)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert (tmp_path / "built").read_text() == "built\n"
