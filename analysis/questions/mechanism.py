"""``mechanism``: where the generative model's failure comes from, described and not tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from scipy import stats

from analysis.frames.axes import MODEL, QUANTIZATION_KEYS, RECIPE, describe_recipe, describe_value
from analysis.frames.reading import Frame, Results, whole_models
from analysis.presentation.phrasing import format_number, format_percent, join_values
from analysis.presentation.printing import heading, note, text_table
from analysis.questions.question import Count, TableQuestion

DRAWS = 1_000
FEWEST_CELLS = 8  # a rank correlation over fewer cells says nothing
STATISTICS = ("ks_d_dithered", "wasserstein", "sqnr_db", "clip_fraction", "relative_distance")
MEASURES = {  # column: tensor, contrast, statistic
    "hidden_moved": ("decoder.weight.hidden", "fp32_vs_quantized", "relative_distance"),
    "label_moved": ("decoder.weight.label", "fp32_vs_quantized", "relative_distance"),
    "hidden_from_twin": ("decoder.weight.hidden", "balanced_vs_ratio", "relative_distance"),
    "label_from_twin": ("decoder.weight.label", "balanced_vs_ratio", "relative_distance"),
    "input_clipped": ("embedding", "fp32_vs_quantized", "clip_fraction"),
    "decoder_clipped": ("decoder_input", "fp32_vs_quantized", "clip_fraction"),
}
TWIN_HEADINGS = (
    "recipe", "bits", "class ratio", "lost", "twin", "h moved", "v moved", "h from twin", "v from twin",
    "clipped", "most", "dead",
)  # fmt: skip
RANK_HEADINGS = ("tensor", "contrast", "statistic", "cells", "rho", "95 % interval")
WORDS = ("recipe", "class ratio", "tensor", "contrast", "statistic")  # columns of text
READ_AS = (
    "Points lost, also by the twin; relative distance of the decoder's columns for the hidden state (h) and "
    "the label (v) from FP32 and from the twin's; shares in % clipped at the decoder's input, of the class "
    "predicted most, of seeds with a dead signal."
)


def mechanism(cells: Frame, tensors: Frame) -> pl.DataFrame:
    """Compare each generative cell on clean input with its balanced twin, averaged over seeds.

    Returns:
        The columns of the model and the recipe, ``seeds``, ``accuracy_drop``, ``twin_drop`` (of the twin
        with the same seed; null if it was not run), ``hidden_moved`` and ``label_moved`` (relative Frobenius
        distance of the decoder's columns from FP32), ``hidden_from_twin`` and ``label_from_twin`` (from the
        twin's columns; null without weight correction), ``input_clipped`` and ``decoder_clipped`` (shares),
        ``most_predicted`` (share of the class predicted most) and ``dead`` (share of seeds).
    """
    keys = (*MODEL, *RECIPE)
    rows = (
        _finished(cells)
        .filter(pl.col("model") == "generative")
        .select("cell_id", "model_id", *keys, "accuracy_drop", "confusion", "dead_signal")
        .collect()
        .with_columns(
            pl.col("confusion").map_elements(_most_predicted, pl.Float64).alias("most_predicted"),
            pl.col("dead_signal").is_not_null().cast(pl.Float64).alias("dead"),
        )
    )
    twin_keys = ("model_id", *(key for key in RECIPE if key != "class_ratio"))
    twins = rows.filter(pl.col("class_ratio") == "balanced").select(*twin_keys, twin_drop="accuracy_drop")
    rows = rows.join(twins, on=twin_keys, how="left", nulls_equal=True)
    for column, (tensor, contrast, statistic) in MEASURES.items():
        found = tensors.lazy().filter(pl.col("tensor") == tensor, pl.col("contrast") == contrast)
        rows = rows.join(
            found.select("cell_id", pl.col(statistic).alias(column)).collect(), on="cell_id", how="left"
        )
    means = ("accuracy_drop", "twin_drop", *MEASURES, "most_predicted", "dead")
    return (
        rows.group_by(keys)
        .agg(pl.col("model_id").n_unique().alias("seeds"), *(pl.col(name).mean() for name in means))
        .sort(*MODEL, *QUANTIZATION_KEYS, pl.col("bits").neg(), "class_ratio")
    )


def _finished(cells: Frame) -> pl.LazyFrame:
    finished = pl.col("status") == "ok"
    return whole_models(cells).filter(finished, pl.col("noise") == "clean", pl.col("bits").is_not_null())


def _most_predicted(confusion: pl.Series) -> float:
    counts = np.array(confusion.to_list())
    return float(counts.sum(axis=0).max() / counts.sum())


def correlations(cells: Frame, tensors: Frame) -> pl.DataFrame:
    """Correlate the accuracy drop with each statistic of each tensor over cells, by Spearman's rho.

    Exploratory: the bit width drives nearly all of them together, the cells of one FP32 model are not
    independent, and many pairs are looked at.

    Returns:
        ``dataset``, ``embedding``, ``model``, ``contrast``, ``tensor``, ``statistic``, ``cells``, ``rho``
        with a 95 % percentile interval ``low``..``high`` (bootstrap over cells); the strongest first. Pairs
        of fewer than `FEWEST_CELLS` cells, or where either side is constant, are left out.
    """
    keys = ("dataset", "embedding", "model")
    columns = ("cell_id", "contrast", "tensor", *STATISTICS)
    kept = tensors.lazy().filter(pl.col("contrast").is_in(["fp32_vs_quantized", "balanced_vs_ratio"]))
    long = (
        kept.select(columns)
        .join(_finished(cells).select("cell_id", *keys, "accuracy_drop"), on="cell_id", maintain_order="left")
        .unpivot(STATISTICS, index=[*keys, "contrast", "tensor", "accuracy_drop"], variable_name="statistic")
        .drop_nulls("value")
        .collect()
    )
    found = []
    rng = np.random.default_rng(0)
    names = (*keys, "contrast", "tensor", "statistic")
    for group, pairs in long.group_by(names, maintain_order=True):
        drops, values = pairs["accuracy_drop"].to_numpy(), pairs["value"].to_numpy()
        if len(pairs) >= FEWEST_CELLS and np.ptp(drops) > 0 and np.ptp(values) > 0:
            rho, low, high = spearman(drops, values, rng)
            found.append(
                dict(zip(names, group, strict=True))
                | {"cells": len(pairs), "rho": rho, "low": low, "high": high}
            )
    schema: dict[str, Any] = dict.fromkeys(names, pl.String) | {"cells": pl.Int64}
    frame = pl.DataFrame(found, schema=schema | dict.fromkeys(("rho", "low", "high"), pl.Float64))
    return frame.sort(*keys, pl.col("rho").abs().neg(), "contrast", "tensor", "statistic")


def spearman(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the rank correlation with a 95 % bootstrap interval; draws with a constant side are left out."""
    drawn = rng.integers(0, len(first), (DRAWS, len(first)))
    ranks = [stats.rankdata(side[drawn], axis=1) for side in (first, second)]
    a, b = (side - side.mean(axis=1, keepdims=True) for side in ranks)
    sizes = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    low, high = np.quantile((a * b).sum(axis=1)[sizes > 0] / sizes[sizes > 0], [0.025, 0.975])
    return float(stats.spearmanr(first, second).statistic), float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism(TableQuestion):
    """Print where the generative model's failure comes from, each cell beside its balanced twin.

    Then, exploratory, the tensor statistics that go with the points lost over cells.
    """

    rows: Count = 10  # list N correlations per model

    def table(self, results: Results) -> pl.DataFrame:
        """Return :func:`mechanism`."""
        return mechanism(results.cells, results.tensors)

    def print(self, results: Results, console: Console) -> None:
        """Print one table per model, and the strongest correlations of each."""
        found = self.table(results)
        if found.is_empty():
            console.print("No generative cell is quantized and finished on clean input yet.")
        for _, part in found.group_by(MODEL, maintain_order=True):
            first = part.row(0, named=True)
            where = join_values(
                [first["embedding"], first["dataset"]]
                + ([] if first["checkpoint"] is None else [describe_value("checkpoint", first["checkpoint"])])
            )
            console.print(heading(f"Generative, {where}: beside balanced twins"))
            console.print(text_table(TWIN_HEADINGS, map(_format_twins, part.iter_rows(named=True)), WORDS))
            console.print(note(READ_AS))
        ranked = correlations(results.cells, results.tensors)
        for group, part in ranked.group_by("model", "embedding", "dataset", maintain_order=True):
            where = join_values(group)
            console.print(heading(f"Exploratory: rank correlation with points lost, {where}"))
            lines = (
                [
                    row["tensor"], row["contrast"], row["statistic"], str(row["cells"]),
                    f"{row['rho']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}",
                ]
                for row in part.head(self.rows).iter_rows(named=True)
            )  # fmt: skip
            console.print(text_table(RANK_HEADINGS, lines, WORDS))


def _format_twins(row: Mapping[str, Any]) -> list[str]:
    moved = ("hidden_moved", "label_moved", "hidden_from_twin", "label_from_twin")
    return [
        describe_recipe(row), str(row["bits"]), row["class_ratio"], format_percent(row["accuracy_drop"]),
        format_percent(row["twin_drop"]), *(format_number(row[name], 3) for name in moved),
        *(format_percent(row[name]) for name in ("decoder_clipped", "most_predicted", "dead")),
    ]  # fmt: skip
