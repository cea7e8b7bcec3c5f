"""``drops``: the accuracy that quantization costs, with its intervals."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from rich.console import Console

from analysis.frames.axes import describe_recipe, describe_value, noise_label
from analysis.frames.reading import Results
from analysis.presentation.phrasing import format_interval, format_percent, join_values
from analysis.presentation.printing import heading, note, text_table
from analysis.questions.question import TableQuestion
from analysis.statistics.intervals import accuracy_drops
from lstmptq.spec.axes import BEST_EPOCH

AXES = ("hidden", "layers", "training_documents", "checkpoint")  # of the FP32 model
HEADINGS = ("bits", "recipe", "class ratio", "noise", "accuracy %", "points lost", "95 % interval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drops(TableQuestion):
    """Print the accuracy that each quantized model loses against FP32, with 95 % intervals.

    By a bootstrap over documents, and over seeds first if there are several.
    """

    def table(self, results: Results) -> pl.DataFrame:
        """Return :func:`analysis.statistics.intervals.accuracy_drops`."""
        return accuracy_drops(results.cells, results.predictions)

    def print(self, results: Results, console: Console) -> None:
        """Print one table per dataset, embedding and model."""
        drops = self.table(results)
        if drops.is_empty():
            console.print("No quantized cell can be held against its FP32 cell yet, document by document.")
            return
        drops = drops.with_columns(pl.col("checkpoint").fill_null(BEST_EPOCH))
        told_apart = [key for key in AXES if drops[key].drop_nulls().n_unique() > 1]
        for _, rows in drops.group_by("model", "embedding", "dataset", *told_apart, maintain_order=True):
            first = rows.row(0, named=True)
            names = [first[name] for name in ("model", "embedding", "dataset")]
            where = join_values([*names, *(describe_value(key, first[key]) for key in told_apart)])
            seeds = rows["seeds"].to_numpy().max()
            console.print(heading(f"Accuracy lost against FP32: {where}, seeds: {seeds}"))
            lines = (
                [
                    str(row["bits"]), describe_recipe(row), row["class_ratio"], row["input"],
                    format_percent(row["accuracy"]), format_percent(row["drop"]),
                    format_interval(row["low"], row["high"]),
                ]
                for row in rows.with_columns(noise_label()).iter_rows(named=True)
            )  # fmt: skip
            console.print(text_table(HEADINGS, lines, left=("recipe", "class ratio", "noise")))
        console.print(
            note("recipe: weight correction, bits of the LSTM's internals. Positive: worse than FP32.")
        )
