"""A Ray cluster of this machine's own processes: nodes to kill, and no other Ray that notices."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
BYTES = str(100 * 2**20)  # of each node's object store
QUICK = {  # a node that is killed is missed within seconds
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}


class Cluster:
    """A head and what joins it; a node is the process group of a ``ray start --block``.

    Args:
        folder: for Ray's files and the nodes' temporary ones; short, since sockets are in there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{_free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._folders: list[Path] = []
        self.environment = {
            **os.environ, **QUICK, "RAY_AUTH_MODE": "disabled", "RAY_TMPDIR": str(folder),
            "RAY_ADDRESS": self.address, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip

    def start_head(self, processors: int) -> None:
        """Start the head and wait until it answers."""
        self._start(processors, "--head", f"--port={self.address.rpartition(':')[2]}",
                    "--include-dashboard=false", f"--temp-dir={self.folder}")  # fmt: skip
        deadline = time.monotonic() + 120
        while not _answers(self.address):
            assert self.nodes[0].poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def add_node(self, processors: int) -> None:
        """Start another node; it takes some seconds to join."""
        self._start(processors, f"--address={self.address}")

    def wait_for_nodes(self) -> None:
        """Wait until all nodes that were started, and no others, are there."""
        from ray._raylet import GcsClient

        deadline, found = time.monotonic() + 120, 0
        while found != len(self.nodes):
            assert time.monotonic() < deadline, f"{found} nodes of {len(self.nodes)}: {self.said()}"
            time.sleep(0.2)
            nodes = GcsClient(address=self.address).get_all_node_info().values()
            found = sum(node.state == node.ALIVE for node in nodes)

    def folder_of(self, node: int) -> Path:
        """The temporary directory of a node, counted from the head, the first one."""
        return self._folders[node]

    def kill_node(self) -> None:
        """End the node that joined last, at once, with all its workers."""
        self._folders.pop()
        kill(self.nodes.pop())

    def said(self) -> str:
        """What the nodes printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("node-*.log")))

    def _start(self, processors: int, *how: str) -> None:
        number = len(list(self.folder.glob("node-*.log")))
        own = self.folder / f"t{number}"  # nodes share no temporary directory
        own.mkdir()
        self._folders.append(own)
        environment = {**self.environment, "TMPDIR": str(own)}
        del environment["RAY_ADDRESS"]
        with (self.folder / f"node-{number}.log").open("wb") as log:
            self.nodes.append(
                subprocess.Popen(
                    [*RAY, "--node-ip-address=127.0.0.1", f"--num-cpus={processors}",
                     f"--object-store-memory={BYTES}", *how],
                    env=environment, stdout=log, stderr=log, start_new_session=True,
                )
            )  # fmt: skip


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """A cluster without nodes yet; they end with the context."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            kill(node)
        shutil.rmtree(folder, ignore_errors=True)


def kill(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End a process and its group, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True
