"""``OUT/status.json``: what a sweep told others about itself.

:mod:`sweeps.running.heartbeat` writes it.
"""

from __future__ import annotations

import json
from typing import Any

from sweeps.storage.base import Storage

STATUS_FILE = "status.json"
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
        found = json.loads(out.read(STATUS_FILE))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("version") == VERSION else None
