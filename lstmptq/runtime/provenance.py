"""Where a row comes from: machine, commit, versions."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "brevitas", "ray", "numpy", "scipy", "pyarrow", "spacy", "gensim", "numba")


@cache
def git_sha() -> str | None:
    """Commit of the checkout this code runs from, with ``-dirty`` when it was changed; None without one.

    A copy that was shipped to a cluster has no ``.git``; the commit is then in ``lstmptq/COMMIT``.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        noted = folder / "lstmptq" / "COMMIT"
        return noted.read_text() if noted.is_file() else None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def describe_versions(packages: Mapping[str, str] | None = None) -> str:
    """JSON: versions of Python, of the libraries that results depend on, and of `packages`.

    Args:
        packages: versions, by name, of what a corpus and vectors came from when they were read, which may be
            others than are installed here and now.
    """
    return json.dumps(_libraries() | dict(packages or {}), sort_keys=True)


@cache
def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
