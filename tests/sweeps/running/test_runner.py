"""Sweeps of a fake study through Ray Tune."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from lstmptq.artifacts import Artifacts
from lstmptq.results import FinishedCell
from lstmptq.spec.grid import Grid
from lstmptq.text.noise import CLEAN, Noise
from sweeps.errors import StoreError
from sweeps.planning.plan import FanOut, make_plan
from sweeps.running.artifact_server import node_folder
from sweeps.running.progress import SweepProgress
from sweeps.running.runner import RunOptions, run_plan
from sweeps.storage.artifacts import ArtifactStorage
from sweeps.store import writer as stores
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import (
    GRID,
    NOT_ENOUGH,
    FakeStudy,
    find_trained,
    logged,
    ok_row,
    prediction_row,
    tensor_rows,
)

CELLS = {cell.cell_id: cell for cell in GRID.cells()}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_workers"),
    pytest.mark.xdist_group("runner"),
]  # one whole sweep


def sweep(
    out: Path,
    study: FakeStudy | None = None,
    grid: Grid = GRID,
    workers: int = 2,
    retry_failed: bool = False,
    fan_out: FanOut = "trial",
    apart: bool = False,
) -> tuple[list[dict[str, Any]], str]:
    """Run what is missing; returns the rows by cell_id, and what was printed."""
    screen = io.StringIO()
    progress = SweepProgress(Console(file=screen, width=200))
    with open_store(out, grid, "test") as store:
        study = dataclasses.replace(study or FakeStudy(), grid=grid)
        plan = make_plan(study, store.finished(), store.failed(), retry_failed, fan_out)
        store.discard(plan.retried)
        run_plan(
            plan,
            store,
            RunOptions(study, out / "artifacts", workers, kernel="eager", apart=apart),
            progress,
        )
    rows = pl.scan_parquet(out / "cells" / "*.parquet").sort("cell_id").collect().to_dicts()
    return rows, screen.getvalue()


def comparable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out the time, and the number of threads, which is known where torch is imported."""
    left_out = ("started_at", "documents")
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], str]:
    """A whole sweep: its directory, its rows, what it printed."""
    out = tmp_path_factory.mktemp("whole") / "results"
    return out, *sweep(out, FakeStudy(imports_torch=True))


def test_a_sweep_stores_every_cell_once(whole: tuple[Path, list[dict[str, Any]], str]) -> None:
    out, rows, _ = whole
    assert [row["cell_id"] for row in rows] == sorted(CELLS)
    expected = {name: ok_row(CELLS[rows[0]["cell_id"]])[name] for name in ("accuracy", "bits")}
    assert {name: rows[0][name] for name in expected} == expected
    tensors = pl.read_parquet(out / "tensors" / "*.parquet")
    assert len(tensors) == sum(len(tensor_rows(cell)) for cell in CELLS.values())
    assert set(tensors["cell_id"]) == set(CELLS)
    answers = {row["cell_id"]: row for row in pl.read_parquet(out / "predictions" / "*.parquet").to_dicts()}
    assert answers == {cell_id: prediction_row(cell) for cell_id, cell in CELLS.items()}


def test_each_model_is_trained_once_and_each_cell_run_once(whole: tuple[Path, Any, Any]) -> None:
    artifacts = whole[0] / "artifacts"
    assert sorted(logged(artifacts, "train")) == ["discriminative", "generative"]
    assert sorted(logged(artifacts, "cell")) == sorted(CELLS)


def test_checkpoints_of_one_run_are_trained_once(tmp_path: Path) -> None:
    """Two workers, two epochs of each of two models: two trainings; later another epoch, and none."""
    out = tmp_path / "results"
    grid = dataclasses.replace(GRID, bits=(None,), epochs=(1, 3))
    _, screen = sweep(out, grid=grid)
    assert sorted(logged(out / "artifacts", "train")) == ["discriminative", "generative"]
    assert "FP32 models: 100 % of 2: 2 done" in screen
    rows, screen = sweep(out, grid=dataclasses.replace(grid, epochs=(1, 2, 3)))
    assert len(logged(out / "artifacts", "train")) == 2
    assert len(rows) == len({row["cell_id"] for row in rows}) == 2 * 3 * 2
    assert {row["status"] for row in rows} == {"ok"}


