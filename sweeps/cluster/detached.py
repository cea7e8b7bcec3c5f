"""Sweeps that run on the head of a cluster with nobody connected: started, watched and ended over ssh.

This runs on the head, called by :mod:`sweeps.cluster.launcher`; it needs the standard library alone. A sweep
is a process in a session of its own, so that it does not end with the connection. Ray's job server would do
that too, but it is an HTTP server to forward ports to, which needs ``ray[default]``, and its sweeps end with
Ray; these leave their log and their exit code on the disk whatever happens to Ray.

``~/sweeps/NAME`` holds ``out`` (the results), ``log``, ``request.json``, and ``exit`` once it is over. The
sweep and its warden, the process that waits for it, hold a lock on ``alive``: unlike a process id, a lock
does not outlive a restart.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PROJECT = Path(__file__).resolve().parents[2]
MARK = "=====sweeps====="  # around an answer: shells of the head may print other things
DETACHED = "SWEEPS_DETACHED"  # tells the sweep that its last lines would be read on another machine
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
DIGEST = re.compile(r"[0-9a-f]{8,64}")
TOKEN = re.compile(r"[0-9a-f]{16}")
RECORD, CELLS = "sweep.json", "cells"  # what results have at least
ABANDONED_SECONDS = 24 * 3600.0  # results that nobody goes on shipping are removed
# For a plain shell, whatever code is on the head: prints the locks that a sweep holds.
LOCKED = (
    'for lock in ~/sweeps/*/alive; do [ -e "$lock" ] || continue; '
    'flock --nonblock --shared "$lock" true || echo "$lock"; done'
)
CHUNK = 256 * 1024  # bytes of the log in one answer
TAIL = 4 * 1024  # bytes of the log that a newcomer is shown
ARTIFACTS = "artifacts"


class RefusedError(Exception):
    """What was asked for cannot be done; the text is for the user."""


def root() -> Path:
    """Where the sweeps of this head are."""
    return Path.home() / "sweeps"


def folder_of(name: str) -> Path:
    """The directory of a sweep, always directly below :func:`root`.

    Raises:
        RefusedError: if `name` is no name for one.
    """
    if not NAME.fullmatch(name) or name in ("files", ARTIFACTS):
        raise RefusedError(f"{name!r} is no name of a sweep")
    return root() / name


def is_running(folder: Path) -> bool:
    """Whether the sweep or its warden lives."""
    try:
        with (folder / "alive").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look do not see each other
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def ray_address() -> str | None:
    """The address of the Ray that this machine is part of; None if none answers."""
    try:
        address = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return address
    except (OSError, ValueError):
        return None


def address_here() -> str | None:
    """The Ray that ``--cluster`` uses from here: the one it is told of, or that this machine is part of."""
    return os.environ.get("RAY_ADDRESS") or ray_address()


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start a sweep, unless it runs already.

    Args:
        request: ``name``; ``arguments`` of ``full_grid.py``; ``out`` and ``artifacts``, URIs or null for the
            sweep's own directories here.

    Returns:
        ``started``; if not, the ``arguments`` of the one that runs; the ``offset`` to read the log from.
    """
    folder = folder_of(request["name"])
    (folder / "out").mkdir(parents=True, exist_ok=True)
    with _alone(folder / "starting"):
        log = folder / "log"
        if is_running(folder):
            running = json.loads((folder / "request.json").read_text())
            size = log.stat().st_size
            return {"started": False, "arguments": running["arguments"], "offset": max(0, size - TAIL)}
        address = ray_address()
        if address is None:
            raise RefusedError("Ray does not answer on the head")
        for name in ("exit", "fetched", "pid"):
            (folder / name).unlink(missing_ok=True)
        _write(folder / "request.json", json.dumps(request | {"ray": address}))
        offset = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output, (folder / "alive").open("a") as alive:
            fcntl.flock(
                alive, fcntl.LOCK_EX
            )  # held from here on by the warden and the sweep: they inherit it
            warden = "sweeps.cluster.detached", "guard", request["name"], str(alive.fileno())
            subprocess.Popen(
                [sys.executable, "-m", *warden],
                cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, pass_fds=[alive.fileno()],
            )  # fmt: skip
    return {"started": True, "offset": offset}


