"""Measurements of whole cells and processes: time per cell, memory of a worker, overhead of a sweep."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.model_assets import ModelAssets
from lstmptq.models.batches import batches_in_order
from lstmptq.spec.cells import Cell
from lstmptq.spec.specs import ModelSpec, QuantizationSpec
from lstmptq.text.noise import CLEAN, Noise
from lstmptq.text.sources import Source
from lstmptq.trial import run_trial
from sweeps.options import parse
from tests.benchmarks.baselines import plain_cell
from tests.benchmarks.cases import LABELS, WIDTH, Size, corpus
from tests.benchmarks.timing import Comparison, seconds

ROOT = Path(__file__).resolve().parents[2]
CALIBRATION_DOCUMENTS = 32
WIDTHS = (8, 4, 3)
RATIOS, NOISES = ("balanced", "classes:3", "classes:2", "classes:1"), (CLEAN, Noise("typo", 0.1))


def write_corpus(folder: Path, documents: int, words: int) -> tuple[Path, Path]:
    """Write made-up documents as CSV, a fifth of them for testing, and word vectors in GloVe's format."""
    encoded = corpus(5 * documents, words)
    names = np.array([_name(number) for number in range(words)])
    texts = [" ".join(names[encoded.document(i)]) for i in range(len(encoded))]
    # every word occurs once more, so that the vocabulary has the requested size
    texts += [" ".join(names[start : start + 60]) for start in range(4, words, 60)]
    labels = np.concatenate([encoded.labels, np.arange(len(texts) - len(encoded)) % LABELS])
    pl.DataFrame({"text": texts, "label": [f"class{label}" for label in labels]}).write_csv(
        folder / "made_up.csv"
    )
    rng = np.random.default_rng(0)
    lines = [f"{name} " + " ".join(f"{x:.3f}" for x in rng.normal(size=WIDTH)) for name in names]
    (folder / "made_up.txt").write_text("\n".join(lines) + "\n")
    return folder / "made_up.csv", folder / "made_up.txt"


def _name(number: int) -> str:
    """Make a word of letters only, which no tokenizer splits."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:06d}")


def cell(size: Size) -> Comparison:
    """Measure the seconds per quantized cell of the generative model, our trials against a simple script.

    Our side is 24 cells (3 bit widths, 4 class ratios, 2 noises) in complete trials, shift statistics
    included. The script runs one cell without these, from the same trained model. The full size is that of
    AG News: 14,330 words and 1,000 test documents.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made, vectors = write_corpus(folder, size.cell_documents, size.cell_words)
        spec = ModelSpec(
            Source.from_file("made_up", made), "generative", Source.from_file("glove", vectors),
            epochs=1, min_freq=1,
        )  # fmt: skip
        trained = ModelAssets(spec, Artifacts(folder / "trained"))
        trained.train_model()
        for noise in NOISES:
            trained.test_set(noise)
        trials = [
            [
                Cell(spec, _quantization(bits, ratio), noise, size.cell_documents, shift_documents=64)
                for ratio in RATIOS
                for noise in NOISES
            ]
            for bits in WIDTHS
        ]
        count = sum(map(len, trials))
        documents = trained.test_set(CLEAN).take(trained.evaluated_documents(size.cell_documents))
        evaluation = list(batches_in_order(documents, 64))
        calibration = list(batches_in_order(trained.calibration_set(_quantization(4, "balanced")), 16))

        def ours(run: int) -> None:
            copy = folder / f"run{run}"
            shutil.copytree(folder / "trained", copy)
            for finished in chain.from_iterable(run_trial(cells, Artifacts(copy)) for cells in trials):
                if finished.row["status"] != "ok":
                    raise AssertionError(finished.row["error"])
            shutil.rmtree(copy)

        def script() -> None:
            plain_cell(trained.model, 4, 8, LABELS, calibration, evaluation)

        ours(0)
        runs = [(seconds(lambda: ours(1)) / count, seconds(script)) for _ in range(min(size.runs, 3))]
        return Comparison("cell", "s/cell", runs)


def _quantization(bits: int, ratio: str) -> QuantizationSpec:
    return QuantizationSpec(bits, 8, "gpfq", ratio, CALIBRATION_DOCUMENTS)


def worker_memory(size: Size) -> Comparison:
    """Measure the peak resident memory of a process that quantizes and scores, against the naive one."""
    runs = [(_peak("ours", size), _peak("naive", size)) for _ in range(min(size.runs, 2))]
    return Comparison("worker_memory", "MiB", runs)


def _peak(side: str, size: Size) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.memory", side, str(size.memory_words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def tune_overhead(size: Size) -> Comparison:
    """Measure the time of a sweep with one worker, against the same cells run in a loop without Ray.

    Starting Ray takes 5 to 18 s for any grid, so a sweep of a minute overstates the overhead of one of an
    hour. The best possible ratio is 1, the aim 0.9.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made, vectors = write_corpus(folder, size.sweep_documents, size.cell_words)
        flags = [
            "--dataset", str(made), "--models", "generative", "--embeddings", f"glove:{vectors}",
            "--epochs", "1", "--class-ratios", "balanced", "classes:2", "--noise", "clean",
            "--shift-documents", "64", "--workers", "1", "--out", str(folder / "out"), "--bits", "fp32",
        ]  # fmt: skip
        _sweep(flags)  # trains the model
        shutil.copytree(folder / "out" / "artifacts", folder / "copy")
        flags += ["8", "6", "4"]
        wall = seconds(lambda: _sweep(flags))
        trials: dict[int | None, list[Cell]] = {}
        for cell in parse(flags).grid().cells():
            if cell.bits is not None:  # the first sweep stored the FP32 row
                trials.setdefault(cell.bits, []).append(cell)

        def alone() -> None:
            for cells in trials.values():
                for _ in run_trial(cells, Artifacts(folder / "copy")):
                    pass

        return Comparison("tune_overhead", "s", [(wall, seconds(alone))])


def _sweep(flags: list[str]) -> None:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "sweeps/full_grid.py", *flags]
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)


def one_thread() -> None:
    """Limit torch to one thread, as in every measurement."""
    torch.set_num_threads(1)
