"""Select the files of the project that are shipped to a cluster: those that git tracks, and new modules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lstmptq.runtime.provenance import git_sha

PACKAGES = ("lstmptq", "sweeps", "analysis")
FILES = ("pyproject.toml", "constraints.txt", "README.md", "LICENSE")  # shipped as well without git
ENTRY = "sweeps/full_grid.py"


def stage(project: Path, target: Path) -> None:
    """Copy the files to ship into a directory of their own, because Ray ships a whole directory.

    Args:
        project: the project's directory.
        target: the directory for the copy, which replaces its content.

    Raises:
        OSError: if a file cannot be copied.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    inside = project.resolve()
    for name in _list_files(project):
        source = project / name
        # links are followed, but not out of the project, and dangling ones are left out
        if source.is_file() and source.resolve().is_relative_to(inside):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    if (commit := git_sha()) and (target / "lstmptq").is_dir():
        (target / "lstmptq" / "COMMIT").write_text(commit)  # so that rows record which code made them


def _list_files(project: Path) -> set[str]:
    """List the files to ship, relative to the project."""
    tracked = _ask_git(project, "--cached")
    if ENTRY in tracked:
        # a new module is needed before it is added to git
        modules = (f"{name}/*.py" for name in PACKAGES)
        return tracked | _ask_git(project, "--others", "--exclude-standard", "--", *modules)
    files = (path for name in PACKAGES for path in (project / name).rglob("*"))
    return {str(path.relative_to(project)) for path in files if "__pycache__" not in path.parts} | {*FILES}


def _ask_git(project: Path, *arguments: str) -> set[str]:
    """Return the paths that ``git ls-files`` prints; none without git or outside a repository."""
    command = ["git", "-C", str(project), "ls-files", "-z", *arguments]
    try:
        found = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return set()
    return set(found.stdout.decode(errors="surrogateescape").split("\0")) - {""}
