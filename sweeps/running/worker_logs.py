"""Reads the log of a dead worker, if this machine has it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import ray

LINES = 60  # kept of each of the two files of a worker
_TAIL_BYTES = 8 * 1024
_PID = re.compile(r"\bpid: (\d+)")


def last_words(problem: Exception, process: int | None = None) -> str:
    """Return Ray's text on a worker's death, and the last lines of the worker's own files.

    Ray keeps those files on the node where the worker ran, so those of other machines are unknown.

    Args:
        problem: Ray's exception.
        process: the worker's process number, if it sent a report; Ray's text mostly has it, too.
    """
    text = str(problem).strip() or type(problem).__name__
    parts = [text]
    if (found := _PID.search(text)) is not None:
        process = int(found[1])
    if process is not None:
        files = sorted(_log_folder().glob(f"worker-*-{process}.*"))
        ends = {path.name: _last_lines(path) for path in files if path.suffix in (".err", ".out")}
        parts += [f"the last lines of {name}:\n{lines}" for name, lines in ends.items() if lines]
    return "\n\n".join(parts) + "\n"


def _log_folder() -> Path:
    """Return the folder of this session's logs on this machine."""
    context = ray.get_runtime_context()
    if hasattr(context, "get_temp_dir"):  # missing in older versions
        return Path(context.get_temp_dir(), context.get_session_name(), "logs")
    root = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Path(root, "ray", context.get_session_name(), "logs")


def _last_lines(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    # leave out Ray's own marks, such as :actor_name:CellTrial
    return "\n".join([line for line in lines if not line.startswith(":")][-LINES:])
