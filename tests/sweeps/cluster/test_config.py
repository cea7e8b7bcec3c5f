"""Files that describe no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps.cluster.fake_head import (
    FakeSdk,
    refused,
)

pytestmark = pytest.mark.usefixtures("laptop")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "while parsing a flow node"),
        ("cluster_name: \xff", "it is not UTF-8 text (invalid start byte at byte 14)"),
        (
            "{cluster_name: ../.., provider: {type: aws}, auth: {}}",
            "cluster_name must be letters, digits, - and _, got '../..'",
        ),
        (
            "{cluster_name: null, provider: {type: aws}, auth: {}}",
            "cluster_name must be letters, digits, - and _, got None",
        ),
        ("a: 1", "it is not a file for `ray up`, which has cluster_name, provider and auth: start from the "),
        (
            "{cluster_name: a, provider: aws, auth: {}}",
            "provider must be a mapping with a type, as `provider: {type: aws}`, got 'aws'",
        ),
        (
            "{cluster_name: a, provider: {}, auth: {}}",
            "provider must be a mapping with a type, as `provider: {type: aws}`, got {}",
        ),
        (
            "{cluster_name: a, provider: null, auth: {}}",
            "provider must be a mapping with a type, as `provider: {type: aws}`, got None",
        ),
        (
            "{cluster_name: a, provider: {type: local}, auth: {}}",
            "provider must give the head node's address, as `head_ip: 10.0.0.1`, got None",
        ),
        (
            "{cluster_name: a, provider: {type: local, head_ip: b, worker_ips: null}, auth: {}}",
            "worker_ips must be a list of addresses, [] for none, got None",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: null}",
            "auth must be a mapping, as `auth: {ssh_user: ubuntu}`, got None",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {ssh_private_key: 5}}",
            "ssh_private_key must be the path of a file, got 5",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, file_mounts: [a]}",
            "file_mounts must map a path there to one here, as `~/lstmptq: .`, got ['a']",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, file_mounts: {~/x: null}}",
            "file_mounts must map a path there to one here, as `~/lstmptq: .`, got '~/x': None",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, rsync_exclude: .git}",
            "rsync_exclude must be a list of strings, got '.git'",
        ),
        (
            "{cluster_name: a, provider: {type: b}, auth: {}, available_node_types: {h: {ImageId: ami-...}}}",
            "ImageId is still ami-...: replace it with an image of your region, as the file explains",
        ),
        (
            "{cluster_name: a, provider: {type: aws}, auth: {}, file_mounts: {~/x: /tmp}}",
            "no entry of its file_mounts is this project: add `~/lstmptq: .`, with the file beside README.md",
        ),
    ],
)
def test_a_file_that_describes_no_cluster(laptop: Path, content: str, message: str) -> None:
    (laptop / "cluster.yaml").write_bytes(content.encode("latin-1"))
    assert refused().startswith(f"reading cluster.yaml failed: {message}")


def test_no_file_at_all(laptop: Path) -> None:
    (laptop / "cluster.yaml").unlink()
    assert refused().startswith(
        "no Ray cluster answers on this machine, and there is no cluster.yaml to bring one up from: name a "
        "file with --cluster-config, set RAY_ADDRESS"
    )


def test_a_key_that_is_not_there(sdk: FakeSdk, laptop: Path) -> None:
    file = (laptop / "cluster.yaml").read_text()
    (laptop / "cluster.yaml").write_text(
        file.replace("ssh_user: me", "ssh_user: me, ssh_private_key: /no/key")
    )
    assert refused() == "reading cluster.yaml failed: there is no /no/key, which ssh_private_key names"
    assert sdk.calls == []
