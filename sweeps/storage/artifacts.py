"""Where the artifacts of a sweep are kept when its workers share no disk: a directory, or an object store."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstmptq.artifacts import appearing_at, artifact_name, copy_source, pack, source_artifact, unpack
from lstmptq.runtime.locations import Location
from lstmptq.text.sources import Source
from sweeps.storage.base import Storage
from sweeps.storage.directory import Directory
from sweeps.storage.opening import open_storage

IDENTITY = "id"  # a file that goes when the artifacts are removed: copies on the nodes are then void


class ArtifactStorage:
    """Artifacts as archives, by name; in a directory they lie unpacked, as those of a local sweep do.

    Args:
        place: the sweep's ``--artifacts``.

    Raises:
        StoreError: if it is a URI of an unknown kind.
    """

    def __init__(self, place: Location) -> None:
        self.storage: Storage = open_storage(place)

    def identity(self) -> str:
        """What tells these artifacts from those that may be in the same place later.

        Raises:
            StoreError: if it cannot be written.
        """
        with self.storage.explained():
            self.storage.prepare([""])
            if not self.storage.exists(IDENTITY):
                self.storage.write(IDENTITY, secrets.token_hex(16).encode())
            return self.storage.read(IDENTITY).decode()

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the artifact of `key` is there, complete.

        Raises:
            StoreError: if the place cannot be reached.
        """
        with self.storage.explained("read"):
            return self.storage.exists(self._file(artifact_name(kind, key)))

    def read(self, name: str) -> bytes | None:
        """An artifact's archive; None if it is not there.

        Raises:
            StoreError: if the place cannot be reached.
        """
        with self.storage.explained("read"):
            if isinstance(self.storage, Directory):
                path = self.storage.directory / name
                return pack(path) if path.is_dir() else None
            try:
                return self.storage.read(self._file(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, archive: bytes) -> None:
        """Keep an artifact, which appears whole or not at all; one that is there stays.

        Raises:
            StoreError: if it cannot be written.
        """
        with self.storage.explained():
            if self.storage.exists(self._file(name)):
                return
            if not isinstance(self.storage, Directory):
                self.storage.write(self._file(name), archive)
                return
            path = self.storage.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with appearing_at(path) as partial:
                    unpack(archive, partial)
            except OSError:
                if not path.is_dir():  # else a local sweep has just built it
                    raise

    def write_source(self, source: Source) -> None:
        """Keep a file that the user named, which only this machine has.

        Raises:
            StoreError: if it cannot be written.
            FileNotFoundError, ValueError: if it is gone, or changed since it was named.
        """
        kind, key = source_artifact(source)
        if not self.has(kind, key):
            with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
                copy_source(source, Path(scratch))
                self.write(artifact_name(kind, key), pack(Path(scratch)))

    def _file(self, name: str) -> str:
        return name if isinstance(self.storage, Directory) else f"{name}.tar"
