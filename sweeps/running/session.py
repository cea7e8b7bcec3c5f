"""Connects to Ray: to workers of this machine, or to a cluster that is running."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from sweeps.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
LAUNCHED = Path.home() / "ray_bootstrap_config.yaml"  # written by Ray's launcher on the head node, in JSON
PACKAGES = ("lstmptq", "sweeps", "analysis")
OBJECT_STORE_BYTES = 256 * 2**20  # enough, since a sweep sends rows and no tensors
# One thread per worker, because the last digit of a sum depends on the number of threads.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
RAY_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}  # by default


class ClusterError(UserError):
    """Ray does not offer what the sweep needs; the text says what to do."""


@contextmanager
def ray_session(workers: int, cluster: bool) -> Iterator[int]:
    """Connect to Ray and leave it again.

    Args:
        workers: number of trials that run at the same time on this machine.
        cluster: use the cluster at ``RAY_ADDRESS`` (else the one this machine is part of) instead.

    Yields:
        The number of trials that run at the same time: `workers`, or the number of processors that the
        cluster has or may get.

    Raises:
        ClusterError: if no cluster answers.
    """
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": THREADS},
    }
    with environment({name: os.environ.get(name, value) for name, value in RAY_ENVIRONMENT.items()}):
        if cluster:
            # workers run the driver's code, because the code on their disks may be older
            options["runtime_env"]["py_modules"] = [str(PROJECT / name) for name in PACKAGES]
            _connect(options)
        else:
            ray.init(
                address="local", num_cpus=workers, include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES, **options,
            )  # fmt: skip
        try:
            yield _most_trials() if cluster else workers
        finally:
            ray.shutdown()


def _most_trials() -> int:
    """Count the trials that run at the same time on the machines that the cluster has or may request.

    Tune starts no more than that, and Ray's autoscaler only adds machines for trials that wait to be started.
    """
    now = int(ray.cluster_resources().get("CPU", 0))
    try:
        config = json.loads(LAUNCHED.read_text())
        if config["provider"]["type"] == "local":  # Ray learns their size when they join: assume the head's
            coming = (1 + len(config["provider"]["worker_ips"])) * (os.cpu_count() or 1)
        else:
            coming = sum(
                int(kind["resources"].get("CPU", 0)) * min(kind["max_workers"], config["max_workers"])
                for kind in config["available_node_types"].values()
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not started by the launcher
        coming = 0
    return max(1, now, coming)


def _connect(options: dict[str, Any]) -> None:
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as problem:
        where = f"at {address}" if address != "auto" else "on this machine"
        raise ClusterError(
            f"no Ray cluster answers {where}: start one with `ray start --head`, or set RAY_ADDRESS to the "
            "address of one that is running, or leave out --cluster"
        ) from problem


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the time of the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
