"""``cluster.yaml`` as it stands, and each of its variants put in place, by Ray's own check."""

from __future__ import annotations

import re
import subprocess
import sys
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


def test_both_kinds_of_machine_at_amazon_ask_for_an_image() -> None:
    kinds = yaml.safe_load(text_of("aws"))["available_node_types"]
    assert [kinds[name]["node_config"]["ImageId"] for name in ("head", "worker")] == ["ami-...", "ami-..."]


PYTHON = """#!/bin/bash
test "$2" = venv || exit 0
mkdir -p "$3/bin" && echo made >> ~/made
test -e ~/package && touch "$3/bin/pip" && chmod +x "$3/bin/pip"
"""


def shell(home: Path, command: str) -> None:
    """Give one of the file's commands on a machine whose python3 and sudo are doubles."""
    tools = home / "tools"
    tools.mkdir(exist_ok=True)
    for name, text in {"python3": PYTHON, "sudo": "#!/bin/bash\ntouch ~/package\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{tools}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", f"true && ({command})"], env=environment, check=True)


def test_an_environment_of_its_own_is_made_once_and_a_half_made_one_again(
    config: dict[str, Any], tmp_path: Path
) -> None:
    command = config["setup_commands"][1]
    (tmp_path / "venv").mkdir()  # the user's
    shell(tmp_path, command)  # without the package, which is then installed
    made = tmp_path / "made"
    assert made.read_text() == "made\n" * 2
    assert (tmp_path / "lstmptq-venv" / "bin" / "pip").exists()
    shell(tmp_path, command)
    assert made.read_text() == "made\n" * 2
    (tmp_path / "lstmptq-venv" / "whole").unlink()
    (tmp_path / "lstmptq-venv" / "rubbish").touch()
    shell(tmp_path, command)
    assert made.read_text() == "made\n" * 3
    assert not (tmp_path / "lstmptq-venv" / "rubbish").exists()
    assert list((tmp_path / "venv").iterdir()) == []


@pytest.mark.parametrize("before", [None, "", "# If not running interactively\nPATH=$HOME/venv/bin:$PATH\n"])
def test_the_path_is_set_by_one_line(config: dict[str, Any], tmp_path: Path, before: str | None) -> None:
    file = tmp_path / ".bashrc"
    if before is not None:
        file.write_text(before)
    for _ in range(2):
        shell(tmp_path, config["setup_commands"][3])
    first, *rest = file.read_text().splitlines()
    assert first == 'export PATH="$HOME/lstmptq-venv/bin:$PATH"  # lstmptq'
    assert "\n".join(rest).strip() == (before or "").strip()


def test_an_old_python_is_named(config: dict[str, Any]) -> None:
    command = config["setup_commands"][0].replace("python3", sys.executable)
    assert subprocess.run(["bash", "-c", command]).returncode == 0
    old = subprocess.run(["bash", "-c", command.replace("(3, 11)", "(9, 9)")], capture_output=True, text=True)
    assert old.stderr.startswith("Python 3.11 to 3.13 is needed, not 3.")
