"""The interface of all storages: files below one root, which is a directory or a prefix of an object store.

Everything goes through ``pyarrow.fs``. It is installed anyway, Ray stores with it, it speaks S3 and Google
Cloud Storage without further packages, and unlike fsspec's stores it does not cache listings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pyarrow as pa
from pyarrow import fs

from sweeps.errors import StoreError


class Storage(ABC):
    """Files under one root. A write replaces the old content in one step, for every reader.

    Args:
        place: the root, as the user named it.
        files: the file system that holds the root.
        root: the path of the root in `files`.
    """

    def __init__(self, place: str, files: fs.FileSystem, root: str) -> None:
        self.place, self.files, self.root = place, files, root

    def __str__(self) -> str:
        return self.place

    def path(self, name: str) -> str:
        """Return the path of a file, as a user would write it."""
        return f"{self.place}/{name}"

    def names(self, folder: str, suffix: str = "") -> list[str]:
        """List the names ``folder/...`` of the files directly in `folder`, sorted, without hidden ones."""
        selector = fs.FileSelector(self._at(folder), allow_not_found=True)
        found = (info.base_name for info in self.files.get_file_info(selector) if info.is_file)
        return sorted(
            f"{folder}/{name}" for name in found if name.endswith(suffix) and not name.startswith(".")
        )

    def exists(self, name: str) -> bool:
        """Return whether there is a file or a folder `name`."""
        return bool(self.files.get_file_info(self._at(name)).type != fs.FileType.NotFound)

    def is_file(self) -> bool:
        """Return whether the root itself is a file."""
        return bool(self.files.get_file_info(self.root).is_file)

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for reading at any position.

        Raises:
            FileNotFoundError: if there is none.
        """
        return self.files.open_input_file(self._at(name))

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: if there is none.
        """
        with self.open(name) as file:
            content: bytes = file.read()
        return content

    def delete(self, name: str) -> None:
        """Remove a file if it exists."""
        try:
            self.files.delete_file(self._at(name))
        except FileNotFoundError:
            return

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Put `content` at `name` in one step.

        Raises:
            OSError: if it cannot be written; the old file is then untouched.
        """

    @abstractmethod
    def prepare(self, folders: list[str]) -> None:
        """Make folders, and remove what interrupted writes left in them."""

    @abstractmethod
    def has_artifact(self, name: str) -> bool:
        """Return whether a complete artifact is stored."""

    @abstractmethod
    def read_artifact(self, name: str) -> bytes:
        """Read an artifact as an archive; see :func:`lstmptq.artifacts.pack`.

        Raises:
            FileNotFoundError: if it is not stored.
        """

    @abstractmethod
    def write_artifact(self, name: str, archive: bytes) -> None:
        """Store an artifact, which appears whole or not at all."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Make this process the only writer while the context lasts.

        Raises:
            StoreError: if there is another writer.
        """

    @abstractmethod
    def reason(self, problem: OSError) -> str | None:
        """Explain a problem that the user can solve; None if it is of another kind."""

    @contextmanager
    def explained(self, doing: str = "write results to") -> Iterator[None]:
        """Turn refusals of the storage into a StoreError that says how to go on.

        Args:
            doing: the action that was tried, for the message.

        Raises:
            StoreError: in place of an OSError that the user can solve.
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
