"""The provenance of a row: the commit and the versions of libraries."""

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
    """Return the commit of the checkout that this code runs from, with ``-dirty`` if modified; else None.

    A copy shipped to a cluster has no ``.git``; there the commit is in ``lstmptq/COMMIT``.
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
    """Return as JSON the versions of Python, of the libraries that results depend on, and of `packages`.

    Args:
        packages: versions by name of the packages from which a corpus and vectors were read; they may differ
            from the versions installed now.
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
