"""Cells that could not be run, and why."""

from __future__ import annotations

import polars as pl

from analysis.frames.reading import Frame

NO_REASON = "no reason was recorded"
RETRY = "the same sweep with --retry-failed tries them again"


def failures(cells: Frame) -> pl.DataFrame:
    """Group the failed cells by their reason, the most frequent first.

    Returns:
        ``error``, ``cells`` (their number), ``models``, ``bits`` (lists of the values that occur; null is
        FP32) and ``example`` (the smallest cell_id).
    """
    return (
        cells.lazy()
        .filter(pl.col("status") == "failed")
        .group_by(pl.col("error").fill_null(NO_REASON))
        .agg(
            pl.len().alias("cells"),
            pl.col("model").unique().sort().alias("models"),
            pl.col("bits").unique().sort(descending=True, nulls_last=False).alias("bits"),
            pl.col("cell_id").min().alias("example"),
        )
        .sort("cells", "error", descending=[True, False])
        .collect()
    )
