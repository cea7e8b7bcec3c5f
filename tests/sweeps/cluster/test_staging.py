"""What of the project is shipped, with git and without."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sweeps.cluster.staging import stage

TRACKED = {"sweeps/full_grid.py", "lstmptq/spec/cells.py", "README.md", "docs/a.svg"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with what lies beside one after a while."""
    folder = tmp_path / "project"
    beside = {".env", "id_rsa", "results/x/cells/a.parquet", "myenv/bin/python", "notes.md"}
    for name in TRACKED | beside | {"lstmptq/new.py", "sweeps/__pycache__/a.pyc"}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "lstmptq" / "dangling.py").symlink_to("nowhere.py")
    (folder / "lstmptq" / "key.py").symlink_to(tmp_path / "key")
    (tmp_path / "key").write_text("secret")
    return folder


def staged(project: Path) -> set[str]:
    target = project.parent / "staged"
    (target / "earlier").mkdir(parents=True)
    stage(project, target)
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} - {
        "lstmptq/COMMIT"
    }


def test_what_git_knows_is_shipped_and_a_module_that_is_new(project: Path) -> None:
    git = ["git", "-C", str(project)]
    subprocess.run([*git, "init", "-q"], check=True)
    links = {"lstmptq/dangling.py", "lstmptq/key.py"}
    subprocess.run([*git, "add", "notes.md", *TRACKED, *links], check=True)
    (project / "notes.md").unlink()  # and not told git
    assert staged(project) == TRACKED | {"lstmptq/new.py"}


def test_without_git_the_parts_are_shipped_that_are_needed(project: Path) -> None:
    assert staged(project) == TRACKED - {"docs/a.svg"} | {"lstmptq/new.py"}


def test_inside_a_repository_of_something_else(project: Path) -> None:
    subprocess.run(["git", "-C", str(project.parent), "init", "-q"], check=True)
    assert staged(project) == TRACKED - {"docs/a.svg"} | {"lstmptq/new.py"}
