"""The file that describes a cluster, as ``ray up`` takes it: read, and refused where Ray would fall."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from sweeps.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
REMOTE = re.compile(r"~?[\w./-]+")
LOCAL = "local"  # the type of a provider: machines that are there anyway
OPEN_CHOICE = "ami-..."  # what cluster.yaml has where nobody but the user knows


class StepError(UserError):
    """A step with the cluster failed; the text says which, why, and what to do."""


def read_config(path: Path) -> dict[str, Any]:
    """The content of a cluster's file, with the paths of this machine made absolute.

    Args:
        path: the file; relative paths of ``file_mounts`` in it are relative to its directory.

    Raises:
        StepError: if it cannot be used; the text says what is wrong in it.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise StepError(
            f"no Ray cluster answers on this machine, and there is no {path} to bring one up from: "
            "name one with --cluster-config, set RAY_ADDRESS to the address of a cluster that runs, "
            "or leave out --cluster"
        ) from problem
    except UnicodeDecodeError as problem:
        raise _refusal(
            path, f"it is not text in UTF-8 ({problem.reason} at byte {problem.start})"
        ) from problem
    except (OSError, yaml.YAMLError) as problem:
        raise _refusal(path, str(problem)) from problem
    if not isinstance(found, dict) or not {"cluster_name", "provider", "auth"} <= found.keys():
        raise _refusal(
            path,
            "it is no file for `ray up`, which has cluster_name, provider and auth: begin with the "
            "cluster.yaml of this project",
        )
    if wrong := _first_wrong(found):
        raise _refusal(path, wrong)
    folder = path.resolve().parent
    mounts = found.get("file_mounts") or {}
    found["file_mounts"] = {there: str(folder / Path(here).expanduser()) for there, here in mounts.items()}
    if key := found["auth"].get("ssh_private_key"):
        found["auth"]["ssh_private_key"] = str(Path(key).expanduser())
    return found


def project_mount(path: Path, config: dict[str, Any]) -> str:
    """Where on the head the project is: the one of the ``file_mounts`` that holds it.

    Raises:
        StepError: if none does.
    """
    mounts: dict[str, str] = config["file_mounts"]
    for there, here in mounts.items():
        if Path(here, "sweeps", "full_grid.py").is_file() and REMOTE.fullmatch(there):
            return there
    raise _refusal(
        path,
        "none of its file_mounts is this project: add `~/lstmptq: .`, with the file beside README.md",
    )


def _refusal(path: Path, why: str) -> StepError:
    return StepError(f"reading {path} failed: {why}")


def _first_wrong(found: dict[str, Any]) -> str | None:
    """What is wrong in a file that is a mapping with the three fields; None if nothing is."""
    name, provider, auth = found["cluster_name"], found["provider"], found["auth"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return f"cluster_name must be letters, digits, - and _, got {name!r}"
    if not isinstance(provider, dict) or not isinstance(provider.get("type"), str):
        return f"provider must be a mapping with a type, as `provider: {{type: aws}}`, got {provider!r}"
    if not isinstance(auth, dict):
        return f"auth must be a mapping, as `auth: {{ssh_user: ubuntu}}`, got {auth!r}"
    key = auth.get("ssh_private_key")
    if key is not None and not isinstance(key, str):
        return f"ssh_private_key must be the path of a file, got {key!r}"
    if provider["type"] == LOCAL:
        head, workers = provider.get("head_ip"), provider.get("worker_ips")
        if not isinstance(head, str):
            return f"provider must name the head's address, as `head_ip: 10.0.0.1`, got {head!r}"
        if not isinstance(workers, list) or not all(isinstance(one, str) for one in workers):
            return f"worker_ips must be a list of addresses, [] for none, got {workers!r}"
    mounts = found.get("file_mounts") or {}
    if not isinstance(mounts, dict):
        return f"file_mounts must map a path there to one here, as `~/lstmptq: .`, got {mounts!r}"
    for there, here in mounts.items():
        if not isinstance(there, str) or not isinstance(here, str):
            return (
                f"file_mounts must map a path there to one here, as `~/lstmptq: .`, got {there!r}: {here!r}"
            )
    for field in ("rsync_exclude", "rsync_filter", "head_start_ray_commands"):
        value = found.get(field) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            return f"{field} must be a list of texts, got {value!r}"
    if OPEN_CHOICE in str(found.get("available_node_types")):
        return f"ImageId is still {OPEN_CHOICE}: put an image of your region there, the file says which"
    return None
