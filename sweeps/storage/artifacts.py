"""Artifacts of a sweep whose workers share no disk, kept in a directory or an object store."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstmptq.artifacts import artifact_name, copy_source, pack, source_artifact
from lstmptq.runtime.locations import Location
from lstmptq.text.sources import Source
from sweeps.storage.opening import open_storage

IDENTITY = "id"  # this file goes when the artifacts are removed; copies on the nodes are void then


class ArtifactStorage:
    """Artifacts by name, read and written as archives.

    A directory keeps them unpacked, like those of a local sweep, which can go on with them.

    Args:
        place: the sweep's ``--artifacts``.

    Raises:
        StoreError: if it is a URI of an unknown kind.
    """

    def __init__(self, place: Location) -> None:
        self.storage = open_storage(place)

    def identity(self) -> str:
        """Return a name that tells these artifacts from later ones in the same place.

        Raises:
            StoreError: if it cannot be written.
        """
        with self.storage.explained():
            self.storage.prepare([""])
            if not self.storage.exists(IDENTITY):
                self.storage.write(IDENTITY, secrets.token_hex(16).encode())
            return self.storage.read(IDENTITY).decode()

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Return whether the complete artifact of `key` is stored.

        Raises:
            StoreError: if the storage cannot be reached.
        """
        with self.storage.explained("read"):
            return self.storage.has_artifact(artifact_name(kind, key))

    def read(self, name: str) -> bytes | None:
        """Return an artifact's archive, or None if it is not stored.

        Raises:
            StoreError: if the storage cannot be reached.
        """
        with self.storage.explained("read"):
            try:
                return self.storage.read_artifact(name)
            except FileNotFoundError:
                return None

    def write(self, name: str, archive: bytes) -> None:
        """Store an artifact, unless it is stored already.

        Raises:
            StoreError: if it cannot be written.
        """
        with self.storage.explained():
            if not self.storage.has_artifact(name):
                self.storage.write_artifact(name, archive)

    def write_source(self, source: Source) -> None:
        """Store a file that the user named, which only this machine has.

        Raises:
            StoreError: if it cannot be written.
            FileNotFoundError, ValueError: if it is gone, or changed since it was named.
        """
        kind, key = source_artifact(source)
        if not self.has(kind, key):
            with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
                copy_source(source, Path(scratch))
                self.write(artifact_name(kind, key), pack(Path(scratch)))
