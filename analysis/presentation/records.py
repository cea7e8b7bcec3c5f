"""The exhibits that are not figures: single cells, failed cells, null controls, confusion matrices."""

from __future__ import annotations

import polars as pl

from analysis.frames.failures import RETRY, failures
from analysis.frames.reading import Results
from analysis.frames.settings import FP32, KEYS, dashed, noise_label, shown_keys, width_label
from analysis.presentation.exhibits import Column, Exhibit
from analysis.statistics.controls import CONTROLS, null_controls


def cells_exhibit(results: Results, points: pl.DataFrame) -> Exhibit:
    """Every cell with what it measured; failed ones too."""
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
    """Failed cells by reason."""
    found = failures(results.cells)
    rows = found.with_columns(
        pl.col("models").list.join(", "),
        pl.col("bits").list.eval(pl.element().cast(pl.String).fill_null(FP32)).list.join(", "),
        pl.col("example").str.slice(0, 12),
    )
    columns = (
        Column("cells"),
        Column("error", "reason"),
        Column("models"),
        Column("bits"),
        Column("example"),
    )
    failed = found["cells"].sum()
    n = f"n: {failed} failed cells; {RETRY}" if failed else "No cell failed."
    return Exhibit("failures", "Failed cells by reason", columns, rows, n)


def controls_exhibit(results: Results) -> Exhibit:
    """How often contrasts in which nothing differs were rejected."""
    found = null_controls(results.tensors, results.cells)
    rows = found.with_columns(
        pl.col("control").replace_strict(CONTROLS, return_dtype=pl.String),
        *((pl.col(name) * 100).alias(name) for name in ("rate", "low", "high")),
        pl.when("failed").then(pl.lit("FAILED")).otherwise(pl.lit("holds")).alias("verdict"),
    )
    columns = (
        Column("control", "nothing differs in"), Column("tests"), Column("rejected"),
        Column("rate", "rejected", "%", 1), Column("low", "from", "%", 1), Column("high", "to", "%", 1),
        Column("largest_d", "largest D", "", 6), Column("verdict"),
    )  # fmt: skip
    n = (
        f"n: {found['tests'].sum()} tests at .05, exact 95 % intervals (Clopper & Pearson)"
        if len(found)
        else "None was measured: these are results of an older version, or too few cells are finished."
    )
    return Exhibit("controls", "Null controls", columns, rows, n)


def confusion_rows(results: Results, points: pl.DataFrame) -> pl.DataFrame:
    """One row a point: ``matrix``, documents by true class and prediction, row by row, summed over seeds."""
    finished = points.filter(pl.col("seeds") > 0)
    keys = [*KEYS, "model", "class_ratio", "noise", "noise_level", "bits"]
    listed = finished.select(*keys, cell_id="cell_ids").explode("cell_id")
    matrices = results.cells.select("cell_id", "confusion", "classes").drop_nulls("confusion").collect()
    flat = matrices.with_columns(pl.col("confusion").list.eval(pl.element().explode()).alias("matrix"))
    joined = listed.join(flat, on="cell_id", maintain_order="left")
    seeds = joined.group_by(keys, maintain_order=True).agg(
        pl.col("matrix"), pl.col("classes").first(), pl.len().alias("seeds")
    )
    summed = [[sum(values) for values in zip(*parts, strict=True)] for parts in seeds["matrix"].to_list()]
    classes = [
        names if names is not None else [str(n) for n in range(round(len(matrix) ** 0.5))]
        for names, matrix in zip(seeds["classes"].to_list(), summed, strict=True)
    ]
    accuracy = [_right(matrix) for matrix in summed]
    return seeds.with_columns(
        pl.Series("matrix", summed, dtype=pl.List(pl.Int64)),
        pl.Series("classes", classes, dtype=pl.List(pl.String)),
        pl.Series("accuracy", accuracy, dtype=pl.Float64),
        noise_label(),
        width_label(),
    ).with_columns(dashed((*KEYS, "class_ratio")))


def _right(matrix: list[int]) -> float:
    size = round(len(matrix) ** 0.5)
    return 100 * sum(matrix[:: size + 1]) / max(sum(matrix), 1)