def test_a_run_that_cannot_be_trained_fails_the_cells_of_all_its_checkpoints(tmp_path: Path) -> None:
    study = FakeStudy(untrainable="discriminative")
    rows, _ = sweep(tmp_path, study, dataclasses.replace(GRID, bits=(None,), epochs=(1, 3)))
    assert len(logged(tmp_path / "artifacts", "train")) == 2
    assert {(row["model"], row["status"]) for row in rows} == {
        ("discriminative", "failed"), ("generative", "ok"),
    }  # fmt: skip


def test_workers_compute_with_one_thread(whole: tuple[Path, list[dict[str, Any]], str]) -> None:
    assert {row["documents"] for row in whole[1]} == {1}


def test_workers_use_the_kernel_they_are_told(whole: tuple[Path, list[dict[str, Any]], str]) -> None:
    assert {row["kernel"] for row in whole[1]} == {"eager"}


def test_progress_is_printed_line_by_line(whole: tuple[Path, list[dict[str, Any]], str]) -> None:
    said = whole[2].splitlines()
    assert said[-1].startswith("cells: ")
    assert said[-1].endswith(" % of their time at work")
    training, cells = (
        [line for line in said if line.startswith(f"{title}: ") and not line.endswith("at work")]
        for title in ("FP32 models", "cells")
    )  # the first and the last line of each phase; on a busy machine there are more between them
    assert training[0].startswith("FP32 models: 0 % of 2: 0 done, 0 running, 0 failed, 2 left, elapsed 0:00")
    assert training[-1].startswith("FP32 models: 100 % of 2: 2 done, 0 running, 0 failed, 0 left")
    assert cells[0].startswith("cells: 0 % of 28: 0 done, 0 running, 0 failed, 28 left")
    assert cells[-1].startswith("cells: 100 % of 28: 28 done, 0 running, 0 failed, 0 left")
    assert said.index(training[-1]) < said.index(cells[0])


def test_tune_leaves_nothing_in_the_results(whole: tuple[Path, Any, Any]) -> None:
    names = {path.name for path in whole[0].iterdir()}
    assert names == {"cells", "tensors", "predictions", "open", "artifacts", "sweep.json", ".lock"}


def test_one_worker_single_cell_trials_and_a_grid_that_grows_give_the_same_rows(
    whole: tuple[Path, list[dict[str, Any]], str], tmp_path: Path
) -> None:
    out = tmp_path / "results"
    find_trained(out / "artifacts")
    some, _ = sweep(out, grid=dataclasses.replace(GRID, bits=(None, 4)), workers=1, fan_out="cell")
    assert len(some) == len(logged(out / "artifacts", "cell")) == 12
    rows, screen = sweep(out)
    ran = logged(out / "artifacts", "cell")
    assert len(ran) == len(set(ran)) == len(CELLS)
    assert "cells: 43 % of 28: 12 done, 0 running, 0 failed, 16 left" in screen
    assert comparable(rows) == comparable(whole[1])


def test_everything_that_fails_is_stored_with_its_reason_and_can_be_retried(
    whole: tuple[Path, list[dict[str, Any]], str], tmp_path: Path
) -> None:
    out = tmp_path / "results"
    study = FakeStudy(untrainable="discriminative", failing_bits=4, raising_bits=8, killed_bits=3, kills=5)
    rows, screen = sweep(out, study)
    assert len(rows) == len(CELLS)
    failed = {row["cell_id"]: row["error"] for row in rows if row["status"] == "failed"}
    reasons = defaultdict(list)
    for cell_id, cell in CELLS.items():
        reasons[cell.model.kind, cell.bits].append(failed.get(cell_id, "").split(" (")[0])
    untrained = "training the FP32 model failed: ValueError: no vectors for this corpus"
    assert {reason for (model, _), found in reasons.items() if model != "generative" for reason in found} == {
        untrained
    }
    assert reasons["generative", None] == ["", ""]
    assert reasons["generative", 8] == ["", *["RuntimeError: the statistics are not finite"] * 3]
    assert reasons["generative", 4] == ["", NOT_ENOUGH, "", NOT_ENOUGH]
    assert reasons["generative", 3] == ["", "its worker died: killed, or out of memory", "", ""]
    row = next(row for row in rows if row["error"] and row["bits"] == 8)
    assert (row["dataset"], row["embedding"], row["seed"]) == ("bbc_news", "glove", 0)
    assert "a model cannot be trained: ValueError: no vectors for this corpus" in screen
    assert "a trial is run once more: its worker died: killed, or out of memory" in screen

    def log(row: dict[str, Any]) -> str:
        return (out / "logs" / f"{row['cell_id']}.txt").read_text()

    assert {path.stem for path in (out / "logs").iterdir()} == set(failed)  # each has its log, and no other
    assert log(row).startswith("Traceback (most recent call last):\n")
    assert log(row).endswith("RuntimeError: the statistics are not finite\n")
    assert "no vectors\nfor this corpus" in log(next(r for r in rows if r["model"] == "discriminative"))
    died = log(next(r for r in rows if r["error"] and r["bits"] == 3 and r["model"] == "generative"))
    assert "died" in died  # what Ray says, and what the worker had written
    assert "the last lines of worker-" in died
    assert "the last thing this worker says" in died

    ran = len(logged(out / "artifacts", "cell"))
    again, _ = sweep(out)
    assert comparable(again) == comparable(rows)
    assert len(logged(out / "artifacts", "cell")) == ran  # without --retry-failed nothing is run

    # one more death of a worker, which costs nothing: the trial is run once more
    retried, screen = sweep(out, dataclasses.replace(FakeStudy(), killed_bits=3, kills=6), retry_failed=True)
    assert "a trial is run once more" in screen
    assert comparable(retried) == comparable(whole[1])
    assert list((out / "logs").iterdir()) == []
    tensors = pl.read_parquet(out / "tensors" / "*.parquet")
    assert (tensors.group_by("cell_id").len()["len"] == len(tensor_rows(next(iter(CELLS.values()))))).all()
    assert set(tensors["cell_id"]) == set(CELLS)


