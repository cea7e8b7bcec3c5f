"""Content-addressed get-or-build of whatever several cells share.

An artifact is a directory named by the SHA-256 of its key. It is built once: concurrent builders wait for
each other on a file lock, and a build becomes visible by one rename, so a killed build leaves nothing.

Machines that share no disk each have a directory of their own, and an :class:`ArtifactClient` between them.
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

# Raise it when the same key means another content: a changed recipe, cleaning, noise or observer. Artifacts
# of before are then built anew instead of being mixed with results of now.
ARTIFACT_VERSION = 1

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_ALMOST_NOTHING = 2**20  # bytes: a disk with less is full, whatever a library makes of that


class RefusedError(Exception):
    """Artifacts cannot be kept: no fault of the cell that needed one. The text says where and why."""


class ArtifactClient(Protocol):
    """Brings artifacts from where they were built to where they are needed. Names are ``kind/digest``."""

    def fetch(self, name: str) -> bytes | None:
        """The archive of an artifact, from :func:`pack`; waits while another machine builds it.

        Returns:
            None: the caller builds it, and then calls `publish` or `give_up`. If it dies,
                another one is asked to.
        """

    def publish(self, name: str, archive: bytes) -> None:
        """Keep what the caller has built.

        Raises:
            RefusedError: if it cannot be kept.
        """

    def give_up(self, name: str) -> None:
        """The caller could not build it."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A directory of artifacts, ``root/<kind>/<digest>/``."""

    root: Path
    client: ArtifactClient | None = None  # with machines that do not see `root`

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the artifact of `key` is or would be."""
        return self.root / artifact_name(kind, key)

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the artifact of `key` is there, complete."""
        return self.path(kind, key).is_dir()

    def get_or_build(self, kind: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The artifact's directory, built by `build` if it is not there.

        Args:
            kind: what it is, one word: the folder it lives in.
            key: everything that determines the content, JSON-ready.
            build: writes the content into the empty directory it is given.

        Returns:
            A directory with what `build` wrote and ``key.json``.

        Raises:
            RefusedError: if the artifact cannot be kept.
        """
        name, client = artifact_name(kind, key), self.client
        path = self.root / name
        if path.is_dir():
            return path

        def build_whole(partial: Path) -> None:
            build(partial)
            (partial / "key.json").write_text(json.dumps(json.loads(canonical_json(dict(key))), indent=2))

        with self._refusals():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if path.is_dir():  # somebody else built it while this process waited
                    return path
                for killed in path.parent.glob(f".{path.name}-*"):  # nobody builds it now
                    shutil.rmtree(killed, ignore_errors=True)
                with atomic_directory(path) as partial:
                    if client is None:
                        build_whole(partial)
                    else:
                        _fetch_or_build(name, partial, build_whole, client)
        return path

    def bring_source(self, source: Source) -> Source:
        """`source`, where this machine has it.

        A file that the user named is on the driver's machine; it is an artifact like any other.
        """
        if self.client is None or not source.is_file:
            return source
        path = self.get_or_build(*source_artifact(source), lambda path: copy_source(source, path))
        return replace(source, location=str(path / Path(source.location).name))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Tell a disk that takes no more from a build that fails."""
        try:
            yield
        except RefusedError:
            raise
        except OSError as problem:
            here = str(problem.filename or "").startswith(str(self.root))
            if problem.errno in _FULL or (problem.errno in _FORBIDDEN and here):
                raise self._refused(problem.errno) from problem
            raise
        except Exception as problem:
            if self._is_full():
                raise self._refused(errno.ENOSPC) from problem
            raise

    def _refused(self, number: int) -> RefusedError:
        where = f"{self.root} of {platform.node()}" if self.client else str(self.root)
        return RefusedError(
            f"cannot keep artifacts in {where}: {os.strerror(number)}. What is written stays: put that "
            "right, and the same command goes on where it stopped"
        )

    def _is_full(self) -> bool:
        there = next((path for path in (self.root, *self.root.parents) if path.exists()), Path("/"))
        return shutil.disk_usage(there).free < _ALMOST_NOTHING


def artifact_name(kind: str, key: Mapping[str, Any]) -> str:
    """``kind/digest``: an artifact's path in every directory of artifacts."""
    return f"{kind}/{digest_of({'version': ARTIFACT_VERSION, 'key': dict(key)})[:32]}"


def source_artifact(source: Source) -> tuple[str, dict[str, Any]]:
    """Kind and key of the artifact that holds a source's file."""
    return "sources", source.identity() | {"file": Path(source.location).name}


def copy_source(source: Source, path: Path) -> None:
    """Put a source's file into a directory, under its own name.

    Raises:
        FileNotFoundError: if it is not on this machine.
        ValueError: if its content is not what the source was named after.
    """
    found = source_file(source)
    shutil.copyfile(found, path / found.name)


def pack(path: Path) -> bytes:
    """An artifact as a tar archive; the same files give the same bytes."""
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
    """Put the files of an archive from :func:`pack` into an empty directory.

    Raises:
        ValueError: if it holds anything but plain files, or a name that leaves the directory.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as found:
            for member in found:
                if not member.isreg():
                    raise ValueError(f"an artifact holds files alone, got {member.name!r}: build it anew")
                found.extract(member, path, filter="data")
    except tarfile.TarError as problem:
        raise ValueError(f"an artifact's archive cannot be unpacked ({problem}): build it anew") from problem


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name when it is full."""
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fetch_or_build(name: str, path: Path, build: Callable[[Path], None], client: ArtifactClient) -> None:
    """Fill `path` with what another machine has built, or build it and let the others have it."""
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
