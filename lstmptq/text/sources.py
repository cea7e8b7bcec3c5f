"""Where corpora and vectors come from: what identifies a source, and where it is on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

INSTALL = "pip install 'lstmptq[embedded]'"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a corpus or a set of word vectors comes from.

    `name` and `digest` identify it; `location` only finds it on this machine and is no part of the
    identity, so that the same file under another path is the same source.
    """

    name: str  # a named source, or the stem of a file
    digest: str = ""  # first 16 hex digits of a file's SHA-256, or a pipeline's name; "" for a named source
    location: str = field(default="", compare=False)  # a path or a pipeline's name; "" for a named source

    @classmethod
    def from_file(cls, name: str, path: Path) -> Source:
        """Name the file at `path`, identified by its content.

        Raises:
            FileNotFoundError: if there is no such file.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}: give the path of an existing file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name, digest[:16], str(path.resolve()))

    @property
    def is_file(self) -> bool:
        """Whether it is a file, which other machines may not have; a pipeline is installed by its name."""
        return self.location not in ("", self.digest)

    def identity(self) -> dict[str, str]:
        """What of this source enters a hash."""
        return {"name": self.name, "digest": self.digest}


def source_file(source: Source) -> Path:
    """The path of a source that is a file, checked to hold what the source was named after.

    Raises:
        FileNotFoundError: if the file is not on this machine.
        ValueError: if its content changed since the source was resolved.
    """
    path = Path(source.location)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path} on this machine: put it there, {source.name} was found there when it was named"
        )
    digest = Source.from_file(source.name, path).digest
    # Results are named by the digest: a changed file would give other numbers the same name.
    if not digest.startswith(source.digest):
        raise ValueError(
            f"{path} changed while it was in use: its SHA-256 began with {source.digest}, and now with "
            f"{digest[: len(source.digest)]}: start again to use the new content"
        )
    return path


def package_folder(module: str, distribution: str, what: str, alternative: str) -> tuple[Path, str]:
    """The folder of an installed data package, found without running its code, and its version.

    Args:
        module: the package's import name.
        distribution: the name it is installed by.
        what: what it is needed for, the subject of the error's sentence.
        alternative: what to do without it, the end of the error's sentence.

    Raises:
        ModuleNotFoundError: if the package is not installed.
    """
    spec = util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{what} needs the package {distribution}, which is not installed: "
            f"run {INSTALL}, or {alternative}",
            name=module,
        )
    return Path(next(iter(spec.submodule_search_locations))), metadata.version(distribution)
