"""The companion's trial: one bad cell never stops the others, a full disk does."""

import errno
import json

import pytest

from lstmptq.artifacts import Artifacts, RefusedError
from lstmptq.companion import trial
from lstmptq.companion.cells import CompanionCell, Timing, Training
from lstmptq.companion.latency import MeasuringError
from lstmptq.companion.methods import qat_quantization
from lstmptq.companion.recipes import QatRecipe
from lstmptq.companion.trial import run_trial, train_model
from lstmptq.results import CELLS

MEASURED = {
    "stored_bytes": 999,
    "threads": 1,
    "kernel": "aten::addmm",
    "integer_share": 0.0,
    "operators": "{}",
}


@pytest.fixture
def cells(lstm_spec):
    spec = lstm_spec()
    values = {"limit": 9, "timing": Timing(repeats=2)}
    return [
        CompanionCell(Training(spec), **values),
        CompanionCell(Training(spec), "dynamic_ptq", **values),
        CompanionCell(Training(spec), "static_ptq", quantization=qat_quantization(4), **values),
    ]


@pytest.fixture
def unmeasured(monkeypatch):
    monkeypatch.setattr(trial, "measure_apart", lambda *_: dict(MEASURED))


@pytest.mark.usefixtures("unmeasured")
def test_every_cell_leaves_a_row_of_the_table(cells, bert_artifacts):
    finished = list(run_trial(cells, bert_artifacts))
    rows = [cell.row for cell in finished]
    assert [(row["method"], row["status"], row["bits"]) for row in rows] == [
        ("fp32", "ok", None),
        ("dynamic_ptq", "ok", 8),
        ("static_ptq", "ok", 4),
    ]
    fp32, dynamic, static = rows
    assert set().union(*rows) <= set(CELLS.names)
    assert {row["fp32_accuracy"] for row in rows} == {fp32["accuracy"]}
    assert fp32["accuracy_drop"] == 0
    assert fp32["quantized_bytes"] == fp32["fp32_bytes"] == 4 * fp32["parameters"]
    assert dynamic["quantized_bytes"] == 999  # as measured
    assert 0 < static["quantized_bytes"] < fp32["fp32_bytes"] / 4  # as computed, at its bits
    assert static["kernel"].startswith("aten::addmm; LSTM steps simulated in float32: ")
    assert [row["cell_id"] for row in rows] == [cell.predictions["cell_id"] for cell in finished]
    assert all(cell.log is None for cell in finished)


def test_a_cell_that_fails_is_a_row_with_its_traceback_and_the_next_runs(cells, bert_artifacts, monkeypatch):
    def measure_apart(cell, _):
        if cell.method == "fp32":
            problem = MeasuringError("measuring ended with code 1: no room")
            problem.add_note("said by the other process")
            raise problem
        return dict(MEASURED)

    monkeypatch.setattr(trial, "measure_apart", measure_apart)
    failed, *others = run_trial(cells, bert_artifacts)
    assert failed.row["status"] == "failed"
    assert failed.row["error"].startswith("MeasuringError: measuring ended with code 1: no room (measure_")
    assert failed.row["cell_id"] == cells[0].cell_id
    assert "Traceback (most recent call last)" in failed.log
    assert "said by the other process" in failed.log
    assert [cell.row["status"] for cell in others] == ["ok", "ok"]


def test_artifacts_that_cannot_be_kept_end_the_trial(cells, tmp_path, monkeypatch):
    """The others would fail as well: stored as failed, they would be left out when there is room again."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lstmptq.model_assets.ModelAssets._build_dataset", full)
    with pytest.raises(RefusedError, match=r"^cannot keep artifacts in .*: No space left on device"):
        list(run_trial(cells, Artifacts(tmp_path)))


def test_another_device_is_refused(cells, lstm_spec, tmp_path):
    message = "^the companion study measures kernels of the CPU, got device cuda: use cpu$"
    with pytest.raises(ValueError, match=message):
        list(run_trial(cells, Artifacts(tmp_path), device="cuda"))
    with pytest.raises(ValueError, match=message):
        train_model(Training(lstm_spec()), Artifacts(tmp_path), device="cuda")


def test_a_training_says_its_epochs_and_leaves_its_card(lstm_spec, bert_artifacts):
    heard = []
    training = Training(lstm_spec(seed=5), "qat", QatRecipe(1, 1e-3, 64), 8)
    card = train_model(training, bert_artifacts, on_epoch=lambda *epoch: heard.append(epoch))
    assert [(epoch, epochs) for epoch, epochs, _ in heard] == [(1, 1)]
    assert card["recipe"]["epochs"] == 1
    assert json.loads(json.dumps(card)) == card
