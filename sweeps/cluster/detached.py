"""Sweeps that run on the cluster's head node while nobody is connected: start, watch and stop them over ssh.

This module runs on the head node, where :mod:`sweeps.cluster.launcher` calls it over ssh. It needs the
standard library alone. ``docs/clusters.md`` says why it does not use Ray's job submission.

``~/sweeps/NAME`` holds ``out`` (the results), ``log``, ``request.json``, and, after the end, ``exit``.
The sweep and its warden, the shell that waits for it, hold a lock on ``alive``: unlike a process id, a lock
does not survive a restart of the machine.
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
MARK = "=====sweeps====="  # encloses an answer, since the head node's shells may print other text
DETACHED = "SWEEPS_DETACHED"  # tells the sweep that its closing advice would be read on another machine
WORDS = {
    "name of a sweep": re.compile(r"(?!(?:files|artifacts)\Z)[a-z0-9][a-z0-9._-]{0,99}"),
    "digest": re.compile(r"[0-9a-f]{8,64}"),
    "token": re.compile(r"[0-9a-f]{16}"),
}
RECORD, CELLS = "sweep.json", "cells"  # every result directory has these
ABANDONED_SECONDS = 24 * 3600.0  # after this time, a half-shipped copy of results is removed
# A command for a plain shell, independent of the code on the head node: it prints the locks that sweeps hold.
LOCKED = (
    'for lock in ~/sweeps/*/alive; do [ -e "$lock" ] || continue; '
    'flock --nonblock --shared "$lock" true || echo "$lock"; done'
)
# Runs the sweep, and records its process id and its exit code in the working directory. The signals are
# caught rather than ignored, because the sweep would inherit an ignored signal.
WARDEN = """
trap : INT TERM HUP
sh -c 'echo $$ > pid; exec "$@"' sweep "$@"
echo $? > exit.partial; rm -f pid; mv exit.partial exit
"""
CHUNK = 256 * 1024  # the most bytes of the log in one answer
TAIL = 4 * 1024  # bytes of the log that are shown to someone who joins a running sweep


class RefusedError(Exception):
    """The request cannot be carried out; the text is for the user."""


def root() -> Path:
    """Return the directory of this head node's sweeps."""
    return Path.home() / "sweeps"


def folder_of(name: str) -> Path:
    """Return the directory of a sweep, which is always directly below :func:`root`.

    Raises:
        RefusedError: if `name` is not a valid name.
    """
    return root() / _check("name of a sweep", name)


def is_running(folder: Path) -> bool:
    """Return whether the sweep or its warden is alive."""
    try:
        with (folder / "alive").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two observers do not collide
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def find_local_ray() -> str | None:
    """Return the address of the Ray cluster that this machine belongs to; None if none answers."""
    try:
        address = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text().strip()
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
            return address
    except (OSError, ValueError):
        return None


def find_ray() -> str | None:
    """Return the address that ``--cluster`` uses here: ``RAY_ADDRESS``, else :func:`find_local_ray`."""
    return os.environ.get("RAY_ADDRESS") or find_local_ray()


def start(request: dict[str, Any]) -> dict[str, Any]:
    """Start a sweep unless it is already running.

    Args:
        request: ``name``; the ``arguments`` of ``full_grid.py``; ``out`` and ``artifacts``, each a URI, or
            null for a directory here.

    Returns:
        ``started``; the ``offset`` to read the log from; if not started, the ``arguments`` of the sweep that
        is running.
    """
    folder = folder_of(request["name"])
    (folder / "out").mkdir(parents=True, exist_ok=True)
    with _hold_lock(folder / "starting"):
        log = folder / "log"
        if is_running(folder):
            running = json.loads((folder / "request.json").read_text())
            size = log.stat().st_size
            return {"started": False, "arguments": running["arguments"], "offset": max(0, size - TAIL)}
        address = find_local_ray()
        if address is None:
            raise RefusedError("Ray does not answer on the head node")
        for name in ("exit", "fetched", "pid"):
            (folder / name).unlink(missing_ok=True)
        partial = folder / "request.partial"
        partial.write_text(json.dumps(request))
        os.replace(partial, folder / "request.json")
        locations = ["--out", request["out"] or str(folder / "out")]
        locations += ["--artifacts", request["artifacts"] or str(root() / "artifacts")]
        sweep = [sys.executable, "-m", "sweeps.full_grid", *request["arguments"], "--cluster", *locations]
        environment = {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", "RAY_ADDRESS": address}
        offset = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output, (folder / "alive").open("a") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)  # the warden and the sweep inherit this lock
            subprocess.Popen(
                ["sh", "-c", WARDEN, "warden", *sweep],
                cwd=folder,  # not PROJECT: Ray makes its workers import from the driver's directory first
                env=os.environ | environment | {DETACHED: "1", "COLUMNS": "200"},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, pass_fds=[alive.fileno()],
            )  # fmt: skip
    return {"started": True, "offset": offset}


