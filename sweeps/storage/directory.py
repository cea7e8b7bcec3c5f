"""Results in a directory, which may be read while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pyarrow import fs

from lstmptq.artifacts import atomic_directory, pack, unpack
from sweeps.errors import StoreError
from sweeps.storage.base import Storage

PARTIAL = ".partial"  # ends temporary names, so that no glob over *.parquet or *.json matches them

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
        """Write a temporary file in the same folder, which has to exist, and rename it."""
        path = self.directory / name
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

    def prepare(self, folders: list[str]) -> None:
        """Make folders, and remove what interrupted writes left in them."""
        for folder in folders:
            path = self.directory / folder
            path.mkdir(parents=True, exist_ok=True)
            for partial in path.glob(f".*{PARTIAL}"):
                partial.unlink(missing_ok=True)

    def has_artifact(self, name: str) -> bool:
        """Return whether the artifact's directory exists, which only appears when it is complete."""
        return (self.directory / name).is_dir()

    def read_artifact(self, name: str) -> bytes:
        """Pack the artifact's directory."""
        if not self.has_artifact(name):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return pack(self.directory / name)

    def write_artifact(self, name: str, archive: bytes) -> None:
        """Unpack the artifact, so that a local sweep can use it."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_directory(path) as partial:
                unpack(archive, partial)
        except OSError:
            if not path.is_dir():  # otherwise a local sweep has just built it
                raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a lock of the operating system, which frees it when the process dies."""
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
        """Explain a disk that is full, or that may not be written."""
        return REASONS.get(problem.errno or 0)
