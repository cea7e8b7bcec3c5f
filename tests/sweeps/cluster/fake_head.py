"""A head that is a directory of this machine, and a double of Ray's launcher for it.

The double runs what it is told in a shell whose home is that directory. The head's side,
``sweeps.cluster.detached``, is the real one; its sweep is a script that prints, waits and leaves prepared
results.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lstmptq.results import FinishedCell
from lstmptq.spec.grid import Grid
from sweeps.cluster import detached, remote
from sweeps.cluster.config import StepError
from sweeps.options import SweepConfig, parse
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import ok_row

ROOT = Path(__file__).resolve().parents[3]


LINE = "--models generative --embeddings glove --bits fp32 4 --class-ratios balanced --noise clean --cluster"


PATIENCE = 30.0


SWEEP = """
import json, os, shutil, sys, time
from pathlib import Path

home = Path.home()
print("begun", json.dumps(sys.argv[1:]), flush=True)
while not (home / "go").exists():
    time.sleep(0.05)
out = sys.argv[sys.argv.index("--out") + 1]
if out.startswith("s3://"):
    from pyarrow import fs

    server = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"])
    fs.copy_files(str(home / "results"), out.removeprefix("s3://"), destination_filesystem=server)
elif (home / "results").is_dir():
    shutil.copytree(home / "results", out, dirs_exist_ok=True)
print("cells: 100 % ± nothing", flush=True)
sys.exit(int((home / "go").read_text()))
"""


class FakeSdk:
    """Ray's launcher for one head, a directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.up = False
        self.calls: list[str] = []
        self.failing: dict[str, BaseException] = {}  # raised by the call of that name, or the verb's
        self.times = 0  # how often; 0 for ever
        self.unready: list[str] = []  # machines of a cluster whose setup failed
        self.folder = Path()  # where Ray would keep what it knows of the cluster

    def create_or_update_cluster(self, config: dict[str, Any]) -> None:
        self._call("up", config)
        self.up = True
        (self.home / "lstmptq").mkdir(exist_ok=True)
        if mounts := config.get("file_mounts"):
            shutil.copytree(mounts["~/lstmptq"], self.home / "mounted", dirs_exist_ok=True)
        for command in config.get("head_start_ray_commands", ()):
            subprocess.run(["bash", "-c", f"({command})"], env=environment(self.home), check=True)
        write_address(self.home, self.port)

    def get_head_node_ip(self, config: dict[str, Any]) -> str:
        self._call("ip", config)
        if not self.up:
            raise RuntimeError("Head node of cluster (lstmptq) not found!")
        return "10.0.0.1"

    def list_machines(self, config: dict[str, Any]) -> list[str]:
        self._call("machines", config)
        return ["head"] if self.up else self.unready

    def run_on_cluster(self, config: dict[str, Any], *, cmd: str, even_unready: bool = False) -> str:
        assert self.up or (even_unready and self.unready)
        self._call(cmd.partition("sweeps.cluster.detached ")[2].split(" ")[0] or "locks", config)
        shell = subprocess.run(
            ["bash", "-c", f"echo Welcome; {cmd}"],
            env=environment(self.home),
            capture_output=True,
            text=True,
            check=True,
        )
        return shell.stdout

    def rsync(self, config: dict[str, Any], *, source: str | None, target: str | None, down: bool) -> None:
        self._call("rsync", config)
        assert source, "this would ship all file_mounts"
        assert target
        here, there = (Path(target), source) if down else (Path(source), target)
        assert here.is_absolute()
        if there == "~/lstmptq/":
            there = "~/shipped"  # the fixture's project stays
        place = self.home / there.removeprefix("~/")
        origin, goal = (place, here) if down else (here, place)
        excluded = shutil.ignore_patterns(*config.get("rsync_exclude") or ())
        if origin.is_dir():
            shutil.copytree(origin, goal, dirs_exist_ok=True, ignore=excluded)
        else:
            goal.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, goal)

    def teardown_cluster(self, config: dict[str, Any]) -> None:
        self._call("down", config)
        self.up, self.unready = False, []

    def _call(self, name: str, config: dict[str, Any]) -> None:
        assert config["cluster_name"] == "lstmptq"
        self.calls.append(name)
        self.folder = Path(tempfile.gettempdir())
        if name in self.failing:
            problem = self.failing[name]
            os.write(1, f"Ray says something about {name}\n".encode())
            self.times -= 1
            if self.times == 0:
                del self.failing[name]
            raise problem

    port = 0


def environment(home: Path) -> dict[str, str]:
    python = str(Path(sys.executable).parent)
    bucket = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    places = {"HOME": str(home), "PATH": f"{python}:{os.environ['PATH']}", "RAY_TMPDIR": str(home / "tmp")}
    return bucket | places


def write_address(home: Path, port: int) -> None:
    (home / "tmp" / "ray").mkdir(parents=True, exist_ok=True)
    (home / "tmp" / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")


def run(line: str = LINE, out: str = "results/x") -> tuple[int, str]:
    """Run the command from outside; the exit code and what it says itself."""
    config = parse(line.split())
    shown = io.StringIO()
    code = remote.run_from_outside(config, config.grid(), Path(out), Console(file=shown, width=1000))
    return code, shown.getvalue()


def stop(line: str) -> str:
    config, shown = parse(line.split()), io.StringIO()
    assert config.stop
    remote.stop_sweep(config, Path(str(config.out)), Console(file=shown, width=1000))
    return shown.getvalue()


def refused(line: str = LINE) -> str:
    with pytest.raises(StepError) as problem:
        run(line)
    return str(problem.value)


def leave_results(sdk: FakeSdk, line: str = LINE, cells: int = 2) -> Grid:
    """What the sweep on the head will leave."""
    grid = parse(line.split()).grid()
    with open_store(sdk.home / "results", grid, "") as store:
        for cell in list(grid.cells())[:cells]:
            store.extend([FinishedCell(ok_row(cell), [])])
    (sdk.home / "results" / ".lock").unlink(missing_ok=True)
    return grid


def start_in_background(sdk: FakeSdk, name: str) -> None:
    """A sweep that was started from this machine before."""
    sdk.create_or_update_cluster({"cluster_name": "lstmptq"})
    words = remote.to_arguments(parse(LINE.split()), {})
    ask(sdk, "start", {"name": name, "arguments": words, "out": None, "artifacts": None})
    wait_for(lambda: "begun" in (sdk.home / "sweeps" / name / "log").read_text())


def ask(sdk: FakeSdk, verb: str, *values: object) -> dict[str, Any]:
    line = f"cd ~/lstmptq && python -m sweeps.cluster.detached {verb} {detached.encode(*values)}"
    said = sdk.run_on_cluster({"cluster_name": "lstmptq"}, cmd=line)
    return detached.decode(said)


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


NAME = remote.name_sweep("results/x")


def down(alone: bool = True) -> str:
    shown = io.StringIO()
    remote.take_down(SweepConfig(), Path("results"), Console(file=shown, width=1000), alone)
    return shown.getvalue()
