"""Computers to try a cluster on: each a set of Linux namespaces of this machine.

A node has a network of its own, a host name, a list of processes (so that ``ray stop`` there sees no other
Ray), a home directory and a /tmp. It shares the rest of the file system, and with it the interpreter that
runs the tests; the checkout is hidden, so that only what is shipped can run. When the process that made a
node ends, however it ends, the kernel ends everything in it.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NEEDED = ("ip", "unshare", "nsenter", "mount", "ssh", "ssh-keygen", "sshd", "rsync")
ADMIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where sshd and ip are
READY_SECONDS = 20.0

# $1: the node's directory, $2: its name, $3: its home, $4: the checkout, the rest: what has to stay visible
BOOT = """
set -e
node=$1 name=$2 home=$3 checkout=$4
shift 4
hostname "$name"
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/home /mnt/tmp
mount --bind "$node/home" /mnt/home
mount --bind "$node/tmp" /mnt/tmp
number=0
for kept in "$@"; do
    number=$((number + 1))
    mkdir "/mnt/$number"
    mount --bind "$kept" "/mnt/$number"
done
mount -t tmpfs none "$checkout"
mount --bind /mnt/home "$home"
mount --bind /mnt/tmp /tmp
number=0
for kept in "$@"; do
    number=$((number + 1))
    mkdir -p "$kept"
    mount --bind "/mnt/$number" "$kept"
done
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mkdir /run/sshd
ip link set lo up
touch /run/booted
cd "$home"
while :; do sleep 1000 & wait; done
"""


def missing() -> str | None:
    """Why there can be no nodes on this machine; None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [name for name in NEEDED if shutil.which(name, path=ADMIN) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: iproute2 openssh-server openssh-client rsync)"
    spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
    mount = ["mount", "-t", "tmpfs", "none", "/mnt"]
    tried = subprocess.run(["unshare", *spaces, *mount], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


@dataclass(frozen=True)
class Node:
    """One computer.

    Attributes:
        name: its host name.
        address: its IPv4 address.
        folder: where its ``home`` and ``tmp`` are seen from outside.
        process: the process, seen from outside, whose namespaces these are.
    """

    name: str
    address: str
    folder: Path
    process: int

    @property
    def home(self) -> Path:
        """Its home directory, seen from outside."""
        return self.folder / "home"

    def command(self, line: Sequence[str]) -> list[str]:
        """`line` as it has to be called from outside."""
        enter = ["nsenter", f"--target={self.process}", "--net", "--mount", "--pid", "--uts", "--ipc"]
        return [*enter, "env", f"--chdir={_home()}", *line]

    def environment(self, **more: str) -> dict[str, str]:
        """What a shell there would have set."""
        path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"HOME": str(_home()), "PATH": path, "LANG": "C.UTF-8", "USER": "root"} | more

    def run(self, *line: str, check: bool = True, **more: str) -> str:
        """Run a command there and return what it prints."""
        found = subprocess.run(
            self.command(line), env=self.environment(**more), capture_output=True, text=True, check=False
        )
        if check and found.returncode:
            raise RuntimeError(f"{self.name}: {shlex.join(line)}: {found.stdout}{found.stderr}")
        return found.stdout

    def start(self, *line: str, **more: str) -> subprocess.Popen[str]:
        """Start a command there, in a process group of its own, with its output in a pipe."""
        return subprocess.Popen(
            self.command(line), env=self.environment(**more), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def processes(self) -> dict[int, str]:
        """Command lines of what runs there, by the process id it has there; no zombies."""
        listed = self.run("ps", "-e", "-ww", "-o", "pid=,stat=,args=").splitlines()
        rows = (line.split(None, 2) for line in listed)
        return {int(row[0]): row[2] for row in rows if not row[1].startswith("Z")}


def _home() -> Path:
    return Path(pwd.getpwuid(os.geteuid()).pw_dir)


def _kept() -> list[str]:
    """The directories of the interpreter that the nodes would not see otherwise."""
    hidden = (Path("/tmp"), _home(), ROOT)
    folders = dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix)))
    return [str(folder) for folder in folders if any(folder.is_relative_to(place) for place in hidden)]