def look(name: str, offset: int, wait: float) -> dict[str, Any]:
    """Read the log of a sweep from `offset`, in bytes, and wait up to `wait` seconds for new output.

    Returns:
        ``log`` (base64); the ``offset`` after it; ``running``; ``exit``, null without an exit code.
    """
    folder = folder_of(name)
    if not (folder / "request.json").is_file():
        raise RefusedError(f"there is no sweep {name} on the head node")
    deadline = time.monotonic() + wait
    while True:
        running = is_running(folder)  # asked before the log is read, so that the last output is not missed
        with (folder / "log").open("rb") as file:
            file.seek(offset)
            text = file.read(CHUNK)
        if text or not running or time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    code, ended = None, not running and len(text) < CHUNK
    if ended:
        with suppress(FileNotFoundError, ValueError):
            code = int((folder / "exit").read_text())
    log = base64.b64encode(text).decode()
    return {"log": log, "offset": offset + len(text), "running": not ended, "exit": code}


def survey() -> dict[str, Any]:
    """Report whether Ray answers here, and describe each sweep."""
    found = {}
    for request in sorted(root().glob("*/request.json")):
        folder = request.parent
        found[folder.name] = {
            "running": is_running(folder),
            "kept": (folder / "out" / RECORD).is_file(),  # whether its results are on this disk
            "fetched": (folder / "fetched").is_file(),  # whether a user has a copy of them
            "arguments": json.loads(request.read_text())["arguments"],
        }
    return {"ray": find_local_ray() is not None, "sweeps": found}


def prepare(name: str, files: list[str]) -> dict[str, Any]:
    """Create the directories that results and the user's `files`, each ``DIGEST/NAME``, are shipped to.

    Returns:
        ``results``: whether the sweep already has results here; ``missing``: the files to ship; ``token``:
        the caller alone may ship results to ``shipped-TOKEN``.
    """
    folder = folder_of(name)
    for earlier in folder.glob("shipped-*"):
        if time.time() - earlier.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(earlier, ignore_errors=True)
    token = secrets.token_hex(8)
    (folder / f"shipped-{token}").mkdir(parents=True)
    for file in files:
        place = root() / "files" / _check("digest", file.partition("/")[0])
        place.mkdir(parents=True, exist_ok=True)
    # rsync gives a file its final name only once the file is complete
    missing = [file for file in files if not (root() / "files" / file).is_file()]
    return {"results": (folder / "out" / RECORD).is_file(), "missing": missing, "token": token}


def adopt(name: str, token: str) -> dict[str, Any]:
    """Turn shipped results into those of a sweep that has none; `token` is from :func:`prepare`."""
    folder = folder_of(name)
    shipped, out = folder / f"shipped-{_check('token', token)}", folder / "out"
    with _hold_lock(folder / "starting"):
        if is_running(folder):
            raise RefusedError(f"the sweep {name} is running")
        again = "run the same command again"
        if (out / RECORD).is_file():
            raise RefusedError(f"the sweep {name} has meanwhile received results from elsewhere: {again}")
        for needed in (RECORD, CELLS):
            if not (shipped / needed).exists():
                raise RefusedError(f"the shipped results have no {needed}: {again}")
        shutil.rmtree(out, ignore_errors=True)
        shipped.rename(out)
    return {}


