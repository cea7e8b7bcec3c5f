"""The server: each artifact is built once, and a builder or a server that is killed blocks nobody."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from lstmptq.artifacts import Artifacts
from sweeps.running.artifact_server import ArtifactAccess, start_artifact_server

KEY = {"a": 1}
pytestmark = pytest.mark.usefixtures("ray_workers")


@pytest.fixture(autouse=True)
def _by_value() -> Iterator[None]:
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


class Machine:
    """A worker with a directory of its own, as if it were another machine."""

    def __init__(self, artifacts: ArtifactAccess, root: Path, journal: Path) -> None:
        self.artifacts = Artifacts(root, artifacts.open().client)
        self.journal = journal

    def use(self, seconds: float) -> str:
        def build(path: Path) -> None:
            with self.journal.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(seconds)
            (path / "value").write_text("42")

        return (self.artifacts.get_or_build("things", KEY, build) / "value").read_text()


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    place = start_artifact_server(tmp_path / "artifacts", [])
    made: list[Any] = [place.server]

    def machine(name: str) -> Any:
        made.append(ray.remote(num_cpus=0)(Machine).remote(place, tmp_path / name, tmp_path / "journal"))
        return made[-1]

    machine.server = place.server  # type: ignore[attr-defined]
    yield machine
    for actor in made:
        ray.kill(actor)


def builders(folder: Path, least: int) -> list[int]:
    """Wait until at least `least` processes began to build, and return their numbers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = (folder / "journal").read_text().split() if (folder / "journal").exists() else []
        if len(found) >= least:
            return [int(number) for number in found]
        time.sleep(0.05)
    raise AssertionError(f"nobody builds: {found}")


@pytest.mark.slow
def test_machines_that_come_together_build_once(machines: Callable[[str], Any], tmp_path: Path) -> None:
    using = [machines(name).use.remote(1.0) for name in ("one", "two", "three")]
    assert ray.get(using, timeout=120) == ["42"] * 3
    assert len(builders(tmp_path, 1)) == 1
    assert Artifacts(tmp_path / "artifacts").has("things", KEY)


@pytest.mark.slow
def test_a_builder_that_is_killed_is_followed_by_another(
    machines: Callable[[str], Any], tmp_path: Path
) -> None:
    first = machines("one").use.remote(600.0)
    [killed] = builders(tmp_path, 1)
    second = machines("two").use.remote(0.0)
    os.kill(killed, signal.SIGKILL)
    assert ray.get(second, timeout=120) == "42"
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(first, timeout=120)
    assert len(builders(tmp_path, 2)) == 2


@pytest.mark.slow
def test_a_server_that_is_killed_is_asked_again(machines: Callable[[str], Any], tmp_path: Path) -> None:
    one, two = machines("one"), machines("two")
    assert ray.get(one.use.remote(0.0), timeout=120) == "42"
    ray.kill(machines.server, no_restart=False)  # type: ignore[attr-defined]
    assert ray.get(two.use.remote(0.0), timeout=120) == "42"
    assert len(builders(tmp_path, 1)) == 1
