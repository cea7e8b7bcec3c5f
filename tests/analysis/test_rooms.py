"""The rooms of the analysis: every module has one, and imports run only downwards."""

import ast
from pathlib import Path

import pytest

import analysis

ROOT = Path(analysis.__file__).parent
# What each may import, besides itself. None is called results: git and clusters leave such folders out
ROOMS = {
    "frames": set(),
    "statistics": {"frames"},
    "presentation": {"frames", "statistics"},
    "questions": {"frames", "statistics", "presentation"},
    "page": {"frames", "statistics", "presentation"},
}
LIBRARY = {"lstmptq.results", "lstmptq.runtime.locations"}
MODULES = sorted(ROOT.rglob("*.py"))


def imported(path):
    """The modules that a file names, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node.module


def test_every_module_has_a_room():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {path.parent.name for path in MODULES} == {ROOT.name, *ROOMS}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    names = set(imported(path))
    assert not {name.split(".")[0] for name in names} & {"torch", "ray", "sweeps"}
    assert {name for name in names if name.split(".")[0] == "lstmptq"} <= LIBRARY
    if path.parent != ROOT:
        ours = {name.split(".")[1] for name in names if name.startswith("analysis.")}
        assert ours <= ROOMS[path.parent.name] | {path.parent.name}
        assert "analysis" not in names, "the public face is above the rooms"
