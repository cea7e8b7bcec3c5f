"""Results in an object store: S3, Google Cloud Storage, or a server with the same interface."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

from lstmptq.runtime.locations import open_location
from sweeps.errors import StoreError
from sweeps.processes import is_alive, this_process
from sweeps.storage.base import Storage

RETRY_SECONDS = 60.0  # how long a failed write is retried, unless retrying cannot help
RENEW_SECONDS = 15.0  # how often a writer renews its claim
EXPIRE_SECONDS = 120.0  # after this time without renewal a writer is taken for dead
_REASONS = {
    "ACCESS_DENIED": "access is denied: check the credentials and the bucket's policy",
    "NO_SUCH_BUCKET": "there is no such bucket",
    "INVALID_ACCESS_KEY_ID": "the access key is not known: check the credentials",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong: check the credentials",
    "NETWORK_CONNECTION": "the object store cannot be reached",
}
_HOPELESS = _REASONS.keys() - {"NETWORK_CONNECTION"}  # retrying does not help


class Bucket(Storage):
    """A prefix of an object store. An object appears whole, when its upload is complete.

    Args:
        uri: such as ``s3://bucket/folder``; see :func:`lstmptq.runtime.locations.open_location` for its
            credentials.

    Raises:
        StoreError: if the kind of `uri` is unknown.
    """

    def __init__(self, uri: str) -> None:
        try:
            files, root = open_location(uri)
        except ValueError as problem:
            raise StoreError(str(problem)) from problem
        super().__init__(uri.rstrip("/"), files, root)
        self._claim: str | None = None  # the object that says who writes here
        self._renewed = 0.0  # when this process last wrote it, by _clock

    def write(self, name: str, content: bytes) -> None:
        """Upload `content`; retry for a minute after a fault that may pass. Ctrl-C waits until it is over.

        Raises:
            StoreError: if another sweep has taken over because this process stood still for too long.
            OSError: if it cannot be written; the old object is then untouched.
        """
        if self._claim is not None and _clock() - self._renewed > 2 * RENEW_SECONDS:
            self._check_claim(self._claim)
        self._upload(name, content)

    def _upload(self, name: str, content: bytes) -> None:
        deadline, pause = time.monotonic() + RETRY_SECONDS, 0.5
        while True:
            try:
                # in a thread, because an interrupted stream would complete an empty upload
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(self._upload_once, name, content).result()
                return
            except OSError as problem:
                hopeless = any(code in str(problem) for code in _HOPELESS)
                if hopeless or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _upload_once(self, name: str, content: bytes) -> None:
        # a single write: if it fails, closing the stream completes no upload
        with self.files.open_output_stream(self._at(name)) as stream:
            stream.write(content)

    def prepare(self, folders: list[str]) -> None:
        """Do nothing: an object store has no folders, and shows no half-written objects."""

    def has_artifact(self, name: str) -> bool:
        """Return whether the artifact's archive was uploaded."""
        return self.exists(f"{name}.tar")

    def read_artifact(self, name: str) -> bytes:
        """Download the artifact's archive."""
        return self.read(f"{name}.tar")

    def write_artifact(self, name: str, archive: bytes) -> None:
        """Upload the archive as it is."""
        self.write(f"{name}.tar", archive)

    def reason(self, problem: OSError) -> str | None:
        """Explain every refusal; only the user can solve it."""
        found = next((reason for code, reason in _REASONS.items() if code in str(problem)), None)
        return found or " ".join(str(problem).split())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a claim, an object that this process renews.

        Two writers that start together may both give up, but never both go on: each writes its claim before
        it looks for others, and a written object is listed at once. An owner that stood still until another
        writer took over finds its claim gone, and writes nothing more.
        """
        name = f"lock/{secrets.token_hex(8)}.json"
        with self.explained():
            self._put_claim(name)
            others = [other for other in self.names("lock") if other != name]
            now = self._write_time(name)
            for other in others:
                if self._is_alive(other, now):
                    self.delete(name)
                    raise StoreError(self._explain_claim(other, now))
                self.delete(other)
        self._claim = name
        stop = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(name, stop), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            stop.set()
            renewing.join()
            self._claim = None
            with self.explained():
                self.delete(name)

    def _put_claim(self, name: str) -> None:
        self._upload(name, json.dumps(this_process()).encode())
        self._renewed = _clock()

    def _renew(self, name: str, stop: threading.Event) -> None:
        while not stop.wait(RENEW_SECONDS):
            try:
                self._check_claim(name)
                self._put_claim(name)
            except StoreError:
                return  # the next write of a row raises it again
            except OSError:
                continue  # the next write of a row raises it if it lasts

    def _check_claim(self, name: str) -> None:
        """Refuse to go on if the claim was taken away."""
        if not self.exists(name):
            raise StoreError(
                f"another sweep has taken {self} over, because this one stood still for more than "
                f"{EXPIRE_SECONDS:.0f} s: what is stored stays, and the same command goes on when the other "
                "has ended"
            )

    def _write_time(self, name: str) -> datetime:
        """Return when an object was written, by the store's clock, since those of the machines may differ."""
        found: datetime | None = self.files.get_file_info(self._at(name)).mtime
        return found or datetime.min.replace(tzinfo=UTC)

    def _is_alive(self, name: str, now: datetime) -> bool:
        if (now - self._write_time(name)).total_seconds() > EXPIRE_SECONDS:
            return False
        try:
            return is_alive(json.loads(self.read(name))) is not False
        except FileNotFoundError:  # its owner has just ended
            return False
        except (ValueError, KeyError, AttributeError):  # written by another version
            return True

    def _explain_claim(self, name: str, now: datetime) -> str:
        left = EXPIRE_SECONDS - (now - self._write_time(name)).total_seconds()
        return (
            f"{self} is being written by another sweep: wait until it has ended, or choose another --out; "
            f"if it was killed, try again in {max(1, round(left))} s"
        )


def _clock() -> float:
    """Return seconds that also pass while the machine is suspended, where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