def list_results(name: str) -> dict[str, Any]:
    """List the result files of a sweep, so that the user's machine can tell whether all of them arrived.

    Returns:
        ``files``: the size of each in bytes, by its path below ``out``.
    """
    out = folder_of(name) / "out"
    paths = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    visible = {at: path for at, path in paths.items() if not any(part.startswith(".") for part in at.parts)}
    return {"files": {str(at): path.stat().st_size for at, path in visible.items()}}


def mark_fetched(name: str) -> dict[str, Any]:
    """Record that a user has the results of a sweep."""
    folder = folder_of(name)
    if not is_running(folder):
        (folder / "fetched").touch()
    return {}


def stop(name: str) -> dict[str, Any]:
    """Interrupt a sweep as Ctrl-C would: finished cells are kept.

    Returns:
        ``stopped``: whether there was a process to interrupt.
    """
    folder = folder_of(name)
    if is_running(folder):
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((folder / "pid").read_text()), signal.SIGINT)
            return {"stopped": True}
    return {"stopped": False}


def stop_workers() -> dict[str, Any]:
    """Stop Ray on the workers of an on-premise cluster, where ``ray down`` leaves it running.

    Returns:
        ``failed``: by the address of each worker where that failed, the reason.
    """
    config = json.loads((Path.home() / "ray_bootstrap_config.yaml").read_text())
    auth = config["auth"]
    ssh = ["ssh", "-oStrictHostKeyChecking=no", f"-oUserKnownHostsFile={os.devnull}"]
    ssh += ["-oBatchMode=yes", "-oConnectTimeout=20"]
    if "ssh_private_key" in auth:
        ssh += ["-i", os.path.expanduser(auth["ssh_private_key"])]
    line = "bash --login -i -c 'ray stop'"  # as Ray's launcher would call it: with the PATH of ~/.bashrc
    runs = {
        address: subprocess.Popen(
            [*ssh, f"{auth['ssh_user']}@{address}", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for address in config["provider"]["worker_ips"]
    }  # fmt: skip
    output = {address: run.communicate()[0] for address, run in runs.items()}
    # Ray records here which machines run; with the record left, its next start would wait for them to fail
    state = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", f"cluster-{config['cluster_name']}.state")
    state.unlink(missing_ok=True)
    return {"failed": {at: output[at].strip()[-300:] for at, run in runs.items() if run.returncode}}


def _check(kind: str, value: str) -> str:
    if not WORDS[kind].fullmatch(value):
        raise RefusedError(f"{value!r} is not a {kind}")
    return value


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# The keys are a protocol: a laptop may ask a head node whose code is older.
VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "start": start, "look": look, "survey": survey, "prepare": prepare, "adopt": adopt,
    "results": list_results, "fetched": mark_fetched, "stop": stop, "stop_workers": stop_workers,
}  # fmt: skip


def encode(*values: Any) -> str:
    """Encode the arguments of a verb as one word that no shell changes."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def decode(text: str) -> dict[str, Any]:
    """Find and decode the answer in the output of :func:`main`.

    Raises:
        ValueError: if there is none.
    """
    parts = text.split(MARK)
    if len(parts) != 3:
        raise ValueError(f"no answer in {text[-300:]!r}")
    found: dict[str, Any] = json.loads(base64.b64decode(parts[1]))
    return found


def main(arguments: list[str], output: IO[str] = sys.stdout) -> int:
    """Carry out one command line, ``VERB VALUES``, and print the answer; :func:`encode` writes VALUES."""
    verb, values = arguments
    try:
        answer = VERBS[verb](*json.loads(base64.urlsafe_b64decode(values)))
    except RefusedError as refusal:
        answer = {"refused": str(refusal)}
    except OSError as problem:
        answer = {"refused": f"{type(problem).__name__}: {problem}"}
    content = base64.b64encode(json.dumps(answer).encode()).decode()
    print(f"{MARK}{content}{MARK}", file=output, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
