"""The two sides that tests without a network need: a head, and a laptop beside it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.cluster import launcher, remote
from tests.sweeps.cluster.fake_head import ROOT, SWEEP, FakeSdk


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


@pytest.fixture
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
