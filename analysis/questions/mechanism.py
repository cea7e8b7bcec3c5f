"""Where the generative model's failure comes from, and what goes with a drop: descriptions, no tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console
from rich.text import Text
from scipy import stats

from analysis.frames.reading import Frame, Results, whole_models
from analysis.frames.settings import BREVITAS, MODEL, RECIPE, described, recipe_text
from analysis.presentation.printing import heading, new_table, note

DRAWS = 1_000
FEWEST_CELLS = 8  # below, a rank correlation says nothing
STATISTICS = ("ks_d_dithered", "wasserstein", "sqnr_db", "clip_fraction", "relative_distance")
MEASURES = {  # column: tensor, contrast, statistic
    "hidden_moved": ("decoder.weight.hidden", "fp32_vs_quantized", "relative_distance"),
    "label_moved": ("decoder.weight.label", "fp32_vs_quantized", "relative_distance"),
    "hidden_from_twin": ("decoder.weight.hidden", "balanced_vs_ratio", "relative_distance"),
    "label_from_twin": ("decoder.weight.label", "balanced_vs_ratio", "relative_distance"),
    "input_clipped": ("embedding", "fp32_vs_quantized", "clip_fraction"),
    "decoder_clipped": ("decoder_input", "fp32_vs_quantized", "clip_fraction"),
}
ABSENT = "–"


def mechanism(cells: Frame, tensors: Frame) -> pl.DataFrame:
    """Each generative cell on clean input, averaged over seeds, beside its balanced twin.

    Args:
        cells: the table `cells`.
        tensors: the table `tensors`.

    Returns:
        The model's and recipe's columns, ``seeds``, ``accuracy_drop``, ``twin_drop`` (that of the twin of
        the same seed; null if it was not run), ``hidden_moved`` and ``label_moved`` (relative Frobenius
        distance of the decoder's columns from FP32), ``hidden_from_twin`` and ``label_from_twin`` (from the
        twin's; null where nothing is corrected), ``input_clipped`` and ``decoder_clipped`` (shares),
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
        .sort(*MODEL, "algorithm", "internal_bits", *BREVITAS, pl.col("bits").neg(), "class_ratio")
    )


def _finished(cells: Frame) -> pl.LazyFrame:
    finished = pl.col("status") == "ok"
    return whole_models(cells).filter(finished, pl.col("noise") == "clean", pl.col("bits").is_not_null())


def _most_predicted(confusion: pl.Series) -> float:
    counts = np.array(confusion.to_list())
    return float(counts.sum(axis=0).max() / counts.sum())


def correlations(cells: Frame, tensors: Frame) -> pl.DataFrame:
    """Spearman's rank correlation of the accuracy drop with each statistic of each tensor, over cells.

    Exploratory: the bits drive nearly all of them together, cells of one FP32 model are no independent
    draws, and many pairs are looked at.

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
    for place, pairs in long.group_by(names, maintain_order=True):
        drops, values = pairs["accuracy_drop"].to_numpy(), pairs["value"].to_numpy()
        if len(pairs) >= FEWEST_CELLS and np.ptp(drops) > 0 and np.ptp(values) > 0:
            rho, low, high = spearman(drops, values, rng)
            found.append(
                dict(zip(names, place, strict=True))
                | {"cells": len(pairs), "rho": rho, "low": low, "high": high}
            )
    schema: dict[str, Any] = dict.fromkeys(names, pl.String) | {"cells": pl.Int64}
    frame = pl.DataFrame(found, schema=schema | dict.fromkeys(("rho", "low", "high"), pl.Float64))
    return frame.sort(*keys, pl.col("rho").abs().neg(), "contrast", "tensor", "statistic")


def spearman(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Rank correlation with a 95 % bootstrap interval; a draw in which one side is constant is left out."""
    drawn = rng.integers(0, len(first), (DRAWS, len(first)))
    ranks = [stats.rankdata(side[drawn], axis=1) for side in (first, second)]
    a, b = (side - side.mean(axis=1, keepdims=True) for side in ranks)
    sizes = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    low, high = np.quantile((a * b).sum(axis=1)[sizes > 0] / sizes[sizes > 0], [0.025, 0.975])
    return float(stats.spearmanr(first, second).statistic), float(low), float(high)


def print_mechanism(results: Results, console: Console, rows: int = 10) -> None:
    """Print :func:`mechanism`, and the `rows` strongest :func:`correlations` of each model."""
    found = mechanism(results.cells, results.tensors)
    if found.is_empty():
        console.print("No generative cell is quantized and finished on clean input yet.")
    for _, part in found.group_by(MODEL, maintain_order=True):
        first = part.row(0, named=True)
        where = f"{first['embedding']}, {first['dataset']}"
        where += "" if first["checkpoint"] is None else f", {described('checkpoint', first['checkpoint'])}"
        console.print(heading(f"Generative, {where}: beside balanced twins"))
        table = new_table()
        for name in ("recipe", "bits", "class ratio", "lost", "twin", "h moved", "v moved", "h from twin",
                     "v from twin", "clipped", "most", "dead"):  # fmt: skip
            table.add_column(name, justify="left" if name in ("recipe", "class ratio") else "right")
        for row in part.iter_rows(named=True):
            table.add_row(*map(Text, _row_texts(row)))
        console.print(table)
        console.print(
            note(
                "Points lost, also by the twin; relative distance of the decoder's columns for the hidden "
                "state (h) and the label (v) from FP32 and from the twin's; shares in % clipped at the "
                "decoder's input, of the class predicted most, of seeds with a dead signal."
            )
        )
    ranked = correlations(results.cells, results.tensors)
    for (dataset, embedding, model), part in ranked.group_by(
        "dataset", "embedding", "model", maintain_order=True
    ):
        console.print(
            heading(f"Exploratory: rank correlation with points lost, {model}, {embedding}, {dataset}")
        )
        table = new_table()
        for name in ("tensor", "contrast", "statistic", "cells", "rho", "95 % interval"):
            table.add_column(name, justify="right" if name in ("cells", "rho") else "left")
        for row in part.head(rows).iter_rows(named=True):
            texts = [row[name] for name in ("tensor", "contrast", "statistic")]
            texts += [str(row["cells"]), f"{row['rho']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}"]
            table.add_row(*map(Text, texts))
        console.print(table)


def _row_texts(row: Mapping[str, Any]) -> list[str]:
    moved = ("hidden_moved", "label_moved", "hidden_from_twin", "label_from_twin")
    return [
        recipe_text(row), str(row["bits"]), row["class_ratio"], _number(row["accuracy_drop"], 100),
        _number(row["twin_drop"], 100), *(_number(row[name], 1, 3) for name in moved),
        *(_number(row[name], 100) for name in ("decoder_clipped", "most_predicted", "dead")),
    ]  # fmt: skip


def _number(value: float | None, times: float, digits: int = 1) -> str:
    return ABSENT if value is None else f"{round(times * value, digits) + 0.0:.{digits}f}"