def guard(name: str, alive: int) -> None:
    """Run the sweep of a request to its end and note its exit code; this is the warden process.

    Args:
        name: the sweep.
        alive: the file descriptor that holds the lock.
    """
    folder = folder_of(name)
    request = json.loads((folder / "request.json").read_text())
    out = request["out"] or str(folder / "out")
    artifacts = request["artifacts"] or str(root() / ARTIFACTS)
    places = ["--cluster", "--out", out, "--artifacts", artifacts]
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "RAY_ADDRESS": request["ray"], DETACHED: "1",
        "COLUMNS": "200",
    }  # fmt: skip
    sweep = subprocess.Popen(
        [sys.executable, "-m", "sweeps.full_grid", *request["arguments"], *places],
        cwd=folder, env=environment, pass_fds=[alive],  # not PROJECT: Ray tells workers to look there first
    )  # fmt: skip
    _write(folder / "pid", str(sweep.pid))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    code = sweep.wait()
    (folder / "pid").unlink(missing_ok=True)
    _write(folder / "exit", str(code))


def look(name: str, offset: int, wait: float) -> dict[str, Any]:
    """How far a sweep is.

    Args:
        name: the sweep.
        offset: bytes of its log that are known.
        wait: seconds to wait for more.

    Returns:
        ``log`` (base64), the ``offset`` after it, ``running``, and ``exit``, null if it left no exit code.
    """
    folder = folder_of(name)
    if not (folder / "request.json").is_file():
        raise RefusedError(f"there is no sweep {name} on the head")
    deadline = time.monotonic() + wait
    while True:
        running = is_running(folder)  # before the log is read: what it printed last is in it
        with (folder / "log").open("rb") as file:
            file.seek(offset)
            text = file.read(CHUNK)
        if text or not running or time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    code = None
    with suppress(FileNotFoundError, ValueError):
        code = int((folder / "exit").read_text())
    over = not running and len(text) < CHUNK
    return {
        "log": base64.b64encode(text).decode(), "offset": offset + len(text), "running": not over,
        "exit": code if over else None,
    }  # fmt: skip


def survey() -> dict[str, Any]:
    """Whether Ray answers here, and the sweeps there are."""
    found = {}
    for request in sorted(root().glob("*/request.json")):
        folder = request.parent
        found[folder.name] = {
            "running": is_running(folder),
            "kept": (folder / "out" / RECORD).is_file(),  # it has results on this disk,
            "fetched": (folder / "fetched").is_file(),  # and somebody has them
            "arguments": json.loads(request.read_text())["arguments"],
        }
    return {"ray": ray_address() is not None, "sweeps": found}


def prepare(name: str, digests: list[str]) -> dict[str, Any]:
    """Make the directories that files are shipped to.

    Args:
        name: the sweep.
        digests: of the user's files.

    Returns:
        ``results``: whether the sweep has some here; ``missing``: the digests of files to be shipped;
        ``token``: results may be shipped to ``shipped-TOKEN``, which is the caller's alone.
    """
    folder = folder_of(name)
    for earlier in folder.glob("shipped-*"):
        if time.time() - earlier.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(earlier, ignore_errors=True)
    token = secrets.token_hex(8)
    (folder / f"shipped-{token}").mkdir(parents=True)
    missing = []
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise RefusedError(f"{digest!r} is no digest")
        place = root() / "files" / digest
        place.mkdir(parents=True, exist_ok=True)
        # rsync gives a file its name when all of it is there
        if not any(not file.name.startswith(".") for file in place.iterdir()):
            missing.append(digest)
    return {"results": (folder / "out" / RECORD).is_file(), "missing": missing, "token": token}


def adopt(name: str, token: str) -> dict[str, Any]:
    """Take results that were shipped as those of a sweep that has none.

    Args:
        name: the sweep.
        token: what :func:`prepare` gave to whom shipped them.
    """
    folder = folder_of(name)
    if not TOKEN.fullmatch(token):
        raise RefusedError(f"{token!r} is no token")
    shipped, out = folder / f"shipped-{token}", folder / "out"
    with _alone(folder / "starting"):
        if is_running(folder):
            raise RefusedError(f"the sweep {name} runs")
        if (out / RECORD).is_file():
            raise RefusedError(
                f"the sweep {name} has got results from somewhere else meanwhile: give the same command again"
            )
        for needed in (RECORD, CELLS):
            if not (shipped / needed).exists():
                raise RefusedError(
                    f"the results that were shipped have no {needed}: give the same command again"
                )
        shutil.rmtree(out, ignore_errors=True)
        shipped.rename(out)
    return {}


