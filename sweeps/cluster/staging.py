"""What of the project is shipped to a cluster: what git knows of it, and nothing that lies beside that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lstmptq.runtime.provenance import git_sha

PACKAGES = ("lstmptq", "sweeps", "analysis")
NEEDED = (*PACKAGES, "pyproject.toml", "constraints.txt", "README.md", "LICENSE")  # where there is no git
ENTRY = "sweeps/full_grid.py"


def stage(project: Path, target: Path) -> None:
    """Copy what is shipped of a project into a directory of its own: Ray ships, and reads, all of one.

    Args:
        project: the project's directory.
        target: where the copy goes, in place of what is there.

    Raises:
        OSError: if a file cannot be copied.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    inside = project.resolve()
    for name in _files(project):
        source = project / name
        # links are followed on the way, but not out of the project, and not into nothing
        if source.is_file() and source.resolve().is_relative_to(inside):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    if (commit := git_sha()) and (target / "lstmptq").is_dir():
        (target / "lstmptq" / "COMMIT").write_text(commit)  # rows say which code made them


def _files(project: Path) -> set[str]:
    """Paths of the files to ship, relative to the project."""
    known = _git(project, "--cached")
    if ENTRY not in known:
        return {str(path.relative_to(project)) for path in _needed(project)}
    # a module that was written a minute ago is wanted before it is added
    return known | _git(
        project, "--others", "--exclude-standard", "--", *(f"{name}/*.py" for name in PACKAGES)
    )


def _git(project: Path, *arguments: str) -> set[str]:
    """Paths that ``git ls-files`` prints; none where git is absent or knows nothing of the directory."""
    try:
        found = subprocess.run(
            ["git", "-C", str(project), "ls-files", "-z", *arguments],
            capture_output=True,
            check=True,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return set()
    return {name for name in found.stdout.decode(errors="surrogateescape").split("\0") if name}


def _needed(project: Path) -> Iterator[Path]:
    for name in NEEDED:
        path = project / name
        if path.is_file():
            yield path
        for file in path.rglob("*"):
            if "__pycache__" not in file.parts and file.is_file():
                yield file
