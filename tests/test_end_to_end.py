"""The command as a user gives it: real text, real training, real Ray, real Parquet."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import analysis
from analysis.frames.answers import by_document
from lstmptq.artifacts import Artifacts
from lstmptq.model_assets import ModelAssets
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.noise import CLEAN
from lstmptq.text.sources import Source

ROOT = Path(__file__).resolve().parent.parent
WHERE_AND_WHEN = [
    "observe_seconds", "correct_seconds", "evaluate_seconds", "documents_per_second", "started_at", "host",
]  # fmt: skip


def sweep(tiny_files, out, *more):
    corpus, vectors = tiny_files
    command = [
        sys.executable, "sweeps/full_grid.py", "--dataset", str(corpus), "--embeddings", f"glove:{vectors}",
        "--bits", "fp32", "8", "3", "--class-ratios", "balanced", "classes:1", "--noise", "clean", "typo:0.2",
        "--hidden", "8", "--epochs", "3", "--shift-documents", "16", "--out", str(out), *more,
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def rows(out):
    results = analysis.load(out)
    cells, tensors = results
    return (
        cells.drop(WHERE_AND_WHEN).sort("cell_id").collect(),
        tensors.sort("cell_id", "tensor", "contrast", maintain_order=True).collect(),  # redraws in turn
        by_document(results.predictions).sort("cell_id", "document").collect(),
    )


@pytest.mark.slow
def test_the_command_and_the_number_of_workers(tiny_files, tmp_path):
    """20 cells by one worker and by two, cell by cell: the same rows; then nothing is left to do."""
    one = sweep(tiny_files, tmp_path / "one", "--workers", "1")
    assert one.returncode == 0, one.stderr
    assert "Accuracy: tiny, glove vectors" in one.stdout
    assert "add seeds:" in one.stdout
    assert "CellTrial" not in one.stdout + one.stderr  # Tune says nothing beside the sweep's own progress
    two = sweep(tiny_files, tmp_path / "two", "--workers", "2", "--fan-out", "cell")
    assert two.returncode == 0, two.stderr
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert_frame_equal(a, b)
    cells, tensors, answers = rows(tmp_path / "one")
    assert len(cells) == 20
    assert set(cells["status"]) == {"ok"}
    assert cells.filter(pl.col("bits").is_null())["accuracy_drop"].to_list() == [0.0] * 4
    assert set(tensors["cell_id"]) == set(cells["cell_id"]) == set(answers["cell_id"])
    accuracy = answers.group_by("cell_id").agg((pl.col("label") == pl.col("predicted")).mean().alias("ours"))
    both = cells.join(accuracy, on="cell_id")
    assert both["ours"].to_list() == pytest.approx(both["accuracy"].to_list())
    redrawn = tensors.filter(pl.col("contrast") == "balanced_vs_redraw")
    assert redrawn.group_by("cell_id", "tensor").len()["len"].unique().to_list() == [5]
    again = sweep(tiny_files, tmp_path / "one")
    assert again.returncode == 0
    assert "20 cells: 20 done, 0 failed, 0 left" in again.stdout
    assert "starting Ray" not in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [("generative", 0.95), ("discriminative", 0.93)])
def test_float_models_are_as_good_as_they_should_be(kind, least, tmp_path):
    """BBC News, GloVe, seed 0, default settings: what breaks later is not the model's own fault."""
    study = ModelAssets(ModelSpec(Source("bbc_news"), kind, Source("glove")), Artifacts(tmp_path))
    scores = study.float_scores(CLEAN, None)
    assert (scores.model.predicted == scores.model.labels).mean() >= least
    assert (scores.model.predicted == scores.graph.predicted).all()
