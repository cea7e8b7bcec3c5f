"""The tables of a paper: one row per bit width, FP32 first; columns by model and class ratio, or noise."""

from __future__ import annotations

import polars as pl

from analysis.frames.axes import BALANCED, CLEAN, noise_label, varying_keys
from analysis.frames.reading import Frame
from analysis.statistics.scores import scores


def accuracy_table(cells: Frame, noise: str = CLEAN, noise_level: float | None = None) -> pl.DataFrame:
    """Tabulate accuracy by bits (rows) and model x class ratio (columns), averaged over seeds.

    Args:
        cells: the table `cells`.
        noise: kind of input noise.
        noise_level: its level; None takes all levels of that kind, one row each.

    Returns:
        ``dataset``, ``embedding``, every other axis that varies, ``bits`` (null is FP32), ``chance`` (%),
        and for each model and class ratio ``<model> <ratio>`` (accuracy, %) and ``<model> <ratio> drop``
        (points below FP32 under the same noise). A point without a finished cell is null.
    """
    found = scores(cells).filter(pl.col("noise") == noise)
    if noise_level is not None:
        found = found.filter(pl.col("noise_level") == noise_level)
    extra = ["noise", "noise_level"] if found["noise_level"].n_unique() > 1 else []
    return _wide(found, extra, ("model", "class_ratio"))


def noise_table(cells: Frame, class_ratio: str = BALANCED) -> pl.DataFrame:
    """Tabulate accuracy by bits (rows) and model x noise (columns) at one class ratio, over seeds.

    Returns:
        As :func:`accuracy_table`, with the columns ``<model> <noise>`` and ``<model> <noise> drop``; the
        noise reads ``clean`` or, for instance, ``typo 5%``.
    """
    found = scores(cells).filter((pl.col("class_ratio") == class_ratio) | pl.col("class_ratio").is_null())
    return _wide(found.with_columns(noise_label()), [], ("model", "input"))


def _wide(scored: pl.DataFrame, extra: list[str], across: tuple[str, str]) -> pl.DataFrame:
    """Spread the columns `across` over the columns, in the order of the rows."""
    index = [*varying_keys(scored), *extra, "bits"]
    percent = []
    for values in scored.select(across).unique(maintain_order=True).iter_rows():
        here = pl.all_horizontal(
            pl.col(key).eq_missing(value) for key, value in zip(across, values, strict=True)
        )
        name = " ".join(value for value in values if value is not None)  # no ratio: nothing quantized yet
        for suffix, column in (("", "accuracy"), (" drop", "accuracy_drop")):
            percent.append((pl.col(column).filter(here).first() * 100).alias(name + suffix))
    chance = (pl.col("chance").mean() * 100).alias("chance")
    return (
        scored.group_by(index, maintain_order=True)
        .agg(chance, *percent)
        .sort(*index[:-1], pl.col("bits").neg(), nulls_last=False)
    )
