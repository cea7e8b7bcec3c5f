"""A file that readers may look at while it is written, and errors of the disk in plain words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PARTIAL = ".partial"  # ends the temporary names: no glob over *.parquet or *.json meets one

REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}


class UserError(ValueError):
    """Something the user can put right: the text says what, and is shown without a traceback."""


class StoreError(UserError):
    """Results cannot be kept where they were asked to be; the text says why and what to do."""


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: readers see the old file or the new one, never a part.

    Args:
        path: the file to make or to replace, in an existing directory.
        content: all of it.

    Raises:
        OSError: if it cannot be written; the old file is then untouched.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave the new name with no content
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
