"""Where results are kept: a directory, or a prefix of an object store; names inside use forward slashes.

Everything goes through ``pyarrow.fs``: it is installed anyway, is what Ray itself stores with, speaks S3 and
Google Cloud Storage without further packages, and does not cache listings, as fsspec's stores do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import fs

from lstmptq.places import Place, is_uri, open_place
from sweeps.files import PARTIAL, REASONS, StoreError, UserError, write_atomically


class Storage:
    """Files under one root. Finished writes replace the old content in one step, for every reader.

    Args:
        place: how the user names the root.
        files: the file system it is on.
        root: the root's path there.
    """

    def __init__(self, place: str, files: fs.FileSystem, root: str) -> None:
        self.place, self.files, self.root = place, files, root

    def __str__(self) -> str:
        return self.place

    def path(self, name: str) -> str:
        """How a user would name a file."""
        return f"{self.place}/{name}"

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """Names ``folder/...`` of the files directly in `folder`, sorted; hidden ones are left out."""
        selector = fs.FileSelector(self._at(folder), allow_not_found=True)
        found = (info.base_name for info in self.files.get_file_info(selector) if info.is_file)
        return sorted(
            f"{folder}/{name}" for name in found if name.endswith(suffix) and not name.startswith(".")
        )

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder `name`."""
        return bool(self.files.get_file_info(self._at(name)).type != fs.FileType.NotFound)

    def open(self, name: str) -> pa.NativeFile:
        """Open a file at random positions.

        Raises:
            FileNotFoundError: if there is none.
        """
        return self.files.open_input_file(self._at(name))

    def read(self, name: str) -> bytes:
        """All of a file.

        Raises:
            FileNotFoundError: if there is none.
        """
        with self.open(name) as file:
            content: bytes = file.read()
        return content

    def move(self, name: str, to: str) -> None:
        """Rename a file; on an object store readers may see it under both names for a moment."""
        self.files.move(self._at(name), self._at(to))

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self.files.delete_file(self._at(name))
        except FileNotFoundError:
            return

    def write(self, name: str, content: bytes) -> None:
        """Put `content` at `name` in one step.

        Raises:
            OSError: if it cannot be written; the old file is then untouched.
        """
        raise NotImplementedError

    def prepare(self, folders: list[str]) -> None:
        """Make folders, and remove what interrupted writes left in them."""
        raise NotImplementedError

    def lock(self) -> AbstractContextManager[None]:
        """Be the only writer while the context lasts.

        Raises:
            StoreError: if somebody else is.
        """
        raise NotImplementedError

    def reason(self, problem: OSError) -> str | None:
        """What of `problem` the user can put right; None if it is none of that."""
        raise NotImplementedError

    @contextmanager
    def explained(self, doing: str = "write results to") -> Iterator[None]:
        """Turn what the storage refuses into a StoreError that says how to go on.

        Args:
            doing: what was tried.

        Raises:
            StoreError: in place of an OSError that the user can put right.
        """
        try:
            yield
        except OSError as problem:
            reason = self.reason(problem)
            if reason is None:
                raise
            raise StoreError(
                f"cannot {doing} {self}: {reason}. What is written stays: put that right, "
                "and the same command goes on where it stopped"
            ) from problem

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


class Directory(Storage):
    """A directory of this machine, or of a disk that it shares."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), fs.LocalFileSystem(), str(path.absolute()))
        self.directory = path

    def write(self, name: str, content: bytes) -> None:
        """See :func:`sweeps.files.write_atomically`."""
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
        lock = FileLock(self.directory / ".lock")
        try:
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


def open_storage(place: str | Path | Storage) -> Storage:
    """The storage that the user names.

    Args:
        place: a directory, or a URI such as ``s3://bucket/folder`` or ``gs://bucket/folder``.

    Raises:
        StoreError: if it is a URI of a kind that is not known.
    """
    if isinstance(place, Storage):
        return place
    if not is_uri(place):
        return Directory(Path(os.fspath(place)))
    from sweeps.buckets import Bucket

    return Bucket(str(place))


def user_place(given: str) -> Place:
    """A directory or a URI, as the user gave it.

    Raises:
        UserError: if it is a URI that cannot be used.
    """
    try:
        open_place(given)
    except ValueError as problem:
        raise UserError(str(problem)) from problem
    return given.rstrip("/") if is_uri(given) else Path(given)
