"""One Ray session for all tests that need one: starting it takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.sweeps.s3 import Server, serving


@pytest.fixture(scope="session")
def ray_workers() -> Iterator[int]:
    """Two workers that can run the fake study."""
    from ray import cloudpickle

    from sweeps.running.session import ray_session
    from tests.sweeps import fake_study

    cloudpickle.register_pickle_by_value(fake_study)  # workers do not have the tests on their path
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(RAY_worker_niceness="0")  # else workers make way for whatever else the machine does
    with ray_session(2, cluster=False) as workers:
        yield workers
    cloudpickle.unregister_pickle_by_value(fake_study)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An S3 server that this process talks to."""
    with serving() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
