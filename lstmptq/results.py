"""The result tables as Arrow schemas: the public interface between a sweep and those who query it.

The module needs no torch, so that the analysis can import it. Change a column only together with
``SCHEMA_VERSION``, and keep files of older versions readable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lstmptq.spec.axes import axes_of, axis_of

# Each version added:
# 2: cells.labels, tensors.document_d, and the contrasts balanced_vs_redraw and null_*
# 3: the table predictions instead of cells.predicted and labels; cells.epochs, checkpoint, observer,
# io_scales, padding, isolated_stage, isolated_how, kernel; tensors.relative_distance, and rows for the parts
# of a weight, decoder.weight.hidden and decoder.weight.label
# 4: tensors.quantiles_a and quantiles_b; cells.method, library, pretrained, trainable_parameters, threads,
# latency_*, speedup_*, stored_bytes, peak_memory_bytes, integer_share, operators; the model bert. Later in
# version 4: rows of tensors in fp32_vs_quantized for the quantizers of sigmoids and tanhs, for
# cell_state.kept and .entered and for decoder_input.label, without the statistics of a contrast
# 5: cells.kept_classes; null in earlier rows, which kept the first classes of the corpus
SCHEMA_VERSION = 5


def _described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})


def _axis(column: str) -> pa.Field:
    axis = axis_of(column)
    assert axis is not None
    return _described(column, axis.kind, axis.description)


_PLACED = ("dataset", "model", "embedding")  # these stand beside the columns with their details
CELLS = pa.schema(
    [
        _described("cell_id", pa.string(), "SHA-256 (hex) of the cell's canonical JSON"),
        _described("schema_version", pa.int32(), "version of this schema"),
        _axis("dataset"),
        _described(
            "dataset_digest", pa.string(), "first 16 hex digits of a corpus file's SHA-256; empty for others"
        ),
        _axis("model"),
        _described(
            "method",
            pa.string(),
            "fp32, static_ptq; in the companion study also dynamic_ptq, qat, qlora; null up to version 3",
        ),
        _described("library", pa.string(), "package that applied the method, in the companion study"),
        _described(
            "pretrained", pa.string(), "checkpoint that a BERT starts from, and its digest or version"
        ),
        _axis("embedding"),
        _described(
            "embedding_source", pa.string(), "source of the vectors: package and version, file, or training"
        ),
        _described("embedding_dim", pa.int32(), "width of the word vectors"),
        _described("embedding_coverage", pa.float64(), "share of the vocabulary that has a vector"),
        *(_axis(axis.name) for axis in axes_of("model", varies=True) if axis.name not in _PLACED),
        _described("epochs", pa.int32(), "training epochs after which the FP32 model's weights were taken"),
        _described("model_id", pa.string(), "SHA-256 (hex) of the FP32 model's specification"),
        *(_axis(axis.name) for axis in axes_of("quantization")),
        _described(
            "isolated_stage",
            pa.string(),
            "stage whose width differs from the rest: embedding, lstm_weights, io, gates, sigmoids, tanhs, "
            "cell_state, head (the output layer); null if none",
        ),
        _described(
            "isolated_how",
            pa.string(),
            "kept: the stage at 8 bits, the rest at `bits`; lowered: the stage at `bits`, the rest at 8",
        ),
        _axis("noise"),
        _described("noise_level", pa.float64(), "share of letters that the noise touches; 0 for clean"),
        _described("status", pa.string(), "ok or failed"),
        _described("error", pa.string(), "reason of a failed cell; null for others"),
        _described("accuracy", pa.float64(), "share of documents classified correctly, 0..1"),
        _described("macro_f1", pa.float64(), "unweighted mean of the F1 of all classes, 0..1"),
        _described("nll", pa.float64(), "mean negative log posterior of the true class, nats per document"),
        _described("ece", pa.float64(), "expected calibration error of the posterior, 15 equal bins, 0..1"),
        _described(
            "confusion", pa.list_(pa.list_(pa.int32())), "documents by true class (rows) and prediction"
        ),
        _described("predicted", pa.list_(pa.int16()), "only up to version 2; now in `predictions`"),
        _described("labels", pa.list_(pa.int16()), "only up to version 2; now in `predictions`"),
        _described("classes", pa.list_(pa.string()), "names of the classes, in the order of the indices"),
        _described("fp32_accuracy", pa.float64(), "accuracy of the FP32 model under the same noise"),
        _described("accuracy_drop", pa.float64(), "fp32_accuracy - accuracy"),
        _described(
            "float_reference_accuracy", pa.float64(), "accuracy of the same graph with quantizers off"
        ),
        _described("parameters", pa.int64(), "parameters of the model"),
        _described(
            "trainable_parameters", pa.int64(), "parameters that the last training changed; companion study"
        ),
        _described("eligible_parameters", pa.int64(), "parameters that weight correction can change"),
        _described("fp32_bytes", pa.int64(), "size of the parameters at 32 bits"),
        _described("quantized_bytes", pa.int64(), "size at these bits, with scales and 32-bit biases"),
        _described(
            "dead_signal", pa.string(), "stages whose output is constant, comma-separated; null if none"
        ),
        _described("documents", pa.int32(), "number of evaluated documents"),
        _described("observe_seconds", pa.float64(), "time to collect calibration statistics, s; 0 if found"),
        _described("correct_seconds", pa.float64(), "time to quantize and correct the weights, s"),
        _described("evaluate_seconds", pa.float64(), "time to score the evaluated documents, s"),
        _described("documents_per_second", pa.float64(), "documents / evaluate_seconds"),
        _described("started_at", pa.timestamp("us", tz="UTC"), "time at which the cell was started"),
        _described(
            "kernel",
            pa.string(),
            "code that ran LSTM and scoring: eager (torch) or native (compiled); in the companion study the "
            "operators of the matrix products, as profiled, the slowest first",
        ),
        _described("integer_share", pa.float64(), "share of integer kernels in the time of matrix products"),
        _described("operators", pa.string(), "JSON: profiled share of the time of the slowest operators"),
        _described("stored_bytes", pa.int64(), "measured size of the model's tensors as one file on disk"),
        _described(
            "peak_memory_bytes",
            pa.int64(),
            "peak of the resident memory while 64 documents are scored, less the memory before the model was "
            "loaded; null where it cannot be measured",
        ),
        _described("threads", pa.int32(), "number of threads of the latency measurement"),
        *(
            field
            for size in (1, 64)
            for field in (
                _described(f"latency_{size}_ms", pa.float64(), f"median time of a batch of {size}, ms"),
                _described(f"latency_{size}_low_ms", pa.float64(), "lower quartile of the same, ms"),
                _described(f"latency_{size}_high_ms", pa.float64(), "upper quartile of the same, ms"),
                _described(
                    f"speedup_{size}",
                    pa.float64(),
                    f"median of time of FP32 / time of the cell, measured in turns, batches of {size}",
                ),
            )
        ),
        _described("host", pa.string(), "machine that ran the cell"),
        _described("git_sha", pa.string(), "commit of the code; null outside a checkout"),
        _described(
            "versions",
            pa.string(),
            "JSON: versions of python, libraries, and the packages of corpus and vectors",
        ),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)

TENSORS = pa.schema(
    [
        _described("cell_id", pa.string(), "cell that the row belongs to"),
        _described("tensor", pa.string(), "stage or parameter, e.g. lstm.0.cell_state, decoder.weight"),
        _described("kind", pa.string(), "weight or activation"),
        _described(
            "contrast",
            pa.string(),
            "fp32_vs_quantized, balanced_vs_ratio, clean_vs_noisy; balanced_vs_redraw (another draw of the "
            "calibration set); null_halves, null_swapped, null_float (controls in which nothing differs)",
        ),
        _described("bits", pa.int32(), "width of the tensor's own quantizer; null if there is none"),
        _described("scale", pa.float64(), "step of the quantizer; null if there is none"),
        _described("zero_point", pa.int32(), "zero-point of the quantizer; null if there is none"),
        _described("levels_used", pa.int32(), "number of distinct levels on the second side"),
        _described("n", pa.int64(), "number of values on the second side"),
        _described("documents", pa.int32(), "number of documents behind the values; null for weights"),
        _described("ks_d", pa.float64(), "Kolmogorov-Smirnov distance between the sides"),
        _described("ks_location", pa.float64(), "value at which the distance is reached"),
        _described("ks_sign", pa.int8(), "1: the first side's ECDF is higher there; -1: lower; 0: equal"),
        _described(
            "atom_floor", pa.float64(), "half the largest atom: the least D against a continuous side"
        ),
        _described("ks_d_dithered", pa.float64(), "ks_d after each atom is spread evenly over one step"),
        _described("p_nominal", pa.float64(), "SciPy's asymptotic p, activations only: never decide with it"),
        _described(
            "document_d", pa.float64(), "largest mean difference of the documents' ECDFs on fixed thresholds"
        ),
        _described(
            "p_permutation",
            pa.float64(),
            "p of document_d by swapping the sides of documents or permuting documents; null if not tested",
        ),
        _described("wasserstein", pa.float64(), "1-Wasserstein distance, in the unit of the tensor"),
        _described("sqnr_db", pa.float64(), "signal to quantization noise, dB; fp32_vs_quantized only"),
        _described(
            "relative_distance",
            pa.float64(),
            "Frobenius norm of the sides' difference over that of the first side; weights only",
        ),
        _described("clip_fraction", pa.float64(), "share of the values that the quantizer clipped"),
        _described("mean_a", pa.float64(), "mean of the first side (fp32, balanced, clean)"),
        _described("std_a", pa.float64(), "standard deviation of the first side"),
        _described("mean_b", pa.float64(), "mean of the second side (quantized, ratio, noisy)"),
        _described("std_b", pa.float64(), "standard deviation of the second side"),
        _described(
            "quantiles_a",
            pa.list_(pa.float32()),
            "33 quantiles of the first side, k = 0..32: k / 32 of the values are at or below the k-th; only "
            "in fp32_vs_quantized of clean cells, else null",
        ),
        _described("quantiles_b", pa.list_(pa.float32()), "quantiles of the second side, as quantiles_a"),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)

PREDICTIONS = pa.schema(
    [
        _described("cell_id", pa.string(), "cell that the row belongs to"),
        _described("labels", pa.list_(pa.int16()), "true class of each evaluated document, in their order"),
        _described("predicted", pa.list_(pa.int16()), "predicted class of each document, in the same order"),
        _described(
            "margin",
            pa.list_(pa.float32()),
            "difference of the two highest class scores of each document, nats, rounded to 10 fraction bits "
            "(1 in 2,048)",
        ),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)

TABLES = {"cells": CELLS, "tensors": TENSORS, "predictions": PREDICTIONS}


@dataclass(frozen=True, slots=True)
class FinishedCell:
    """The rows that one cell leaves in the tables, whether it succeeded or failed."""

    row: dict[str, Any]  # of `cells`
    tensors: list[dict[str, Any]]  # of `tensors`
    predictions: dict[str, Any] | None = None  # of `predictions`; None if the cell failed
    log: str | None = None  # the traceback of a cell that failed

    @property
    def cell_id(self) -> str:
        """The id of the cell."""
        cell_id: str = self.row["cell_id"]
        return cell_id

    @property
    def ok(self) -> bool:
        """Whether the cell succeeded."""
        return bool(self.row["status"] == "ok")


def to_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return the rows as an Arrow table of exactly `schema`; a missing key becomes null.

    Raises:
        ValueError: if a row has a key that the schema does not know.
    """
    unknown = sorted({key for row in rows for key in row} - set(schema.names))
    if unknown:
        raise ValueError(f"columns {unknown} are not in the schema: add them to lstmptq/results.py")
    return pa.Table.from_pylist(rows, schema=schema)