def results(name: str) -> dict[str, Any]:
    """What the results of a sweep consist of, so that who fetches them knows whether all came.

    Returns:
        ``files``: the bytes of each, by its path in ``out``.
    """
    out = folder_of(name) / "out"
    files = {}
    for path in out.rglob("*"):
        inside = path.relative_to(out)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            files[str(inside)] = path.stat().st_size
    return {"files": files}


def fetched(name: str) -> dict[str, Any]:
    """Note that the results of a sweep were brought to the user."""
    folder = folder_of(name)
    if not is_running(folder):
        (folder / "fetched").touch()
    return {}


def stop(name: str) -> dict[str, Any]:
    """Interrupt a sweep as Ctrl-C would: what is finished stays.

    Returns:
        ``stopped``: whether there was one to interrupt.
    """
    folder = folder_of(name)
    if is_running(folder):
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((folder / "pid").read_text()), signal.SIGINT)
            return {"stopped": True}
    return {"stopped": False}


def stop_workers() -> dict[str, Any]:
    """End Ray on the other machines of an on-premise cluster, which ``ray down`` leaves running.

    Returns:
        ``failed``: the addresses of those where it could not be ended, and why.
    """
    config = json.loads((Path.home() / "ray_bootstrap_config.yaml").read_text())
    auth = config["auth"]
    key = ["-i", os.path.expanduser(auth["ssh_private_key"])] if "ssh_private_key" in auth else []
    options = [
        "StrictHostKeyChecking=no",
        f"UserKnownHostsFile={os.devnull}",
        "BatchMode=yes",
        "ConnectTimeout=20",
    ]
    ssh = ["ssh", *key, *(word for option in options for word in ("-o", option))]
    line = "bash --login -i -c 'ray stop'"  # as Ray's launcher would call it: with the path of ~/.bashrc
    runs = {
        address: subprocess.Popen(
            [*ssh, f"{auth['ssh_user']}@{address}", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for address in config["provider"]["worker_ips"]
    }  # fmt: skip
    said = {address: run.communicate()[0] for address, run in runs.items()}
    # Ray's own note of which machines run; the next start would wait for them to fail
    for note in Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray").glob(
        f"cluster-{config['cluster_name']}.state"
    ):
        note.unlink()
    return {
        "failed": {address: said[address].strip()[-300:] for address, run in runs.items() if run.returncode}
    }


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock, waiting for it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)


VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "start": start, "look": look, "survey": survey, "prepare": prepare, "adopt": adopt,
    "results": results, "fetched": fetched, "stop": stop, "stop_workers": stop_workers,
}  # fmt: skip


def encode(*values: Any) -> str:
    """Arguments of a verb as one word that no shell changes."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def decode(text: str) -> dict[str, Any]:
    """The answer in what a head printed.

    Raises:
        ValueError: if there is none.
    """
    parts = text.split(MARK)
    if len(parts) != 3:
        raise ValueError(f"no answer in {text[-300:]!r}")
    found: dict[str, Any] = json.loads(base64.b64decode(parts[1]))
    return found


def main(arguments: list[str], output: IO[str] = sys.stdout) -> int:
    """Do what one command line asks: ``VERB VALUES`` as :func:`encode` writes them."""
    verb, *values = arguments
    if verb == "guard":
        guard(values[0], int(values[1]))
        return 0
    try:
        answer = VERBS[verb](*(json.loads(base64.urlsafe_b64decode(values[0])) if values else ()))
    except RefusedError as refusal:
        answer = {"refused": str(refusal)}
    except OSError as problem:
        answer = {"refused": f"{type(problem).__name__}: {problem}"}
    content = base64.b64encode(json.dumps(answer).encode()).decode()
    print(f"{MARK}{content}{MARK}", file=output, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
