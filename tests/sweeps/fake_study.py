"""A study that costs nothing: rows are a function of the cell, and failures are ordered beforehand."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lstmptq.artifacts import Artifacts
from lstmptq.results import FinishedCell
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.spec.axes import MODELS
from lstmptq.spec.cells import Cell
from lstmptq.spec.grid import Grid
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.noise import CLEAN, Noise
from lstmptq.text.sources import Source
from sweeps.planning.study import Study

NOT_ENOUGH = "ValueError: not enough documents"
GRID = Grid(
    datasets=(Source("bbc_news"),),
    models=("discriminative", "generative"),
    embeddings=(Source("glove"),),
    bits=(None, 8, 4, 3),
    class_ratios=("balanced", "classes:1"),
    noise=(CLEAN, Noise("typo", 0.1)),
)


def identity_columns(cell: Cell) -> dict[str, object]:
    """Some of the columns that say which cell it is."""
    return {
        "cell_id": cell.cell_id,
        "dataset": cell.model.dataset.name,
        "model": cell.model.kind,
        "bits": cell.bits,
        "noise": cell.noise.kind,
    }


def ok_row(cell: Cell) -> dict[str, object]:
    """The row that the fake study gives a cell."""
    torch = sys.modules.get("torch")
    share = int(cell.cell_id[:6], 16) / 0xFFFFFF
    return identity_columns(cell) | {
        "status": "ok",
        "accuracy": share,
        "observe_seconds": 0.0,
        "correct_seconds": 1.0,
        "evaluate_seconds": 2.0,
        "documents": torch and torch.get_num_threads(),  # shows that a worker has one thread,
        "kernel": os.environ.get(KERNEL_VARIABLE),  # and which kernel it was told to use
    }


def tensor_rows(cell: Cell) -> list[dict[str, object]]:
    """Its rows of tensors."""
    names = ("lstm.0.cell_state", "logits")
    return [{"cell_id": cell.cell_id, "tensor": name, "kind": "activation", "ks_d": 0.5} for name in names]


def prediction_row(cell: Cell) -> dict[str, object]:
    """Its row of predictions: eight documents."""
    predicted = [int(digit, 16) for digit in cell.cell_id[:8]]
    return {"cell_id": cell.cell_id, "labels": [0] * 8, "predicted": predicted, "margin": [0.5] * 8}


@dataclass(frozen=True)
class FakeStudy(Study):
    """A study that fails as ordered, by model or bits; everything it does leaves a line in a file ``log``."""

    grid: Grid = GRID
    module: str = "lstmptq.trial"  # for its failed_row
    kinds: tuple[str, ...] = MODELS
    untrainable: str | None = None  # a model that cannot be trained
    failing_bits: int = 0  # its cells under noise are yielded as failed
    raising_bits: int = 0  # its trials raise after the first cell
    killed_bits: int = 0  # the worker of one of its trials dies at a cell in the middle
    kills: int = 1  # number of these deaths
    seconds: float = 0.0  # time that a cell takes
    journal: str | None = None  # a directory, for workers that do not see the artifacts
    imports_torch: bool = False  # in the workers, which start within a second without it

    def prepare_worker(self) -> None:
        if self.imports_torch:
            super().prepare_worker()

    def train(
        self,
        spec: ModelSpec,
        artifacts: Artifacts,
        *,
        device: str,
        on_epoch: Callable[[int, int, float], None] | None = None,
    ) -> None:
        log(self._journal(artifacts), "train", spec.kind, str(os.getpid()))
        assert device == "cpu"
        if spec.kind == self.untrainable:
            raise ValueError("no vectors\nfor this corpus")

        def build(path: Path) -> None:
            for epoch in (1, 2):
                on_epoch(epoch, 2, 0.5)
            if (self._journal(artifacts) / "full").exists():
                raise OSError(errno.ENOSPC, "No space left on device")
            (path / "model").touch()

        artifacts.get_or_build(*spec.training, build)

    def run(self, cells: Sequence[Cell], artifacts: Artifacts, *, device: str) -> Iterator[FinishedCell]:
        assert device == "cpu"
        for number, cell in enumerate(cells):
            time.sleep(self.seconds)
            if number == 1 and cell.bits == self.raising_bits:
                raise RuntimeError("the statistics are not finite")
            if cell.bits == self.killed_bits and cell.model.kind == "generative":
                time.sleep(0.3)  # the first cell is reported before the worker dies
                if cell.noise != CLEAN and cell.quantization.class_ratio == "balanced":
                    self._die(artifacts)
            log(self._journal(artifacts), "cell", cell.cell_id, str(os.getpid()), tempfile.gettempdir())
            if cell.bits == self.failing_bits and cell.noise != CLEAN:
                row = identity_columns(cell) | {"status": "failed", "error": NOT_ENOUGH}
                yield FinishedCell(row, [], log=f"Traceback\n{NOT_ENOUGH}\n")
            else:
                yield FinishedCell(ok_row(cell), tensor_rows(cell), prediction_row(cell))

    def _journal(self, artifacts: Artifacts) -> Path:
        return Path(self.journal) if self.journal else artifacts.root

    def _die(self, artifacts: Artifacts) -> None:
        for attempt in range(self.kills):
            marker = self._journal(artifacts) / f"killed-{attempt}"
            if not marker.exists():
                marker.touch()
                print("the last thing this worker says", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)


def log(journal: Path, *words: str) -> None:
    """Append a line that the test can read, whichever process runs this."""
    journal.mkdir(parents=True, exist_ok=True)
    with (journal / "log").open("a") as file:
        file.write(" ".join(words) + "\n")


def find_trained(artifacts: Path, grid: Grid = GRID) -> None:
    """Make the FP32 models of `grid` beforehand, which saves the training phase."""
    for spec in grid.model_specs():
        Artifacts(artifacts).get_or_build(*spec.training, Path.exists)


def logged(journal: Path, word: str, column: int = 1) -> list[str]:
    """What the workers logged after `word`: a name; in column 2 their process number, in 3 where."""
    path = journal / "log"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [words[column] for words in whole if words[0] == word]
