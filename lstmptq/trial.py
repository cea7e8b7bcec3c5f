"""A trial, from cells to finished rows: the only module that knows the order of the steps."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lstmptq.artifacts import Artifacts, RefusedError
from lstmptq.measures.activations import (
    RecordedStage,
    activation_rows,
    compute_paired_curves,
    dead_stages,
    record_stages,
    redraw_rows,
    twin_weight_rows,
    weight_rows,
)
from lstmptq.measures.controls import float_row, halves_rows, swapped_rows
from lstmptq.measures.metrics import metric_columns, prediction_columns
from lstmptq.measures.permutation import paired_test
from lstmptq.measures.quantizers import quantizer_rows
from lstmptq.measures.shift import Distribution
from lstmptq.model_assets import ModelAssets, score
from lstmptq.models.batches import Batch, batches_by_length
from lstmptq.quantization.build import float_graph, quantize
from lstmptq.quantization.classifier import QuantizedClassifier, QuantizedWeight, quantized_bytes
from lstmptq.results import SCHEMA_VERSION, FinishedCell
from lstmptq.runtime.kernel import choose_kernel
from lstmptq.runtime.problems import describe_problem, format_traceback
from lstmptq.runtime.provenance import describe_versions, git_sha
from lstmptq.runtime.threads import one_thread
from lstmptq.seeds import generator
from lstmptq.spec.cells import Cell, axis_columns
from lstmptq.spec.specs import ModelSpec, QuantizationSpec
from lstmptq.text.noise import CLEAN, Noise

SHIFT_BATCH = 64
CARD_COLUMNS = (
    "embedding_source", "embedding_dim", "embedding_coverage", "training_documents", "parameters",
    "eligible_parameters", "epochs",
)  # fmt: skip


def train_model(
    spec: ModelSpec,
    artifacts: Artifacts,
    *,
    device: str = "cpu",
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Train the FP32 model of `spec`, or find it among the artifacts.

    Training uses one thread, so that the weights do not depend on the number of threads of the process.

    Args:
        spec: the model.
        artifacts: the storage in which the model is found or kept.
        device: ``cpu`` or ``cuda``.
        on_epoch: called after each epoch with (epoch, epochs, validation accuracy), on the same thread.

    Returns:
        The model's card, JSON-ready.
    """
    assets = ModelAssets(spec, artifacts, device)
    with one_thread():
        assets.train_model(on_epoch)
        return assets.card


def run_trial(cells: Sequence[Cell], artifacts: Artifacts, *, device: str = "cpu") -> Iterator[FinishedCell]:
    """Run cells that share one FP32 model and one bit width, yielding each as it is finished.

    A cell that fails is yielded with the status ``failed`` and its reason, and the next one is run. Rows do
    not depend on which cells share a trial, on their order, or on the number of threads of the process: each
    cell runs on one thread. The caller's number of threads is restored between cells and at the end.

    Raises:
        ValueError: if the cells do not share their FP32 model and bits.
        RefusedError: if an artifact cannot be kept, for instance because the disk is full.
    """
    if len(set(map(_trial_key, cells))) > 1:
        raise ValueError("the cells of a trial must share FP32 model, bits, limit and shift_documents")
    if not cells:
        return
    steps = _Steps(ModelAssets(cells[0].model, artifacts, device), cells[0].limit, cells[0].shift_documents)
    for cell in sorted(cells, key=_running_order):
        started = datetime.now(UTC)
        try:
            with one_thread():
                finished = steps.finish(cell)
        except RefusedError:  # the other cells would fail, too: the sweep has to stop
            raise
        except Exception as problem:  # one bad cell never stops the others
            log = format_traceback(problem)
            finished = FinishedCell(failed_row(cell, describe_problem(problem)), [], log=log)
        finished.row["started_at"] = started
        yield finished


def run_cells(cells: Iterable[Cell], artifacts: Artifacts, *, device: str = "cpu") -> Iterator[FinishedCell]:
    """Run any cells, trial by trial, yielding each as it is finished; see :func:`run_trial`.

    Raises:
        RefusedError: if an artifact cannot be kept, for instance because the disk is full.
    """
    trials: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells:
        trials.setdefault(_trial_key(cell), []).append(cell)
    for trial in trials.values():
        yield from run_trial(trial, artifacts, device=device)


def _trial_key(cell: Cell) -> tuple[Any, ...]:
    return cell.model, cell.bits, cell.limit, cell.shift_documents


def _running_order(cell: Cell) -> tuple[Any, ...]:
    """Return a sort key: clean before noisy, so that FP32 activations are kept for one noise at a time.

    Balanced cells come first, since others are compared with them.
    """
    quantization = cell.quantization
    rest = () if quantization is None else (quantization.class_ratio != "balanced", str(quantization))
    return (cell.noise != CLEAN, cell.noise, rest)


