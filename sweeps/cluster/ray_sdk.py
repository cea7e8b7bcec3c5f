"""Ray's launcher as this project calls it: ``ray.autoscaler.sdk``, and the little that it does not offer."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Collection
from typing import Any

from ray.autoscaler import sdk
from ray.autoscaler._private import command_runner, commands
from ray.autoscaler._private.event_system import CreateClusterEvent
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import STATUS_UP_TO_DATE, TAG_RAY_NODE_STATUS

from sweeps.cluster.config import LOCAL


class RaySdk:
    """The calls of Ray's launcher; each takes a cluster's configuration.

    Args:
        config: of the cluster.
        events: names of Ray's events that are told.
        tell: is given each of them.

    Raises:
        KeyError, AssertionError, OSError: if the machines of an on-premise cluster cannot be noted.
    """

    def __init__(
        self, config: dict[str, Any], events: Collection[str], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        sdk.configure_logging(log_style="record", verbosity=0)
        command_runner.set_rsync_silent(False)  # or nobody ever learns why it failed
        for name in events:
            sdk.register_callback_handler(CreateClusterEvent[name], tell)
        if config["provider"]["type"] == LOCAL:
            _note_own_head(config)
        self.create_or_update_cluster = sdk.create_or_update_cluster
        self.get_head_node_ip = sdk.get_head_node_ip
        self.rsync = sdk.rsync
        self.teardown_cluster = sdk.teardown_cluster

    def run_on_cluster(self, config: dict[str, Any], *, cmd: str, anyhow: bool = False) -> Any:
        """What a command prints on the head.

        Args:
            config: of the cluster.
            cmd: the command, for a shell.
            anyhow: also on a head whose setup failed or has not ended, which Ray does not count as one.
        """
        if not anyhow:
            return sdk.run_on_cluster(config, cmd=cmd, with_output=True)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(json.dumps(config))
            file.flush()
            return commands.exec_cluster(
                file.name, cmd=cmd, with_output=True, _allow_uninitialized_state=True
            )

    def machines(self, config: dict[str, Any]) -> list[str]:
        """The machines there are, in whatever state."""
        found: list[str] = _get_node_provider(
            config["provider"], config["cluster_name"]
        ).non_terminated_nodes({})
        return found


def _note_own_head(config: dict[str, Any]) -> None:
    """Remind Ray of the head of an on-premise cluster: it notes its state in /tmp of each laptop.

    There it may be lost, or older than what another laptop did. Ray would think that there is no head, and
    start it anew, under a sweep.
    """
    provider = importlib.import_module("ray.autoscaler._private.local.node_provider")
    local = provider.LocalNodeProvider(config["provider"], config["cluster_name"])
    provider.record_local_head_state_if_needed(local)
    local.set_node_tags(config["provider"]["head_ip"], {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE})
