"""What tells one process of any machine from every other one, and whether it still lives."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any


def this_process() -> dict[str, Any]:
    """What tells this process from every other one of any machine."""
    return {
        "host": platform.node(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "processes": _namespace(),
        "process": os.getpid(),
        "process_started": process_started(os.getpid()),
    }


def process_started(process: int) -> int | None:
    """When a process of this machine was started, in clock ticks since boot; None if it is gone."""
    # the name, in brackets, may hold spaces
    fields = _first_line(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def lives(known: Mapping[str, Any]) -> bool | None:
    """Whether the process that :func:`this_process` told of lives; None if that cannot be seen from here."""
    here = this_process()
    elsewhere = any(known.get(name) != here[name] for name in ("host", "boot", "processes"))
    if elsewhere or here["process_started"] is None:
        return None
    living: bool = process_started(known["process"]) == known["process_started"]
    return living


def _namespace() -> str:
    """Whose numbers its process numbers are: containers of one machine may have the same host name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
