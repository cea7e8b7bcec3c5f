"""Results in an object store: S3, Google Cloud Storage, or what speaks their language."""

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
from sweeps.processes import lives, this_process
from sweeps.storage.base import Storage

RETRY_SECONDS = 60.0  # a write that fails is tried again for so long, unless trying again cannot help
RENEW_SECONDS = 15.0  # a writer shows so often that it lives;
EXPIRE_SECONDS = 120.0  # one that was not seen for so long is dead
_REASONS = {
    "ACCESS_DENIED": "access is denied: check the credentials and the bucket's policy",
    "NO_SUCH_BUCKET": "there is no such bucket",
    "INVALID_ACCESS_KEY_ID": "the access key is not known: check the credentials",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong: check the credentials",
    "NETWORK_CONNECTION": "the object store cannot be reached",
}
_WAITING_HELPS = ("NETWORK_CONNECTION",)


class Bucket(Storage):
    """A prefix of an object store; an object appears whole when its upload is complete.

    Args:
        uri: such as ``s3://bucket/folder``; for its credentials see
            :func:`lstmptq.runtime.locations.open_location`.

    Raises:
        StoreError: if `uri` is of another kind.
    """

    def __init__(self, uri: str) -> None:
        try:
            files, root = open_location(uri)
        except ValueError as problem:
            raise StoreError(str(problem)) from problem
        super().__init__(uri.rstrip("/"), files, root)
        self._claim: str | None = None  # the object that says who writes here,
        self._renewed = 0.0  # and when this process wrote it, by _clock

    def write(self, name: str, content: bytes) -> None:
        """Upload; a fault that may pass is tried again for a minute, and Ctrl-C waits until it is over.

        Raises:
            StoreError: if another sweep has taken over, because this process stood still for too long.
            OSError: if it cannot be written; the old object is then untouched.
        """
        if self._claim is not None and _clock() - self._renewed > 2 * RENEW_SECONDS:
            self._check_claim(self._claim)
        self._upload(name, content)

    def _upload(self, name: str, content: bytes) -> None:
        deadline, pause = time.monotonic() + RETRY_SECONDS, 0.5
        while True:
            try:
                # in a thread, for an interrupt in between leaves a stream that completes an empty upload
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(self._upload_once, name, content).result()
                return
            except OSError as problem:
                hopeless = any(code in str(problem) for code in _REASONS if code not in _WAITING_HELPS)
                if hopeless or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 10.0)

    def _upload_once(self, name: str, content: bytes) -> None:
        # one call: if it fails, closing completes no upload
        with self.files.open_output_stream(self._at(name)) as stream:
            stream.write(content)

    def prepare(self, folders: list[str]) -> None:
        """Nothing to make: an object store has no folders, and shows no half-written objects."""

    def reason(self, problem: OSError) -> str | None:
        """What the store answered: every refusal is the user's to know."""
        found = next((reason for code, reason in _REASONS.items() if code in str(problem)), None)
        return found or " ".join(str(problem).split())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """A claim that its owner renews.

        Two writers that come together may both give up, but never both go on: each puts its claim down
        before it looks for others, and what is written is listed at once. An owner that stood still for so
        long that another one took over finds its claim gone, and writes nothing more.
        """
        name = f"lock/{secrets.token_hex(8)}.json"
        with self.explained():
            self._put_claim(name)
            others = [other for other in self.names("lock") if other != name]
            now = self._written(name)
            for other in others:
                if self._alive(other, now):
                    self.delete(name)
                    raise StoreError(self._refusal(other, now))
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
                return  # the next write of a row says so,
            except OSError:
                continue  # and likewise here

    def _check_claim(self, name: str) -> None:
        """Refuse to go on when the claim was taken away."""
        if not self.exists(name):
            raise StoreError(
                f"another sweep has taken {self} over, because this one stood still for more than "
                f"{EXPIRE_SECONDS:.0f} s: what is stored stays, and the same command goes on when the other "
                "has ended"
            )

    def _written(self, name: str) -> datetime:
        """When an object was written, by the store's clock: the machines' own may differ."""
        found: datetime | None = self.files.get_file_info(self._at(name)).mtime
        return found or datetime.min.replace(tzinfo=UTC)

    def _alive(self, name: str, now: datetime) -> bool:
        if (now - self._written(name)).total_seconds() > EXPIRE_SECONDS:
            return False
        try:
            return lives(json.loads(self.read(name))) is not False
        except FileNotFoundError:  # it has just ended
            return False
        except (ValueError, KeyError, AttributeError):  # of another version
            return True

    def _refusal(self, name: str, now: datetime) -> str:
        left = EXPIRE_SECONDS - (now - self._written(name)).total_seconds()
        return (
            f"{self} is being written by another sweep: wait until it has ended, or choose another --out; "
            f"if it was killed, try again in {max(1, round(left))} s"
        )


def _clock() -> float:
    """Seconds that pass also while the machine is suspended, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
