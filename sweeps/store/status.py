"""``OUT/status.json``: what a sweep told others about itself, and whether its process still lives.

:mod:`sweeps.running.heartbeat` writes it.
"""

from __future__ import annotations

import json
import os
import platform
from typing import Any

from sweeps.storage.base import Storage

NAME = "status.json"
VERSION = 1


def kind_name(kind: object) -> str:
    """A kind of work as a key of JSON: ``generative``, or ``generative quantized``."""
    if isinstance(kind, tuple):
        model, quantized = kind
        return f"{model} {'quantized' if quantized else 'fp32'}"
    return str(kind)


def read_status(out: Storage) -> dict[str, Any] | None:
    """What the last sweep told; None if there is nothing, or nothing that can be understood."""
    try:
        found = json.loads(out.read(NAME))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("version") == VERSION else None


def this_process() -> dict[str, Any]:
    """What tells this process from every other one of any machine."""
    return {
        "host": platform.node(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "process": os.getpid(),
        "process_started": process_started(os.getpid()),
    }


def process_started(process: int) -> int | None:
    """When a process of this machine was started, in clock ticks since boot; None if it is gone."""
    # the name, in brackets, may hold spaces
    fields = _first_line(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