def identity_columns(cell: Cell) -> dict[str, Any]:
    """Return the columns of a `cells` row that say which cell it is and where it was run."""
    return {
        "cell_id": cell.cell_id,
        "schema_version": SCHEMA_VERSION,
        "method": "static_ptq" if cell.quantization else "fp32",
        **axis_columns(cell.model, cell.quantization, cell.noise),
        "host": platform.node(),
        "git_sha": git_sha(),
        "versions": describe_versions(),
    }


def failed_row(cell: Cell, reason: str) -> dict[str, Any]:
    """Return the `cells` row of a cell that failed."""
    return identity_columns(cell) | {"status": "failed", "error": reason, "started_at": datetime.now(UTC)}


def _undrawn(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `tensors` without its quantiles."""
    return {name: value for name, value in row.items() if not name.startswith("quantiles_")}


@dataclass(frozen=True)
class _Prepared:
    """A quantized model, ready to score, with the time that its preparation took."""

    classifier: QuantizedClassifier
    weights: list[QuantizedWeight]
    calibration_documents: int
    observe_seconds: float
    correct_seconds: float


class _Steps:
    """The steps of a trial, each computed once for all its cells."""

    def __init__(self, assets: ModelAssets, limit: int | None, shift_documents: int) -> None:
        self.assets, self.limit, self.shift_documents = assets, limit, shift_documents
        self._prepared: dict[QuantizationSpec, _Prepared] = {}
        self._stages: dict[tuple[QuantizationSpec | None, Noise], dict[str, RecordedStage]] = {}
        self._weight_rows: dict[QuantizationSpec, list[dict[str, Any]]] = {}
        self._float_weights: dict[str, Distribution] = {}

    def finish(self, cell: Cell) -> FinishedCell:
        """Quantize, score and compare the model of a cell, and return its rows."""
        assets, spec = self.assets, cell.quantization
        reference = assets.float_scores(cell.noise, self.limit)
        scores = reference.model
        fp32_accuracy = metric_columns(scores)["accuracy"]
        seconds = {"observe_seconds": 0.0, "correct_seconds": 0.0, "evaluate_seconds": reference.seconds}
        size = {"fp32_bytes": 4 * assets.card["parameters"], "quantized_bytes": 4 * assets.card["parameters"]}
        if spec is not None:
            prepared = self.prepare(spec)
            corpus = assets.documents(self.limit, cell.noise)
            started = time.perf_counter()
            scores = score(prepared.classifier, corpus, assets.device)
            seconds = {
                "observe_seconds": prepared.observe_seconds,
                "correct_seconds": prepared.correct_seconds,
                "evaluate_seconds": time.perf_counter() - started,
            }
            size["quantized_bytes"] = quantized_bytes(prepared.classifier)
        tensors = self.compare(cell)
        has_graph = bool(assets.model.kind.graph)
        columns = metric_columns(scores)
        row = {
            **identity_columns(cell),
            "versions": describe_versions(assets.packages),
            **{name: assets.card[name] for name in CARD_COLUMNS},
            "classes": assets.classes,
            "status": "ok",
            **columns,
            "fp32_accuracy": fp32_accuracy,
            "accuracy_drop": fp32_accuracy - columns["accuracy"],
            "float_reference_accuracy": metric_columns(reference.graph)["accuracy"] if has_graph else None,
            **size,
            "dead_signal": dead_stages(self.stages(spec, cell.noise)),
            **seconds,
            "kernel": choose_kernel() if assets.device == "cpu" else "eager",
            "documents_per_second": columns["documents"] / max(seconds["evaluate_seconds"], 1e-9),
        }
        if spec is not None:
            row["calibration_documents"] = self.prepare(spec).calibration_documents
        owner = {"cell_id": row["cell_id"]}
        return FinishedCell(row, [owner | tensor for tensor in tensors], owner | prediction_columns(scores))

    def prepare(self, spec: QuantizationSpec) -> _Prepared:
        """Return the model quantized by `spec`: observe, quantize and correct, once per trial."""
        if spec not in self._prepared:
            self._prepared[spec] = self._quantize(spec)
        return self._prepared[spec]

    def _quantize(self, spec: QuantizationSpec, draw: int = 0) -> _Prepared:
        calibration = self.assets.calibration_set(spec, draw)
        observation, observe_seconds = self.assets.observation(spec, draw)
        started = time.perf_counter()
        batches = (batch.to(self.assets.device) for batch in batches_by_length(calibration))
        classifier = quantize(self.assets.model, spec, observation, batches)
        return _Prepared(
            classifier, list(classifier.quantized_weights()), len(calibration),
            observe_seconds, time.perf_counter() - started,
        )  # fmt: skip

    def redraws(self, cell: Cell) -> Iterator[dict[str, Any]]:
        """Yield the rows of the cell against itself, calibrated on other documents of the same shares."""
        if cell.quantization is None:
            return
        mine = self.stages(cell.quantization, cell.noise)
        weights = self.prepare(cell.quantization).weights
        for draw in range(1, cell.redraws + 1):
            redrawn = self._quantize(cell.quantization, draw)
            stages = record_stages(redrawn.classifier, self.shift_batches(cell.noise))
            yield from redraw_rows(mine, stages, weights, redrawn.weights, len(self.shift_index))

    def compare(self, cell: Cell) -> list[dict[str, Any]]:
        """Return the cell's rows of `tensors`: all contrasts that have it as a side, and null controls."""
        if not self.assets.model.kind.graph:
            return []
        spec, noise = cell.quantization, cell.noise
        mine = self.stages(spec, noise)
        documents = len(self.shift_index)
        rows = []
        if spec is None:
            rows.append(float_row(self.assets.model, self.shift_batches(noise), mine))
        else:
            drawn = noise == CLEAN and not spec.isolation.stage  # only these rows keep their quantiles
            rows += [row if drawn else _undrawn(row) for row in self.weight_rows(spec)]
            rows += activation_rows(
                "fp32_vs_quantized", self.stages(None, noise), mine, documents, same_values=True,
                quantiles=drawn,
            )  # fmt: skip
            rows += quantizer_rows(self.prepare(spec).classifier, mine, documents)
            if spec.isolation.stage:
                return rows  # such cells are run for their accuracy: they have no tests and no controls
            rows += halves_rows(mine, documents, generator("null_halves", cell.cell_id))
        paired: dict[str, dict[str, RecordedStage]] = {}  # contrast -> its first side, on the same documents
        if spec is not None and (twin := replace(spec, class_ratio="balanced")) != spec:
            paired["balanced_vs_ratio"] = self.stages(twin, noise)
        if noise != CLEAN:
            paired["clean_vs_noisy"] = self.stages(spec, CLEAN)
        for contrast, first in paired.items():
            curves = compute_paired_curves(first, mine)
            tested = paired_test(*curves, generator(contrast, cell.cell_id))
            rows += activation_rows(contrast, first, mine, documents, tested=tested)
            if spec is not None and contrast == next(iter(paired)):
                swaps = generator("null_swapped", cell.cell_id)
                rows += swapped_rows(mine, curves, documents, swaps)
        return [*rows, *self.redraws(cell)]

    def weight_rows(self, spec: QuantizationSpec) -> list[dict[str, Any]]:
        """Return the rows of the weights; they do not depend on the noise."""
        if spec not in self._weight_rows:
            prepared = self.prepare(spec)
            rows = weight_rows(prepared.weights, self._float_weights)
            twin = replace(spec, class_ratio="balanced")
            if twin != spec and spec.algorithm != "none" and not spec.isolation.stage:
                rows += twin_weight_rows(self.prepare(twin).weights, prepared.weights)
            self._weight_rows[spec] = rows
        return self._weight_rows[spec]

    @cached_property
    def shift_index(self) -> npt.NDArray[np.int64]:
        """Indices of the test documents whose activations are compared."""
        return self.assets.shift_documents(self.limit, self.shift_documents)

    def stages(self, spec: QuantizationSpec | None, noise: Noise) -> dict[str, RecordedStage]:
        """Return the activations of a quantized model, or of the float graph, on the shift documents."""
        if not self.assets.model.kind.graph:
            return {}
        key = (spec, noise)
        if key not in self._stages:
            self._forget_other_noise(noise)
            classifier = float_graph(self.assets.model) if spec is None else self.prepare(spec).classifier
            self._stages[key] = record_stages(classifier, self.shift_batches(noise))
        return self._stages[key]

    def shift_batches(self, noise: Noise) -> Iterator[Batch]:
        """Yield the shift documents under `noise`, in batches."""
        sample = self.assets.test_set(noise).take(self.shift_index)
        return (batch.to(self.assets.device) for batch in batches_by_length(sample, SHIFT_BATCH))

    def _forget_other_noise(self, noise: Noise) -> None:
        """Forget activations under other noises, so that memory use stays flat.

        Of clean activations the counts stay, except those of the float graph if cells are quantized.
        """
        for spec, other in list(self._stages):
            if spec is None and self._prepared and other != noise:
                del self._stages[spec, other]
            elif other == CLEAN and noise != CLEAN:
                for stage in self._stages[spec, other].values():
                    stage.forget_values()
            elif other != noise and noise != CLEAN:
                del self._stages[spec, other]
