"""The companion command: its errors, its plan, and every method from documents to rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis.questions.companion import companion_table
from lstmptq.companion import checkpoints
from sweeps.commands import Sweep
from sweeps.emotion import EmotionConfig, main

ROOT = Path(__file__).resolve().parents[2]
LSTMS = ("--models", "discriminative", "generative")


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str], emotions: Path):
    """What the command says on stderr when it refuses some arguments."""

    def refused(*arguments: str) -> str:
        assert main(["--dataset", str(emotions), *arguments, "--dry-run"]) == 2
        return capsys.readouterr().err

    return refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--methods awq",
            "error: methods must be one of fp32, dynamic_ptq, static_ptq, qat, qlora, got",
        ),
        ("--methods qlora", "error: none of these methods applies to these models: discriminative x qlora: "),
        ("--bits 9", "error: bits must be in 2..8"),
        ("--training-documents 1", "error: training-documents must be a number, at least 2, or all, got 1\n"),
        ("--precision int8", "error: precision must be one of float32, bfloat16, got 'int8'\n"),
        ("--qat-epochs 0", "error: epochs must be at least 1, got 0\n"),
        ("--qlora-learning-rate 0", "error: learning_rate must be above 0 and finite, got 0.0\n"),
        ("--repeats 0", "error: repeats must be at least 1, got 0\n"),
        ("--embedding elmo", "error: unknown embedding 'elmo'"),
        ("--dataset nothing.csv", "error: no file nothing.csv: give the path of an existing file\n"),
    ],
)
def test_bad_values_are_explained(error, arguments: str, message: str) -> None:
    shown = error(*LSTMS, *arguments.split())
    assert shown.startswith(message)
    assert shown.count("\n") == 1


def test_bad_checkpoints_are_explained(error, tiny_bert: Path, tmp_path: Path) -> None:
    assert "max_tokens must be at most 64, the pos" in error("--bert", str(tiny_bert), "--max-tokens", "65")
    assert "has no config.json" in error("--bert", str(tmp_path))
    assert "there is no directory" in error("--bert", "/nowhere/bert")


def test_absent_packages_name_the_extra(error, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "require_packages", lambda: checkpoints_absent())

    def checkpoints_absent() -> None:
        raise ModuleNotFoundError("needs the package peft, which is not installed: run " + checkpoints.EXTRA)

    assert "pip install 'lstmptq[bert]'" in error("--models", "bert")


def test_a_sweep_of_which_nothing_is_finished_says_why(
    emotions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Sweep, "run", lambda *_: {"a" * 64: "the disk is on fire"})
    vectors = emotions.with_suffix(".txt")
    line = ["--dataset", str(emotions), "--models", "generative", "--embedding", f"glove:{vectors}"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr().out
    assert "1 x the disk is on fire" in shown
    assert "the same command with --retry-failed runs them again" in shown


@pytest.mark.slow
def test_lstms_need_nothing_of_the_extra_and_a_plan_no_ray(
    tiny_bert: Path, emotions: Path, tmp_path: Path
) -> None:
    """In a process of its own, where importing a package of the extra fails until a BERT is planned."""
    code = """
import sys
extra = ("transformers", "peft", "torchao", "bitsandbytes")
sys.modules.update(dict.fromkeys(extra))
from sweeps.emotion import EmotionConfig, main
grid, why = EmotionConfig(models=("generative",)).grid()
assert why is None
assert len(list(grid.cells())) == 6
import lstmptq.companion.trial, lstmptq.trial, sweeps.full_grid
assert "ray" not in sys.modules
for name in extra:
    assert sys.modules.pop(name) is None
