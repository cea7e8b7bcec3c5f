"""Moto's S3 server on a free port of loopback, which refuses or delays writes on demand."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pyarrow import fs


@dataclass
class Server:
    """What the server does with writes."""

    environment: dict[str, str]  # where it is, and credentials
    refused: int = 0  # number of the next writes to refuse; -1: all
    rows: int | None = None  # number of writes to open/cells to take before all writes are refused
    error: str = "AccessDenied"
    delay: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refuses(self, path: str) -> bool:
        """Whether to refuse a write."""
        with self._lock:
            if self.rows is not None and "/open/cells/" in path:
                self.rows -= 1
                if self.rows < 0:
                    self.refused = -1
            if self.refused:
                self.refused -= 1
                return True
            return False


@contextmanager
def serving() -> Iterator[Server]:
    """A server with an empty bucket ``results``; skips where moto is absent."""
    moto = pytest.importorskip("moto.server", reason="needs the extra dev")
    from werkzeug.serving import make_server

    inner = moto.DomainDispatcherApplication(moto.create_backend_app)

    def application(request: dict[str, Any], start: Any) -> Any:
        if request["REQUEST_METHOD"] in ("PUT", "POST"):
            time.sleep(state.delay)
            if state.refuses(request["PATH_INFO"]):
                start("403 Forbidden", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{state.error}</Code><Message>no</Message></Error>".encode()]
        return inner(request, start)

    running = make_server("127.0.0.1", 0, application, threaded=True)
    address = f"http://127.0.0.1:{running.port}"
    state = Server({
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    })  # fmt: skip
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    urllib.request.urlopen(f"{address}/moto-api/reset", data=b"").close()  # its buckets outlive a server
    made = fs.S3FileSystem(
        endpoint_override=address, allow_bucket_creation=True, request_timeout=60.0,
        access_key="key", secret_key="secret", region="us-east-1",
    )  # fmt: skip
    made.create_dir("results")
    try:
        yield state
    finally:
        running.shutdown()
        thread.join()