@contextmanager
def _booted(folder: Path, name: str) -> Iterator[int]:
    """Make the namespaces of a node; yields the process id of its first process."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(mode=0o1777, exist_ok=True)
    spaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child"]
    (folder / "boot").write_text(BOOT)  # not as an argument: it would show in every list of processes
    script = ["bash", str(folder / "boot"), str(folder), name, str(_home()), str(ROOT), *_kept()]
    said = (folder / "boot.log").open("w")
    outer = subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "unshare", *spaces, *script],
        stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=os.environ | {"PATH": ADMIN},
    )  # fmt: skip
    try:
        yield _first_process(outer, folder)
    finally:
        outer.kill()
        outer.wait()
        said.close()


def _first_process(outer: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and outer.poll() is None:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/root/run/booted").exists():
            return int(children[0])
        time.sleep(0.02)
    raise RuntimeError(f"no node in {folder}: {(folder / 'boot.log').read_text()}")


def _prepare_sshd(folder: Path, address: str, public_key: str) -> None:
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh" / "authorized_keys").write_text(public_key)
    (home / ".sshd").mkdir(mode=0o700)
    make_key(home / ".sshd" / "host_key")
    (home / ".sshd" / "config").write_text(
        f"ListenAddress {address}\nHostKey {_home()}/.sshd/host_key\nPermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\nUsePAM no\nPidFile /run/sshd.pid\nMaxSessions 50\nMaxStartups 50\n"
    )
    shutil.copy("/etc/skel/.bashrc", home / ".bashrc")
    (home / ".bash_profile").write_text(". ~/.bashrc\n")


def make_key(path: Path) -> None:
    """Make a pair of ssh keys, `path` and `path`.pub."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


@contextmanager
def nodes(folder: Path, *names: str, subnet: str = "10.77.0") -> Iterator[list[Node]]:
    """Computers on one network: the first is the one to sit at, the others let it in by ssh.

    Args:
        folder: an empty directory for their files.
        names: host names.
        subnet: first three numbers of their addresses.

    Yields:
        The nodes; the key ``~/.ssh/id_ed25519`` of the first opens the others.
    """
    first = folder / names[0]
    (first / "home" / ".ssh").mkdir(parents=True, mode=0o700)
    make_key(first / "home" / ".ssh" / "id_ed25519")
    public_key = (first / "home" / ".ssh" / "id_ed25519.pub").read_text()
    with ExitStack() as stack:
        found: list[Node] = []
        for number, name in enumerate(names, start=1):
            address = f"{subnet}.{number}"
            if found:
                _prepare_sshd(folder / name, address, public_key)
            found.append(
                Node(name, address, folder / name, stack.enter_context(_booted(folder / name, name)))
            )
        _connect(found)
        yield found


def _connect(found: Sequence[Node]) -> None:
    """Join the nodes by a bridge that is in the first one: the machine's own network is not touched."""
    hub, *others = found

    def ip(node: Node, line: str) -> None:
        subprocess.run(
            ["nsenter", f"--target={node.process}", "--net", "ip", *line.split()],
            check=True, env=os.environ | {"PATH": ADMIN},
        )  # fmt: skip

    ip(hub, "link add lan type bridge")
    ip(hub, f"address add {hub.address}/24 dev lan")
    ip(hub, "link set lan up")
    for number, node in enumerate(others):
        ip(hub, f"link add port{number} type veth peer name eth0 netns {node.process}")
        ip(hub, f"link set port{number} master lan up")
        ip(node, f"address add {node.address}/24 dev eth0")
        ip(node, "link set eth0 up")
        ip(node, f"route add default via {hub.address}")  # Ray asks which way it would go to find its address
        node.run("/usr/sbin/sshd", "-f", ".sshd/config")
