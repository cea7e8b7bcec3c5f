"""Exhibits without a figure: cells, failed cells, null controls and confusion matrices."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.frames.axes import FP32, KEYS, dashed, noise_label, shown_keys, width_label
from analysis.frames.failures import RETRY, failures
from analysis.frames.reading import Results
from analysis.presentation.exhibits import Column, Exhibit
from analysis.statistics.controls import CONTROLS, null_controls


def cells_exhibit(results: Results, points: pl.DataFrame) -> Exhibit:
    """Tabulate every cell with its measurements, including the failed ones."""
    keys = [key for key in shown_keys(points) if key != "internal_bits"]
    measured = ("accuracy", "accuracy_drop", "macro_f1")
    rows = (
        results.cells.with_columns(noise_label(), width_label())
        .with_columns(
            *(pl.col(name) * 100 for name in measured),
            pl.col("cell_id").str.slice(0, 12).alias("cell"),
            pl.col("quantized_bytes") / 1024,
            pl.col("dead_signal").is_not_null().alias("dead"),
        )
        .sort("model", "embedding", pl.col("bits").neg(), "class_ratio", "input", "seed", nulls_last=False)
        .collect()
        .with_columns(dashed((*keys, "internal_bits", "class_ratio")))
        .with_columns(pl.when("dead").then(pl.lit("dead signal")).otherwise("status").alias("state"))
    )
    columns = (
        Column("model"), *(Column(key) for key in keys), Column("seed"), Column("width"),
        Column("internal_bits", "internals"), Column("class_ratio"), Column("input"),
        Column("accuracy", "accuracy", "%", 1), Column("accuracy_drop", "lost", "points", 1),
        Column("macro_f1", "macro-F1", "%", 1), Column("nll", "NLL", "nats", 2), Column("ece", "ECE", "", 3),
        Column("quantized_bytes", "size", "KiB", 0),
        Column("documents_per_second", "speed", "documents/s", 0),
        Column("state", "state"), Column("cell", "cell_id"),
    )  # fmt: skip
    return Exhibit("cells", "Cells", columns, rows, f"n: {len(rows)} cells")


def failures_exhibit(results: Results) -> Exhibit:
    """Tabulate the failed cells by reason."""
    found = failures(results.cells)
    rows = found.with_columns(
        pl.col("models").list.join(", "),
        pl.col("bits").list.eval(pl.element().cast(pl.String).fill_null(FP32)).list.join(", "),
        pl.col("example").str.slice(0, 12),
    )
    columns = (Column("cells"), Column("error", "reason"), *map(Column, ("models", "bits", "example")))
    failed = found["cells"].sum()
    n = f"n: {failed} failed cells; {RETRY}" if failed else "No cell failed."
    return Exhibit("failures", "Failed cells by reason", columns, rows, n)


def controls_exhibit(results: Results) -> Exhibit:
    """Tabulate how often contrasts without any difference were rejected."""
    found = null_controls(results.tensors, results.cells)
    rows = found.with_columns(
        pl.col("control").replace_strict(CONTROLS, return_dtype=pl.String),
        *((pl.col(name) * 100).alias(name) for name in ("rate", "low", "high")),
        pl.when("failed").then(pl.lit("FAILED")).otherwise(pl.lit("holds")).alias("verdict"),
    )
    columns = (
        Column("control", "nothing differs between"), Column("tests"), Column("rejected"),
        Column("rate", "rejected", "%", 1), Column("low", "from", "%", 1), Column("high", "to", "%", 1),
        Column("largest_d", "largest D", "", 6), Column("verdict"),
    )  # fmt: skip
    n = (
        f"n: {found['tests'].sum()} tests at .05, exact 95 % intervals (Clopper & Pearson)"
        if len(found)
        else "None was measured: the results are of an older version, or too few cells are finished."
    )
    return Exhibit("controls", "Null controls", columns, rows, n)


def sum_confusions(results: Results, points: pl.DataFrame) -> pl.DataFrame:
    """Sum the confusion matrices of each point over its seeds.

    Returns:
        One row per point: ``matrix`` (documents by true class and prediction, row by row), ``classes`` and
        ``accuracy`` in percent.
    """
    finished = points.filter(pl.col("seeds") > 0)
    keys = [*KEYS, "model", "class_ratio", "noise", "noise_level", "bits"]
    listed = finished.select(*keys, cell_id="cell_ids").explode("cell_id")
    matrices = results.cells.select("cell_id", "confusion", "classes").drop_nulls("confusion").collect()
    flat = matrices.with_columns(pl.col("confusion").list.eval(pl.element().explode()).alias("matrix"))
    joined = listed.join(flat, on="cell_id", maintain_order="left")
    rows = joined.group_by(keys, maintain_order=True).agg(pl.col("matrix"), pl.col("classes").first())
    summed = [np.sum(parts, axis=0) for parts in rows["matrix"].to_list()]
    sizes = [round(len(matrix) ** 0.5) for matrix in summed]
    classes = [
        names or list(map(str, range(size)))
        for names, size in zip(rows["classes"].to_list(), sizes, strict=True)
    ]
    right = [
        100 * float(matrix[:: size + 1].sum()) / max(int(matrix.sum()), 1)
        for matrix, size in zip(summed, sizes, strict=True)
    ]
    return rows.with_columns(
        pl.Series("matrix", [matrix.tolist() for matrix in summed], dtype=pl.List(pl.Int64)),
        pl.Series("classes", classes, dtype=pl.List(pl.String)),
        pl.Series("accuracy", right, dtype=pl.Float64),
        noise_label(),
        width_label(),
    ).with_columns(dashed((*KEYS, "class_ratio")))
