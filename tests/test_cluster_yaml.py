"""``cluster.yaml`` as it stands, and each of its variants put in place, by Ray's own check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).resolve().parents[1] / "cluster.yaml"
RULE = re.compile(r"^# ?-{4,}.*$", re.MULTILINE)


def text_of(provider: str) -> str:
    """The file with the part of `provider` in place of Amazon's, as a user would edit it."""
    amazon, own, google = (part for part in RULE.split(FILE.read_text())[1:] if "provider:" in part)
    chosen = {"aws": amazon, "local": own, "gcp": google}[provider]
    text = FILE.read_text()
    if provider != "aws":
        text = text.replace(amazon, re.sub(r"^# ?", "", chosen, flags=re.MULTILINE))
    return text


@pytest.fixture(params=["aws", "local", "gcp"])
def config(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(FILE.parent)
    found: dict[str, Any] = yaml.safe_load(text_of(request.param))
    assert found["provider"]["type"] == request.param
    return found


def test_ray_accepts_every_variant(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_ray_refuses_a_misspelt_field(config: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="idle_timeout_minuts"):
        validate_config(prepare_config(config | {"idle_timeout_minuts": 5}))


def test_workers_are_spot_and_come_from_nothing() -> None:
    worker = yaml.safe_load(text_of("aws"))["available_node_types"]["worker"]
    assert worker["min_workers"] == 0
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_nothing_listens_beyond_the_cluster_and_a_token_is_asked_for(config: dict[str, Any]) -> None:
    for command in (config["head_start_ray_commands"][1], config["worker_start_ray_commands"][1]):
        assert "RAY_AUTH_MODE=token" in command
        assert "0.0.0.0" not in command