def test_a_worker_that_dies_is_replaced_also_where_trials_are_shorter_than_its_start(tmp_path: Path) -> None:
    """Tune would give the trial that waits for the new worker to the old one, and stop the new worker."""
    noise = (CLEAN, *(Noise("typo", level / 100) for level in range(1, 20)))
    grid = dataclasses.replace(GRID, models=("generative",), bits=(8,), noise=noise)
    find_trained(tmp_path / "artifacts", grid)
    rows, _ = sweep(tmp_path, FakeStudy(killed_bits=8, seconds=0.4), grid, fan_out="cell")
    assert {row["status"] for row in rows} == {"ok"}
    processes = Counter(logged(tmp_path / "artifacts", "cell", 2))
    # besides the survivor and the next round's, which does what is left of the dead one's trial
    assert sum(cells > 1 for cells in processes.values()) > 1, processes


def test_a_full_disk_stops_the_sweep_and_keeps_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results"
    find_trained(out / "artifacts")
    extend = stores.ResultStore.extend

    def full(store: stores.ResultStore, cells: Iterable[FinishedCell]) -> None:
        for cell in cells:
            if len(store.finished()) == 3:
                raise StoreError("the disk is full")
            extend(store, [cell])

    monkeypatch.setattr(stores.ResultStore, "extend", full)
    with pytest.raises(StoreError, match="the disk is full"):
        sweep(out)
    assert len(pl.read_parquet(out / "cells" / "*.parquet")) == 3


def test_a_disk_without_room_for_artifacts_stops_the_sweep_and_fails_no_cell(tmp_path: Path) -> None:
    out, study = tmp_path / "results", FakeStudy(journal=str(tmp_path))
    (tmp_path / "full").touch()
    with pytest.raises(StoreError) as problem:
        sweep(out, study)
    assert str(problem.value) == (
        f"cannot keep artifacts in {out / 'artifacts'}: No space left on device. What is written stays: put "
        "that right, and the same command goes on where it stopped"
    )
    assert len(pl.read_parquet(out / "cells" / "*.parquet")) == 0
    (tmp_path / "full").unlink()
    rows, _ = sweep(out, study)
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == len(CELLS)


def test_workers_that_do_not_see_the_artifacts_are_brought_them(
    whole: tuple[Path, list[dict[str, Any]], str], tmp_path: Path
) -> None:
    out, study = tmp_path / "results", FakeStudy(journal=str(tmp_path))
    rows, _ = sweep(out, study, apart=True)
    assert comparable(rows) == comparable(whole[1])
    assert sorted(logged(tmp_path, "train")) == ["discriminative", "generative"]
    copies = node_folder(ArtifactStorage(out / "artifacts").identity())
    assert len(list(copies.glob("models/*/model"))) == 2
    shutil.rmtree(copies)
    for spec in GRID.model_specs():
        assert Artifacts(out / "artifacts").has(*spec.training)
