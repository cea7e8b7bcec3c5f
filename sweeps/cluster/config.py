"""Read the file that describes a cluster for ``ray up``, and refuse it where Ray would crash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sweeps.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
REMOTE = re.compile(r"~?[\w./-]+")
LOCAL = "local"  # the provider type of machines that already exist
OPEN_CHOICE = "ami-..."  # the placeholder in cluster.yaml that only the user can fill in


class StepError(UserError):
    """A step with the cluster failed; the text says which one, why, and what to do."""


def read_config(path: Path) -> dict[str, Any]:
    """Read a cluster's file and make its paths on this machine absolute.

    Args:
        path: the file; relative paths of ``file_mounts`` in it are relative to its directory.

    Raises:
        StepError: if the file cannot be used; the text says what is wrong with it.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise StepError(
            f"no Ray cluster answers on this machine, and there is no {path} to bring one up from: "
            "name a file with --cluster-config, set RAY_ADDRESS to the address of a running cluster, "
            "or leave out --cluster"
        ) from problem
    except UnicodeDecodeError as problem:
        raise _refusal(path, f"it is not UTF-8 text ({problem.reason} at byte {problem.start})") from problem
    except (OSError, yaml.YAMLError) as problem:
        raise _refusal(path, str(problem)) from problem
    if not isinstance(found, dict) or not {"cluster_name", "provider", "auth"} <= found.keys():
        raise _refusal(
            path,
            "it is not a file for `ray up`, which has cluster_name, provider and auth: start from the "
            "cluster.yaml of this project",
        )
    for why in _find_problems(found):
        raise _refusal(path, why)
    folder = path.resolve().parent
    mounts = found.get("file_mounts") or {}
    found["file_mounts"] = {there: str(folder / Path(here).expanduser()) for there, here in mounts.items()}
    if key := found["auth"].get("ssh_private_key"):
        found["auth"]["ssh_private_key"] = str(Path(key).expanduser())
    return found


def find_project_mount(path: Path, config: dict[str, Any]) -> str:
    """Return the directory on the head node to which ``file_mounts`` ships this project.

    Raises:
        StepError: if no entry of ``file_mounts`` does.
    """
    mounts: dict[str, str] = config["file_mounts"]
    for there, here in mounts.items():
        if Path(here, "sweeps", "full_grid.py").is_file() and REMOTE.fullmatch(there):
            return there
    raise _refusal(
        path,
        "no entry of its file_mounts is this project: add `~/lstmptq: .`, with the file beside README.md",
    )


def _refusal(path: Path, why: str) -> StepError:
    return StepError(f"reading {path} failed: {why}")


def _find_problems(found: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of a mapping that has the three fields; later checks rely on earlier ones."""
    name, provider, auth = found["cluster_name"], found["provider"], found["auth"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"cluster_name must be letters, digits, - and _, got {name!r}"
    if not isinstance(provider, dict) or not isinstance(provider.get("type"), str):
        yield f"provider must be a mapping with a type, as `provider: {{type: aws}}`, got {provider!r}"
    if not isinstance(auth, dict):
        yield f"auth must be a mapping, as `auth: {{ssh_user: ubuntu}}`, got {auth!r}"
    if not isinstance(key := auth.get("ssh_private_key"), str | None):
        yield f"ssh_private_key must be the path of a file, got {key!r}"
    if provider["type"] == LOCAL:
        if not isinstance(head := provider.get("head_ip"), str):
            yield f"provider must give the head node's address, as `head_ip: 10.0.0.1`, got {head!r}"
        if not _is_list_of_texts(workers := provider.get("worker_ips")):
            yield f"worker_ips must be a list of addresses, [] for none, got {workers!r}"
    must = "file_mounts must map a path there to one here, as `~/lstmptq: .`, got"
    if not isinstance(mounts := found.get("file_mounts") or {}, dict):
        yield f"{must} {mounts!r}"
    for there, here in mounts.items():
        if not isinstance(there, str) or not isinstance(here, str):
            yield f"{must} {there!r}: {here!r}"
    for field in ("rsync_exclude", "rsync_filter", "head_start_ray_commands"):
        if not _is_list_of_texts(value := found.get(field) or []):
            yield f"{field} must be a list of strings, got {value!r}"
    if OPEN_CHOICE in str(found.get("available_node_types")):
        yield f"ImageId is still {OPEN_CHOICE}: replace it with an image of your region, as the file explains"


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
