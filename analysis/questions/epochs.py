"""Accuracy lost against the length of training, beside the ranges of weights and activations."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.text import Text

from analysis.frames.reading import Frame, Results, whole_models
from analysis.frames.settings import BREVITAS, MODEL, RECIPE, recipe_text
from analysis.presentation.phrasing import format_percent
from analysis.presentation.printing import heading, new_table, note

ALIKE = (*(key for key in MODEL if key != "checkpoint"), *RECIPE)  # all but the epochs
RANGES = ("weights", "lstm_weights", "vectors", "cell_state", "hidden_state")


def epochs_table(cells: Frame, tensors: Frame) -> pl.DataFrame:
    """Quantized cells on clean input by the epochs that their weights have seen, averaged over seeds.

    Args:
        cells: the table `cells`.
        tensors: the table `tensors`.

    Returns:
        The model's and recipe's columns, ``epochs``, ``seeds``, ``fp32_accuracy``, ``accuracy_drop`` and, as
        the largest absolute value that the quantizer can hold: ``weights`` (last linear layer),
        ``lstm_weights`` (widest gate), ``vectors`` (what the LSTM reads), ``cell_state``,
        ``hidden_state`` (the widest layer).
    """
    rows = (
        whole_models(cells)
        .filter(pl.col("status") == "ok", pl.col("noise") == "clean", pl.col("bits").is_not_null())
        .filter(pl.col("epochs").is_not_null())
        .select("cell_id", "model_id", *ALIKE, "epochs", "fp32_accuracy", "accuracy_drop")
    )
    name, held = pl.col("tensor"), pl.col("scale") * 2.0 ** (pl.col("bits") - 1)  # all of these are signed
    chosen = {
        "weights": name.is_in(["decoder.weight", "classifier.weight"]),
        "lstm_weights": name.str.ends_with("_gate.weight"),
        "vectors": name == "embedding",
        "cell_state": name.str.ends_with(".cell_state"),
        "hidden_state": name.str.ends_with(".hidden_state"),
    }
    ranges = (
        tensors.lazy()
        .filter(pl.col("contrast") == "fp32_vs_quantized")
        .group_by("cell_id")
        .agg(held.filter(chosen[column]).max().alias(column) for column in RANGES)
    )
    return (
        rows.join(ranges, on="cell_id", how="left")
        .group_by(*ALIKE, "epochs")
        .agg(
            pl.col("model_id").n_unique().alias("seeds"),
            *(pl.col(column).mean() for column in ("fp32_accuracy", "accuracy_drop", *RANGES)),
        )
        .sort(
            *(key for key in ALIKE if key not in RECIPE), "algorithm", "internal_bits", *BREVITAS,
            "class_ratio", pl.col("bits").neg(), "epochs",
        )
        .collect()
    )  # fmt: skip


def print_epochs(results: Results, console: Console) -> None:
    """Print :func:`epochs_table`, a table a model."""
    found = epochs_table(results.cells, results.tensors)
    if found.is_empty():
        console.print("No quantized cell on clean input says how long its model was trained.")
        return
    for _, part in found.group_by("dataset", "embedding", "model", maintain_order=True):
        first = part.row(0, named=True)
        where = ", ".join(first[name] for name in ("model", "embedding", "dataset"))
        seeds = part["seeds"].to_numpy().max()
        console.print(heading(f"Points lost by epochs of training: {where}, seeds: {seeds}"))
        table = new_table()
        for column in ("recipe", "class ratio", "bits", "epochs", "FP32 %", "lost", "last layer", "gates",
                       "vectors", "cell", "hidden"):  # fmt: skip
            table.add_column(column, justify="left" if column in ("recipe", "class ratio") else "right")
        for row in part.iter_rows(named=True):
            texts = [recipe_text(row), row["class_ratio"], str(row["bits"]), str(row["epochs"])]
            texts += [format_percent(row["fp32_accuracy"]), format_percent(row["accuracy_drop"])]
            texts += ["–" if row[name] is None else f"{row[name]:.2f}" for name in RANGES]
            table.add_row(*map(Text, texts))
        console.print(table)
    console.print(
        note("Ranges are the largest values that the quantizers hold, of weights and then of activations.")
    )
