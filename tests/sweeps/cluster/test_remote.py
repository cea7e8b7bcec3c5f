"""``--cluster`` from outside, step by step, on a head that is a directory of this machine.

The double of Ray's launcher runs what it is told in a shell whose home is that directory. The head's side,
``sweeps.cluster.detached``, is the real one; its sweep is a script that prints, waits and leaves prepared
results.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lstmptq import provenance
from lstmptq.cells import Grid
from sweeps.cluster import detached, launcher, remote, results, staging
from sweeps.cluster.config import StepError
from sweeps.errors import StoreError
from sweeps.full_grid import main
from sweeps.options import SweepConfig, parse
from sweeps.storage.opening import open_storage
from sweeps.store.index import finished_cells, read_index
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import ok_row
from tests.sweeps.s3 import Server

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

    def machines(self, config: dict[str, Any]) -> list[str]:
        self._call("machines", config)
        return ["head"] if self.up else self.unready

    def run_on_cluster(self, config: dict[str, Any], *, cmd: str, anyhow: bool = False) -> bytes:
        assert self.up or (anyhow and self.unready)
        self._call(cmd.partition("sweeps.cluster.detached ")[2].split(" ")[0] or "locks", config)
        shell = subprocess.run(
            ["bash", "-c", f"echo Welcome; {cmd}"],
            env=environment(self.home),
            capture_output=True,
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


@pytest.fixture
def sdk(tmp_path: Path) -> Iterator[FakeSdk]:
    """A head that has the project, and on which something answers where Ray would."""
    home = tmp_path / "head"
    package = home / "lstmptq" / "sweeps"
    (package / "cluster").mkdir(parents=True)
    for folder in (package, package / "cluster"):
        (folder / "__init__.py").touch()
    shutil.copy(ROOT / "sweeps" / "cluster" / "detached.py", package / "cluster")
    (package / "full_grid.py").write_text(SWEEP)
    with socket.create_server(("127.0.0.1", 0)) as server:
        fake = FakeSdk(home)
        fake.port = server.getsockname()[1]
        yield fake
    (home / "go").write_text("0")  # so that no sweep waits for ever


@pytest.fixture(autouse=True)
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sdk: FakeSdk) -> Path:
    """This machine: a home, a directory to work in with a cluster.yaml, no Ray."""
    home, work = tmp_path / "laptop", tmp_path / "work"
    for folder in (home, work / "sweeps"):
        folder.mkdir(parents=True)
    (work / "sweeps" / "full_grid.py").touch()
    (work / "cluster.yaml").write_text(
        "cluster_name: lstmptq\nmax_workers: 2\nprovider: {type: aws}\nauth: {ssh_user: me}\n"
        "file_mounts: {~/lstmptq: ., ~/.ray/auth_token: ~/.ray/auth_token}\n"
    )
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    for name in ("RAY_UP_enable_autoscaler_v2", "RAY_USAGE_STATS_ENABLED", "AUTOSCALER_NODE_START_WAIT_S"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(launcher, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(launcher, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(launcher.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    real = launcher.Launcher
    monkeypatch.setattr(remote, "Launcher", lambda path, log, say: real(path, log, say, sdk))
    return work


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
            store.append(ok_row(cell), [])
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
    return detached.decode(said.decode())


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


NAME = remote.sweep_name("results/x")


# ---- the way it should go ----------------------------------------------------------------------------------


def test_a_cluster_is_brought_up_and_its_results_are_brought_here(
    sdk: FakeSdk, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = leave_results(sdk)
    (sdk.home / "go").write_text("0")
    code, said = run()
    assert code == 0
    assert "bringing up cluster lstmptq (aws, at most 2 workers)" in said
    assert f"sweep {NAME} started; it goes on without this machine" in said
    assert "fetched the results to results/x" in said
    assert finished_cells(read_index("results/x")) == {cell.cell_id for cell in grid.cells()}
    streamed = capsys.readouterr().out
    assert "cells: 100 % ± nothing" in streamed
    arguments = json.loads(streamed.split("begun ")[1].splitlines()[0])
    out = str(sdk.home / "sweeps" / NAME / "out")
    shelf = str(sdk.home / "sweeps" / "artifacts")
    assert arguments == [*LINE.split()[:-1], "--cluster", "--out", out, "--artifacts", shelf]
    assert sdk.calls.count("up") == 1
    assert ask(sdk, "survey")["sweeps"][NAME]["fetched"]


def test_the_same_command_after_the_end_fetches(sdk: FakeSdk, capsys: pytest.CaptureFixture[str]) -> None:
    leave_results(sdk)
    start_in_background(sdk, NAME)
    (sdk.home / "go").write_text("1")
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    before = len(sdk.calls)
    code, _ = run()
    assert code == 1
    assert "up" not in sdk.calls[before:]
    assert "cells: 100 %" in capsys.readouterr().out
    assert len(read_index("results/x")) == 2


def test_watching_a_running_sweep_shows_what_it_printed(
    sdk: FakeSdk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_results(sdk)
    start_in_background(sdk, NAME)
    looks = 0
    real = sdk.run_on_cluster

    def run_on_cluster(config: dict[str, Any], *, cmd: str) -> bytes:
        nonlocal looks
        if " look " in cmd:
            looks += 1
            if looks == 2:
                (sdk.home / "go").write_text("0")
        return real(config, cmd=cmd)

    monkeypatch.setattr(sdk, "run_on_cluster", run_on_cluster)
    code, said = run()
    assert code == 0
    assert (
        f"cluster lstmptq is up, and runs {NAME}: what was changed here since it started is not shipped "
        "before it has ended\n"
    ) in said
    assert f"sweep {NAME} runs already: watching" in said
    assert (sdk.home / "sweeps" / NAME / "log").read_text().count("begun") == 1
    shown = capsys.readouterr().out
    assert shown.index("begun") < shown.index("cells: 100 %")
    assert "rsync" in sdk.calls  # the results
    assert sdk.calls.index("start") < sdk.calls.index("rsync")  # nothing is shipped under a running sweep


def test_ctrl_c_stops_watching_and_not_the_sweep(sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "_show", interrupt)
    shown = io.StringIO()
    config = parse(LINE.split())
    with pytest.raises(KeyboardInterrupt):
        remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=shown, width=1000))
    said = shown.getvalue()
    assert "the sweep goes on; the same command shows it again. To end it: " in said
    end = said.split("To end it: ")[1].strip()
    assert end.endswith("sweeps/full_grid.py --cluster --stop --out results/x")
    assert ask(sdk, "survey")["sweeps"][NAME]["running"]
    wait_for(lambda: (sdk.home / "sweeps" / NAME / "pid").exists())
    assert stop(end.split("full_grid.py ")[1]) == (
        f"sweep {NAME} is told to stop; what is finished stays, and its command goes on with it\n"
    )
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    assert stop("--cluster --stop --out results/x") == f"sweep {NAME} does not run\n"


def test_a_lost_connection_is_tried_again(sdk: FakeSdk, capsys: pytest.CaptureFixture[str]) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    sdk.failing, sdk.times = {"look": ConnectionError("SSH command failed.")}, 1
    code, said = run()
    assert code == 0
    assert "the head does not answer; trying again in 0 s" in said
    assert "cells: 100 %" in capsys.readouterr().out


def test_results_that_are_only_here_are_shipped_before(sdk: FakeSdk) -> None:
    grid = parse(LINE.split()).grid()
    first, _ = grid.cells()
    with open_store(Path("results/x"), grid, "") as store:
        store.append(ok_row(first), [])
    seen = sdk.home / "sweeps" / NAME / "out"
    (sdk.home / "go").write_text("0")
    run()
    assert finished_cells(read_index(seen)) == {first.cell_id}
    assert finished_cells(read_index("results/x")) == {first.cell_id}


def test_the_users_files_are_shipped_by_their_content(sdk: FakeSdk, laptop: Path) -> None:
    (laptop / "my corpus; rm.csv").write_text("text,label\na,b\n")
    (laptop / "v.txt").write_text("word 1 2 3\n")
    config = replace(parse(LINE.split()), dataset=("my corpus; rm.csv",), embeddings=("glove:v.txt",))
    grid = config.grid()
    corpus, vectors = grid.datasets[0], grid.embeddings[0]
    (sdk.home / "go").write_text("0")
    remote.run_from_outside(config, grid, Path("results/x"), Console(file=io.StringIO()))
    arguments = json.loads((sdk.home / "sweeps" / NAME / "request.json").read_text())["arguments"]
    there = f"~/sweeps/files/{corpus.digest}/my corpus; rm.csv"
    assert arguments[arguments.index("--dataset") + 1] == there
    assert arguments[arguments.index("--embeddings") + 1] == f"glove:~/sweeps/files/{vectors.digest}/v.txt"
    assert (sdk.home / there.removeprefix("~/")).read_text() == "text,label\na,b\n"
    before = len(sdk.calls)
    remote.run_from_outside(config, grid, Path("results/x"), Console(file=io.StringIO()))
    assert sdk.calls[before:].count("rsync") == 1  # the project: the files are there, results are not


def test_what_is_shipped_says_which_commit_it_is(
    sdk: FakeSdk, laptop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (laptop / "lstmptq").mkdir()
    (laptop / "lstmptq" / "cells.py").touch()
    (laptop / ".venv").mkdir()
    with (laptop / "cluster.yaml").open("a") as file:
        file.write("rsync_exclude: [.git, .venv, '**/__pycache__']\n")
    monkeypatch.setattr(staging, "git_sha", lambda: "abc-dirty")
    (sdk.home / "go").write_text("0")
    run()
    shipped = sdk.home / "mounted"
    assert (shipped / "sweeps" / "full_grid.py").is_file()
    assert not (shipped / ".venv").exists()

    provenance.git_sha.cache_clear()
    monkeypatch.setattr(provenance, "__file__", str(shipped / "lstmptq" / "provenance.py"))
    assert provenance.git_sha() == "abc-dirty"
    provenance.git_sha.cache_clear()


def test_a_cluster_that_is_up_gets_the_project_and_keeps_its_token(sdk: FakeSdk) -> None:
    sdk.create_or_update_cluster({"cluster_name": "lstmptq"})
    (sdk.home / "go").write_text("0")
    run()
    assert "up" not in sdk.calls[1:]
    assert (sdk.home / "shipped" / "sweeps" / "full_grid.py").is_file()
    assert not (Path.home() / ".ray").exists()  # nor is one made that no cluster would know


def test_ray_keeps_what_it_knows_in_a_private_place(sdk: FakeSdk) -> None:
    common = tempfile.gettempdir()
    seen = []
    config = parse(LINE.split())
    started = remote.open_launcher(config, Path("results/x"), Console(file=io.StringIO()))
    started.find()
    seen.append((sdk.folder, sdk.folder.stat().st_mode & 0o777))
    assert seen == [(sdk.folder, 0o700)]
    assert sdk.folder != Path(common)
    assert tempfile.gettempdir() == common


def test_a_name_that_rsync_would_take_for_a_host(sdk: FakeSdk) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    run(out="a:b")
    assert len(read_index("a:b")) == 2


def test_what_the_user_excludes_is_not_left_out_of_results(sdk: FakeSdk, laptop: Path) -> None:
    with (laptop / "cluster.yaml").open("a") as file:
        file.write("rsync_exclude: ['*.parquet', cells]\n")
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    run()
    assert len(read_index("results/x")) == 2
    shutil.rmtree(sdk.home / "sweeps")
    run()  # and on the way there
    assert len(read_index(sdk.home / "sweeps" / NAME / "out")) == 2


def test_results_in_a_bucket(
    sdk: FakeSdk, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = leave_results(sdk)
    (sdk.home / "go").write_text("0")
    for name in ("RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RAY_TMPDIR", str(sdk.home / "no Ray here"))
    out = "s3://results/x"
    assert server.environment["AWS_ENDPOINT_URL"]
    assert main([*LINE.split(), "--out", out]) == 0
    assert finished_cells(read_index(out)) == {cell.cell_id for cell in grid.cells()}
    request = json.loads((sdk.home / "sweeps" / remote.sweep_name(out) / "request.json").read_text())
    assert request["out"] == out
    assert "rsync" not in sdk.calls
    assert f"Parquet: {out}/cells/*.parquet" in capsys.readouterr().out
    assert down() == "taking cluster lstmptq down\ncluster lstmptq is down\n"


# ---- what goes wrong ---------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_come_up(sdk: FakeSdk) -> None:
    sdk.failing = {"up": RuntimeError("Failed to setup head node.")}
    assert refused() == (
        "bringing the cluster up failed: Failed to setup head node.\n"
        "the last lines of results/x/cluster.log:\n  Ray says something about up\n"
        "put that right in cluster.yaml or on the machine, and give the same command again; "
        "--down takes down what came up"
    )


def test_a_missing_package_of_the_provider(sdk: FakeSdk) -> None:
    sdk.failing = {"ip": ModuleNotFoundError("No module named 'boto3'")}
    assert refused().startswith("finding the cluster failed: No module named 'boto3'\n")
    assert refused().endswith("the launcher needs that package for cluster.yaml: install it with pip")


def test_an_own_machine_that_does_not_answer_is_not_started_anew(sdk: FakeSdk, laptop: Path) -> None:
    file = (laptop / "cluster.yaml").read_text()
    own = "{type: local, head_ip: a, worker_ips: []}"
    (laptop / "cluster.yaml").write_text(file.replace("{type: aws}", own))
    sdk.up = True  # Ray's launcher takes it for there
    sdk.failing = {"survey": ConnectionError("no route"), "locks": ConnectionError("SSH command failed.")}
    assert refused().startswith("finding the cluster failed: SSH command failed.")
    assert "up" not in sdk.calls
    del sdk.failing["locks"]
    refused()
    assert "up" in sdk.calls  # it answers, and knows nothing of this project


def test_a_running_sweep_whose_project_does_not_answer_is_not_disturbed(sdk: FakeSdk, laptop: Path) -> None:
    start_in_background(sdk, NAME)
    (sdk.home / "lstmptq" / "sweeps" / "cluster" / "detached.py").write_text("raise SystemExit('other code')")
    said = f"finding the cluster failed: {NAME} runs on the head, but the project there does not answer: wait"
    sdk.up, sdk.unready = False, ["a"]  # a setup that failed meanwhile
    assert refused().startswith(said)
    file = (laptop / "cluster.yaml").read_text()
    own = "{type: local, head_ip: a, worker_ips: []}"
    (laptop / "cluster.yaml").write_text(file.replace("{type: aws}", own))
    sdk.up = True
    assert refused().startswith(said)
    assert "up" not in sdk.calls[1:]


def test_ray_is_not_started_anew_under_a_sweep(sdk: FakeSdk) -> None:
    start_in_background(sdk, NAME)
    write_address(sdk.home, 1)  # nobody is there
    assert refused() == (
        f"bringing the cluster up failed: {NAME} runs on the head, where Ray does not answer, and to start "
        "Ray anew would end it: wait until it has ended, or end it with --stop, then give the same command "
        "again"
    )
    assert "up" not in sdk.calls[1:]


@pytest.mark.parametrize("busy", [False, True])
def test_the_heads_own_commands_leave_a_sweep_alone_that_another_laptop_started(
    sdk: FakeSdk, laptop: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    with (laptop / "cluster.yaml").open("a") as file:
        file.write("head_start_ray_commands: [touch ~/stopped, 'touch ~/begun  # anew']\n")
    if busy:
        start_in_background(sdk, NAME)

    def nobody(_: object) -> str:
        raise RuntimeError("Head node of cluster (lstmptq) not found!")

    monkeypatch.setattr(sdk, "get_head_node_ip", nobody)  # when this laptop looked
    monkeypatch.setattr(sdk, "machines", lambda _: [])
    Launcher = launcher.Launcher
    Launcher(Path("cluster.yaml"), Path("log"), lambda _: None, sdk).up()
    assert [(sdk.home / name).exists() for name in ("stopped", "begun")] == [not busy, not busy]


def test_ctrl_c_before_the_sweep_says_what_may_cost(sdk: FakeSdk) -> None:
    sdk.failing = {"up": KeyboardInterrupt()}
    shown = io.StringIO()
    config = parse(f"{LINE} --cluster-config {Path('cluster.yaml').absolute()}".split())
    with pytest.raises(KeyboardInterrupt):
        remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=shown, width=1000))
    said = shown.getvalue().splitlines()[-1]
    assert said.startswith("cluster lstmptq may be up, and cost. To take it down: ")
    assert said.endswith(f"sweeps/full_grid.py --down --cluster-config {Path('cluster.yaml').absolute()}")


def test_a_project_that_cannot_be_copied(sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise shutil.Error("No space left on device")

    assert not sdk.up
    monkeypatch.setattr(launcher, "stage", full)
    assert refused() == (
        "shipping the project failed: No space left on device: put that right, and give the same command "
        "again"
    )


def test_a_token_that_cannot_be_made(sdk: FakeSdk) -> None:
    (Path.home() / ".ray").write_text("no folder")
    said = refused()
    assert said.startswith("making a token failed: [Errno 17] File exists: ")
    assert said.endswith(".ray/auth_token must be yours and writable")
    assert "up" not in sdk.calls


def test_a_key_that_is_not_there(sdk: FakeSdk, laptop: Path) -> None:
    file = (laptop / "cluster.yaml").read_text()
    (laptop / "cluster.yaml").write_text(
        file.replace("ssh_user: me", "ssh_user: me, ssh_private_key: /no/key")
    )
    assert refused() == "reading cluster.yaml failed: there is no /no/key, which ssh_private_key names"
    assert sdk.calls == []


def test_a_connection_that_stays_lost(sdk: FakeSdk) -> None:
    sdk.failing = {"look": ConnectionError("SSH command failed.")}
    said = refused()
    assert said.startswith("following the sweep failed: SSH command failed.")
    assert said.endswith("the sweep goes on there without this machine: the same command shows it again")
    assert ask(sdk, "survey")["sweeps"][NAME]["running"]


def test_results_that_cannot_be_fetched(sdk: FakeSdk) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    sdk.failing = {"rsync": ConnectionError("SSH command failed.")}
    assert refused().startswith("fetching the results failed: SSH command failed.")
    assert not ask(sdk, "survey")["sweeps"][NAME]["fetched"]


def test_results_that_do_not_all_come_stay_unfetched(sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    real = sdk.rsync

    def rsync(config: dict[str, Any], *, source: str, target: str, down: bool) -> None:
        real(config, source=source, target=target, down=down)
        if down:
            next(Path(target, "cells").iterdir()).unlink()

    monkeypatch.setattr(sdk, "rsync", rsync)
    said = refused()
    assert said.startswith("fetching the results failed: 1 of ")
    assert said.endswith(
        "files did not come whole, cells/segment-00001.parquet for one: give the same command again; until "
        "then they stay on the cluster"
    )
    assert not ask(sdk, "survey")["sweeps"][NAME]["fetched"]
    assert read_index("results/x") == {}
    monkeypatch.setattr(sdk, "rsync", real)
    run()
    assert len(read_index("results/x")) == 2


@pytest.mark.parametrize("entry", ["tensors", "predictions", "open", "cells", "sweep.json"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_kill_while_results_are_put_in_place(
    sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch, entry: str, moved: bool
) -> None:
    leave_results(sdk, cells=1)
    (sdk.home / "go").write_text("0")
    run()
    there = sdk.home / "sweeps" / NAME / "out"
    for folder in (sdk.home / "results", there):
        shutil.rmtree(folder)
    leave_results(sdk, cells=2)
    shutil.copytree(sdk.home / "results", there)
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == entry:
            if moved:
                real(source, target)
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(results.os, "replace", replace)
    config = parse(LINE.split())
    with pytest.raises(KeyboardInterrupt):
        remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=io.StringIO()))
    monkeypatch.setattr(results.os, "replace", real)
    out = Path("results/x")
    new_rows, new_tensors = (not (out / results.FETCHED / name).exists() for name in ("cells", "tensors"))
    assert new_tensors or not new_rows
    assert (out / "sweep.json").exists()  # without, the directory would be refused
    results.settle(out)
    assert len(read_index(out)) == 2
    assert not [path.name for path in out.iterdir() if path.name in (results.FETCHED, results.REPLACED)]


def test_results_that_another_process_writes_are_left_alone(sdk: FakeSdk) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    Path("results/x").mkdir(parents=True)
    with (
        open_storage("results/x").lock(),
        pytest.raises(StoreError, match=r"^results/x is being written by another sweep: wait until it has"),
    ):
        run()
    assert "start" not in sdk.calls
    run()
    assert len(read_index("results/x")) == 2


def test_two_machines_that_ship_at_once_do_not_mix(sdk: FakeSdk) -> None:
    sdk.up = True
    one, two = (ask(sdk, "prepare", NAME, [])["token"] for _ in range(2))
    folder = sdk.home / "sweeps" / NAME
    for token in (one, two):
        assert list((folder / f"shipped-{token}").iterdir()) == []
        (folder / f"shipped-{token}" / "sweep.json").write_text(token)
    again = "give the same command again"
    assert ask(sdk, "adopt", NAME, one) == {
        "refused": f"the results that were shipped have no cells: {again}"
    }
    for token in (one, two):
        (folder / f"shipped-{token}" / "cells").mkdir()
    assert ask(sdk, "adopt", NAME, one) == {}
    assert ask(sdk, "adopt", NAME, two) == {
        "refused": f"the sweep {NAME} has got results from somewhere else meanwhile: {again}"
    }
    assert (folder / "out" / "sweep.json").read_text() == one
    assert ask(sdk, "adopt", NAME, "../x") == {"refused": "'../x' is no token"}


def test_another_sweep_with_the_same_out_is_not_joined(sdk: FakeSdk) -> None:
    start_in_background(sdk, NAME)
    said = refused(LINE.replace("fp32 4", "fp32 3"))
    assert said.startswith(
        "starting the sweep failed: another one with the same --out runs: --models generative"
    )
    assert "wait for it, choose another --out, or end it with: " in said
    assert said.endswith("full_grid.py --cluster --stop --out results/x")


@pytest.mark.parametrize(
    ("code", "why"), [("2", "with code 2: see above"), ("130", "with code 130: see above")]
)
def test_a_sweep_that_fails_on_the_head(sdk: FakeSdk, code: str, why: str) -> None:
    leave_results(sdk)
    (sdk.home / "go").write_text(code)
    said = refused()
    assert said == f"running the sweep failed: it ended on the head {why} The same command goes on with it"
    assert len(read_index("results/x")) == 2  # what it has is here


def test_a_sweep_whose_machine_was_restarted(sdk: FakeSdk) -> None:
    start_in_background(sdk, NAME)
    sweep = int((sdk.home / "sweeps" / NAME / "pid").read_text())
    warden = int(Path(f"/proc/{sweep}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(warden, 9)
    assert ask(sdk, "survey")["sweeps"][NAME]["running"]  # the sweep itself lives, and is not started twice
    os.kill(sweep, 9)
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    seen = ask(sdk, "look", NAME, 0, 0)
    assert (seen["running"], seen["exit"]) == (False, None)


def test_cells_that_only_this_machine_has_are_kept(sdk: FakeSdk) -> None:
    leave_results(sdk, cells=1)
    grid = parse(LINE.split()).grid()
    _, second = grid.cells()
    (sdk.home / "go").write_text("0")
    run()
    with open_store(Path("results/x"), grid, "") as store:
        store.append(ok_row(second), [])
    said = refused()
    assert said.startswith(
        "fetching the results failed: results/x holds 1 cells that the cluster's results do not"
    )
    assert len(read_index("results/x")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "while parsing a flow node"),
        ("cluster_name: \xff", "it is not text in UTF-8 (invalid start byte at byte 14)"),
        (
            "{cluster_name: ../.., provider: {type: aws}, auth: {}}",
            "cluster_name must be letters, digits, - and _, got '../..'",
        ),
        (
            "{cluster_name: null, provider: {type: aws}, auth: {}}",
            "cluster_name must be letters, digits, - and _, got None",
        ),
        ("a: 1", "it is no file for `ray up`, which has cluster_name, provider and auth: begin with the "),
        (
            "{cluster_name: a, provider: aws, auth: {}}",
            "provider must be a mapping with a type, as `provider: {type: aws}`, got 'aws'",
        ),
        (
            "{cluster_name: a, provider: {}, auth: {}}",
            "provider must be a mapping with a type, as `provider: {type: aws}`, got {}",
        ),
        (
            "{cluster_name: a, provider: null, auth: {}}",
            "provider must be a mapping with a type, as `provider: {type: aws}`, got None",
        ),
        (
            "{cluster_name: a, provider: {type: local}, auth: {}}",
            "provider must name the head's address, as `head_ip: 10.0.0.1`, got None",
        ),
        (
            "{cluster_name: a, provider: {type: local, head_ip: b, worker_ips: null}, auth: {}}",
            "worker_ips must be a list of addresses, [] for none, got None",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: null}",
            "auth must be a mapping, as `auth: {ssh_user: ubuntu}`, got None",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {ssh_private_key: 5}}",
            "ssh_private_key must be the path of a file, got 5",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, file_mounts: [a]}",
            "file_mounts must map a path there to one here, as `~/lstmptq: .`, got ['a']",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, file_mounts: {~/x: null}}",
            "file_mounts must map a path there to one here, as `~/lstmptq: .`, got '~/x': None",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, rsync_exclude: .git}",
            "rsync_exclude must be a list of texts, got '.git'",
        ),
        (
            "{cluster_name: a, provider: {type: b}, auth: {}, available_node_types: {h: {ImageId: ami-...}}}",
            "ImageId is still ami-...: put an image of your region there, the file says which",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, file_mounts: {~/x: /tmp}}",
            "none of its file_mounts is this project: add `~/lstmptq: .`, with the file beside README.md",
        ),
    ],
)
def test_a_file_that_describes_no_cluster(laptop: Path, content: str, message: str) -> None:
    (laptop / "cluster.yaml").write_bytes(content.encode("latin-1"))
    assert refused().startswith(f"reading cluster.yaml failed: {message}")


def test_no_file_at_all(laptop: Path) -> None:
    (laptop / "cluster.yaml").unlink()
    assert refused().startswith(
        "no Ray cluster answers on this machine, and there is no cluster.yaml to bring one up from: name one "
        "with --cluster-config, set RAY_ADDRESS"
    )


def test_artifacts_in_a_directory_here_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^--artifacts somewhere is a directory of this machine, and the sweep"
    ):
        run(f"{LINE} --artifacts somewhere")


# ---- down --------------------------------------------------------------------------------------------------


def down(alone: bool = True) -> str:
    shown = io.StringIO()
    remote.take_down(SweepConfig(), Path("results"), Console(file=shown, width=1000), alone)
    return shown.getvalue()


def test_down_takes_a_cluster_down_that_is_not_used(sdk: FakeSdk) -> None:
    assert down() == "no cluster lstmptq is up\n"
    leave_results(sdk)
    (sdk.home / "go").write_text("0")
    run()
    assert down() == "taking cluster lstmptq down\ncluster lstmptq is down\n"
    assert not sdk.up


def test_down_leaves_a_cluster_up_that_would_lose_something(sdk: FakeSdk) -> None:
    leave_results(sdk)
    start_in_background(sdk, NAME)
    with pytest.raises(StepError, match=f"^cluster lstmptq stays up: sweep {NAME} runs on it: --models gen"):
        down()
    assert down(alone=False).startswith(f"cluster lstmptq stays up: sweep {NAME} runs on it")
    (sdk.home / "go").write_text("0")
    wait_for(lambda: not ask(sdk, "survey")["sweeps"][NAME]["running"])
    with pytest.raises(StepError, match="left results on it that were not fetched"):
        down()
    assert sdk.up


def test_down_takes_machines_down_whose_setup_failed(sdk: FakeSdk) -> None:
    sdk.unready = ["i-1", "i-2"]
    sdk.failing = {"locks": ConnectionError("SSH command failed.")}
    assert down() == (
        "cluster lstmptq has no head that works; machines that run: 2\n"
        "taking cluster lstmptq down\ncluster lstmptq is down\n"
    )
    assert sdk.calls[-1] == "down"


def test_down_of_a_head_that_does_not_answer_says_what_ends_it(sdk: FakeSdk) -> None:
    sdk.up = True
    sdk.failing = {"survey": ConnectionError("SSH command failed.")}
    with pytest.raises(
        StepError, match=r"`ray down cluster\.yaml` takes the cluster down without asking what"
    ):
        down()


def test_stop_says_when_there_is_nothing_to_stop(sdk: FakeSdk) -> None:
    assert stop("--cluster --stop --out results/x") == "no cluster lstmptq is up\n"
    start_in_background(sdk, NAME)
    with pytest.raises(StepError) as problem:
        stop("--cluster --stop --out results/y")
    assert str(problem.value) == (
        f"stopping the sweep failed: cluster lstmptq has none with --out results/y, but {NAME}: "
        "give the --out of the command that started it"
    )
    (sdk.home / "sweeps" / NAME / "pid").unlink()
    with pytest.raises(
        StepError, match=f"^stopping the sweep failed: {NAME} is just beginning or ending: give"
    ):
        stop("--cluster --stop --out results/x")


# ---- names -------------------------------------------------------------------------------------------------


def test_the_heads_command_line_means_the_same() -> None:
    line = (
        "--models generative --embeddings glove spacy --hidden 50 100 --bits fp32 8 4 --internal-bits 8 same "
        "--class-ratios balanced head:0.7 0.5,0.5 --noise clean swap:0.1 --seeds 0 1 --limit 100 --isolate "
        "--freeze-embedding --fan-out cell --retry-failed --no-predictions --workers 3 --kernel eager"
    )
    config = parse(line.split())
    given = remote.to_arguments(
        replace(config, cluster=True, out=Path("x"), cluster_config="y", down=True), {}
    )
    assert parse(given) == config


@pytest.mark.parametrize(
    "out", ["../../etc", "/", ".", "results/ä ö", "a" * 500, "$(rm -rf ~)", "s3://b/x/../y", "x/"]
)
def test_a_name_on_the_head_is_one_directory_there(
    out: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = detached.folder_of(remote.sweep_name(out))
    assert folder.parent == tmp_path / "sweeps"
    assert folder.resolve() == folder


def test_sweeps_do_not_collide() -> None:
    outs = ["results/x", "results_x", "results-x", "/results/x", "s3://results/x"]
    assert len({remote.sweep_name(out) for out in outs}) == len(outs)
    assert remote.sweep_name("results/x/") == remote.sweep_name("results/x")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "files", "artifacts", "A", "a\n", "-x"])
def test_the_head_refuses_other_names(name: str) -> None:
    with pytest.raises(detached.RefusedError):
        detached.folder_of(name)


def test_the_head_refuses_what_is_no_digest(sdk: FakeSdk) -> None:
    sdk.up = True
    answer = ask(sdk, "prepare", NAME, ["../../.ssh"])
    assert answer == {"refused": "'../../.ssh' is no digest"}
