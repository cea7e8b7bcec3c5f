"""What this project takes of Ray's launcher is there, and says what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An own head on loopback, and a place for Ray's notes."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    provider = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    return {"cluster_name": "x", "provider": provider, "auth": {"ssh_user": "me"}}


def test_rsync_is_heard(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.command_runner import is_rsync_silent

    from sweeps.cluster.launcher import EVENTS
    from sweeps.cluster.ray_sdk import RaySdk

    RaySdk(config, EVENTS, lambda _: None)
    assert not is_rsync_silent()


@pytest.mark.parametrize("happened", ["taken down", "failed"])
def test_an_own_head_counts_as_up_whatever_this_laptop_noted(config: dict[str, Any], happened: str) -> None:
    from ray.autoscaler._private.local.node_provider import LocalNodeProvider
    from ray.autoscaler.tags import TAG_RAY_NODE_STATUS

    from sweeps.cluster.ray_sdk import RaySdk

    assert RaySdk(config, (), lambda _: None).get_head_node_ip(config) == "127.0.0.1"
    noted = LocalNodeProvider(config["provider"], "x")
    if happened == "failed":
        noted.set_node_tags("127.0.0.1", {TAG_RAY_NODE_STATUS: "update-failed"})
    else:
        noted.terminate_node("127.0.0.1")
    again = RaySdk(config, (), lambda _: None)
    assert again.get_head_node_ip(config) == "127.0.0.1"
    assert again.list_machines(config) == ["127.0.0.1"]


def test_a_head_that_ray_does_not_count_as_one_is_asked_all_the_same(config: dict[str, Any]) -> None:
    from click import ClickException
    from ray.autoscaler._private.local.node_provider import LocalNodeProvider
    from ray.autoscaler.tags import TAG_RAY_NODE_STATUS

    from sweeps.cluster.ray_sdk import RaySdk

    sdk = RaySdk(config, (), lambda _: None)
    LocalNodeProvider(config["provider"], "x").set_node_tags("127.0.0.1", {TAG_RAY_NODE_STATUS: "setting-up"})
    config["auth"]["ssh_proxy_command"] = "false"  # so that no server here is asked
    with pytest.raises(RuntimeError, match="not found"):
        sdk.run_on_cluster(config, cmd="true")
    with pytest.raises(ClickException, match="Command failed"):
        sdk.run_on_cluster(config, cmd="true", even_unready=True)
