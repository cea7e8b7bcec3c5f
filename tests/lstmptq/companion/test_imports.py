"""The floors of the companion study: no import runs up, not from within a function either."""

import ast
from pathlib import Path

import lstmptq.companion

FLOORS = (
    "provenance recipes stored kernels",
    "cells checkpoints",
    "bert",
    "finetune dynamic",
    "qat qlora",
    "methods",
    "latency",
    "trial",
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
PACKAGE = lstmptq.companion.__name__
FOLDER = Path(lstmptq.companion.__file__).parent


def imported(path):
    """Modules of the companion that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield node.module.rpartition(".")[2]


def test_no_import_runs_up():
    files = [path for path in FOLDER.glob("*.py") if path.stem != "__init__"]
    assert {path.stem for path in files} == FLOOR.keys()
    up = [(file.stem, name) for file in files for name in imported(file) if FLOOR[name] >= FLOOR[file.stem]]
    assert up == []
