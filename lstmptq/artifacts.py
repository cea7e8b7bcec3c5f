"""A content-addressed cache of everything that several cells share.

An artifact is a directory named by the SHA-256 of its key. It is built once: concurrent builders wait for
each other on a file lock. A build becomes visible by a single rename, so a killed build leaves nothing.

Machines without a shared disk have a directory each, and exchange artifacts through an
:class:`ArtifactClient`.
"""

from __future__ import annotations

import errno
import io
import json
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from lstmptq.spec.identity import canonical_json, digest_of
from lstmptq.text.sources import Source, source_file

# Increase this when the same key gets another content, through a changed recipe, cleaning, noise or observer.
# Artifacts are then rebuilt, so that old ones do not mix with new results.
ARTIFACT_VERSION = 1

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_ALMOST_NOTHING = 2**20  # bytes: a disk with less is full, whatever exception a library raises


class RefusedError(Exception):
    """Artifacts cannot be stored, whatever cell needs them. The text says where and why."""


class ArtifactClient(Protocol):
    """Transfers artifacts between the machines that build and need them. Names are ``kind/digest``."""

    def fetch(self, name: str) -> bytes | None:
        """Return the archive of an artifact (see :func:`pack`); wait while another machine builds it.

        Returns:
            The archive, or None if the caller has to build it and then call `publish` or `give_up`. If the
            caller dies, another one is told to build it.
        """

    def publish(self, name: str, archive: bytes) -> None:
        """Store the archive that the caller has built.

        Raises:
            RefusedError: if it cannot be stored.
        """

    def give_up(self, name: str) -> None:
        """Report that the caller could not build the artifact."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A directory of artifacts, ``root/<kind>/<digest>/``."""

    root: Path
    client: ArtifactClient | None = None  # for machines that do not share `root`

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))  # a notebook gives a string

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Return the path of the artifact of `key`, whether it exists or not."""
        return self.root / artifact_name(kind, key)

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Return whether the complete artifact of `key` exists."""
        return self.path(kind, key).is_dir()

    def get_or_build(self, kind: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Return the directory of an artifact, building it first if it is missing.

        Args:
            kind: kind of artifact, one word, which is the name of its folder.
            key: everything that determines the content, as JSON values.
            build: writes the content into the empty directory that it is given.

        Returns:
            A directory with the files that `build` wrote and ``key.json``.

        Raises:
            RefusedError: if the artifact cannot be stored.
        """
        name, client = artifact_name(kind, key), self.client
        path = self.root / name
        if path.is_dir():
            return path

        def build_whole(partial: Path) -> None:
            build(partial)
            (partial / "key.json").write_text(json.dumps(json.loads(canonical_json(dict(key))), indent=2))

        with self._detect_refusals():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if path.is_dir():  # another process built it while this one waited
                    return path
                for killed in path.parent.glob(f".{path.name}-*"):  # this process holds the lock
                    shutil.rmtree(killed, ignore_errors=True)
                with atomic_directory(path) as partial:
                    if client is None:
                        build_whole(partial)
                    else:
                        _fetch_or_build(name, partial, build_whole, client)
        return path

    def bring_source(self, source: Source) -> Source:
        """Return `source` with a location on this machine.

        A file that the user named is on the driver's machine, and is brought here like any other artifact.
        """
        if self.client is None or not source.is_file:
            return source
        path = self.get_or_build(*source_artifact(source), lambda path: copy_source(source, path))
        return replace(source, location=str(path / Path(source.location).name))

    @contextmanager
    def _detect_refusals(self) -> Iterator[None]:
        """Turn errors of a full or forbidden disk into :class:`RefusedError`; let others pass."""
        try:
            yield
        except RefusedError:
            raise
        except OSError as problem:
            here = str(problem.filename or "").startswith(str(self.root))
            if problem.errno in _FULL or (problem.errno in _FORBIDDEN and here):
                raise self._make_refusal(problem.errno) from problem
            raise
        except Exception as problem:
            if self._is_full():
                raise self._make_refusal(errno.ENOSPC) from problem
            raise

    def _make_refusal(self, number: int) -> RefusedError:
        where = f"{self.root} of {platform.node()}" if self.client else str(self.root)
        return RefusedError(
            f"cannot keep artifacts in {where}: {os.strerror(number)}. What is written stays: put that "
            "right, and the same command goes on where it stopped"
        )

    def _is_full(self) -> bool:
        there = next((path for path in (self.root, *self.root.parents) if path.exists()), Path("/"))
        return shutil.disk_usage(there).free < _ALMOST_NOTHING


def artifact_name(kind: str, key: Mapping[str, Any]) -> str:
    """Return ``kind/digest``, the path of an artifact within any directory of artifacts."""
    return f"{kind}/{digest_of({'version': ARTIFACT_VERSION, 'key': dict(key)})[:32]}"


def source_artifact(source: Source) -> tuple[str, dict[str, Any]]:
    """Return the kind and key of the artifact that holds the file of a source."""
    return "sources", source.identity() | {"file": Path(source.location).name}


def copy_source(source: Source, path: Path) -> None:
    """Copy the file of a source into a directory, under its own name.

    Raises:
        FileNotFoundError: if the file is not on this machine.
        ValueError: if its content has changed since the source was resolved.
    """
    found = source_file(source)
    shutil.copyfile(found, path / found.name)


def pack(path: Path) -> bytes:
    """Pack an artifact into a tar archive; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                member = archive.gettarinfo(file, str(file.relative_to(path)))
                member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
                with file.open("rb") as content:
                    archive.addfile(member, content)
    return buffer.getvalue()


def unpack(archive: bytes, path: Path) -> None:
    """Unpack an archive from :func:`pack` into an empty directory.

    Raises:
        ValueError: if the archive holds anything but plain files, or a path outside the directory.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as found:
            for member in found:
                if not member.isreg():
                    raise ValueError(f"an artifact holds only files, got {member.name!r}: build it again")
                found.extract(member, path, filter="data")
    except tarfile.TarError as problem:
        raise ValueError(f"an artifact's archive cannot be unpacked ({problem}): build it again") from problem


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a directory to fill, which is renamed to `path` on success and removed on failure."""
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fetch_or_build(name: str, path: Path, build: Callable[[Path], None], client: ArtifactClient) -> None:
    """Fill `path` with the artifact of another machine, or build it and publish it for the others."""
    archive = client.fetch(name)
    if archive is not None:
        unpack(archive, path)
        return
    try:
        build(path)
        client.publish(name, pack(path))
    except BaseException:
        client.give_up(name)
        raise
