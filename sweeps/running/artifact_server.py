"""Artifacts of a cluster that shares no disk: each is built once, by one worker, and brought to the others.

A server, an actor on the driver's node, knows what is on the shelf, who builds what, and hands archives out
through Ray's object store. Only it needs to see the shelf, or the bucket's credentials. Workers keep what
they got in a directory of their node.
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
from lstmptq.spec.cells import digest_of
from lstmptq.text.sources import Source
from sweeps.errors import StoreError
from sweeps.storage.artifacts import ArtifactStorage

CREDENTIALS = ("AWS_", "GOOGLE_", "CLOUDSDK_")  # variables of the driver that the server is told
KEPT_BYTES = 64 * 2**20  # archives that stay in Ray's object store; the others are read again
ASK_SECONDS = 1.0  # between two questions to a builder whether it lives


@dataclass(slots=True)
class _Lease:
    """The right to build an artifact; it ends with the builder."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None


class ArtifactServer:
    """The server; its methods run in one event loop, so that between two awaits nothing changes."""

    def __init__(self, place: Location, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self.shelf = ArtifactStorage(place)
        self._leases: dict[str, _Lease] = {}
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()  # name: reference and bytes

    async def fetch(self, name: str, builder: Any) -> tuple[str, Any]:
        """An artifact, or the right to build it; waits while another worker builds it.

        Args:
            name: of the artifact.
            builder: the actor that asks.

        Returns:
            ``("here", [reference to the archive])``, ``("build", None)`` or ``("refused", why)``.
        """
        while name not in self._kept:
            if (lease := self._leases.get(name)) is not None:
                await lease.over.wait()
                continue
            lease = self._leases[name] = _Lease()
            try:
                archive = await asyncio.to_thread(self.shelf.read, name)
            except StoreError as problem:
                self._end(name)
                return "refused", str(problem)
            if archive is None:
                lease.watching = asyncio.create_task(self._watch(name, builder))
                return "build", None
            self._keep(name, archive)
            self._end(name)
        self._kept.move_to_end(name)
        return "here", [self._kept[name][0]]

    async def publish(self, name: str, archive: bytes) -> str | None:
        """Put what was built on the shelf; returns why not, if it cannot be."""
        try:
            await asyncio.to_thread(self.shelf.write, name, archive)
            self._keep(name, archive)
        except StoreError as problem:
            return str(problem)
        finally:
            self._end(name)
        return None

    async def give_up(self, name: str) -> None:
        """Let another worker try."""
        self._end(name)

    async def _watch(self, name: str, builder: Any) -> None:
        """End the lease of a builder that dies: Ray tells those who wait for an answer of it."""
        while True:
            try:
                await builder.__ray_ready__.remote()  # answered between two steps of its work
            except ActorUnavailableError:  # it may be back
                pass
            except RayActorError:
                self._end(name)
                return
            await asyncio.sleep(ASK_SECONDS)

    def _end(self, name: str) -> None:
        lease = self._leases.pop(name, None)
        if lease is None:
            return
        lease.over.set()
        if lease.watching is not None and lease.watching is not asyncio.current_task():
            lease.watching.cancel()

    def _keep(self, name: str, archive: bytes) -> None:
        self._kept[name] = ray.put(archive), len(archive)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)


class RayArtifactClient:
    """The side of the actor that uses it.

    Args:
        server: the server's handle.
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
            except ObjectLostError:  # the server was started anew
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
    """How a worker gets at the artifacts; sent to it by Ray."""

    root: Path | None  # a directory that it sees; None: one of its own
    identity: str = ""  # of the shelf
    server: Any = None

    def open(self) -> Artifacts:
        """The artifacts, in a worker.

        Raises:
            RefusedError: if the node's directory cannot be used.
        """
        if self.root is not None:
            return Artifacts(self.root)
        return Artifacts(node_folder(self.identity), RayArtifactClient(self.server))


def start_artifact_server(place: Location, sources: Sequence[Source]) -> ArtifactAccess:
    """Start the server of a run; it ends with the driver.

    Args:
        place: the sweep's ``--artifacts``, as this machine sees it.
        sources: corpora and vectors; those that are files are brought to the workers as well.

    Raises:
        StoreError: if the artifacts cannot be written.
    """
    shelf = ArtifactStorage(place)
    identity = shelf.identity()
    for source in sources:
        if source.is_file:
            shelf.write_source(source)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # what it knows it can find out again: a server that is killed starts anew, and is asked again
    server = ray.remote(ArtifactServer).options(
        num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1
    )
    told = {name: value for name, value in os.environ.items() if name.startswith(CREDENTIALS)}
    place = place.absolute() if isinstance(place, Path) else place
    return ArtifactAccess(None, identity, server.remote(place, told))


def node_folder(identity: str) -> Path:
    """This node's directory for copies of artifacts, which nobody else can write to.

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
