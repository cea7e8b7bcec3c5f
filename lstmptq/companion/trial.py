"""One trial of the companion study: cells that share a training, to finished rows."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock

from lstmptq.artifacts import Artifacts, RefusedError
from lstmptq.companion.cells import CompanionCell, Training
from lstmptq.companion.latency import measure_apart
from lstmptq.companion.methods import METHOD_TABLE
from lstmptq.companion.preparation import make_assets, prepare, train
from lstmptq.companion.provenance import describe_versions
from lstmptq.measures.metrics import metric_columns, prediction_columns
from lstmptq.model_assets import score
from lstmptq.quantization.classifier import quantized_bytes
from lstmptq.results import SCHEMA_VERSION, FinishedCell
from lstmptq.runtime.kernel import choose_kernel
from lstmptq.runtime.problems import describe_problem, format_traceback
from lstmptq.runtime.provenance import git_sha
from lstmptq.spec.axes import axes_of

CARD_COLUMNS = (
    "embedding_source", "embedding_dim", "embedding_coverage", "training_documents", "parameters",
    "trainable_parameters", "eligible_parameters", "epochs",
)  # fmt: skip


def train_model(
    training: Training,
    artifacts: Artifacts,
    *,
    device: str = "cpu",
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Run `training`, or find it among the artifacts, and return its card."""
    _require_cpu(device)
    path = train(make_assets(training.base, artifacts), training, on_epoch)
    card: dict[str, Any] = json.loads((path / "card.json").read_text())
    return card


def _require_cpu(device: str) -> None:
    if device != "cpu":
        raise ValueError(f"the companion study measures kernels of the CPU, got device {device}: use cpu")


def run_trial(
    cells: Sequence[CompanionCell], artifacts: Artifacts, *, device: str = "cpu"
) -> Iterator[FinishedCell]:
    """Run cells and yield each when it is finished; a cell that cannot be run is yielded as failed.

    Raises:
        ValueError: if `device` is not the CPU.
        RefusedError: if a shared artifact cannot be stored, on a full disk for instance.
    """
    _require_cpu(device)
    for cell in cells:
        started = datetime.now(UTC)
        try:
            finished = _finish(cell, artifacts)
        except RefusedError:  # the others would fail as well: the sweep has to stop
            raise
        except Exception as problem:  # one bad cell never stops the others
            log = format_traceback(problem)
            finished = FinishedCell(failed_row(cell, describe_problem(problem)), [], log=log)
        finished.row["started_at"] = started
        yield finished


def _finish(cell: CompanionCell, artifacts: Artifacts) -> FinishedCell:
    assets = make_assets(cell.reference, artifacts)
    fp32 = metric_columns(assets.clean_scores(cell.limit))["accuracy"]
    prepared = prepare(assets, cell)
    documents = assets.documents(cell.limit)
    started = time.perf_counter()
    scores = score(prepared.classifier, documents)
    seconds = time.perf_counter() - started
    columns = metric_columns(scores)
    with FileLock(artifacts.root / "latency.lock"):  # only one cell of this sweep is measured at a time
        measured = measure_apart(cell, artifacts)
    parameters = prepared.card["parameters"]
    size = measured["stored_bytes"]
    if METHOD_TABLE[cell.model.kind][cell.method].quantization:  # simulated, as in the main study
        size = quantized_bytes(prepared.classifier)
        # no operator of torch shows the code that numba compiled
        measured["kernel"] += f"; LSTM steps simulated in float32: {choose_kernel()}"
    row = {
        **identity_columns(cell),
        **{name: prepared.card.get(name) for name in CARD_COLUMNS},
        "classes": assets.classes,
        "status": "ok",
        **columns,
        "fp32_accuracy": fp32,
        "accuracy_drop": fp32 - columns["accuracy"],
        "fp32_bytes": 4 * parameters,
        "quantized_bytes": 4 * parameters if cell.bits is None else size,
        "observe_seconds": prepared.observe_seconds,
        "correct_seconds": prepared.quantize_seconds,
        "evaluate_seconds": seconds,
        "documents_per_second": columns["documents"] / max(seconds, 1e-9),
        **measured,
    }
    if prepared.calibration_documents is not None:
        row["calibration_documents"] = prepared.calibration_documents
    if row["trainable_parameters"] is None:
        row["trainable_parameters"] = parameters
    owner = {"cell_id": row["cell_id"]}
    return FinishedCell(row, [], owner | prediction_columns(scores))


def identity_columns(cell: CompanionCell) -> dict[str, Any]:
    """Return the columns of a `cells` row that say which cell it is and where it was run."""
    base, quantization = cell.reference, cell.quantization
    row: dict[str, Any] = {
        **base.columns,
        "cell_id": cell.cell_id,
        "schema_version": SCHEMA_VERSION,
        "dataset": base.dataset.name,
        "dataset_digest": base.dataset.digest,
        "model": base.kind,
        "seed": base.seed,
        "training_documents": base.training_documents,
        "model_id": base.model_id,
        "bits": cell.bits,
        "method": cell.method,
        "library": cell.done_by,
        "noise": "clean",
        "noise_level": 0.0,
        "host": platform.node(),
        "git_sha": git_sha(),
        "versions": describe_versions(),
    }
    if quantization is not None:
        row |= {axis.name: getattr(quantization, axis.attribute) for axis in axes_of("quantization")}
        row["bits"] = cell.bits
    return row


def failed_row(cell: CompanionCell, reason: str) -> dict[str, Any]:
    """Return the `cells` row of a cell that could not be run."""
    return identity_columns(cell) | {"status": "failed", "error": reason, "started_at": datetime.now(UTC)}
