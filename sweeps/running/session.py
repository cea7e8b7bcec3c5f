"""Connecting to Ray: workers of this machine, or a cluster that is running."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from sweeps.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
LAUNCHED = Path.home() / "ray_bootstrap_config.yaml"  # on a head, what Ray's launcher brought up; it is JSON
PACKAGES = ("lstmptq", "sweeps", "analysis")
OBJECT_STORE_BYTES = 256 * 2**20  # a sweep sends rows, no tensors
# One thread a worker, whatever the number of workers: the order of a sum, so its last digit, depends on it.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class ClusterError(UserError):
    """Ray does not offer what the sweep needs; the text says what to do."""


@contextmanager
def ray_session(workers: int, cluster: bool) -> Iterator[int]:
    """Connect to Ray and leave it again.

    Args:
        workers: trials that run at the same time on this machine.
        cluster: use the cluster at ``RAY_ADDRESS`` (else the one this machine is part of) instead.

    Yields:
        How many trials run at the same time: `workers`, or as many as the cluster has or may get processors.

    Raises:
        ClusterError: if no cluster answers.
    """
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": THREADS},
    }
    with _environment(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0"):
        if cluster:
            # the driver's own code goes to the workers: the code on their disks may be another day's
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
    """How many trials the cluster can run at the same time, with the machines that it may yet ask for.

    Tune starts no more than that; Ray's autoscaler brings machines only for trials that wait to be started.
    """
    now = int(ray.cluster_resources().get("CPU", 0))
    try:
        config = json.loads(LAUNCHED.read_text())
        if config["provider"]["type"] == "local":  # Ray learns what they have when they join: say, as much
            coming = (1 + len(config["provider"]["worker_ips"])) * (os.cpu_count() or 1)
        else:
            coming = sum(
                int(kind["resources"].get("CPU", 0)) * min(kind["max_workers"], config["max_workers"])
                for kind in config["available_node_types"].values()
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not brought up by the launcher
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
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables that the user has not set, for the time of the context."""
    added = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
