"""Ray's cluster launcher as this project calls it: ``ray.autoscaler.sdk``, and the parts that it lacks.

This module is apart from the launcher because importing Ray takes seconds, and because tests replace it.
"""

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
        config: the cluster's configuration.
        events: names of Ray's events to report.
        tell: receives each of these events.

    Raises:
        KeyError, AssertionError, OSError: if the machines of an on-premise cluster cannot be recorded.
    """

    def __init__(
        self, config: dict[str, Any], events: Collection[str], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        sdk.configure_logging(log_style="record", verbosity=0)
        command_runner.set_rsync_silent(False)  # otherwise nobody learns why rsync failed
        for name in events:
            sdk.register_callback_handler(CreateClusterEvent[name], tell)
        if config["provider"]["type"] == LOCAL:
            _record_own_head(config)
        self.create_or_update_cluster = sdk.create_or_update_cluster
        self.get_head_node_ip = sdk.get_head_node_ip
        self.rsync = sdk.rsync
        self.teardown_cluster = sdk.teardown_cluster

    def run_on_cluster(self, config: dict[str, Any], *, cmd: str, even_unready: bool = False) -> str:
        """Run a shell command on the head node and return its output.

        Args:
            config: the cluster's configuration.
            cmd: the command.
            even_unready: whether to run it even if the setup of the head node failed or has not ended.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            json.dump(config, file)
            file.flush()
            output: Any = commands.exec_cluster(
                file.name, cmd=cmd, with_output=True, _allow_uninitialized_state=even_unready
            )
        return output.decode(errors="replace") if isinstance(output, bytes) else str(output)

    def list_machines(self, config: dict[str, Any]) -> list[str]:
        """List the machines that exist, whatever their state."""
        provider = _get_node_provider(config["provider"], config["cluster_name"])
        found: list[str] = provider.non_terminated_nodes({})
        return found


def _record_own_head(config: dict[str, Any]) -> None:
    """Tell Ray that the head node of an on-premise cluster exists.

    Ray records this in /tmp of each laptop, where the record may be lost, or older than another laptop's
    actions. Ray would then believe that there is no head node and start it anew, under a running sweep.
    """
    provider = importlib.import_module("ray.autoscaler._private.local.node_provider")
    local = provider.LocalNodeProvider(config["provider"], config["cluster_name"])
    provider.record_local_head_state_if_needed(local)
    local.set_node_tags(config["provider"]["head_ip"], {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE})
