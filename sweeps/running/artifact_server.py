"""Artifacts of a cluster that shares no disk: one worker builds each of them and the others receive it.

The server is an actor on the driver's node. It knows which artifacts are stored and which worker builds what,
and hands archives out through Ray's object store. Only the server needs access to the storage, or to the
credentials of a bucket. Workers keep the artifacts that they received in a directory of their node.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lstmptq.artifacts import Artifacts, RefusedError
from lstmptq.runtime.locations import Location
from lstmptq.spec.identity import digest_of
from lstmptq.text.sources import Source
from sweeps.errors import StoreError
from sweeps.storage.artifacts import ArtifactStorage

CREDENTIALS = (
    "AWS_",
    "GOOGLE_",
    "CLOUDSDK_",
)  # prefixes of the driver's variables that are passed to the server
CACHED_BYTES = 64 * 2**20  # of archives in Ray's object store; all others are read from the storage again
PING_SECONDS = 1.0  # between two checks whether a builder is alive


@dataclass(slots=True)
class _Lease:
    """The right to build an artifact; it ends when its builder dies."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None


class ArtifactServer:
    """The actor. Its methods run in one event loop, so nothing changes between two awaits."""

    def __init__(self, place: Location, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self.storage = ArtifactStorage(place)
        self._leases: dict[str, _Lease] = {}
        self._cache: OrderedDict[str, tuple[Any, int]] = OrderedDict()  # name -> reference, bytes

    async def fetch(self, name: str, builder: Any) -> tuple[str, Any]:
        """Hand out an artifact, or the right to build it; wait while another worker builds it.

        Args:
            name: name of the artifact.
            builder: the actor that asks.

        Returns:
            ``("here", [reference to the archive])``, ``("build", None)`` or ``("refused", why)``.
        """
        while name not in self._cache:
            if (lease := self._leases.get(name)) is not None:
                await lease.over.wait()
                continue
            lease = self._leases[name] = _Lease()
            try:
                archive = await asyncio.to_thread(self.storage.read, name)
            except StoreError as problem:
                self._end(name)
                return "refused", str(problem)
            if archive is None:
                lease.watching = asyncio.create_task(self._watch(name, builder))
                return "build", None
            self._cache_archive(name, archive)
            self._end(name)
        self._cache.move_to_end(name)
        return "here", [self._cache[name][0]]

    async def publish(self, name: str, archive: bytes) -> str | None:
        """Store an artifact that a worker has built; return the reason if that is impossible."""
        try:
            await asyncio.to_thread(self.storage.write, name, archive)
            self._cache_archive(name, archive)
        except StoreError as problem:
            return str(problem)
        finally:
            self._end(name)
        return None

    async def give_up(self, name: str) -> None:
        """Let another worker build the artifact."""
        self._end(name)

    async def _watch(self, name: str, builder: Any) -> None:
        """End the lease if the builder dies, of which Ray tells those who wait for its answer."""
        while True:
            try:
                await builder.__ray_ready__.remote()  # it answers between two steps of its work
            except ActorUnavailableError:  # it may come back
                pass
            except RayActorError:
                self._end(name)
                return
            await asyncio.sleep(PING_SECONDS)

    def _end(self, name: str) -> None:
        lease = self._leases.pop(name, None)
        if lease is None:
            return
        lease.over.set()
        if lease.watching is not None and lease.watching is not asyncio.current_task():
            lease.watching.cancel()

    def _cache_archive(self, name: str, archive: bytes) -> None:
        self._cache[name] = ray.put(archive), len(archive)
        while len(self._cache) > 1 and sum(size for _, size in self._cache.values()) > CACHED_BYTES:
            self._cache.popitem(last=False)


class RayArtifactClient:
    """A worker's connection to the server.

    Args:
        server: the handle of the server's actor.
    """

    def __init__(self, server: Any) -> None:
        self._keeper = server

    def fetch(self, name: str) -> bytes | None:
        """See :class:`lstmptq.artifacts.ArtifactClient`."""
        me = ray.get_runtime_context().current_actor
        while True:
            answer, value = ray.get(self._keeper.fetch.remote(name, me))
            if answer == "refused":
                raise RefusedError(value)
            if answer == "build":
                return None
            try:
                archive: bytes = ray.get(value[0])
            except ObjectLostError:  # the server was restarted
                continue
            return archive

    def publish(self, name: str, archive: bytes) -> None:
        """See :class:`lstmptq.artifacts.ArtifactClient`."""
        if (refusal := ray.get(self._keeper.publish.remote(name, archive))) is not None:
            raise RefusedError(refusal)

    def give_up(self, name: str) -> None:
        """See :class:`lstmptq.artifacts.ArtifactClient`."""
        self._keeper.give_up.remote(name)


@dataclass(frozen=True, slots=True)
class ArtifactAccess:
    """How a worker reaches the artifacts; Ray sends it to the workers."""

    root: Path | None  # a directory that the worker sees; None: it asks the server
    identity: str = ""  # see ArtifactStorage.identity
    server: Any = None

    def open(self) -> Artifacts:
        """Open the artifacts in a worker.

        Raises:
            RefusedError: if the node's directory cannot be used.
        """
        if self.root is not None:
            return Artifacts(self.root)
        return Artifacts(node_folder(self.identity), RayArtifactClient(self.server))


def start_artifact_server(place: Location, sources: Sequence[Source]) -> ArtifactAccess:
    """Start the server of a run, which ends with the driver.

    Args:
        place: the sweep's ``--artifacts``, as this machine sees it.
        sources: corpora and vectors; the files among them are stored as artifacts, too.

    Raises:
        StoreError: if the artifacts cannot be written.
    """
    storage = ArtifactStorage(place)
    identity = storage.identity()
    for source in sources:
        if source.is_file:
            storage.write_source(source)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # the server keeps nothing that it could not find out again, so Ray may restart it
    server = ray.remote(ArtifactServer).options(
        num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1
    )
    credentials = {name: value for name, value in os.environ.items() if name.startswith(CREDENTIALS)}
    place = place.absolute() if isinstance(place, Path) else place
    return ArtifactAccess(None, identity, server.remote(place, credentials))


def node_folder(identity: str) -> Path:
    """Make this node's directory for copies of artifacts, which no other user can write to.

    Raises:
        RefusedError: if it cannot be made, or somebody else has made it.
    """
    mine = Path(tempfile.gettempdir(), f"lstmptq-{os.getuid()}")
    try:
        mine.mkdir(mode=0o700, exist_ok=True)
    except OSError as problem:
        raise RefusedError(f"{mine} cannot be made on {platform.node()}: {problem.strerror}") from problem
    if mine.is_symlink() or mine.stat().st_uid != os.getuid():
        raise RefusedError(f"{mine} belongs to somebody else: remove it, or set TMPDIR to another directory")
    return mine / digest_of(identity)[:16]
