"""``OUT/logs/<cell_id>.txt``: the log of a failed cell."""

from __future__ import annotations

import re
from collections.abc import Collection

from sweeps.storage.base import Storage

LOGS_FOLDER = "logs"
LOG_BYTES = 16 * 1024  # per log; of a longer one the beginning and the end are kept
MOST_LOGS = 1000  # enough for a sweep in which everything fails
_CELL_ID = re.compile(r"[0-9a-f]{64}")


class Logs:
    """The logs of failed cells.

    Args:
        out: the results that they belong to.
    """

    def __init__(self, out: Storage) -> None:
        self.out = out
        self._kept: set[str] | None = None  # listed when the first cell fails, since most sweeps need no logs

    def keep(self, cell_id: str, text: str) -> None:
        """Write the log of a failed cell, unless `MOST_LOGS` logs are stored.

        Raises:
            OSError: if it cannot be written.
        """
        if self._kept is None:
            self._kept = set(self.out.names(LOGS_FOLDER, ".txt"))
        name = log_name(cell_id)
        if name is None or (len(self._kept) >= MOST_LOGS and name not in self._kept):
            return
        if not self._kept:
            self.out.prepare([LOGS_FOLDER])
        self.out.write(name, shorten(text).encode())
        self._kept.add(name)

    def forget(self, cell_ids: Collection[str]) -> None:
        """Remove the logs of cells that are run again.

        Raises:
            OSError: if they cannot be removed.
        """
        there = set(self.out.names(LOGS_FOLDER, ".txt")) if self._kept is None else self._kept
        gone = {name for name in map(log_name, cell_ids) if name in there}
        for name in gone:
            self.out.delete(name)
        self._kept = there - gone


def log_name(cell_id: str) -> str | None:
    """Name the log of a cell; None if `cell_id` is not one, so that nothing else becomes a path."""
    return f"{LOGS_FOLDER}/{cell_id}.txt" if _CELL_ID.fullmatch(cell_id) else None


def paths_of_logs(out: Storage) -> dict[str, str]:
    """Map the cells that have a log to its path, as a user would write it."""
    return {
        name.removeprefix(f"{LOGS_FOLDER}/").removesuffix(".txt"): out.path(name)
        for name in out.names(LOGS_FOLDER, ".txt")
    }


def shorten(text: str) -> str:
    """Cut out the middle of `text` if it has more than `LOG_BYTES` bytes."""
    content = text.encode(errors="replace")
    if len(content) <= LOG_BYTES:
        return content.decode()
    half = LOG_BYTES // 2 - 32
    first, last = (part.decode(errors="ignore") for part in (content[:half], content[-half:]))
    return f"{first}\n[{len(content) - 2 * half} bytes left out]\n{last}"
