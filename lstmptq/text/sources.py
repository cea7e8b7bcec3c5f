"""Where corpora and vectors are on this machine: files and data packages."""

from __future__ import annotations

import hashlib
from importlib import metadata, util
from pathlib import Path

from lstmptq.cells import Source

INSTALL = "pip install 'lstmptq[embedded]'"


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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
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
