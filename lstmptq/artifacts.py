"""Content-addressed get-or-build of whatever several cells share.

An artifact is a directory named by the SHA-256 of its key. It is built once: concurrent builders wait for
each other on a file lock, and a build becomes visible by one rename, so a killed build leaves nothing.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from lstmptq.cells import canonical_json, digest_of

# Raise it when the same key means another content: a changed recipe, cleaning, noise or observer. Artifacts
# of before are then built anew instead of being mixed with results of now.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A directory of artifacts, ``root/<kind>/<digest>/``."""

    root: Path

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the artifact of `key` is or would be."""
        return self.root / kind / digest_of({"version": VERSION, "key": dict(key)})[:32]

    def has(self, kind: str, key: Mapping[str, Any]) -> bool:
        """Whether the artifact of `key` is there, complete."""
        return self.path(kind, key).is_dir()

    def get_or_build(self, kind: str, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """The artifact's directory, built by `build` if it is not there.

        Args:
            kind: what it is, one word: the folder it lives in.
            key: everything that determines the content, JSON-ready.
            build: writes the content into the empty directory it is given.

        Returns:
            A directory with what `build` wrote and ``key.json``.
        """
        path = self.path(kind, key)
        if path.is_dir():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.is_dir():  # somebody else built it while this process waited
                return path
            partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
            try:
                build(partial)
                (partial / "key.json").write_text(json.dumps(json.loads(canonical_json(dict(key))), indent=2))
                partial.chmod(0o755)
                partial.rename(path)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return path