assert main(sys.argv[1:]) == 0
assert "ray" not in sys.modules
"""
    line = ["--dataset", str(emotions), "--bert", str(tiny_bert), "--dry-run", "--out", str(tmp_path / "out")]
    shown = subprocess.run(
        [sys.executable, "-c", code, *line], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert f"bert: {tiny_bert}" in shown
    for pair in ("bert x static_ptq", "discriminative x qlora", "generative x qlora"):
        assert f"does not apply, left out: {pair}: " in shown
    assert "17 in the grid: 0 done, 0 failed, 17 left" in shown
    assert "9: 0 trained already, 9 to train" in shown
    assert not (tmp_path / "out").exists()


def test_help_shows_each_flag(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    shown = capsys.readouterr().out
    for name in EmotionConfig.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown


SMALL = "--limit 40 --epochs 1 --qlora-epochs 1 --lstm-epochs 2 --bits 4 --repeats 5 --warmup 1 --workers 1"


def run(out: Path, *arguments: str) -> str:
    """The command on a few hundred documents."""
    command = [sys.executable, "sweeps/emotion.py", *arguments, *SMALL.split(), "--out", str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_every_method_from_documents_to_rows(
    emotions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The packaged BERT and both LSTMs, once; then nothing is left; then again from the artifacts."""
    pytest.importorskip(checkpoints.PACKAGE, reason="the package of all-MiniLM-L6-v2 is not installed")
    vectors = emotions.with_suffix(".txt")
    given = ("--dataset", str(emotions), "--bert", checkpoints.PACKAGED, "--embedding", f"glove:{vectors}")
    shown = run(tmp_path / "out", *given)
    assert "does not apply, left out: bert x static_ptq" in shown
    assert "emotions: how good" in shown
    results = analysis.load(tmp_path / "out")
    rows = results.cells.collect()
    assert set(rows["status"]) == {"ok"}, rows["error"].drop_nulls().to_list()
    named = set(rows.select("model", "method", "library").rows())
    assert named == {
        ("bert", "fp32", None),
        ("bert", "dynamic_ptq", "torch"),
        ("bert", "dynamic_ptq", "torchao"),
        ("bert", "qat", "torchao, torch"),
        ("bert", "qlora", "peft, bitsandbytes"),
        *(
            (model, method, library)
            for model in ("discriminative", "generative")
            for method, library in (
                ("fp32", None), ("dynamic_ptq", "torch"), ("static_ptq", "brevitas"), ("qat", "brevitas"),
            )
        ),
    }  # fmt: skip
    assert len(rows) == 13
    for row in rows.iter_rows(named=True):
        check_row(row)
    predicted = results.predictions.collect()
    assert set(predicted["cell_id"]) == set(rows["cell_id"])
    assert predicted["labels"].n_unique() == 1  # the same documents, whichever the model
    table = companion_table(results.cells)
    assert len(table) == 13

    bert = [*given, "--models", "bert", "--methods", "dynamic_ptq", "--libraries", "torch"]
    assert main([*bert, *SMALL.split(), "--out", str(tmp_path / "out")]) == 0
    assert "1 cells: 1 done, 0 failed, 0 left" in capsys.readouterr().out
    again = run(tmp_path / "out", *bert, "--again")
    assert "FP32 models: 100 % of 1: 1 done" in again  # found, not trained
    assert len(analysis.load(tmp_path / "out").cells.collect()) == 13


def check_row(row: dict) -> None:
    """What must be true of a row, whatever the numbers."""
    kernel, share = row["kernel"], row["integer_share"]
    size = row["stored_bytes"]
    assert 0 <= row["macro_f1"] <= 1
    assert sum(map(sum, row["confusion"])) == row["documents"] == 40
    assert row["accuracy_drop"] == pytest.approx(row["fp32_accuracy"] - row["accuracy"])
    for batch in (1, 64):
        low, median, high = (row[f"latency_{batch}_{part}ms"] for part in ("low_", "", "high_"))
        assert 0 < low <= median <= high
        assert row[f"speedup_{batch}"] > 0
    assert row["threads"] == 1
    assert row["peak_memory_bytes"] is None or row["peak_memory_bytes"] > size / 4
    assert json.loads(row["operators"])
    if row["method"] == "fp32":
        assert share == 0
        assert row["bits"] is None
        assert 4 * row["parameters"] <= size < 4.1 * row["parameters"] + 20_000
        assert row["accuracy_drop"] == 0
    else:
        assert size < 4 * row["parameters"]
    if row["method"] == "dynamic_ptq" or (row["model"] == "bert" and row["method"] == "qat"):
        assert share > 0.2
        assert "quantized" in kernel or "_int_mm" in kernel
    if row["method"] == "qlora":
        assert "bitsandbytes" in row["operators"] + kernel
        assert 0 < row["trainable_parameters"] < 0.05 * row["parameters"]
        assert share == 0
