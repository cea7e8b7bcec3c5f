"""Identifies a process among those of all machines, and tells whether it is alive."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any


def this_process() -> dict[str, Any]:
    """Return an identity of this process that is unique among all machines, JSON-ready."""
    return {
        "host": platform.node(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "processes": _namespace(),
        "process": os.getpid(),
        "process_started": process_started(os.getpid()),
    }


def process_started(process: int) -> int | None:
    """Return the start of a process of this machine, in clock ticks since boot; None if it is gone."""
    # the name, in brackets, may hold spaces
    fields = _first_line(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def is_alive(known: Mapping[str, Any]) -> bool | None:
    """Return whether the process identified by :func:`this_process` is alive; None if that is unknown."""
    here = this_process()
    elsewhere = any(known.get(name) != here[name] for name in ("host", "boot", "processes"))
    if elsewhere or here["process_started"] is None:
        return None
    living: bool = process_started(known["process"]) == known["process_started"]
    return living


def _namespace() -> str:
    """Return the namespace of process numbers, since containers of a machine may share its host name."""
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
