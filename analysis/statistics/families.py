"""Which shifts are real: families of tests, false discovery, margins and verdicts."""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from scipy import stats

from analysis.frames.axes import CELL, GROUP, MODEL, RECIPE, order_of
from analysis.frames.reading import Frame

Method = Literal["bh", "by"]  # Benjamini-Hochberg; Benjamini-Yekutieli, under any dependence

# A family holds all tests of one contrast on one FP32 model: tensors x bits x class ratios x noise levels
# x recipes. q counts all of them, even if only a part is printed.
FAMILY = ("contrast", "model_id")
TESTED = ("balanced_vs_ratio", "clean_vs_noisy")
LEVEL = 0.05  # share of false discoveries
MARGIN = 0.95  # quantile of the D that redrawing the calibration set causes

# A margin is shared by the same tensor of models that differ in their seeds alone; balanced and clean
MARGIN_KEYS = (*MODEL, *(key for key in RECIPE if key != "class_ratio"), "tensor")

CHANGED = "changed"
WITHIN = "within redraws"
UNKNOWN = "q < .05, margin unknown"
NOT_SHOWN = "not shown"
VERDICTS = {
    CHANGED: f"q < .05, and D is above the margin: the {MARGIN:.0%} point of what redrawing causes",
    WITHIN: "q < .05, but redrawing the calibration set, class ratio kept, moves the tensor as far",
    UNKNOWN: "the sweep redrew no calibration set (--redraws 5 does), so it is not known how far chance "
    "alone would move the tensor",
    NOT_SHOWN: "q is .05 or more: these documents do not show a shift",
}


def judged_shifts(tensors: Frame, cells: Frame, method: Method = "bh") -> pl.DataFrame:
    """Judge every tested shift of an activation: its q and its verdict.

    Args:
        tensors: the table `tensors`.
        cells: the table `cells`; tensors of failed or missing cells are left out.
        method: procedure that controls the false discovery rate within a family.

    Returns:
        ``contrast``, ``tensor``, the columns `CELL`, ``p`` (by document), ``q``, ``d`` (`document_d`),
        ``margin`` (null if nothing was redrawn, 0 for FP32), ``redraws``, ``family`` (tests in it),
        ``verdict``, ``cell_id``; sorted by contrast, model, and the order of a document through it.

    Raises:
        ValueError: if `method` is neither bh nor by.
    """
    if method not in ("bh", "by"):
        raise ValueError(f"method must be bh or by, got {method!r}")
    finished = cells.lazy().filter(pl.col("status") == "ok").select("cell_id", *CELL)
    kept = ("cell_id", "tensor", "contrast", "document_d", "p_permutation")
    rows = (
        tensors.lazy()
        .filter(pl.col("kind") == "activation")
        .select(*kept)
        .with_row_index("row")  # stages are stored in the order in which a document passes them
        .join(finished, on="cell_id")
        .collect()
    )
    tested = rows.filter(pl.col("contrast").is_in(TESTED), pl.col("p_permutation").is_not_null())
    parts = [
        part.with_columns(
            pl.Series("q", _control_rate(part["p_permutation"], method), dtype=pl.Float64),
            pl.lit(len(part), dtype=pl.UInt32).alias("family"),
        )
        for part in tested.partition_by(FAMILY, maintain_order=True)
    ]
    empty = tested.clear().with_columns(
        pl.lit(None, pl.Float64).alias("q"), pl.lit(None, pl.UInt32).alias("family")
    )
    margins = _margins(rows)
    judged = pl.concat([empty, *parts]).join(margins, on=MARGIN_KEYS, how="left", nulls_equal=True)
    # FP32 has no calibration set that could be redrawn
    judged = judged.with_columns(
        pl.when(pl.col("bits").is_null()).then(0.0).otherwise("margin").alias("margin")
    )
    return (
        judged.rename({"p_permutation": "p", "document_d": "d"})
        .with_columns(
            pl.when(pl.col("q") >= LEVEL)
            .then(pl.lit(NOT_SHOWN))
            .when(pl.col("margin").is_null())
            .then(pl.lit(UNKNOWN))
            .when(pl.col("d") > pl.col("margin"))
            .then(pl.lit(CHANGED))
            .otherwise(pl.lit(WITHIN))
            .alias("verdict")
        )
        .with_columns(pl.col("row").min().over("contrast", "model_id", "tensor"))
        .sort(
            "contrast", *GROUP, "model", "seed", "model_id", "row", *order_of(*RECIPE, "noise"),
            nulls_last=False,
        )
        .select(
            "contrast", "tensor", *CELL, "p", "q", "d", "margin", "redraws", "family", "verdict", "cell_id"
        )
    )  # fmt: skip


def _control_rate(p: pl.Series, method: Method) -> Any:
    return stats.false_discovery_control(p.to_numpy(), method=method)


def _margins(rows: pl.DataFrame) -> pl.DataFrame:
    redrawn = rows.filter(pl.col("contrast") == "balanced_vs_redraw")
    return redrawn.group_by(MARGIN_KEYS).agg(
        pl.col("document_d").quantile(MARGIN, "linear").alias("margin"),
        pl.len().alias("redraws"),
    )
