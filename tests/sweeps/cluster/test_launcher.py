"""A cluster that comes up, does not, or is busy."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lstmptq.runtime import provenance
from sweeps.cluster import launcher, remote, staging
from sweeps.options import parse
from sweeps.store.index import read_index
from tests.sweeps.cluster.fake_head import (
    LINE,
    NAME,
    FakeSdk,
    ask,
    leave_results,
    refused,
    run,
    start_in_background,
    write_address,
)

pytestmark = pytest.mark.usefixtures("laptop")


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


def test_a_cluster_that_does_not_come_up(sdk: FakeSdk) -> None:
    sdk.failing = {"up": RuntimeError("Failed to setup head node.")}
    assert refused() == (
        "bringing the cluster up failed: Failed to setup head node.\n"
        "the last lines of results/x/cluster.log:\n  Ray says something about up\n"
        "fix that in cluster.yaml or on the machine, and run the same command again; "
        "--down tears down what came up"
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
    said = (
        f"finding the cluster failed: {NAME} is running on the head node, but the project there does not "
        "answer: wait"
    )
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
        f"bringing the cluster up failed: {NAME} is running on the head node, where Ray does not answer, "
        "and restarting Ray would kill it: wait until it has ended, or end it with --stop, then run the same "
        "command again"
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
    monkeypatch.setattr(sdk, "list_machines", lambda _: [])
    Launcher = launcher.Launcher
    Launcher(Path("cluster.yaml"), Path("log"), lambda _: None, sdk).bring_up()
    assert [(sdk.home / name).exists() for name in ("stopped", "begun")] == [not busy, not busy]


def test_a_project_that_cannot_be_copied(sdk: FakeSdk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise shutil.Error("No space left on device")

    assert not sdk.up
    monkeypatch.setattr(launcher, "stage", full)
    assert refused() == (
        "shipping the project failed: No space left on device: fix the cause, and run the same command again"
    )


def test_a_token_that_cannot_be_made(sdk: FakeSdk) -> None:
    (Path.home() / ".ray").write_text("no folder")
    said = refused()
    assert said.startswith("creating a token failed: [Errno 17] File exists: ")
    assert said.endswith(".ray/auth_token must belong to you and be writable")
    assert "up" not in sdk.calls


def test_a_connection_that_stays_lost(sdk: FakeSdk) -> None:
    sdk.failing = {"look": ConnectionError("SSH command failed.")}
    said = refused()
    assert said.startswith("following the sweep failed: SSH command failed.")
    assert said.endswith("the sweep goes on there without this machine: the same command shows it again")
    assert ask(sdk, "survey")["sweeps"][NAME]["running"]


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
    monkeypatch.setattr(provenance, "__file__", str(shipped / "lstmptq" / "runtime" / "provenance.py"))
    assert provenance.git_sha() == "abc-dirty"
    provenance.git_sha.cache_clear()


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
    (laptop / "v.txt").rename(laptop / "renamed.txt")
    config = replace(config, embeddings=("glove:renamed.txt",))
    remote.run_from_outside(config, config.grid(), Path("results/x"), Console(file=io.StringIO()))
    assert (sdk.home / f"sweeps/files/{vectors.digest}/renamed.txt").read_text() == "word 1 2 3\n"
