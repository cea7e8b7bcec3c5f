"""What a storage offers: files below one root, whether that is a directory or a prefix of an object store.

Everything goes through ``pyarrow.fs``: it is installed anyway, is what Ray itself stores with, speaks S3 and
Google Cloud Storage without further packages, and does not cache listings, as fsspec's stores do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pyarrow as pa
from pyarrow import fs

from sweeps.errors import StoreError


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
