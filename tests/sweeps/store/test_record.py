"""``sweep.json``: which sweep a directory belongs to, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lstmptq.results import SCHEMA_VERSION
from lstmptq.text.sources import Source
from tests.sweeps.fake_study import GRID
from tests.sweeps.store.stored import (
    CELLS,
    files,
    open_and_close,
    refusal,
)


def test_sweep_json_tells_grid_environment_and_command(tmp_path: Path) -> None:
    record = open_and_close(tmp_path / "new" / "results")
    assert record["schema_version"] == SCHEMA_VERSION
    assert record["cells"] == len(CELLS)
    assert record["command"] == "python sweeps/full_grid.py"
    assert record["grid"]["axes"]["bits"] == [None, 8, 4, 3]
    assert record["grid"]["axes"]["datasets"] == [{"name": "bbc_news", "digest": ""}]
    assert record["grid"]["axes"]["noise"][1] == {"kind": "typo", "level": 0.1}
    assert record["grid"]["settings"]["shift_documents"] == 256
    assert {"python", "torch", "ray"} <= record["versions"].keys()
    assert {"git_sha", "started_at", "earlier"} <= record.keys()


def test_the_same_grid_leaves_sweep_json_and_a_grown_one_keeps_the_earlier(tmp_path: Path) -> None:
    first = open_and_close(tmp_path)
    assert open_and_close(tmp_path) == first
    grown = open_and_close(tmp_path, dataclasses.replace(GRID, seeds=(0, 1)))
    assert grown["cells"] == 2 * len(CELLS)
    assert [earlier["cells"] for earlier in grown["earlier"]] == [len(CELLS)]
    assert open_and_close(tmp_path)["cells"] == len(CELLS)


def test_another_grid_is_refused(tmp_path: Path) -> None:
    open_and_close(tmp_path)
    assert refusal(tmp_path, dataclasses.replace(GRID, limit=100, pooling="last")) == (
        'OUT holds the results of another sweep: limit is null there and 100 here; pooling is "mean" there '
        'and "last" here: choose another --out, or ask for the same'
    )
    assert refusal(tmp_path, dataclasses.replace(GRID, datasets=(Source("mine", "0123456789abcdef"),))) == (
        "OUT holds the results of another sweep: dataset is bbc_news there and mine (0123456789abcdef) here: "
        "choose another --out, or ask for the same"
    )


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    record = open_and_close(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(record | {"schema_version": 0}))
    assert refusal(tmp_path) == (
        f"OUT holds results of schema version 0, this program writes version {SCHEMA_VERSION}: "
        "choose another --out"
    )


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "cells").mkdir(parents=True)
    assert refusal(out) == (
        "OUT has a directory cells but no sweep.json, so it is not known which sweep made it: "
        "put its sweep.json back, or choose another --out"
    )
    assert files(out) == set()
    (out / "sweep.json").write_text("[]")
    assert refusal(out).startswith("OUT/sweep.json is not the record of a sweep (TypeError: ")
    a_file = tmp_path / "file"
    a_file.touch()
    assert refusal(a_file) == "OUT is a file, not a directory of results: choose another --out"
