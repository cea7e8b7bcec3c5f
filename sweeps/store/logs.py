"""``OUT/logs``: what there is to read about a failed cell, ``<cell_id>.txt``."""

from __future__ import annotations

import re
from collections.abc import Collection

from sweeps.storage.base import Storage

LOGS_FOLDER = "logs"
LOG_BYTES = 16 * 1024  # of one log; of a longer one the beginning and the end are kept
MOST_LOGS = 1000  # a sweep in which everything fails says why often enough
_CELL_ID = re.compile(r"[0-9a-f]{64}")


class Logs:
    """The logs of failed cells in one place.

    Args:
        out: the results they belong to.
    """

    def __init__(self, out: Storage) -> None:
        self.out = out
        self._kept: set[str] | None = None  # looked up when the first cell fails: most sweeps need none

    def keep(self, cell_id: str, text: str) -> None:
        """Write the log of a failed cell; of `MOST_LOGS` logs no more are kept.

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
        self.out.write(name, shortened(text).encode())
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
    """Where a cell's log is among the results; None for what is no cell_id, and so never becomes a path."""
    return f"{LOGS_FOLDER}/{cell_id}.txt" if _CELL_ID.fullmatch(cell_id) else None


def paths_of_logs(out: Storage) -> dict[str, str]:
    """cell_id -> where its log is, as a user would name it, of the cells that have one."""
    return {
        name.removeprefix(f"{LOGS_FOLDER}/").removesuffix(".txt"): out.path(name)
        for name in out.names(LOGS_FOLDER, ".txt")
    }


def shortened(text: str) -> str:
    """`text` in at most `LOG_BYTES` bytes: what is too much is cut out of the middle."""
    content = text.encode(errors="replace")
    if len(content) <= LOG_BYTES:
        return content.decode()
    half = LOG_BYTES // 2 - 32
    first, last = (part.decode(errors="ignore") for part in (content[:half], content[-half:]))
    return f"{first}\n[{len(content) - 2 * half} bytes left out]\n{last}"
