"""Reads ``OUT/status.json``, which :mod:`sweeps.running.heartbeat` writes."""

from __future__ import annotations

import json
from typing import Any

from sweeps.storage.base import Storage

STATUS_FILE = "status.json"
VERSION = 1


def kind_name(kind: object) -> str:
    """Return a kind of work as a JSON key: ``generative``, or ``generative quantized``."""
    if isinstance(kind, tuple):
        model, quantized = kind
        return f"{model} {'quantized' if quantized else 'fp32'}"
    return str(kind)


def read_status(out: Storage) -> dict[str, Any] | None:
    """Read the status of the last sweep; None if there is none, or if it cannot be understood."""
    try:
        found = json.loads(out.read(STATUS_FILE))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("version") == VERSION else None
