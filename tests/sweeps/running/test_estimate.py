"""What a plan would take, and by what it is judged."""

from __future__ import annotations

import json
from pathlib import Path

from lstmptq.spec.grid import Grid
from lstmptq.text.sources import Source
from sweeps.full_grid import lstm_study
from sweeps.planning.plan import make_plan
from sweeps.running.estimate import Timings, estimate, known_timings, total_seconds
from sweeps.storage.opening import open_storage

GRID = Grid(datasets=(Source("bbc_news"),), embeddings=(Source("glove"),), bits=(None, 8))
STUDY = lstm_study(GRID)
PLAN = make_plan(STUDY, set(), {})  # of each of 2 models 4 FP32 and 16 quantized cells
CELLS = {"generative quantized": 3.0, "generative fp32": 1.0, "discriminative quantized": 0.5}
TRAINING = {"generative": 60.0, "discriminative": 20.0}


def test_each_kind_takes_its_own_time_and_an_unknown_one_the_mean() -> None:
    counts = {"generative quantized": 16, "generative fp32": 4, "discriminative quantized": 16}
    assert total_seconds(counts, CELLS) == 16 * 3 + 4 * 1 + 16 * 0.5
    assert total_seconds({"discriminative fp32": 4}, CELLS) == 4 * 1.5
    assert total_seconds(counts, {}) is None
    assert total_seconds({}, {}) == 0


def test_hours_and_memory_say_what_they_are_from() -> None:
    timings = Timings(CELLS, TRAINING, True, "from earlier runs here", 3 * 2**29, "node1")
    # 16 * 3 + 4 * 1 + 16 * 0.5 + 4 * 1.5 + 80 = 146 s on one core
    assert estimate(PLAN, PLAN.models, timings, 2) == [
        ("estimate", "about 1:13, 0:40 of it the training of 2 FP32 models (from earlier runs here)"),
        ("memory", "1.5 GiB a worker, 3.0 GiB for 2 (the highest peak seen on node1)"),
    ]
    assert estimate(PLAN, (), timings, 1)[0] == ("estimate", "about 1:06 (from earlier runs here)")


def test_what_is_not_known_is_said() -> None:
    assert estimate(PLAN, PLAN.models, Timings(), 2) == [
        (
            "estimate",
            "unknown until some cells are finished, and the training of 2 FP32 models: run a few with "
            "--samples N first",
        )
    ]
    steps = Timings(CELLS, {}, False, "from the steps that finished cells measured")
    assert estimate(PLAN, PLAN.models, steps, 1) == [
        (
            "estimate",
            "at least 1:06, and the training of 2 FP32 models (from the steps that finished cells measured)",
        ),
        ("memory", "unknown until a worker was measured"),
    ]
    done = make_plan(STUDY, {cell.cell_id for cell in GRID.cells()}, {})
    assert estimate(done, (), Timings(), 2) == [("estimate", "nothing to do")]


def test_earlier_runs_are_known_from_their_status(tmp_path: Path) -> None:
    steps = {("generative", True): 2.0}
    assert known_timings(open_storage(tmp_path), steps).cells == {"generative quantized": 2.0}
    status = {
        "version": 1,
        "timings": {"cells": {"generative quantized": [4, 12.0]}, "FP32 models": {"generative": [0.5, 30.0]}},
        "hosts": {"a": {"peak_bytes": 5}, "b": {"peak_bytes": 7}, "c": {}},
    }
    (tmp_path / "status.json").write_text(json.dumps(status))
    found = known_timings(open_storage(tmp_path), steps)
    assert (found.cells, found.training) == ({"generative quantized": 3.0}, {"generative": 60.0})
    assert (found.peak_bytes, found.peak_host, found.whole) == (7, "b", True)
    (tmp_path / "status.json").write_text("{")
    assert not known_timings(open_storage(tmp_path), steps).whole
