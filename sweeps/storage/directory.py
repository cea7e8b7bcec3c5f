"""Results in a directory: files may be read while they are written, and the disk's errors are in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pyarrow import fs

from sweeps.errors import StoreError
from sweeps.storage.base import Storage

PARTIAL = ".partial"  # ends the temporary names: no glob over *.parquet or *.json meets one

REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}


class Directory(Storage):
    """A directory of this machine, or of a disk that it shares."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), fs.LocalFileSystem(), str(path.absolute()))
        self.directory = path

    def write(self, name: str, content: bytes) -> None:
        """See :func:`write_atomically`."""
        write_atomically(self.directory / name, content)

    def prepare(self, folders: list[str]) -> None:
        """Make folders, and remove what interrupted writes left in them."""
        for folder in folders:
            path = self.directory / folder
            path.mkdir(parents=True, exist_ok=True)
            for partial in path.glob(f".*{PARTIAL}"):
                partial.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """A lock of the operating system, which frees it when the process dies."""
        try:
            with self.explained():
                self.directory.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.directory / ".lock")
                lock.acquire(blocking=False)
        except Timeout:
            raise StoreError(
                f"{self} is being written by another sweep: wait until it has ended, or choose another --out"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def reason(self, problem: OSError) -> str | None:
        """A full or read-only disk."""
        return REASONS.get(problem.errno or 0)


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
