"""``epochs``: accuracy lost against the length of training, with the ranges of weights and activations."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from rich.console import Console

from analysis.frames.axes import MODEL, QUANTIZATION_KEYS, RECIPE, describe_recipe
from analysis.frames.reading import Frame, Results, whole_models
from analysis.presentation.phrasing import format_number, format_percent, join_values
from analysis.presentation.printing import heading, note, text_table
from analysis.questions.question import TableQuestion

ALIKE = (*(key for key in MODEL if key != "checkpoint"), *RECIPE)  # all but the epochs
RANGES = ("weights", "lstm_weights", "vectors", "cell_state", "hidden_state")


def epochs_table(cells: Frame, tensors: Frame) -> pl.DataFrame:
    """Group the quantized cells on clean input by how many epochs their model was trained, over seeds.

    Returns:
        The columns of the model and the recipe, ``epochs``, ``seeds``, ``fp32_accuracy``, ``accuracy_drop``
        and, as the largest absolute value that the quantizer can hold: ``weights`` (output layer),
        ``lstm_weights`` (widest gate), ``vectors`` (input of the LSTM), ``cell_state``, ``hidden_state``
        (widest layer).
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
            *(key for key in ALIKE if key not in RECIPE), *QUANTIZATION_KEYS,
            "class_ratio", pl.col("bits").neg(), "epochs",
        )
        .collect()
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs(TableQuestion):
    """Print the points lost against the length of training, with the ranges of weights and activations."""

    def table(self, results: Results) -> pl.DataFrame:
        """Return :func:`epochs_table`."""
        return epochs_table(results.cells, results.tensors)

    def print(self, results: Results, console: Console) -> None:
        """Print one table per model."""
        found = self.table(results)
        if found.is_empty():
            console.print("No quantized cell on clean input says how long its model was trained.")
            return
        headings = ("recipe", "class ratio", "bits", "epochs", "FP32 %", "lost", "output", "gates",
                    "vectors", "cell", "hidden")  # fmt: skip
        for _, part in found.group_by("dataset", "embedding", "model", maintain_order=True):
            where = join_values(part.select("model", "embedding", "dataset").row(0))
            seeds = part["seeds"].to_numpy().max()
            console.print(heading(f"Points lost by epochs of training: {where}, seeds: {seeds}"))
            lines = (
                [
                    describe_recipe(row), row["class_ratio"], str(row["bits"]), str(row["epochs"]),
                    format_percent(row["fp32_accuracy"]), format_percent(row["accuracy_drop"]),
                    *(format_number(row[name], 2) for name in RANGES),
                ]
                for row in part.iter_rows(named=True)
            )  # fmt: skip
            console.print(text_table(headings, lines, left=("recipe", "class ratio")))
        console.print(
            note(
                "Ranges are the largest values that the quantizers hold, of weights and then of activations."
            )
        )
